//! What can be wrong, and the report of it.

use std::fmt;

use tidemill_core::ids::{LogIndex, ShardId, StepNumber, TaskId};
use tidemill_protocol::ids::TopicPartition;

/// Something that cannot be if every step happened exactly once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An entry or a batch is not what was written, or does not follow from what was before it.
    #[error("shard {} at {}: {what}", shard.0, index.0)]
    Log {
        /// The shard.
        shard: ShardId,
        /// The entry.
        index: LogIndex,
        /// What is wrong.
        what: String,
    },
    /// A step that does not follow the one before it, or is not what its component makes of its records.
    #[error("task {task}, step {} (shard {} at {}): {what}", step.0, shard.0, index.0)]
    Step {
        /// The task.
        task: TaskId,
        /// The step.
        step: StepNumber,
        /// Its shard.
        shard: ShardId,
        /// Its entry.
        index: LogIndex,
        /// What is wrong.
        what: String,
    },
    /// What a step derived is not in its partition once, in its place.
    #[error("task {task}, step {}, partition {} of topic {}: {what}", step.0, at.partition.0, at.topic)]
    Output {
        /// The task.
        task: TaskId,
        /// The step.
        step: StepNumber,
        /// The partition.
        at: TopicPartition,
        /// What is wrong.
        what: String,
    },
    /// A task's state is not the one that its log leads to.
    #[error("the state of task {task}: {what}")]
    State {
        /// The task.
        task: TaskId,
        /// What is wrong.
        what: String,
    },
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong. Empty: nothing is.
    pub violations: Vec<Violation>,
    /// Entries looked at.
    pub entries: u64,
    /// Records of all partitions.
    pub records: u64,
    /// Steps, all of whose ranges were compared.
    pub steps: u64,
    /// Steps that were run again.
    pub replayed: u64,
    /// Steps whose recorded outcome was taken: a try that failed, or a record that was given up.
    pub taken: u64,
    /// Derived batches that went to another shard.
    pub crossed: u64,
    /// Derived batches that are on their way to another shard.
    pub pending: u64,
    /// Tasks.
    pub tasks: u64,
    /// Records that tasks passed over, because a log start had passed them.
    pub passed_over: u64,
}

impl Report {
    pub(crate) fn merge(&mut self, other: &Report) {
        self.violations.extend(other.violations.iter().cloned());
        self.entries += other.entries;
        self.records += other.records;
        self.steps += other.steps;
        self.replayed += other.replayed;
        self.taken += other.taken;
        self.crossed += other.crossed;
        self.pending += other.pending;
        self.tasks += other.tasks;
        self.passed_over += other.passed_over;
    }

    /// Whether nothing is wrong.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            entries,
            records,
            steps,
            replayed,
            taken,
            crossed,
            pending,
            tasks,
            passed_over,
            violations,
        } = self;
        write!(
            f,
            "{tasks} tasks took {steps} steps ({replayed} run again and found the same, {taken} by their recorded \
             outcome) over {records} records in {entries} entries; {crossed} batches crossed shards, {pending} are on \
             their way; {passed_over} records were removed before their task consumed them; {} violations",
            violations.len()
        )
    }
}
