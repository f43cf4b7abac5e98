//! Timers: how a task acts when no record comes.

use std::borrow::Cow;

/// What a timer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKind {
    /// The broker's clock, as it reaches the task ([`Step::time_ms`](crate::Step::time_ms)).
    AppendTime,
    /// The task's event-time watermark
    /// ([`Step::event_time_watermark_ms`](crate::Step::event_time_watermark_ms)): it moves by records alone. Once all
    /// writers have been silent for the manifest's `event-time.idle-ms`, every timer of this kind is due.
    EventTime,
}

/// A timer of a task: to be set, or due. Kind and name identify it; to set it again is to move it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// Its place among the due timers of its step; what is derived from it names it by that.
    pub(crate) index: u32,
    /// What it waits for.
    pub kind: TimerKind,
    /// Its name.
    pub name: Vec<u8>,
    /// When it is due, in milliseconds since 1970.
    pub at_ms: i64,
}

impl Timer {
    /// Due when the broker's clock is there.
    pub fn append_time(name: impl AsRef<[u8]>, at_ms: u64) -> Timer {
        let at_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
        Timer { index: 0, kind: TimerKind::AppendTime, name: name.as_ref().to_vec(), at_ms }
    }

    /// Due when the event-time watermark is there.
    pub fn event_time(name: impl AsRef<[u8]>, at_ms: i64) -> Timer {
        Timer { index: 0, kind: TimerKind::EventTime, name: name.as_ref().to_vec(), at_ms }
    }

    /// The name as text, as far as it is UTF-8.
    pub fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }
}

/// What a record may be derived from, and a timer be set for: an [`Event`](crate::Event), or a [`Timer`] that is due.
pub trait Parent: sealed::Indexed {}

impl Parent for crate::Event {}
impl Parent for Timer {}

pub(crate) mod sealed {
    /// Something that has a place in its step.
    pub trait Indexed {
        /// That place.
        fn index(&self) -> u32;
    }

    impl Indexed for crate::Event {
        fn index(&self) -> u32 {
            self.index
        }
    }

    impl Indexed for super::Timer {
        fn index(&self) -> u32 {
            self.index
        }
    }
}
