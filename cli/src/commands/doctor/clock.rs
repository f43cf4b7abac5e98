//! The clock: records are stamped with it, timers fire by it, certificates end by it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Finding;

/// 2025-01-01: who says that it is earlier has no clock.
const SURELY_PAST: Duration = Duration::from_secs(1_735_689_600);
/// 2100-01-01.
const SURELY_FUTURE: Duration = Duration::from_secs(4_102_444_800);
/// How long both clocks are watched.
const WATCHED: Duration = Duration::from_millis(50);
/// How far they may run apart meanwhile: a clock that is being slewed differs by far less.
const APART_MAX: Duration = Duration::from_millis(20);
/// How far a file may be ahead of the clock.
const AHEAD_MAX: Duration = Duration::from_secs(5);
/// Where those leave a trace that keep a clock right.
const KEEPERS: &[&str] =
    &["/run/systemd/timesync/synchronized", "/run/chrony", "/run/chronyd.pid", "/run/ntpd.pid"];

/// The clock's state, and who keeps it right.
pub(super) fn look(data: &Path) -> [Finding; 2] {
    let (wall, steady) = (now(), Instant::now());
    std::thread::sleep(WATCHED);
    let (passed, really) = (now().saturating_sub(wall), steady.elapsed());
    let newest = newest(data);
    let keeper = KEEPERS.iter().find(|path| Path::new(path).exists());
    [judge(wall, passed.abs_diff(really), newest), judge_keeper(keeper.copied())]
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// When a file of the data folder was last written.
fn newest(data: &Path) -> Option<Duration> {
    let times = fs::read_dir(data).ok()?.filter_map(|entry| entry.ok()?.metadata().ok()?.modified().ok());
    times.max()?.duration_since(UNIX_EPOCH).ok()
}

fn judge(now: Duration, apart: Duration, newest: Option<Duration>) -> Finding {
    let shown = humantime::format_rfc3339_seconds(UNIX_EPOCH + now);
    let advice = "Set it, and have NTP keep it: records, timers and certificates go by it";
    if !(SURELY_PAST..SURELY_FUTURE).contains(&now) {
        return Finding::bad("clock", format!("it says {shown}"), advice);
    }
    if let Some(newest) = newest.filter(|newest| *newest > now + AHEAD_MAX) {
        let by = humantime::format_duration(Duration::from_secs((newest - now).as_secs()));
        let found = format!("it says {shown}, but the data folder was written {by} later");
        return Finding::bad(
            "clock",
            found,
            "It was set back, or was wrong before. Set it right before you start",
        );
    }
    if apart > APART_MAX {
        let found = format!("it jumped by {} ms within {} ms", apart.as_millis(), WATCHED.as_millis());
        return Finding::warn("clock", found, "Look who sets it: NTP should slew it, not step it");
    }
    Finding::ok("clock", format!("{shown}, and it runs evenly"))
}

fn judge_keeper(trace: Option<&str>) -> Finding {
    match trace {
        Some(trace) => Finding::ok("clock-kept", format!("NTP is at work, says {trace}")),
        None => {
            let advice =
                "Make sure that NTP runs, in a container on its host: `timedatectl`, `chronyc tracking`";
            Finding::warn("clock-kept", "whether NTP keeps it cannot be told here", advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn clocks_are_judged() {
        let good = SURELY_PAST + Duration::from_secs(1_000);
        let verdict = |now, apart, newest| judge(now, apart, newest).verdict;
        assert_eq!(verdict(good, Duration::ZERO, None), Verdict::Ok);
        assert_eq!(verdict(good, Duration::ZERO, Some(good)), Verdict::Ok);
        assert_eq!(verdict(Duration::from_secs(60), Duration::ZERO, None), Verdict::Bad, "1970");
        assert_eq!(verdict(good, Duration::from_secs(1), None), Verdict::Warn, "it jumps");
        let later = Some(good + Duration::from_secs(3_600));
        let back = judge(good, Duration::ZERO, later);
        assert!(back.verdict == Verdict::Bad && back.found.contains("1h later"), "{back:?}");
    }
}
