//! The timers that one step sets and removes.
//!
//! What comes out is the last change of each, in the order of kinds and names, whether or not it changes anything: it
//! depends on the guest's calls alone. They count towards what a step may write to its state, beside that.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_core::limits;
use tidemill_core::plugin::{Timer, TimerChange, TimerKind};

use crate::failure::{Denied, LimitReached, Refusal, Stop};

/// Changes of a task's timers.
pub(crate) struct StagedTimers {
    changes: BTreeMap<(TimerKind, Bytes), Option<(i64, u32)>>,
    bytes: u64,
    bytes_max: u64,
}

impl StagedTimers {
    /// No changes yet; together they may count `bytes_max`.
    pub(crate) fn new(bytes_max: u64) -> StagedTimers {
        StagedTimers { changes: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// What its changes count.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Stages a timer, for event or timer `parent` of the step. `beside` is what else counts towards the limit.
    pub(crate) fn set(&mut self, timer: Timer, parent: u32, beside: u64) -> Result<(), Denied> {
        self.change(timer.kind, timer.name, Some((timer.at_ms, parent)), beside)
    }

    /// Stages that a timer goes. `beside` is what else counts towards the limit.
    pub(crate) fn cancel(&mut self, kind: TimerKind, name: Bytes, beside: u64) -> Result<(), Denied> {
        self.change(kind, name, None, beside)
    }

    fn change(
        &mut self,
        kind: TimerKind,
        name: Bytes,
        to: Option<(i64, u32)>,
        beside: u64,
    ) -> Result<(), Denied> {
        if name.len() > limits::STATE_KEY_BYTES_MAX {
            return Err(Refusal::Limit(LimitReached::timer_name(name.len())).into());
        }
        let cost = (name.len() + limits::TIMER_CHANGE_BYTES) as u64;
        let key = (kind, name);
        if !self.changes.contains_key(&key) {
            let bytes = self.bytes + cost;
            if bytes + beside > self.bytes_max {
                return Err(Stop::Limit(LimitReached::state_bytes(self.bytes_max, bytes + beside)).into());
            }
            self.bytes = bytes;
        }
        self.changes.insert(key, to);
        Ok(())
    }

    /// The last change of each, in the order of kinds and names.
    pub(crate) fn into_changes(self) -> Vec<TimerChange> {
        let change = |((kind, name), to)| match to {
            Some((at_ms, parent)) => TimerChange::Set { timer: Timer { kind, name, at_ms }, parent },
            None => TimerChange::Cancel { kind, name },
        };
        self.changes.into_iter().map(change).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_change_of_each_stays_and_all_of_them_count() {
        let mut timers = StagedTimers::new(200);
        let timer = |at_ms| Timer { kind: TimerKind::EventTime, name: Bytes::from_static(b"w"), at_ms };
        timers.set(timer(5), 0, 0).unwrap();
        timers.set(timer(6), 1, 103).unwrap();
        let full = timers.cancel(TimerKind::AppendTime, Bytes::from_static(b"w"), 7);
        assert_eq!(full, Err(Denied::Stopped(Stop::Limit(LimitReached::state_bytes(200, 201)))));
        timers.cancel(TimerKind::AppendTime, Bytes::from_static(b"w"), 6).unwrap();
        let stop = Stop::Limit(LimitReached::state_bytes(200, 291));
        let third = timers.cancel(TimerKind::AppendTime, Bytes::from_static(b"x"), 0);
        assert_eq!(third, Err(Denied::Stopped(stop)));
        let cancel = TimerChange::Cancel { kind: TimerKind::AppendTime, name: Bytes::from_static(b"w") };
        assert_eq!(timers.into_changes(), [cancel, TimerChange::Set { timer: timer(6), parent: 1 }]);
    }

    #[test]
    fn a_name_that_is_too_long_is_refused_and_the_step_goes_on() {
        let mut timers = StagedTimers::new(80_000);
        let long = Bytes::from(vec![0; limits::STATE_KEY_BYTES_MAX + 1]);
        let refusal = Refusal::Limit(LimitReached::timer_name(long.len()));
        assert_eq!(timers.cancel(TimerKind::EventTime, long, 0), Err(Denied::Refused(refusal)));
        assert_eq!(timers.into_changes(), []);
    }
}
