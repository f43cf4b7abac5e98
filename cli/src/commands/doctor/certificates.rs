//! The certificates of a data folder: when they end, and who may read their keys.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidemill_host::tls::{WARN_BEFORE, expiry};

use super::Finding;

/// Name of the check, file, and what to do when it ends.
const FILES: &[(&str, &str, &str)] = &[
    (
        "authority",
        "tls/ca.pem",
        "Put a new authority there, with its key, restart, and hand out new identities",
    ),
    (
        "broker-certificate",
        "tls/broker.pem",
        "Put a new pair there, or restart: the broker makes its own anew",
    ),
    (
        "client-certificate",
        "client/client.pem",
        "Restart the broker: `serve` makes a new one for the command",
    ),
];
const KEYS: &[&str] = &["identity.json", "tls/ca-key.pem", "tls/broker-key.pem", "client/client-key.pem"];

/// Each certificate that is there, and all keys.
pub(super) fn look(data: &Path) -> Vec<Finding> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut findings = Vec::new();
    for (check, file, advice) in FILES {
        let Ok(pem) = fs::read_to_string(data.join(file)) else { continue };
        let ends = expiry(&pem).map(|ends| Duration::from_millis(ends.0));
        findings.push(judge(check, now, ends.map_err(|error| error.to_string()), advice));
    }
    let mode = |key: &&&str| fs::metadata(data.join(key)).map(|about| about.permissions().mode());
    let there: Vec<&&str> = KEYS.iter().filter(|key| mode(key).is_ok()).collect();
    let open: Vec<&str> =
        there.iter().filter(|key| mode(key).is_ok_and(|mode| mode & 0o077 != 0)).map(|key| **key).collect();
    match (there.is_empty(), open.is_empty()) {
        (true, _) => {}
        (false, true) => findings.push(Finding::ok("keys", "only their owner may read them")),
        (false, false) => {
            let found = format!("others may read {}", open.join(", "));
            findings.push(Finding::bad("keys", found, "Whoever has them is the broker: `chmod 600`"));
        }
    }
    findings
}

fn judge(check: &'static str, now: Duration, ends: Result<Duration, String>, advice: &str) -> Finding {
    let ends = match ends {
        Ok(ends) => ends,
        Err(why) => return Finding::bad(check, format!("it cannot be read: {why}"), advice),
    };
    let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + ends);
    let days = ends.saturating_sub(now).as_secs() / (24 * 3600);
    match ends.checked_sub(now) {
        None => Finding::bad(check, format!("it ended at {at}"), advice),
        Some(left) if left < WARN_BEFORE => {
            Finding::warn(check, format!("it ends at {at}, in {days} days"), advice)
        }
        Some(_) => Finding::ok(check, format!("it ends at {at}, in {days} days")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Bad, Ok as Well, Warn};
    use super::*;

    #[test]
    fn ends_are_judged() {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let now = DAY * 20_000;
        let verdict = |ends| judge("authority", now, ends, "").verdict;
        assert_eq!(verdict(Ok(now + DAY * 300)), Well);
        assert_eq!(verdict(Ok(now + DAY * 29)), Warn);
        assert_eq!(verdict(Ok(now - DAY)), Bad);
        assert_eq!(verdict(Err("no certificate".into())), Bad);
    }
}
