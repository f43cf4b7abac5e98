//! The kernel, its limits and its socket buffers.

use std::fs;

use rustix::process::{Resource, getrlimit};
use tidemill_host::listener::quic::SOCKET_BUFFER_BYTES;

use super::{Finding, shown_bytes};

/// Files that a broker has open at once, at most: five for each of 64 shards and the catalog, sealed segments that are
/// read, and a socket for each connection over TCP and to the admin API. Rounded up.
const FILES_WANTED: u64 = 4_096;
/// Below it a broker with the default number of shards and some hundred clients gets into trouble.
const FILES_LEAST: u64 = 1_024;
/// Kernels before it lack what QUIC's sockets are fast with (segmentation offload of UDP).
const KERNEL_WANTED: (u32, u32) = (4, 18);

/// Which kernel.
pub(super) fn kernel() -> Finding {
    match fs::read_to_string("/proc/sys/kernel/osrelease") {
        Ok(release) => judge_kernel(release.trim()),
        Err(error) => unknown("kernel", &error.to_string()),
    }
}

fn judge_kernel(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= KERNEL_WANTED => {
            Finding::ok("kernel", format!("Linux {release}"))
        }
        (Some(_), Some(_)) => {
            let advice = "QUIC is slow on kernels before 4.18: use a newer one";
            Finding::warn("kernel", format!("Linux {release}"), advice)
        }
        _ => unknown("kernel", release),
    }
}

fn unknown(check: &'static str, found: &str) -> Finding {
    Finding::warn(check, format!("it cannot be told: {found}"), "Tidemill was tried on Linux only")
}

/// How many files a process may open.
pub(super) fn file_limit() -> Finding {
    // None is no limit.
    judge_file_limit(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

fn judge_file_limit(limit: u64) -> Finding {
    let found = match limit {
        u64::MAX => "no limit".to_owned(),
        limit => format!("{limit} open files, in this shell"),
    };
    let advice = format!(
        "Raise it to {FILES_WANTED} or more where the broker is started: `ulimit -n`, or LimitNOFILE= of its unit"
    );
    match limit {
        limit if limit >= FILES_WANTED => Finding::ok("file-limit", found),
        limit if limit >= FILES_LEAST => Finding::warn("file-limit", found, advice),
        _ => Finding::bad("file-limit", found, advice),
    }
}

/// What sockets may buffer, each way.
pub(super) fn socket_buffers() -> [Finding; 2] {
    [("receive-buffer", "net.core.rmem_max"), ("send-buffer", "net.core.wmem_max")].map(|(check, key)| {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let read = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
        judge_buffer(check, key, read)
    })
}

fn judge_buffer(check: &'static str, key: &str, bytes: Option<u64>) -> Finding {
    let wanted = SOCKET_BUFFER_BYTES as u64;
    let advice =
        format!("Bursts over QUIC overflow it: `sysctl -w {key}={wanted}`, and in /etc/sysctl.d to keep it");
    match bytes {
        Some(bytes) if bytes >= wanted => Finding::ok(check, format!("{key} is {}", shown_bytes(bytes))),
        Some(bytes) => {
            let found = format!("{key} is {}, {} are asked for", shown_bytes(bytes), shown_bytes(wanted));
            Finding::warn(check, found, advice)
        }
        None => {
            let advice = format!("In a container it is the host's: see there that it is {wanted} or more");
            Finding::warn(check, format!("{key} cannot be read here"), advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{self, Bad, Ok, Warn};
    use super::*;

    #[test]
    fn limits_are_judged() {
        let verdict = |limit| judge_file_limit(limit).verdict;
        assert_eq!([256, 1_024, 4_096, u64::MAX].map(verdict), [Bad, Warn, Ok, Ok]);
    }

    #[test]
    fn kernels_are_judged() {
        let verdict = |release| -> Verdict { judge_kernel(release).verdict };
        assert_eq!(
            ["4.9.0-8-amd64", "4.18.0", "6.1.0-13-cloud", "strange"].map(verdict),
            [Warn, Ok, Ok, Warn]
        );
    }

    #[test]
    fn what_a_buffer_lacks_is_said_with_the_command_that_helps() {
        let small = judge_buffer("receive-buffer", "net.core.rmem_max", Some(212_992));
        assert_eq!(small.verdict, Warn);
        assert!(small.advice.unwrap().contains("sysctl -w net.core.rmem_max=4194304"));
        assert_eq!(judge_buffer("receive-buffer", "net.core.rmem_max", Some(4 << 20)).verdict, Ok);
        assert_eq!(judge_buffer("receive-buffer", "net.core.rmem_max", None).verdict, Warn);
    }
}
