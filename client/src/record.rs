//! A record on its way to a topic.

use std::sync::Arc;

use bytes::Bytes;
pub use tidemill_protocol::batch::RecordHeader;
use tidemill_protocol::ids::Partition;

/// A record to be produced.
///
/// ```
/// use tidemill_client::Record;
///
/// let order = Record::to("customer-orders").key("customer-7").value(r#"{"total": 1250}"#);
/// let tombstone = Record::to("prices").key("apple");
/// # assert!(tombstone.value.is_none() && order.key.is_some());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition; without one the producer's partitioner chooses.
    pub partition: Option<Partition>,
    /// The key: records of one key go to one partition, in order.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Headers, in order; names may repeat.
    pub headers: Vec<RecordHeader>,
    /// The record's own time, in milliseconds since 1970; without one, when it is accepted.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A record without key, value and headers. Give an `Arc<str>` to spare a copy of the name.
    pub fn to(topic: impl Into<Arc<str>>) -> Record {
        Record {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp_ms: None,
        }
    }

    /// With a key.
    pub fn key(mut self, key: impl Into<Bytes>) -> Record {
        self.key = Some(key.into());
        self
    }

    /// With a value.
    pub fn value(mut self, value: impl Into<Bytes>) -> Record {
        self.value = Some(value.into());
        self
    }

    /// With one more header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Record {
        self.headers.push(RecordHeader { name: name.into(), value: Some(value.into()) });
        self
    }

    /// For this partition, whatever the key.
    pub fn partition(mut self, partition: Partition) -> Record {
        self.partition = Some(partition);
        self
    }

    /// With a time of its own, in milliseconds since 1970.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Record {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}
