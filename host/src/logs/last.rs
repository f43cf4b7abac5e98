//! The last lines of a plugin's log, out of its topic. Who wants to follow it reads the topic.

use tidemill_core::catalog::Deployment;
use tidemill_core::fault::Fault;
use tidemill_core::limits;
use tidemill_protocol::batch;
use tidemill_protocol::ids::{Offset, Partition, TopicPartition};

use super::line::Line;
use crate::plugins::Plugins;

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;

/// A line, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadLine {
    /// Its offset in the partition of its task.
    pub offset: Offset,
    /// The line.
    pub line: Line,
}

impl Plugins {
    /// The last lines of a task: of the last so many records.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn last_lines(
        &self,
        deployment: &Deployment,
        task: Partition,
        records: usize,
    ) -> Result<Vec<ReadLine>, Fault> {
        let Some(log) = &deployment.spec.log else { return Ok(Vec::new()) };
        let at = TopicPartition { topic: log.topic, partition: task };
        let shard = &self.shards[usize::from(deployment.spec.home_of(task).0)];
        let Some(row) = shard.partition(at)? else { return Ok(Vec::new()) };
        let mut from = Offset(row.end.0.saturating_sub(records as u64)).max(row.log_start);
        let mut lines = Vec::new();
        while from < row.end {
            let batches = shard.group.log().batches(at, from, shard.upto(), READ_BYTES);
            let batches = batches.map_err(|error| Fault::damaged("the topic of a plugin's log", error))?;
            let before = from;
            for (_, placed) in batches {
                let header = placed.header()?;
                // What a program outside wrote there, and nobody can read, is no line.
                for record in batch::decode(&placed.batch, &limits::READABLE_BATCH).unwrap_or_default() {
                    if record.offset >= from {
                        lines.extend(Line::of(&record).map(|line| ReadLine { offset: record.offset, line }));
                    }
                }
                from = from.max(header.next_offset());
            }
            if from == before {
                break;
            }
        }
        Ok(lines)
    }
}
