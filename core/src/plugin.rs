//! What passes between a task and its guest, in no version of the contract.
//!
//! `tidemill-runtime` turns these into the WIT types of the version that a component speaks, and back.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidemill_protocol::ids::Position;

use crate::fault::Fault;
use crate::limits;
use crate::seams::Timestamp;

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name; names may repeat.
    pub name: String,
    /// Its value, or null.
    pub value: Option<Bytes>,
}

/// A record that a step reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which of the task's inputs it came from.
    pub input: u16,
    /// Its place.
    pub position: Position,
    /// The record's own time, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// When the broker took it in.
    pub append_time: Timestamp,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; null is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<Header>,
}

impl Event {
    /// Bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        let of = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|h| h.name.len() + of(&h.value)).sum();
        of(&self.key) + of(&self.value) + headers
    }
}

/// A record that a step derives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// Which of the step's events, or timers, it derives from.
    pub parent: u32,
    /// Which of the topics that the plugin may publish to.
    pub output: u16,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<Header>,
    /// Its own time; the parent's when none.
    pub timestamp_ms: Option<i64>,
}

/// What a timer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKind {
    /// The task's append time.
    AppendTime = 0,
    /// The task's event-time watermark.
    EventTime = 1,
}

impl TimerKind {
    /// The kind of this number.
    pub fn of(number: u8) -> Option<TimerKind> {
        [TimerKind::AppendTime, TimerKind::EventTime].into_iter().find(|kind| *kind as u8 == number)
    }
}

/// A timer of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// What it waits for.
    pub kind: TimerKind,
    /// Its name, as the guest wrote it. Kind and name identify it.
    pub name: Bytes,
    /// When it is due, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A change of a task's timers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimerChange {
    /// Set, or move.
    Set {
        /// The timer.
        timer: Timer,
        /// For which of the step's events or timers.
        parent: u32,
    },
    /// Remove.
    Cancel {
        /// The kind.
        kind: TimerKind,
        /// The name.
        name: Bytes,
    },
}

/// A change of a task's state: a new value, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The key, as the guest wrote it.
    pub key: Bytes,
    /// The value; `None` removes the key.
    pub value: Option<Bytes>,
}

/// What a step wants to become real. A guest can only propose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Records, in the order in which they were emitted.
    pub emitted: Vec<Emitted>,
    /// The last change of each key, in the order of the keys.
    pub state: Vec<StateChange>,
    /// The last change of each timer, in the order of kinds and names.
    pub timers: Vec<TimerChange>,
}

/// A task's state as its next step finds it.
pub trait StateView: Send + Sync {
    /// The value of `key`.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault>;

    /// At most `limit` pairs with `start <= key` and `key < end`, in the order of their keys.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault>;
}

/// What an instance may use. Every field has a key of the same name in the manifest's `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct GuestLimits {
    /// Linear memory of an instance, in bytes.
    pub memory_bytes: u64,
    /// Processor time of a step, in milliseconds.
    pub cpu_ms: u64,
    /// Bytes that a step may emit.
    pub output_bytes: u64,
    /// Records that a step may emit.
    pub output_records: u64,
    /// Bytes that a step may write to its state: keys, values, names of timers, and [`limits::STATE_CHANGE_BYTES`] for
    /// each change.
    pub state_bytes: u64,
    /// Events that a step is given, at most.
    pub step_events: u64,
}

impl Default for GuestLimits {
    fn default() -> Self {
        GuestLimits {
            memory_bytes: limits::GUEST_MEMORY_DEFAULT as u64,
            cpu_ms: limits::GUEST_CPU_DEFAULT.as_millis() as u64,
            output_bytes: limits::STEP_OUTPUT_BYTES_DEFAULT as u64,
            output_records: limits::STEP_OUTPUT_RECORDS_DEFAULT as u64,
            state_bytes: limits::STEP_STATE_BYTES_DEFAULT as u64,
            step_events: limits::STEP_EVENTS_MAX as u64,
        }
    }
}
