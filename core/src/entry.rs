//! An entry of a shard's log: a small head, and the record batches it carries.
//!
//! ```text
//!  0        1      2           4              12             16
//! ┌─────────┬──────┬───────────┬──────────────┬──────────────┬──────┬─────────┬─────────┬───
//! │ version │ kind │ batches n │ append time  │ meta length  │ meta │ batch 1 │ batch 2 │ …
//! └─────────┴──────┴───────────┴──────────────┴──────────────┴──────┴─────────┴─────────┴───
//! batch: shard u16 (0xffff: this one) · topic id 16 · partition u32 · envelope length u32
//!        · batch length u32 · envelope · record batch
//! ```
//!
//! Integers are big-endian. `meta` is the kind's own; see [`crate::shard`] and [`crate::catalog`]. An entry is
//! written once, by the leader that decided it, and every replica reads the same bytes. Its checksum is the
//! chunk's in which it is stored, and its batches have their own beside that.

use bytes::Bytes;
use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::ids::{Partition, TopicId, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use crate::fault::Fault;
use crate::ids::ShardId;
use crate::seams::Timestamp;

/// The newest format of entries that this broker reads and writes.
pub const ENTRY_VERSION: u8 = 1;
const HEAD_BYTES: usize = 16;
const BATCH_HEAD_BYTES: usize = 30;
const THIS_SHARD: u16 = u16::MAX;

/// What an entry is. The numbers are for ever; 7 and 8 are not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Batches of producers.
    Produce = 1,
    /// A step of a task.
    Step = 2,
    /// Batches that a step of another shard shipped here.
    Arrival = 3,
    /// Word that batches of steps of this shard have arrived elsewhere.
    Shipped = 4,
    /// A change of what the shard holds or runs.
    Control = 5,
    /// A change of the catalog.
    Catalog = 6,
    /// Offsets that consumers committed.
    GroupOffsets = 9,
}

impl EntryKind {
    fn from_number(number: u8) -> Option<EntryKind> {
        use EntryKind::{Arrival, Catalog, Control, GroupOffsets, Produce, Shipped, Step};
        let kinds = [Produce, Step, Arrival, Shipped, Control, Catalog, GroupOffsets];
        kinds.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// A batch in an entry, and the place it is meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedBatch {
    /// The shard of that place when it is another than the entry's own: the batch waits here to be shipped.
    pub away: Option<ShardId>,
    /// The partition.
    pub at: TopicPartition,
    /// The sealed envelope.
    pub envelope: Bytes,
    /// The record batch, stamped with its offset if it stays.
    pub batch: Bytes,
}

impl PlacedBatch {
    /// How many bytes it adds to an entry.
    pub fn bytes(&self) -> usize {
        BATCH_HEAD_BYTES + self.envelope.len() + self.batch.len()
    }

    /// The header of its batch, which was checked before it was stored.
    ///
    /// # Errors
    /// [`Fault::Damaged`] when it is none.
    pub fn header(&self) -> Result<BatchHeader, Fault> {
        stored_header(&self.batch)
    }
}

/// The header of a batch that was checked before it was stored.
pub(crate) fn stored_header(batch: &[u8]) -> Result<BatchHeader, Fault> {
    BatchHeader::parse(batch).map_err(|error| Fault::damaged("a stored batch", error))
}

/// An entry, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// When the leader took it in; never goes back within a shard.
    pub append_time: Timestamp,
    /// What its kind says beside the batches.
    pub meta: Bytes,
    /// Its batches, in order.
    pub batches: Vec<PlacedBatch>,
}

impl Entry {
    /// Reads an entry; its parts share the memory of `bytes`.
    ///
    /// # Errors
    /// [`Fault::Newer`] for a version or kind that this broker does not know, [`Fault::Damaged`] otherwise.
    pub fn parse(bytes: &Bytes) -> Result<Entry, Fault> {
        if let [version, kind, ..] = bytes[..]
            && (version > ENTRY_VERSION
                || (version == ENTRY_VERSION && EntryKind::from_number(kind).is_none()))
        {
            let (found, known) = (u32::from(version.max(ENTRY_VERSION)), u32::from(ENTRY_VERSION));
            return Err(Fault::Newer { what: format!("a log entry of kind {kind}"), found, known });
        }
        Entry::read(bytes).map_err(|malformed| Fault::damaged("a log entry", malformed))
    }

