//! One run of a task, as its plugin sees it.

use crate::host::Host;
use crate::{Config, Event, Record, Refusal, State};

/// One run of a task: some events of its partition, in the order of their log, and the means to act on them.
///
/// Emitting and writing only stage. When the step commits, all of it becomes real at once; when it fails, traps
/// or runs out of time, nothing does.
pub struct Step<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) events: Vec<Event>,
}

impl Step<'_> {
    /// The events of this step, at least one.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The number of the partitions that this task reads.
    pub fn partition(&self) -> u32 {
        self.host.partition()
    }

    /// How often the first event was tried before, without success.
    pub fn attempt(&self) -> u32 {
        self.host.attempt()
    }

    /// Derives a record from `parent`. The broker keeps who derives from whom, so `parent` should be the event
    /// without which the record would not exist.
    ///
    /// # Errors
    /// [`Refusal::NotGranted`] when the manifest does not list the topic; [`Refusal::Limit`] when the record is
    /// too large, or the step has emitted too much.
    pub fn emit(&self, parent: &Event, topic: &str, record: Record) -> Result<(), Refusal> {
        self.host.emit(parent.index, topic, vec![record])
    }

    /// Derives several records from `parent`, all or none.
    ///
    /// # Errors
    /// Those of [`Step::emit`].
    pub fn emit_all(
        &self,
        parent: &Event,
        topic: &str,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<(), Refusal> {
        self.host.emit(parent.index, topic, records.into_iter().collect())
    }

    /// What this task keeps from step to step.
    pub fn state(&self) -> State<'_> {
        State { host: self.host }
    }

    /// The deployment's configuration.
    pub fn config(&self) -> Config<'_> {
        Config { host: self.host }
    }
}
