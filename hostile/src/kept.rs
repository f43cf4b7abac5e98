//! What a shard and the catalog keep: entries, envelopes, the keys and rows of tables.

use bytes::Bytes;
use tidemill_core::catalog::{AffinityGroupRow, ClusterRow, Command, DeletedTopic, Deployment, TopicRow};
use tidemill_core::entry::Entry;
use tidemill_core::envelope::{Envelope, Origin, is_sealed_for};
use tidemill_core::event_time::EventTimeRow;
use tidemill_core::rows::{
    GroupOffsetRow, LetterRow, LinkRow, PartitionRow, PendingRow, ProducerRow, RecentBatch, RedriveRow,
    ShardRow, TaskRow,
};
use tidemill_core::shard::control::{self, Control};
use tidemill_core::shard::step::StepMeta;
use tidemill_core::tables::{Key, Row, end_of_prefix};
use tidemill_core::task::TaskSpec;
use tidemill_core::timers::{SetBy, TimerRow};
use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::ids::{Offset, Partition, TopicId, TopicPartition};

/// Entries of a shard's log. There is one way to write one.
pub fn entries(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(entry) = Entry::parse(&bytes) else { return };
    assert_eq!(entry.encode(), bytes);
    let _ = entry.resident().count();
    let _ = control::command(&entry);
    let _ = tidemill_core::shard::step::meta(&entry);
}

/// Envelopes, with whatever seal.
pub fn envelopes(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let at = TopicPartition { topic: TopicId([7; 16]), partition: Partition(3) };
    let header = BatchHeader { base_offset: Offset(9), crc: 77, ..BatchHeader::default() };
    let _ = is_sealed_for(&bytes, at, &header);
    let Ok(envelope) = Envelope::parse(&bytes) else { return };
    let sealed = envelope.seal(at, header.base_offset, header.crc);
    assert!(is_sealed_for(&sealed, at, &header));
    assert_eq!(Envelope::parse(&sealed).as_ref(), Ok(&envelope));
    let is_producers = envelope.origin == Origin::Producer;
    assert_eq!(
        envelope.lineage(0).is_none(),
        is_producers || envelope.lineage(usize::MAX).is_none() && lines(&envelope) == 0
    );
}

fn lines(envelope: &Envelope) -> usize {
    match &envelope.origin {
        Origin::Producer => 0,
        Origin::Task(derivation) => derivation.lineage.len(),
    }
}

/// What a step's entry says beside its batches.
pub fn steps(bytes: &[u8]) {
    if let Ok(step) = StepMeta::decode(&Bytes::copy_from_slice(bytes)) {
        assert_eq!(StepMeta::decode(&step.encode()), Ok(step));
    }
}

/// Keys of tables. There is one way to write one, and a prefix has an end behind it.
pub fn keys(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Some(end) = end_of_prefix(&bytes) {
        assert!(end > bytes);
    }
    if let Ok(key) = Key::decode(&bytes) {
        assert_eq!(key.encode(), bytes);
    }
}

fn row<R: Row + PartialEq + std::fmt::Debug>(bytes: &Bytes) {
    if let Ok(row) = R::decode(bytes) {
        assert_eq!(R::decode(&row.encode()), Ok(row));
    }
}

/// Rows, each kind of them.
pub fn rows(bytes: &[u8]) {
    let bytes = &Bytes::copy_from_slice(bytes);
    row::<ShardRow>(bytes);
    row::<PartitionRow>(bytes);
    row::<ProducerRow>(bytes);
    row::<RecentBatch>(bytes);
    row::<TaskRow>(bytes);
    row::<LinkRow>(bytes);
    row::<LetterRow>(bytes);
    row::<RedriveRow>(bytes);
    row::<PendingRow>(bytes);
    row::<GroupOffsetRow>(bytes);
    row::<TimerRow>(bytes);
    row::<SetBy>(bytes);
    row::<EventTimeRow>(bytes);
}

fn json<T: serde::de::DeserializeOwned + serde::Serialize>(bytes: &Bytes) {
    if let Ok(read) = serde_json::from_slice::<T>(bytes) {
        let written = serde_json::to_vec(&read).expect("it is plain data");
        let again = serde_json::from_slice::<T>(&written).expect("what is written is read");
        assert_eq!(serde_json::to_vec(&again).expect("it is plain data"), written);
    }
}

/// What is kept as JSON: the catalog's rows, its commands, and a shard's.
pub fn catalog(bytes: &[u8]) {
    let bytes = &Bytes::copy_from_slice(bytes);
    json::<ClusterRow>(bytes);
    json::<TopicRow>(bytes);
    json::<AffinityGroupRow>(bytes);
    json::<Deployment>(bytes);
    json::<DeletedTopic>(bytes);
    json::<TaskSpec>(bytes);
    json::<Command>(bytes);
    json::<Control>(bytes);
}
