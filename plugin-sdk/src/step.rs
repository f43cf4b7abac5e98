//! One run of a task, as its plugin sees it.

use crate::host::Host;
use crate::{Config, Event, Files, Parent, Record, Refusal, State, Timer, TimerKind};

/// One run of a task: some events of its partition, in the order of their log, or some of its timers that are due,
/// and the means to act on them.
///
/// Emitting and writing only stage. When the step commits, all of it becomes real at once; when it fails, traps
/// or runs out of time, nothing does.
pub struct Step<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) events: Vec<Event>,
    pub(crate) timers: Vec<Timer>,
}

impl Step<'_> {
    /// The events of this step, at least one; none in a step of timers.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The timers that are due, in the order of their times; none in a step of events. They are set no more.
    pub fn timers(&self) -> &[Timer] {
        &self.timers
    }

    /// The number of the partitions that this task reads.
    pub fn partition(&self) -> u32 {
        self.host.partition()
    }

    /// How often the first event, or timer, was tried before, without success.
    pub fn attempt(&self) -> u32 {
        self.host.attempt()
    }

    /// The task's time, in milliseconds since 1970: the highest append time of its records and ticks so far.
    pub fn time_ms(&self) -> u64 {
        self.host.time_ms()
    }

    /// Up to which event time the task has seen all records, as far as one can know, in milliseconds since 1970:
    /// an event of this step with an earlier timestamp is late. None before the first record.
    pub fn event_time_watermark_ms(&self) -> Option<i64> {
        self.host.event_time_watermark_ms()
    }

    /// Sets a timer, or moves the one of the same kind and name. What it will derive descends from `parent`: from the
    /// event, or from the record that set the due timer. One that is due already comes with the next step.
    ///
    /// # Errors
    /// [`Refusal::Limit`] when the name is longer than a key of the state may be.
    pub fn set_timer(&self, parent: &impl Parent, timer: Timer) -> Result<(), Refusal> {
        self.host.set_timer(parent.index(), timer)
    }

    /// Removes a timer, if it is set.
    ///
    /// # Errors
    /// Those of [`Step::set_timer`].
    pub fn cancel_timer(&self, kind: TimerKind, name: impl AsRef<[u8]>) -> Result<(), Refusal> {
        self.host.cancel_timer(kind, name.as_ref())
    }

    /// Derives a record from `parent`. The broker keeps who derives from whom, so `parent` should be the event, or
    /// the due timer, without which the record would not exist.
    ///
    /// # Errors
    /// [`Refusal::NotGranted`] when the manifest does not list the topic; [`Refusal::Limit`] when the record is
    /// too large, or the step has emitted too much.
    pub fn emit(&self, parent: &impl Parent, topic: &str, record: Record) -> Result<(), Refusal> {
        self.host.emit(parent.index(), topic, vec![record])
    }

    /// Derives several records from `parent`, all or none.
    ///
    /// # Errors
    /// Those of [`Step::emit`].
    pub fn emit_all(
        &self,
        parent: &impl Parent,
        topic: &str,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<(), Refusal> {
        self.host.emit(parent.index(), topic, records.into_iter().collect())
    }

    /// What this task keeps from step to step.
    pub fn state(&self) -> State<'_> {
        State { host: self.host }
    }

    /// The deployment's configuration.
    pub fn config(&self) -> Config<'_> {
        Config { host: self.host }
    }

    /// The files that are deployed with the plugin.
    pub fn files(&self) -> Files<'_> {
        Files { host: self.host }
    }
}