    fn read(bytes: &Bytes) -> Result<Entry, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        if reader.u8("entry version")? == 0 {
            return Err(Malformed { what: "entry version", at: 0 });
        }
        let kind = EntryKind::from_number(reader.u8("entry kind")?);
        let kind = kind.ok_or(Malformed { what: "entry kind", at: 1 })?;
        let count = reader.u16("number of batches")?;
        let append_time = Timestamp(reader.u64("append time")?);
        let meta = reader.blob("meta")?;
        let mut batches = Vec::new();
        for _ in 0..count {
            let shard = reader.u16("shard")?;
            let topic = TopicId(reader.array("topic")?);
            let partition = Partition(reader.u32("partition")?);
            let envelope_bytes = reader.u32("envelope length")? as usize;
            let batch_bytes = reader.u32("batch length")? as usize;
            batches.push(PlacedBatch {
                away: (shard != THIS_SHARD).then_some(ShardId(shard)),
                at: TopicPartition { topic, partition },
                envelope: reader.bytes(envelope_bytes, "envelope")?,
                batch: reader.bytes(batch_bytes, "batch")?,
            });
        }
        reader.finish("entry")?;
        Ok(Entry { kind, append_time, meta, batches })
    }

    /// The batches that lie in the entry's own shard.
    pub fn resident(&self) -> impl Iterator<Item = &PlacedBatch> {
        self.batches.iter().filter(|batch| batch.away.is_none())
    }

    /// Its batches, and where the bytes of each begin in the entry's.
    pub fn places(&self) -> impl Iterator<Item = (usize, &PlacedBatch)> {
        let mut at = HEAD_BYTES + self.meta.len();
        self.batches.iter().map(move |placed| {
            let begins = at + BATCH_HEAD_BYTES + placed.envelope.len();
            at = begins + placed.batch.len();
            (begins, placed)
        })
    }

    /// How many bytes [`Entry::encode`] writes.
    pub fn encoded_bytes(&self) -> usize {
        let batches: usize = self.batches.iter().map(PlacedBatch::bytes).sum();
        HEAD_BYTES + self.meta.len() + batches
    }

    /// Writes the entry.
    ///
    /// # Panics
    /// When it holds more than 65,535 batches: a request cannot, and a step's outputs are bounded far below.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(self.encoded_bytes());
        let count = u16::try_from(self.batches.len()).expect("an entry holds at most 65,535 batches");
        writer.u8(ENTRY_VERSION).u8(self.kind as u8).u16(count).u64(self.append_time.0).blob(&self.meta);
        for batch in &self.batches {
            writer.u16(batch.away.map_or(THIS_SHARD, |shard| shard.0));
            writer.raw(&batch.at.topic.0).u32(batch.at.partition.0);
            writer.u32(batch.envelope.len() as u32).u32(batch.batch.len() as u32);
            writer.raw(&batch.envelope).raw(&batch.batch);
        }
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let placed = |away, topic| PlacedBatch {
            away,
            at: TopicPartition { topic: TopicId([topic; 16]), partition: Partition(3) },
            envelope: Bytes::from_static(b"envelope"),
            batch: Bytes::from_static(b"a batch of records"),
        };
        Entry {
            kind: EntryKind::Step,
            append_time: Timestamp(77),
            meta: Bytes::from_static(b"meta"),
            batches: vec![placed(None, 1), placed(Some(ShardId(4)), 2)],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Entry::parse(&entry().encode()), Ok(entry()));
        assert_eq!(entry().resident().count(), 1);
        let bytes = entry().encode();
        for (begins, placed) in entry().places() {
            assert_eq!(bytes.slice(begins..begins + placed.batch.len()), placed.batch);
        }
    }

    #[test]
    fn a_newer_entry_is_told_from_a_damaged_one() {
        let mut bytes = entry().encode().to_vec();
        bytes[0] = ENTRY_VERSION + 1;
        assert!(matches!(Entry::parse(&Bytes::from(bytes.clone())), Err(Fault::Newer { .. })));
        bytes[0] = ENTRY_VERSION;
        bytes[1] = 200;
        assert!(matches!(Entry::parse(&Bytes::from(bytes)), Err(Fault::Newer { .. })));
        let whole = entry().encode();
        for length in 0..whole.len() {
            assert!(matches!(Entry::parse(&whole.slice(..length)), Err(Fault::Damaged { .. })), "{length}");
        }
    }
}
