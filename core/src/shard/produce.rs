//! Batches of producers: offsets, and the recognition of batches sent again.
//!
//! Invariants:
//! 1. Offsets of a partition have no gap: a batch begins where the one before it ends.
//! 2. Of one producer and epoch, sequences in a partition have no gap either, and none is written twice.
//! 3. A producer's epoch in a partition never goes back.

use bytes::{Bytes, BytesMut};
use tidemill_protocol::batch::{self, BatchHeader};
use tidemill_protocol::ids::{Offset, ProducerId, Sequence, TopicPartition};

use super::{Deciding, extend, partition};
use crate::effect::Effect;
use crate::entry::{Entry, EntryKind, PlacedBatch};
use crate::envelope::{Envelope, Origin};
use crate::fault::Fault;
use crate::rejection::Rejection;
use crate::rows::{ProducerRow, RecentBatch};
use crate::tables::{self, Key, Tables, View};

/// A batch that a producer sent, its bytes checked.
#[derive(Debug, Clone)]
pub struct Produced {
    /// Where it is to go.
    pub at: TopicPartition,
    /// The batch as it came.
    pub batch: Bytes,
    /// Its header, as `tidemill_protocol::batch::verify` returned it.
    pub header: BatchHeader,
}

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is in the entry.
    Append {
        /// The offset of its first record.
        base_offset: Offset,
    },
    /// It was written before; it is acknowledged once everything decided until now is committed.
    Duplicate {
        /// The offset it got then.
        base_offset: Offset,
    },
    /// It is not written.
    Refuse(Rejection),
}

/// Decides about the batches of one request, each of another partition, and makes the entry of those that are
/// to be written, if any.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn decide(deciding: &Deciding, batches: &[Produced]) -> Result<(Vec<Verdict>, Option<Entry>), Fault> {
    let append_time = deciding.append_time()?;
    let mut verdicts = Vec::with_capacity(batches.len());
    let mut placed = Vec::new();
    for produced in batches {
        let verdict = judge(deciding.head, produced)?;
        if let Verdict::Append { base_offset } = verdict {
            let mut stamped = BytesMut::from(&produced.batch[..]);
            batch::stamp(&mut stamped, base_offset, deciding.leader_epoch());
            let envelope = Envelope { append_time, origin: Origin::Producer };
            placed.push(PlacedBatch {
                away: None,
                at: produced.at,
                envelope: envelope.seal(produced.at, base_offset, produced.header.crc),
                batch: stamped.freeze(),
            });
        }
        verdicts.push(verdict);
    }
    let entry = Entry { kind: EntryKind::Produce, append_time, meta: Bytes::new(), batches: placed };
    Ok((verdicts, (!entry.batches.is_empty()).then_some(entry)))
}

fn judge(head: &dyn View, produced: &Produced) -> Result<Verdict, Fault> {
    let refuse = |rejection| Ok(Verdict::Refuse(rejection));
    let Some(row) = partition(head, produced.at)? else {
        return refuse(Rejection::NoPartition(produced.at));
    };
    let (bytes, limit) = (produced.batch.len(), row.batch_bytes_max as usize);
    if bytes > limit {
        return refuse(Rejection::BatchTooLarge { bytes, limit });
    }
    let append = Verdict::Append { base_offset: row.end };
    let header = &produced.header;
    if !header.producer_id.is_some() {
        return Ok(append);
    }
    let key = Key::Producer(produced.at, header.producer_id);
    let first = header.base_sequence;
    match tables::read::<ProducerRow>(head, &key)? {
        None if first == Sequence(0) => Ok(append),
        None => refuse(Rejection::UnknownProducer(first)),
        Some(producer) if header.producer_epoch < producer.epoch => {
            refuse(Rejection::Fenced { current: producer.epoch, found: header.producer_epoch })
        }
        Some(producer) if header.producer_epoch > producer.epoch => match first {
            Sequence(0) => Ok(append),
            found => refuse(Rejection::OutOfOrder { expected: Sequence(0), found }),
        },
        Some(producer) if first == producer.last_sequence.plus(1) => Ok(append),
        Some(producer) => match find_recent(head, produced, &producer)? {
            Some(recent) => Ok(Verdict::Duplicate { base_offset: recent.base_offset }),
            // All of it: of one that reaches beyond the last, nobody may say that it was written.
            None if [first, header.last_sequence()]
                .iter()
                .all(|it| is_before(*it, producer.last_sequence)) =>
            {
                refuse(Rejection::LongWritten(first))
            }
            None => refuse(Rejection::OutOfOrder { expected: producer.last_sequence.plus(1), found: first }),
        },
    }
}

/// The same batch among the producer's last ones.
fn find_recent(
    head: &dyn View,
    produced: &Produced,
    producer: &ProducerRow,
) -> Result<Option<RecentBatch>, Fault> {
    let header = &produced.header;
    let window = u64::from(header.producer_id.window());
    for number in (producer.batches.saturating_sub(window)..producer.batches).rev() {
        let key = Key::Recent(produced.at, header.producer_id, number);
        let Some(recent) = tables::read::<RecentBatch>(head, &key)? else { break };
        let is_same = recent.epoch == header.producer_epoch
            && recent.base_sequence == header.base_sequence
            && recent.records == header.record_count;
        if is_same {
            return Ok(Some(recent));
        }
    }
    Ok(None)
}

/// Whether `sequence` lies behind `last` on the circle that sequences run on.
fn is_before(sequence: Sequence, last: Sequence) -> bool {
    let circle = i64::from(i32::MAX) + 1;
    let behind = (i64::from(last.0) - i64::from(sequence.0)).rem_euclid(circle);
    behind < circle / 2
}

/// See [`super::apply`].
pub(super) fn apply(tables: &mut dyn Tables, entry: &Entry, effects: &mut Vec<Effect>) -> Result<(), Fault> {
    for placed in entry.resident() {
        let header = placed.header()?;
        extend(tables, placed.at, &header, effects)?;
        if header.producer_id.is_some() {
            remember(tables, placed.at, &header, entry)?;
        }
    }
    Ok(())
}

fn remember(
    tables: &mut dyn Tables,
    at: TopicPartition,
    header: &BatchHeader,
    entry: &Entry,
) -> Result<(), Fault> {
    let id = header.producer_id;
    let key = Key::Producer(at, id);
    let number = tables::read::<ProducerRow>(tables, &key)?.map_or(0, |producer| producer.batches);
    let recent = RecentBatch {
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        records: header.record_count,
        base_offset: header.base_offset,
    };
    tables::write(tables, &Key::Recent(at, id, number), &recent);
    forget_beyond_window(tables, at, id, number);
    let producer = ProducerRow {
        epoch: header.producer_epoch,
        last_sequence: header.last_sequence(),
        batches: number + 1,
        append_time: entry.append_time,
    };
    tables::write(tables, &key, &producer);
    Ok(())
}

fn forget_beyond_window(tables: &mut dyn Tables, at: TopicPartition, id: ProducerId, newest: u64) {
    if let Some(oldest) = newest.checked_sub(u64::from(id.window())) {
        tables.delete(Key::Recent(at, id, oldest).encode());
    }
}
