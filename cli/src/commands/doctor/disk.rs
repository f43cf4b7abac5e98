//! The data folder: what file system it lies on, how long a sync takes there, and how much room is left.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;

use super::{Finding, shown_bytes};

/// Writes that are measured, each of a page and followed by a sync, as a small turn of a shard's log is.
const SYNCS: u32 = 50;
const PAGE_BYTES: usize = 4_096;
/// A slow disk is not measured for longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// An acknowledgement takes a sync: beyond it, producers notice.
const SLOW: Duration = Duration::from_millis(10);
const VERY_SLOW: Duration = Duration::from_millis(100);
/// No disk that keeps what it was given through a power cut is faster.
const TOO_FAST: Duration = Duration::from_micros(5);
/// Below this part of the disk, in percent, it is time to act.
const ROOM_PERCENT: u64 = 10;

/// The folder, its file system, its syncs and its room.
pub(super) fn look(data: &Path, reserve: u64) -> Vec<Finding> {
    let mut findings = vec![folder(data)];
    let Some(there) = nearest(data) else { return findings };
    if let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") {
        findings.push(judge_kind(kind(&mounts, &there)));
    }
    findings.push(match statvfs(&there) {
        Ok(space) => judge_room(space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize, reserve),
        Err(error) => {
            Finding::bad("room", format!("it cannot be told: {error}"), "Look at the data folder's disk")
        }
    });
    if data.is_dir() {
        findings.push(match measure(data) {
            Ok(times) => judge_syncs(times),
            Err(error) => {
                let found = format!("nothing can be written to {}: {error}", data.display());
                Finding::bad(
                    "sync",
                    found,
                    "The broker's user must be able to write there, and so must you to measure it",
                )
            }
        });
    }
    findings
}

fn folder(data: &Path) -> Finding {
    let shown = data.display();
    match data.is_dir() {
        true => Finding::ok("data-folder", format!("{shown}")),
        false if data.exists() => {
            Finding::bad("data-folder", format!("{shown} is no folder"), "Name another with `data`")
        }
        false => {
            let advice =
                "`serve` makes it. Another folder? Say `--data`; and make it to have its syncs measured";
            Finding::warn("data-folder", format!("{shown} is not there yet"), advice)
        }
    }
}

/// The folder, or the nearest above it that is there.
fn nearest(data: &Path) -> Option<PathBuf> {
    let whole = std::path::absolute(data).ok()?;
    whole.ancestors().find_map(|above| above.canonicalize().ok())
}

/// The kind of file system that a path lies on: of all mounts above it, the innermost that was mounted last.
fn kind(mounts: &str, path: &Path) -> Option<String> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        // Blanks in a path are written in octal.
        let at = before.split(' ').nth(4)?.replace("\\040", " ");
        let kind = after.split(' ').next()?.to_owned();
        path.starts_with(&at).then_some((Path::new(&at).components().count(), kind))
    };
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

fn judge_kind(kind: Option<String>) -> Finding {
    let Some(kind) = kind else {
        return Finding::warn("file-system", "it cannot be told", "Use ext4 or XFS on a local disk");
    };
    match kind.as_str() {
        "tmpfs" | "ramfs" => {
            let advice = "It is memory, and gone with the next start of the machine: use a folder on a disk";
            Finding::bad("file-system", kind, advice)
        }
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" => {
            let advice = "Locks and syncs over a network are not what a broker relies on: use a local disk";
            Finding::bad("file-system", kind, advice)
        }
        "overlay" => {
            let advice = "It is a container's own layer, and gone with the container: mount a volume";
            Finding::warn("file-system", kind, advice)
        }
        other if other.starts_with("fuse") => {
            Finding::warn("file-system", kind, "It was never tried: use ext4 or XFS on a local disk")
        }
        _ => Finding::ok("file-system", kind),
    }
}

