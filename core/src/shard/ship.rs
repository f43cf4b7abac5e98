//! What steps derive for partitions of other shards: how it gets there once, and in order.
//!
//! ```text
//!   source shard                                        target shard
//!   step 7 ── for p: previous 4 ──┐
//!   step 9 ── for p: previous 7 ──┼── shipped in order ──▶  inbound (p, task) = 4: takes 7, then 9
//!   pending (target, task, 7)     │                         anything but the successor: says what it has
//!   pending (target, task, 9)  ◀──┴── "arrived" ─────────   (the sender resumes there)
//! ```
//!
//! Invariants:
//! 1. A partition takes a step's batch only behind the batch of the step that it names as its predecessor.
//! 2. What is pending stays in the source's log until the target has it.
//! 3. A lower generation is fenced: nothing of it arrives behind a higher one.

use std::collections::BTreeMap;

use bytes::BytesMut;
use tidemill_protocol::batch;
use tidemill_protocol::ids::{Offset, Partition, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::{Deciding, end_of, extend};
use crate::effect::Effect;
use crate::entry::{Entry, EntryKind, PlacedBatch, stored_header};
use crate::envelope::Envelope;
use crate::fault::Fault;
use crate::ids::{DeploymentId, Generation, ShardId, StepNumber, TaskId};
use crate::rows::LinkRow;
use crate::tables::{self, Key, Tables};

/// A batch on its way to its partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipment {
    /// The task that derived it.
    pub task: TaskId,
    /// Its step.
    pub link: LinkRow,
    /// The step before it that derived something for the same partition.
    pub previous: LinkRow,
    /// The batch as it lies in the step's entry.
    pub batch: PlacedBatch,
}

/// What the target says to a shipment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// It is in the entry: it has arrived once that is committed.
    Taken,
    /// It was here before, or is decided already.
    Known,
    /// Something is missing before it: the last step that is here.
    Gap {
        /// That step.
        last: LinkRow,
    },
    /// A higher generation has written here: this one never will.
    Fenced,
    /// The partition is not here yet, or no more.
    NoPartition,
}

/// Decides about shipments, in order, and makes the entry of those that are taken, if any.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn decide_arrival(
    deciding: &Deciding,
    shipments: &[Shipment],
) -> Result<(Vec<Reception>, Option<Entry>), Fault> {
    let append_time = deciding.append_time()?;
    let mut receptions = Vec::with_capacity(shipments.len());
    let mut meta = Writer::new();
    let mut placed: Vec<PlacedBatch> = Vec::new();
    // What this entry itself moves on: where partitions end, and which step came last.
    let mut ends: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    let mut links: BTreeMap<(TopicPartition, TaskId), LinkRow> = BTreeMap::new();
    for shipment in shipments {
        let (at, task) = (shipment.batch.at, shipment.task);
        let end = match ends.get(&at) {
            Some(end) => Some(*end),
            None => end_of(deciding.head, at)?,
        };
        let Some(base_offset) = end else {
            receptions.push(Reception::NoPartition);
            continue;
        };
        let last = match links.get(&(at, task)) {
            Some(last) => *last,
            None => tables::read(deciding.head, &Key::Inbound(at, task))?.unwrap_or_default(),
        };
        let reception = receive(shipment, last);
        if reception == Reception::Taken {
            let mut stamped = BytesMut::from(&shipment.batch.batch[..]);
            batch::stamp(&mut stamped, base_offset, deciding.leader_epoch());
            let header = stored_header(&stamped)?;
            let envelope = Envelope { append_time, ..Envelope::parse(&shipment.batch.envelope)? };
            write_link(&mut meta, task, shipment.link);
            placed.push(PlacedBatch {
                away: None,
                at,
                envelope: envelope.seal(at, base_offset, header.crc),
                batch: stamped.freeze(),
            });
            ends.insert(at, header.next_offset());
            links.insert((at, task), shipment.link);
        }
        receptions.push(reception);
    }
    let entry = Entry { kind: EntryKind::Arrival, append_time, meta: meta.finish(), batches: placed };
    Ok((receptions, (!entry.batches.is_empty()).then_some(entry)))
}

