//! Which partition a record goes to, when it does not say.

use tidemill_protocol::partitioner::partition_for_key;

use crate::record::Record;
use crate::runtime;

/// Chooses partitions for a producer, topic by topic.
///
/// ```
/// use tidemill_client::{Partitioner, Record, TopicPartitioner};
///
/// /// All to the last partition.
/// struct Last;
///
/// impl Partitioner for Last {
///     fn for_topic(&self, _topic: &str) -> Box<dyn TopicPartitioner> {
///         Box::new(Last)
///     }
/// }
///
/// impl TopicPartitioner for Last {
///     fn partition(&mut self, _record: &Record, partitions: u32) -> u32 {
///         partitions - 1
///     }
/// }
/// ```
pub trait Partitioner: Send + Sync + 'static {
    /// A partitioner for one topic; called once for each.
    fn for_topic(&self, topic: &str) -> Box<dyn TopicPartitioner>;
}

/// Chooses partitions for the records of one topic.
pub trait TopicPartitioner: Send + 'static {
    /// The partition of a record: below `partitions`, which is not 0. A record for a partition that does not exist is
    /// refused.
    fn partition(&mut self, record: &Record, partitions: u32) -> u32;

    /// The record just asked about would begin a new batch; it is asked about once more behind this. A partitioner
    /// that sticks to a partition takes another.
    fn begin_batch(&mut self) {}
}

/// Kafka's: by murmur2 of the key; records without a key stay together until their batch is full, and then go
/// elsewhere, so that batches are large and partitions get equal shares.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyedOrSticky;

impl Partitioner for KeyedOrSticky {
    fn for_topic(&self, _topic: &str) -> Box<dyn TopicPartitioner> {
        Box::new(Sticky { choice: None, dice: runtime::chance() | 1 })
    }
}

struct Sticky {
    choice: Option<u32>,
    /// The state of a xorshift generator.
    dice: u64,
}

impl Sticky {
    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }
}

impl TopicPartitioner for Sticky {
    fn partition(&mut self, record: &Record, partitions: u32) -> u32 {
        if let Some(key) = &record.key {
            return partition_for_key(key, partitions);
        }
        let sticks_to = self.choice.filter(|choice| *choice < partitions);
        let choice = sticks_to.unwrap_or_else(|| (self.roll() % u64::from(partitions)) as u32);
        self.choice = Some(choice);
        choice
    }

    fn begin_batch(&mut self) {
        self.choice = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafkas_clients_send_them() {
        let mut partitioner = KeyedOrSticky.for_topic("orders");
        // From murmur2 as Kafka's own tests have it: "foobar" is -790332482, "21" is -973932308.
        let expected = |hash: i32, partitions: u32| (hash & 0x7fff_ffff) as u32 % partitions;
        for partitions in [1, 3, 4, 1_024] {
            let mut go =
                |key: &'static str| partitioner.partition(&Record::to("orders").key(key), partitions);
            assert_eq!(go("foobar"), expected(-790_332_482, partitions));
            assert_eq!(go("21"), expected(-973_932_308, partitions));
        }
    }

    #[test]
    fn records_without_a_key_stick_until_their_batch_is_full() {
        let mut partitioner = KeyedOrSticky.for_topic("orders");
        let record = Record::to("orders").value("x");
        let mut seen = [0; 4];
        for _ in 0..400 {
            let choice = partitioner.partition(&record, 4);
            assert!((0..10).all(|_| partitioner.partition(&record, 4) == choice));
            seen[choice as usize] += 1;
            partitioner.begin_batch();
        }
        assert!(seen.iter().all(|times| *times > 50), "{seen:?}");
    }
}
