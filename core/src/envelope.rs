//! The envelope: what the broker says of a batch, stored beside it and never in it.
//!
//! It is the broker's word, which neither clients nor plugins can forge: they never write one. `docs/format.md`
//! draws it byte by byte. The *seal* binds the envelope and the producer's own CRC to the place where the
//! batch lies, so that a batch which turns up anywhere else, or beside another envelope, is found out:
//!
//! ```text
//! seal = crc32c(topic id · partition · base offset · batch CRC · envelope without the seal)
//! ```

use bytes::Bytes;
use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::ids::{Offset, Partition, Position, TopicId, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use crate::ids::{DeploymentId, Digest, Generation, StepNumber, TaskId};
use crate::seams::Timestamp;

const VERSION: u8 = 1;
const SEAL_AT: usize = 4;
/// Room for the envelope of a derived record.
const SMALL_BYTES: usize = 160;
const ORIGIN_PRODUCER: u8 = 0;
const ORIGIN_TASK: u8 = 1;
/// In the flags: the step that made it was given due timers, and no events.
const BY_TIMER: u16 = 1;
/// Stands for "no event-time watermark".
const NO_WATERMARK: i64 = i64::MIN;

/// What the broker says of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// When the broker took the batch in. Never goes back within a shard.
    pub append_time: Timestamp,
    /// Who made it.
    pub origin: Origin,
}

/// Who made a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A program outside: its records have no ancestors.
    Producer,
    /// A task's step.
    Task(Derivation),
}

/// How a derived batch came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derivation {
    /// The task.
    pub task: TaskId,
    /// The generation of its deployment.
    pub generation: Generation,
    /// The component that ran.
    pub digest: Digest,
    /// The step.
    pub step: StepNumber,
    /// Whether due timers made the task derive it: each parent is then the record that last set the timer.
    pub by_timer: bool,
    /// The task's event-time watermark after the step, in milliseconds since 1970; none before its first record.
    pub event_time_watermark_ms: Option<i64>,
    /// For each record of the batch, where it comes from.
    pub lineage: Vec<Lineage>,
}

/// Where one derived record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage {
    /// The record it was derived from.
    pub parent: Position,
    /// The record that its chain began with.
    pub root: Position,
    /// How many steps lie between the root and this record, this one included.
    pub hops: u32,
}

impl Envelope {
    /// The bytes that stand beside `batch` when it lies at `base_offset` of `at`.
    pub fn seal(&self, at: TopicPartition, base_offset: Offset, batch_crc: u32) -> Bytes {
        let mut writer = Writer::with_capacity(SMALL_BYTES);
        let (origin, flags) = match &self.origin {
            Origin::Producer => (ORIGIN_PRODUCER, 0),
            Origin::Task(derivation) => (ORIGIN_TASK, if derivation.by_timer { BY_TIMER } else { 0 }),
        };
        writer.u8(VERSION).u8(origin).u16(flags).u32(0).u64(self.append_time.0);
        if let Origin::Task(derivation) = &self.origin {
            write_derivation(&mut writer, derivation);
        }
        let seal = seal_of(at, base_offset, batch_crc, writer.as_slice());
        writer.patch(SEAL_AT, &seal.to_be_bytes());
        writer.finish()
    }

    /// Reads an envelope without looking at its seal.
    ///
    /// # Errors
    /// [`Malformed`] when it is no envelope of a version that this broker knows.
    pub fn parse(bytes: &Bytes) -> Result<Envelope, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        if reader.u8("envelope version")? != VERSION {
            return Err(Malformed { what: "envelope version", at: 0 });
        }
        let origin = reader.u8("envelope origin")?;
        let flags = reader.u16("envelope flags")?;
        reader.u32("envelope seal")?;
        let append_time = Timestamp(reader.u64("append time")?);
        let origin = match origin {
            ORIGIN_PRODUCER => Origin::Producer,
            ORIGIN_TASK => Origin::Task(read_derivation(&mut reader, flags & BY_TIMER != 0)?),
            _ => return Err(Malformed { what: "envelope origin", at: 1 }),
        };
        reader.finish("envelope")?;
        Ok(Envelope { append_time, origin })
    }

    /// Where the record at `index` of the batch comes from: for a produced one, nowhere.
    pub fn lineage(&self, index: usize) -> Option<&Lineage> {
        match &self.origin {
            Origin::Producer => None,
            Origin::Task(derivation) => derivation.lineage.get(index),
        }
    }
}

/// Whether `envelope` was sealed for `batch` at this place. (The batch's own CRC is checked apart from this.)
pub fn is_sealed_for(envelope: &[u8], at: TopicPartition, header: &BatchHeader) -> bool {
    let Some(stored) = envelope.get(SEAL_AT..SEAL_AT + 4) else { return false };
    stored == seal_of(at, header.base_offset, header.crc, envelope).to_be_bytes()
}

/// The seal of an envelope, whatever stands in its place yet.
fn seal_of(at: TopicPartition, base_offset: Offset, batch_crc: u32, envelope: &[u8]) -> u32 {
    let mut crc = crc32c::crc32c(&at.topic.0);
    crc = crc32c::crc32c_append(crc, &at.partition.0.to_be_bytes());
    crc = crc32c::crc32c_append(crc, &base_offset.0.to_be_bytes());
    crc = crc32c::crc32c_append(crc, &batch_crc.to_be_bytes());
    crc = crc32c::crc32c_append(crc, &envelope[..SEAL_AT]);
    crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &envelope[SEAL_AT + 4..])
}