fn receive(shipment: &Shipment, last: LinkRow) -> Reception {
    if shipment.link.generation < last.generation {
        Reception::Fenced
    } else if shipment.link.step <= last.step {
        Reception::Known
    } else if shipment.previous.step == last.step {
        Reception::Taken
    } else {
        Reception::Gap { last }
    }
}

/// The steps whose batches an [`EntryKind::Arrival`] holds, one for each batch:
/// `deployment u64 · partition u32 · generation u32 · step u64`.
///
/// # Errors
/// A [`Fault`] when the entry is damaged.
pub fn arrivals(entry: &Entry) -> Result<Vec<(TaskId, LinkRow)>, Fault> {
    let mut reader = Reader::new(entry.meta.clone());
    let links = (0..entry.batches.len()).map(|_| read_link(&mut reader)).collect::<Result<_, _>>()?;
    reader.finish("arrival")?;
    Ok(links)
}

pub(super) fn apply_arrival(
    tables: &mut dyn Tables,
    entry: &Entry,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    for ((task, link), placed) in arrivals(entry)?.into_iter().zip(&entry.batches) {
        extend(tables, placed.at, &placed.header()?, effects)?;
        tables::write(tables, &Key::Inbound(placed.at, task), &link);
    }
    Ok(())
}

/// Word that what some steps derived for a shard has arrived there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// The shard.
    pub to: ShardId,
    /// The task.
    pub task: TaskId,
    /// Its step.
    pub step: StepNumber,
}

/// Makes the entry that ends the waiting of these shipments.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn decide_shipped(deciding: &Deciding, shipped: &[Shipped]) -> Result<Entry, Fault> {
    let mut meta = Writer::new();
    meta.u32(shipped.len() as u32);
    for word in shipped {
        meta.u16(word.to.0);
        write_link(&mut meta, word.task, LinkRow { generation: Generation(0), step: word.step });
    }
    let append_time = deciding.append_time()?;
    Ok(Entry { kind: EntryKind::Shipped, append_time, meta: meta.finish(), batches: Vec::new() })
}

/// What an [`EntryKind::Shipped`] says: `n u32 · n × (shard u16 · deployment u64 · partition u32 · 0 u32 · step u64)`.
///
/// # Errors
/// A [`Fault`] when the entry is damaged.
pub fn shipped(entry: &Entry) -> Result<Vec<Shipped>, Fault> {
    let mut reader = Reader::new(entry.meta.clone());
    let mut words = Vec::new();
    for _ in 0..reader.u32("shipped")? {
        let to = ShardId(reader.u16("shard")?);
        let (task, link) = read_link(&mut reader)?;
        words.push(Shipped { to, task, step: link.step });
    }
    reader.finish("shipped")?;
    Ok(words)
}

pub(super) fn apply_shipped(tables: &mut dyn Tables, entry: &Entry) -> Result<(), Fault> {
    for word in shipped(entry)? {
        tables.delete(Key::Pending(word.to, word.task, word.step).encode());
    }
    Ok(())
}

fn write_link(writer: &mut Writer, task: TaskId, link: LinkRow) {
    writer.u64(task.deployment.0).u32(task.partition.0).u32(link.generation.0).u64(link.step.0);
}

fn read_link(reader: &mut Reader) -> Result<(TaskId, LinkRow), Malformed> {
    let deployment = DeploymentId(reader.u64("deployment")?);
    let task = TaskId { deployment, partition: Partition(reader.u32("partition")?) };
    let generation = Generation(reader.u32("generation")?);
    Ok((task, LinkRow { generation, step: StepNumber(reader.u64("step")?) }))
}
