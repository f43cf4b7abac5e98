//! Which of a task's timers are due, and when the next one may be.
//!
//! Timers whose time has come by the task's own clocks go before further events; events that would carry a clock past a
//! timer stay for the step after it. When there are no events, the broker's clock may move the task's: the step that
//! fires the timers says to when, and that is the tick.

use tidemill_core::event_time::EventTimeRow;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{StepNumber, TaskId};
use tidemill_core::plugin::{Timer, TimerKind};
use tidemill_core::seams::Timestamp;
use tidemill_core::tables::{self, Key, View};
use tidemill_core::task::TaskSpec;
use tidemill_core::timers::{self, SetBy};

use super::item::{Content, Item};

/// A task's clocks, and its earliest timer of each kind.
#[derive(Debug)]
pub struct Alarm {
    clocks: EventTimeRow,
    earliest: Vec<(Timer, SetBy)>,
    next_step: StepNumber,
}

impl Alarm {
    /// Looks at a task's clocks and timers before its step `next_step`.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn read(view: &dyn View, task: TaskId, next_step: StepNumber) -> Result<Alarm, Fault> {
        let mut earliest = Vec::new();
        for kind in [TimerKind::AppendTime, TimerKind::EventTime] {
            earliest.extend(timers::earliest(view, task, kind, 1)?);
        }
        let clocks = tables::read::<EventTimeRow>(view, &Key::EventTime(task))?.unwrap_or_default();
        Ok(Alarm { clocks, earliest, next_step })
    }

    /// Whether any timer is set.
    pub fn is_set(&self) -> bool {
        !self.earliest.is_empty()
    }

    /// The timers that are due by the task's own clocks, at most `most`.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn due(&self, view: &dyn View, task: TaskId, most: usize) -> Result<Vec<Item>, Fault> {
        due(view, task, &self.clocks, most)
    }

    /// The timers that are due once a tick moves the task's clocks to `now`, at most `most`.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn due_at(
        &self,
        view: &dyn View,
        spec: &TaskSpec,
        task: TaskId,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<Item>, Fault> {
        due(view, task, &self.at(spec, now), most)
    }

    /// When to look again, if no event comes until then.
    pub fn next(&self, spec: &TaskSpec, now: Timestamp) -> Option<Timestamp> {
        let wakes = self.earliest.iter().filter_map(|(timer, _)| match timer.kind {
            TimerKind::AppendTime => Some(Timestamp(u64::try_from(timer.at_ms).unwrap_or(0))),
            TimerKind::EventTime => self.at(spec, now).next_silence(&spec.event_time),
        });
        wakes.min()
    }

    /// How many of the items a step may take before a timer is due.
    pub fn until(&self, spec: &TaskSpec, items: &[Item]) -> usize {
        let mut clocks = self.clocks.clone();
        for (number, item) in items.iter().enumerate() {
            let observed = item.consumes.and_then(|consumes| consumes.observed);
            clocks.observe(&spec.event_time, observed.as_slice(), item.time, self.next_step);
            if self.earliest.iter().any(|(timer, by)| timers::is_due(timer, by, &clocks)) {
                return number + 1;
            }
        }
        items.len()
    }

    fn at(&self, spec: &TaskSpec, now: Timestamp) -> EventTimeRow {
        let mut clocks = self.clocks.clone();
        clocks.observe(&spec.event_time, &[], now, self.next_step);
        clocks
    }
}

fn due(view: &dyn View, task: TaskId, clocks: &EventTimeRow, most: usize) -> Result<Vec<Item>, Fault> {
    let due = timers::due(view, task, clocks, most)?;
    let item = |(timer, by): (Timer, SetBy)| Item {
        content: Content::Timer(timer),
        source: by.source,
        time: clocks.time,
        consumes: None,
        letter: None,
    };
    Ok(due.into_iter().map(item).collect())
}