fn judge_room(free: u64, all: u64, reserve: u64) -> Finding {
    let percent = free.saturating_mul(100).checked_div(all).unwrap_or(0);
    let found = format!("{} free of {}, {percent} %", shown_bytes(free), shown_bytes(all));
    if free < reserve {
        let found = format!("{found}, less than the reserve of {}", shown_bytes(reserve));
        return Finding::bad("room", found, "Producers are refused and plugins rest: give the disk room");
    }
    if percent < ROOM_PERCENT || free < reserve.saturating_mul(2) {
        let advice = format!(
            "At {} free (`storage.reserve`) producers are refused: give it room before that",
            shown_bytes(reserve)
        );
        return Finding::warn("room", found, advice);
    }
    Finding::ok("room", found)
}

/// How long each sync took, in order of length.
fn measure(data: &Path) -> std::io::Result<Vec<Duration>> {
    let path = data.join(format!("doctor-{}.tmp", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let syncs = || {
        let begin = Instant::now();
        let mut times = Vec::new();
        for number in 0..SYNCS {
            let start = Instant::now();
            file.write_all_at(&[number as u8; PAGE_BYTES], u64::from(number) * PAGE_BYTES as u64)?;
            file.sync_data()?;
            times.push(start.elapsed());
            if begin.elapsed() > PATIENCE {
                break;
            }
        }
        times.sort_unstable();
        Ok(times)
    };
    let times = syncs();
    fs::remove_file(&path)?;
    times
}

fn judge_syncs(times: Vec<Duration>) -> Finding {
    let quantile = |percent: usize| times.get((times.len().saturating_sub(1)) * percent / 100).copied();
    let (Some(half), Some(most)) = (quantile(50), quantile(99)) else {
        return Finding::bad("sync", "nothing was measured", "Look at the data folder's disk");
    };
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let number = times.len();
    let found =
        format!("p50 {:.2} ms, p99 {:.2} ms, of {number} writes of 4 KiB with a sync", ms(half), ms(most));
    let advice =
        "Every acknowledgement waits for one: use an SSD of its own, with power-loss protection if you can";
    match () {
        () if half > VERY_SLOW => Finding::bad("sync", found, advice),
        () if most > SLOW => Finding::warn("sync", found, advice),
        () if half < TOO_FAST => {
            let advice = "No disk is so fast: something says that it is synced and only remembers it. A power cut loses it";
            Finding::warn("sync", found, advice)
        }
        () => Finding::ok("sync", found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Bad, Ok, Warn};
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let mounts =
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:5 / /srv/a\\040b rw shared:1 - tmpfs tmpfs rw\n";
        let kind = |path: &str| kind(mounts, Path::new(path)).unwrap();
        assert_eq!((kind("/srv/a b/data").as_str(), kind("/srv/a").as_str()), ("tmpfs", "ext4"));
        assert_eq!(judge_kind(Some(kind("/srv/a b"))).verdict, Bad);
        assert_eq!(judge_kind(Some("fuse.sshfs".into())).verdict, Warn);
        assert_eq!(judge_kind(Some("xfs".into())).verdict, Ok);
    }

    #[test]
    fn room_is_judged() {
        const GIB: u64 = 1 << 30;
        let verdict = |free, all| judge_room(free, all, GIB).verdict;
        assert_eq!(verdict(GIB / 2, 2 * GIB), Bad);
        assert_eq!(verdict(GIB + 1, 4 * GIB), Warn, "near the reserve");
        assert_eq!(verdict(5 * GIB, 100 * GIB), Warn);
        assert_eq!(verdict(50 * GIB, 100 * GIB), Ok);
        assert_eq!(verdict(0, 0), Bad);
    }

    #[test]
    fn syncs_are_judged() {
        let verdict = |micros: u64| judge_syncs(vec![Duration::from_micros(micros); 50]).verdict;
        assert_eq!([1, 300, 20_000, 200_000].map(verdict), [Warn, Ok, Warn, Bad]);
        assert_eq!(judge_syncs(Vec::new()).verdict, Bad);
    }

    #[test]
    fn measuring_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!measure(folder.path()).unwrap().is_empty());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
