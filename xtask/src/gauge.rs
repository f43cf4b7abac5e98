//! What a process uses, as Linux tells it: processor time, memory, and disk under a folder.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// Processor time that a process has used, its own and the kernel's for it.
///
/// # Errors
/// When there is no such process.
pub fn processor_time(id: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // Behind the name, which may hold anything, from the third field on (proc(5)).
    let fields: Vec<&str> = stat.rsplit(')').next().context("a name")?.split_whitespace().collect();
    let ticks = |field: usize| -> anyhow::Result<u64> { Ok(fields[field - 3].parse()?) };
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64((ticks(14)? + ticks(15)?) as f64 / per_second as f64))
}

/// Memory of a process that is resident, in bytes.
///
/// # Errors
/// When there is no such process.
pub fn resident_bytes(id: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

/// What the files under a folder take of the disk, in bytes. One that goes meanwhile takes nothing.
///
/// # Errors
/// When the folder cannot be read.
pub fn disk_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(about) = entry.metadata() else { continue };
        bytes += if about.is_dir() { disk_bytes(&entry.path())? } else { about.blocks() * 512 };
    }
    Ok(bytes)
}

/// The value that a part of all is not above; the values are sorted by it. `None` of none.
pub fn quantile(values: &mut [Duration], part: f64) -> Option<Duration> {
    values.sort_unstable();
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * part).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_is_seen_to_work() {
        let me = std::process::id();
        let before = processor_time(me).unwrap();
        let mut sum = 0u64;
        while processor_time(me).unwrap() - before < Duration::from_millis(30) {
            sum = (0..100_000u64).fold(sum, |sum, n| sum ^ std::hint::black_box(n));
        }
        let all = vec![1u8; 64 << 20];
        assert!(resident_bytes(me).unwrap() > 64 << 20, "{sum} {}", std::hint::black_box(&all).len());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), vec![7; 1 << 20]).unwrap();
        assert!((1 << 20..2 << 20).contains(&disk_bytes(folder.path()).unwrap()));
    }

    #[test]
    fn quantiles_are_of_the_values() {
        let mut values: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&mut values, 0.99), Some(Duration::from_millis(99)));
        assert_eq!(quantile(&mut values, 0.0), Some(Duration::from_millis(1)));
        assert_eq!(quantile(&mut [], 0.5), None);
    }
}