fn write_derivation(writer: &mut Writer, derivation: &Derivation) {
    writer.u64(derivation.task.deployment.0).u32(derivation.task.partition.0);
    writer.u32(derivation.generation.0).u64(derivation.step.0).raw(&derivation.digest.0);
    writer.i64(derivation.event_time_watermark_ms.unwrap_or(NO_WATERMARK));
    // Parents and roots are few partitions and many offsets: the partitions are written once.
    let mut places: Vec<TopicPartition> = Vec::new();
    let mut place_of = |at: TopicPartition| match places.iter().position(|place| *place == at) {
        Some(known) => known as u64,
        None => {
            places.push(at);
            places.len() as u64 - 1
        }
    };
    let mut records = Writer::new();
    for line in &derivation.lineage {
        records.varint(place_of(line.parent.at)).varint(line.parent.offset.0);
        records.varint(place_of(line.root.at)).varint(line.root.offset.0);
        records.varint(u64::from(line.hops));
    }
    writer.varint(places.len() as u64);
    for place in &places {
        writer.raw(&place.topic.0).u32(place.partition.0);
    }
    writer.varint(derivation.lineage.len() as u64).raw(records.as_slice());
}

fn read_derivation(reader: &mut Reader, by_timer: bool) -> Result<Derivation, Malformed> {
    let deployment = DeploymentId(reader.u64("deployment")?);
    let partition = Partition(reader.u32("task partition")?);
    let generation = Generation(reader.u32("generation")?);
    let step = StepNumber(reader.u64("step")?);
    let digest = Digest(reader.array("component digest")?);
    let watermark = reader.i64("event-time watermark")?;
    let mut places = Vec::new();
    for _ in 0..reader.varint("number of places")? {
        let topic = TopicId(reader.array("place")?);
        places.push(TopicPartition { topic, partition: Partition(reader.u32("place")?) });
    }
    let mut lineage = Vec::new();
    for _ in 0..reader.varint("number of records")? {
        let parent = read_position(reader, &places)?;
        let root = read_position(reader, &places)?;
        let hops = u32::try_from(reader.varint("hops")?).map_err(|_| reader.malformed("hops"))?;
        lineage.push(Lineage { parent, root, hops });
    }
    Ok(Derivation {
        task: TaskId { deployment, partition },
        generation,
        digest,
        step,
        by_timer,
        event_time_watermark_ms: (watermark != NO_WATERMARK).then_some(watermark),
        lineage,
    })
}

fn read_position(reader: &mut Reader, places: &[TopicPartition]) -> Result<Position, Malformed> {
    let place = usize::try_from(reader.varint("place")?).ok();
    let at = place.and_then(|place| places.get(place)).ok_or_else(|| reader.malformed("place"))?;
    Ok(Position { at: *at, offset: Offset(reader.varint("offset")?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(topic: u8, partition: u32) -> TopicPartition {
        TopicPartition { topic: TopicId([topic; 16]), partition: Partition(partition) }
    }

    fn derived() -> Envelope {
        let line = |offset, hops| Lineage {
            parent: Position { at: place(1, 2), offset: Offset(offset) },
            root: Position { at: place(9, 0), offset: Offset(offset * 3) },
            hops,
        };
        Envelope {
            append_time: Timestamp(1_700_000_000_000),
            origin: Origin::Task(Derivation {
                task: TaskId { deployment: DeploymentId(7), partition: Partition(2) },
                generation: Generation(3),
                digest: Digest([5; 32]),
                step: StepNumber(41),
                by_timer: true,
                event_time_watermark_ms: None,
                lineage: vec![line(10, 1), line(11, 2), line(300, 2)],
            }),
        }
    }

    #[test]
    fn what_is_sealed_is_read() {
        for envelope in [derived(), Envelope { append_time: Timestamp(1), origin: Origin::Producer }] {
            let bytes = envelope.seal(place(4, 4), Offset(12), 0xfeed);
            assert_eq!(Envelope::parse(&bytes), Ok(envelope));
        }
    }

    #[test]
    fn a_seal_holds_only_where_it_was_set() {
        let header = BatchHeader { base_offset: Offset(12), crc: 0xfeed, ..BatchHeader::default() };
        let bytes = derived().seal(place(4, 4), Offset(12), 0xfeed);
        assert!(is_sealed_for(&bytes, place(4, 4), &header));
        assert!(!is_sealed_for(&bytes, place(4, 5), &header), "another partition");
        assert!(!is_sealed_for(&bytes, place(5, 4), &header), "another topic");
        let moved = BatchHeader { base_offset: Offset(13), ..header.clone() };
        assert!(!is_sealed_for(&bytes, place(4, 4), &moved), "another offset");
        let other = BatchHeader { crc: 0xbeef, ..header.clone() };
        assert!(!is_sealed_for(&bytes, place(4, 4), &other), "another batch");
        let mut forged = bytes.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert!(!is_sealed_for(&forged, place(4, 4), &header), "another word");
    }

    #[test]
    fn any_cut_is_refused() {
        let bytes = derived().seal(place(4, 4), Offset(12), 0xfeed);
        for length in 0..bytes.len() {
            assert!(Envelope::parse(&bytes.slice(..length)).is_err(), "{length} bytes");
        }
    }
}
