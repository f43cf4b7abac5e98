//! A step that was tried, and what is left when all are: values, for whoever prints them.

use bytes::Bytes;
use tidemill_core::ids::StepNumber;
use tidemill_core::plugin::{StateChange, Timer, TimerChange};
use tidemill_core::shard::step::Outcome;
use tidemill_protocol::ids::{Offset, Partition};
use tidemill_runtime::{LogLine, Usage};

/// A step that was tried.
#[derive(Debug)]
pub struct Step {
    /// The task that took it.
    pub task: u32,
    /// Its number.
    pub number: StepNumber,
    /// How often its event, or timer, was tried before.
    pub attempt: u32,
    /// What it was given.
    pub given: Given,
    /// What became of it.
    pub outcome: Outcome,
    /// The plugin's functions where it failed, from the innermost out.
    pub backtrace: Vec<String>,
    /// What it derived, in order.
    pub derived: Vec<Derived>,
    /// How its state changed.
    pub state: Vec<StateChange>,
    /// How its timers changed.
    pub timers: Vec<TimerChange>,
    /// What it logged, and how many lines more it would have.
    pub log: (Vec<LogLine>, u64),
    /// What it used.
    pub usage: Usage,
}

/// What a step was given.
#[derive(Debug)]
pub enum Given {
    /// A record of this topic, at this offset.
    Record(String, Offset),
    /// A timer that was due.
    Timer(Timer),
}

/// A record that a step derived, where it lies.
#[derive(Debug)]
pub struct Derived {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: Partition,
    /// The offset.
    pub offset: Offset,
    /// Its own time, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// What is left when all lines were taken.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Timers that are set, of which task.
    pub timers: Vec<(u32, Timer)>,
    /// Records that a task which stopped was not given.
    pub records: u64,
}
