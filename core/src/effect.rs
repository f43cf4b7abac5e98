//! Effects: what the shell may want to do after entries were applied.
//!
//! Effects are hints, the tables are the truth: they arise on every replica, a broker that misses some loses
//! nothing, and a new leader derives its pending work from the tables again.

use tidemill_protocol::ids::{TopicId, TopicPartition};

use crate::ids::{ShardId, TaskId};

/// Something changed that somebody may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The high watermark of a partition moved: fetches and tasks that wait there may go on.
    Appended {
        /// The partition.
        at: TopicPartition,
    },
    /// A step left batches for another shard.
    ToShip {
        /// That shard.
        to: ShardId,
    },
    /// A task is there, or another generation of it.
    TaskStarted {
        /// The task.
        task: TaskId,
    },
    /// A task stopped by its failure policy.
    TaskStopped {
        /// The task.
        task: TaskId,
    },
    /// Dead letters are to be given to their task again.
    Redriven {
        /// Where they lie.
        at: TopicPartition,
    },
    /// Records were deleted: the disk may have them back.
    Deleted,
    /// The catalog has another topic.
    TopicChanged {
        /// The topic.
        topic: TopicId,
    },
}
