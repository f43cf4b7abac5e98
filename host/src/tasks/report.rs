//! What is known of a task beside its row: what it is doing, how much it has done since this broker leads it, how
//! it last failed. It is for people, and is gone with the process.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tidemill_core::ids::Generation;
use tidemill_core::seams::Timestamp;
use tidemill_runtime::{GuestFailure, Usage};
use tokio::sync::watch;

use super::stall::{StallWatch, TaskProgress};

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
    /// It rests until there is room on the disk.
    DiskFull,
    /// Its failure policy stopped it, at an event or because a log start had passed it.
    Stopped,
    /// Its plugin is paused.
    Paused,
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

/// Whose word counts of what a task is doing: a later one's, never an earlier one's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// The generation.
    pub generation: Generation,
    /// How often a log start had passed the task.
    pub jumps: u32,
}

/// A report.
#[derive(Debug, Default)]
pub struct Report {
    phase: watch::Sender<(Turn, Phase, String)>,
    stall: Mutex<StallWatch>,
    last_failure: Mutex<Option<LastFailure>>,
    work: Mutex<Work>,
}

impl Report {
    /// A turn of the task is doing this now; `why` for phases that have a reason. What an older one says is not heard
    /// any more.
    pub fn enter(&self, turn: Turn, phase: Phase, why: &str) {
        self.phase.send_if_modified(|now| {
            let changed = turn >= now.0 && *now != (turn, phase, why.to_owned());
            if changed {
                *now = (turn, phase, why.to_owned());
            }
            changed
        });
    }

    /// There is no such task any more: no turn of it will be heard.
    pub fn ends(&self, why: &str) {
        let last = Turn { generation: Generation(u32::MAX), jumps: u32::MAX };
        self.phase.send_replace((last, Phase::Failed, why.to_owned()));
    }

    /// Whether a log start has passed the task since it last said what it is doing; what happened before this broker
    /// knew of the task is no news.
    pub fn is_news(&self, turn: Turn) -> bool {
        let known = self.phase.borrow().0;
        known != Turn::default() && turn.jumps > known.jumps
    }

    /// What it is doing, and why.
    pub fn phase(&self) -> (Phase, String) {
        let now = self.phase.borrow();
        (now.1, now.2.clone())
    }

    /// Waits until this generation, or a newer one, is running, or will not be.
    ///
    /// # Errors
    /// Why it will not be.
    pub async fn started(&self, generation: Generation) -> Result<(), String> {
        let mut phase = self.phase.subscribe();
        let is_settled = |now: &(Turn, Phase, String)| {
            now.0.generation >= generation && !matches!(now.1, Phase::Idle | Phase::Starting)
        };
        match phase.wait_for(is_settled).await.as_deref() {
            Ok((_, Phase::Failed | Phase::Stopped, why)) => Err(why.clone()),
            _ => Ok(()),
        }
    }

    /// Notes where the task stands, and returns since when it is stalled, if it is.
    pub fn watch(&self, progress: TaskProgress, now: Timestamp) -> Option<Timestamp> {
        self.stall.lock().look(progress, now)
    }

    /// Since when it is stalled, and why, if it is.
    pub fn stalled(&self) -> Option<(Timestamp, String)> {
        let since = self.stall.lock().stalled()?;
        let (phase, why) = self.phase();
        let cause = match phase {
            Phase::Idle => "this broker does not lead its shard".to_owned(),
            Phase::Starting => "its component is not loaded yet".to_owned(),
            Phase::Running => "its step does not come to an end".to_owned(),
            Phase::Retrying => format!("an event fails again and again: {why}"),
            Phase::DiskFull => why.to_string(),
            Phase::Stopped => format!("its failure policy stopped it: {why}"),
            Phase::Failed => format!("it cannot run: {why}"),
            Phase::Paused => "it is paused".to_owned(),
        };
        Some((since, cause))
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
    pub fn used(&self, usage: Usage) {
        let mut work = self.work.lock();
        work.cpu_us += micros(usage.cpu);
        work.memory_bytes_max = work.memory_bytes_max.max(usage.memory_bytes_max);
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
}

/// A report as one pump makes it.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The report.
    pub report: Arc<Report>,
    /// The pump's turn.
    pub turn: Turn,
}

impl Reporter {
    /// As [`Report::enter`].
    pub fn enter(&self, phase: Phase, why: &str) {
        self.report.enter(self.turn, phase, why);
    }
}

impl Deref for Reporter {
    type Target = Report;

    fn deref(&self) -> &Report {
        &self.report
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
