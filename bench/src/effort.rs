//! What a row costs beside time: processor seconds and memory of the two processes that take part.
//!
//! Both are the kernel's figures, of `/proc/<process>`. Those of a row cover all that belongs to it, what comes before the
//! measured stretch included.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

/// Ticks in a second, in `/proc/<process>/stat`: `USER_HZ`, which is 100 on all that Linux runs us on.
const TICKS: f64 = 100.0;

/// What a process used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Effort {
    /// Processor seconds, of all threads.
    pub cpu_seconds: f64,
    /// The most memory that was resident, in MiB.
    pub peak_mib: f64,
}

/// Watches a process.
pub struct Watch {
    process: PathBuf,
    cpu_before: f64,
}

impl Watch {
    /// From now on; the process is `self`, or a number.
    pub fn begin(process: &str) -> anyhow::Result<Watch> {
        let process = PathBuf::from("/proc").join(process);
        // 5 resets the peak (Linux, Documentation/filesystems/proc.rst).
        fs::write(process.join("clear_refs"), "5").context("the peak of a process")?;
        Ok(Watch { cpu_before: cpu_seconds(&process)?, process })
    }

    /// Until now.
    pub fn end(self) -> anyhow::Result<Effort> {
        let status = fs::read_to_string(self.process.join("status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        let kib: f64 = peak.trim().trim_end_matches(" kB").parse()?;
        Ok(Effort { cpu_seconds: cpu_seconds(&self.process)? - self.cpu_before, peak_mib: kib / 1_024.0 })
    }
}

fn cpu_seconds(process: &std::path::Path) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(process.join("stat"))?;
    // The second field is a name in parentheses, which may hold anything; user and system time are 14th and 15th.
    let (_, rest) = stat.rsplit_once(')').context("a name")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_memory_are_seen() {
        let watch = Watch::begin("self").unwrap();
        let bytes = vec![1u8; 64 << 20];
        while cpu_seconds(&watch.process).unwrap() - watch.cpu_before < 0.05 {
            std::hint::black_box(
                std::hint::black_box(&bytes).iter().map(|byte| u64::from(*byte)).sum::<u64>(),
            );
        }
        let effort = watch.end().unwrap();
        assert!(effort.cpu_seconds >= 0.05 && effort.peak_mib >= 64.0, "{effort:?}");
    }
}
