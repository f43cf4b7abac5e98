//! What is known of a task beside its row: what it is doing, how much it has done since this broker leads it, how
//! it last failed. It is for people, and is gone with the process.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tidemill_runtime::{GuestFailure, LogLine, Usage};
use tokio::sync::watch;

/// Log lines of a plugin that are kept for each task.
const LINES_KEPT: usize = 100;

/// What a task is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// This broker does not lead its shard, or has not looked yet.
    #[default]
    Idle,
    /// Its component is compiled or loaded.
    Starting,
    /// It takes steps.
    Running,
    /// Its last try failed; it will try again.
    Retrying,
    /// Its failure policy stopped it.
    Stopped,
    /// Its component cannot be loaded.
    Failed,
}

/// How a task last failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastFailure {
    /// In one line.
    pub reason: String,
    /// The plugin's functions, from the innermost out.
    pub backtrace: Vec<String>,
}

/// How much a task has done since this broker leads it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Work {
    /// Committed steps.
    pub steps: u64,
    /// Events that they consumed.
    pub events: u64,
    /// Records that they derived.
    pub records: u64,
    /// Records that went to the dead-letter topic.
    pub dead_letters: u64,
    /// Tries that failed.
    pub failures: u64,
    /// Processor time of all tries, in microseconds.
    pub cpu_us: u64,
    /// The most memory that an instance had, in bytes.
    pub memory_bytes_max: u64,
}

/// A report.
#[derive(Debug, Default)]
pub struct Report {
    phase: watch::Sender<(Phase, String)>,
    last_failure: Mutex<Option<LastFailure>>,
    work: Mutex<Work>,
    lines: Mutex<VecDeque<LogLine>>,
}

impl Report {
    /// The task is doing this now; `why` for phases that have a reason.
    pub fn enter(&self, phase: Phase, why: &str) {
        self.phase.send_if_modified(|now| {
            let changed = now.0 != phase || now.1 != why;
            *now = (phase, why.to_owned());
            changed
        });
    }

    /// What it is doing, and why.
    pub fn phase(&self) -> (Phase, String) {
        self.phase.borrow().clone()
    }

    /// Waits until it is running, or will not be.
    ///
    /// # Errors
    /// Why it will not be.
    pub async fn started(&self) -> Result<(), String> {
        let mut phase = self.phase.subscribe();
        let settled = phase.wait_for(|(phase, _)| !matches!(phase, Phase::Idle | Phase::Starting)).await;
        match settled.as_deref() {
            Ok((Phase::Failed | Phase::Stopped, why)) => Err(why.clone()),
            _ => Ok(()),
        }
    }

    /// A try failed.
    pub fn failed(&self, failure: &GuestFailure) {
        let backtrace = match failure {
            GuestFailure::Trap { backtrace, .. } | GuestFailure::Limit { backtrace, .. } => backtrace.clone(),
            GuestFailure::Retry(_) | GuestFailure::Reject(_) | GuestFailure::Fault(_) => Vec::new(),
        };
        self.work.lock().failures += 1;
        *self.last_failure.lock() = Some(LastFailure { reason: failure.to_string(), backtrace });
    }

    /// A try used this much.
    pub fn used(&self, usage: Usage, log: Vec<LogLine>) {
        let mut work = self.work.lock();
        work.cpu_us += micros(usage.cpu);
        work.memory_bytes_max = work.memory_bytes_max.max(usage.memory_bytes_max);
        drop(work);
        let mut lines = self.lines.lock();
        for line in log {
            if lines.len() == LINES_KEPT {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }

    /// A step was committed.
    pub fn committed(&self, events: u64, records: u64, dead_letters: u64) {
        let mut work = self.work.lock();
        work.steps += 1;
        work.events += events;
        work.records += records;
        work.dead_letters += dead_letters;
    }

    /// How it last failed.
    pub fn last_failure(&self) -> Option<LastFailure> {
        self.last_failure.lock().clone()
    }

    /// How much it has done.
    pub fn work(&self) -> Work {
        *self.work.lock()
    }

    /// The last lines of the plugin's log.
    pub fn lines(&self) -> Vec<LogLine> {
        self.lines.lock().iter().cloned().collect()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
