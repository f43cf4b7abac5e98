//! Whether a task that has something to do gets on.
//!
//! A task that has records to consume and has consumed none for [`limits::STALLED_AFTER`] is stalled. Attempts that
//! fail are no progress; steps of timers are. A paused task is not stalled: somebody wanted it so.

use tidemill_core::ids::{Cursor, StepNumber};
use tidemill_core::limits;
use tidemill_core::rows::{TaskRow, TaskStatus};
use tidemill_core::seams::Timestamp;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskProgress {
    has_work: bool,
    cursor: Cursor,
    /// Its last step that did not fail; none while its last one did.
    step: Option<StepNumber>,
}

impl TaskProgress {
    /// Of a task that is behind by so many records.
    pub fn of(row: &TaskRow, lag_records: u64) -> TaskProgress {
        TaskProgress {
            has_work: lag_records > 0 && row.status != TaskStatus::Paused,
            cursor: row.cursor,
            step: (row.attempts == 0 && row.status == TaskStatus::Running).then_some(row.step),
        }
    }

    fn is_further_than(&self, before: &TaskProgress) -> bool {
        self.cursor != before.cursor
            || (self.step.is_some() && self.step != before.step && before.step.is_some())
    }
}

/// Watches one task.
#[derive(Debug, Default)]
pub struct StallWatch {
    /// Where it was when it last moved, or had nothing to do, and when that was.
    last: Option<(TaskProgress, Timestamp)>,
    stalled: Option<Timestamp>,
}

impl StallWatch {
    /// Looks at it, now; returns since when it has not moved, once that is too long.
    pub fn look(&mut self, progress: TaskProgress, now: Timestamp) -> Option<Timestamp> {
        let since = match self.last {
            Some((before, since))
                if progress.has_work && before.has_work && !progress.is_further_than(&before) =>
            {
                since
            }
            _ => now,
        };
        self.last = Some((progress, since));
        let is_stalled = progress.has_work && now.since(since) >= limits::STALLED_AFTER;
        self.stalled = is_stalled.then_some(since);
        self.stalled
    }

    /// Since when it has not moved, if that was too long when it was last looked at.
    pub fn stalled(&self) -> Option<Timestamp> {
        self.stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_core::ids::LogIndex;

    fn row(index: u64, step: u64, attempts: u32) -> TaskRow {
        let cursor = Cursor { index: LogIndex(index), skip: 0 };
        TaskRow { cursor, step: StepNumber(step), attempts, ..TaskRow::default() }
    }

    fn looked(looks: &[(u64, TaskRow, u64)]) -> Option<Timestamp> {
        let mut watch = StallWatch::default();
        let look = |(seconds, row, lag): &(u64, TaskRow, u64)| {
            watch.look(TaskProgress::of(row, *lag), Timestamp(seconds * 1_000))
        };
        looks.iter().map(look).last().unwrap()
    }

    #[test]
    fn a_task_that_consumes_nothing_for_long_is_stalled() {
        assert_eq!(looked(&[(0, row(1, 1, 0), 5), (29, row(1, 1, 0), 9)]), None);
        assert_eq!(looked(&[(0, row(1, 1, 0), 5), (30, row(1, 1, 0), 9)]), Some(Timestamp(0)));
        assert_eq!(looked(&[(0, row(1, 1, 0), 5), (30, row(2, 2, 0), 9)]), None);
        assert_eq!(looked(&[(0, row(1, 1, 0), 0), (30, row(1, 1, 0), 9)]), None, "it had nothing to do");
        assert_eq!(looked(&[(0, row(1, 1, 0), 5), (30, row(1, 2, 0), 9)]), None, "a timer fired");
        let failing =
            [(0, row(1, 1, 0), 5), (10, row(1, 2, 1), 5), (20, row(1, 3, 2), 5), (40, row(1, 4, 3), 5)];
        assert_eq!(looked(&failing), Some(Timestamp(0)), "attempts are no progress");
        let stopped = TaskRow { status: TaskStatus::Stopped, ..row(1, 5, 0) };
        assert_eq!(looked(&[(0, row(1, 4, 3), 5), (40, stopped, 5)]), Some(Timestamp(0)));
        let paused = TaskRow { status: TaskStatus::Paused, ..row(1, 1, 0) };
        assert_eq!(looked(&[(0, paused.clone(), 5), (90, paused, 5)]), None);
    }
}
