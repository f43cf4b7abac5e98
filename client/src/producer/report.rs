//! What became of the records that a flush or a close waited for.

use std::sync::Arc;

use tidemill_protocol::ids::Partition;

use super::delivery::Ended;
use super::sequence::End;

/// Records counted by how they ended. Each stands in exactly one of the first four.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Written.
    pub delivered: u64,
    /// Not written.
    pub refused: u64,
    /// Nobody knows whether they were written.
    pub expired: u64,
    /// Given up with the producer.
    pub fatal: u64,
    /// Those of the above that never left this process, by partition: they were not written, and can be produced
    /// again without doubling anything.
    pub unsent: Vec<Unsent>,
}

/// Records of one partition that were never sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: Partition,
    /// How many.
    pub records: u64,
}

impl Report {
    /// Whether every record was written.
    pub fn is_clean(&self) -> bool {
        self.refused == 0 && self.expired == 0 && self.fatal == 0
    }

    /// Records that never left this process.
    pub fn unsent_records(&self) -> u64 {
        self.unsent.iter().map(|unsent| unsent.records).sum()
    }

    pub(super) fn count(&mut self, topic: &Arc<str>, partition: Partition, records: u32, ended: &Ended) {
        let records = u64::from(records);
        *match ended.end {
            End::Delivered(_) => &mut self.delivered,
            End::Refused(_) => &mut self.refused,
            End::Expired(_) => &mut self.expired,
            End::Fatal(_) => &mut self.fatal,
        } += records;
        if ended.was_sent {
            return;
        }
        match self.unsent.iter_mut().find(|unsent| unsent.topic == *topic && unsent.partition == partition) {
            Some(unsent) => unsent.records += records,
            None => self.unsent.push(Unsent { topic: topic.clone(), partition, records }),
        }
    }
}
