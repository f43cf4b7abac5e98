//! What plugins wrote to their logs, as far as it is kept: the last lines of each, in memory, for people.
//!
//! A line is there as soon as its try ended, whether or not its step is committed: it says which step and which attempt
//! it belongs to, so a step that was tried three times shows three times. Lines have numbers that only grow, also over
//! restarts of the broker, by which a reader goes on where it was; numbers that are missing are lines that were dropped
//! before they were read.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use tidemill_core::ids::{DeploymentId, StepNumber, TaskId};
use tidemill_core::limits;
use tidemill_core::seams::Timestamp;
use tidemill_runtime::{LogLevel, LogLine};
use tokio::sync::watch;

/// A line of a plugin's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number: higher than that of every line before it, of any plugin.
    pub number: u64,
    /// When its try ended, by the broker's clock.
    pub at: Timestamp,
    /// The task that wrote it.
    pub task: TaskId,
    /// The step that was tried.
    pub step: StepNumber,
    /// How often its first event, or timer, was tried before.
    pub attempt: u32,
    /// How much it matters.
    pub level: LogLevel,
    /// What it says.
    pub message: String,
}

/// A try, as its lines tell of it.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    /// The task.
    pub task: TaskId,
    /// The step.
    pub step: StepNumber,
    /// How often its first event, or timer, was tried before.
    pub attempt: u32,
    /// When it ended.
    pub at: Timestamp,
}

/// The lines of all plugins of a broker.
#[derive(Debug)]
pub struct Logbook {
    kept: Mutex<BTreeMap<DeploymentId, VecDeque<Line>>>,
    /// The number of the next line.
    next: watch::Sender<u64>,
}

impl Logbook {
    /// An empty one; its numbers begin with the time of its making, so that they are above those before a restart.
    pub fn new(now: Timestamp) -> Logbook {
        Logbook { kept: Mutex::default(), next: watch::Sender::new(now.0.saturating_mul(1_000)) }
    }

    /// Keeps the lines of a try, and says how many it could not write.
    pub fn write(&self, tried: Tried, lines: Vec<LogLine>, dropped: u64) {
        let told = (dropped > 0).then(|| LogLine {
            level: LogLevel::Warn,
            message: format!(
                "{dropped} lines more were dropped: the limit log-lines of a step is {}, and {} were written; nothing \
                 raises it",
                limits::GUEST_LOG_LINES_MAX,
                limits::GUEST_LOG_LINES_MAX as u64 + dropped,
            ),
        });
        if lines.is_empty() {
            return;
        }
        let Tried { task, step, attempt, at } = tried;
        let mut kept = self.kept.lock();
        let of_plugin = kept.entry(task.deployment).or_default();
        let mut number = *self.next.borrow();
        for LogLine { level, message } in lines.into_iter().chain(told) {
            if of_plugin.len() == limits::LOG_LINES_KEPT {
                of_plugin.pop_front();
            }
            of_plugin.push_back(Line { number, at, task, step, attempt, level, message });
            number += 1;
        }
        self.next.send_replace(number);
    }

    /// The lines of a plugin from this number on, at most so many: the last ones.
    pub fn read(&self, deployment: DeploymentId, from: u64, most: usize) -> Vec<Line> {
        let kept = self.kept.lock();
        let lines = kept.get(&deployment).into_iter().flatten().rev();
        let mut lines: Vec<Line> = lines.take_while(|line| line.number >= from).take(most).cloned().collect();
        lines.reverse();
        lines
    }

    /// Tells when the next line is written: the value is its number.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    /// A plugin is no more.
    pub fn forget(&self, deployment: DeploymentId) {
        self.kept.lock().remove(&deployment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_protocol::ids::Partition;

    fn tried(deployment: u64, step: u64) -> Tried {
        let task = TaskId { deployment: DeploymentId(deployment), partition: Partition(0) };
        Tried { task, step: StepNumber(step), attempt: 1, at: Timestamp(9) }
    }

    fn lines(count: usize) -> Vec<LogLine> {
        (0..count).map(|n| LogLine { level: LogLevel::Info, message: n.to_string() }).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let book = Logbook::new(Timestamp(5));
        book.write(tried(1, 1), lines(2), 0);
        book.write(tried(2, 7), lines(1), 0);
        book.write(tried(1, 2), lines(1), 3);
        let read = book.read(DeploymentId(1), 0, 100);
        assert_eq!(
            read.iter().map(|line| (line.number, line.step.0)).collect::<Vec<_>>(),
            [(5_000, 1), (5_001, 1), (5_003, 2), (5_004, 2)]
        );
        assert!(read[3].message.starts_with("3 lines more were dropped: the limit log-lines"), "{read:?}");
        assert_eq!(book.read(DeploymentId(1), 5_003, 100).len(), 2);
        assert_eq!(book.read(DeploymentId(1), 0, 1)[0].number, 5_004);
        assert_eq!(*book.watch().borrow(), 5_005);
        book.forget(DeploymentId(1));
        assert_eq!(book.read(DeploymentId(1), 0, 100), []);
    }

    #[test]
    fn the_last_lines_are_kept() {
        let book = Logbook::new(Timestamp(0));
        for step in 0..5 {
            book.write(tried(1, step), lines(limits::LOG_LINES_KEPT / 2), 0);
        }
        let read = book.read(DeploymentId(1), 0, usize::MAX);
        assert_eq!(read.len(), limits::LOG_LINES_KEPT);
        assert_eq!((read[0].step, read[read.len() - 1].step), (StepNumber(3), StepNumber(4)));
    }
}
