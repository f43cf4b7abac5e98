//! The rules of a shard: what may enter its log, and what each entry does to its tables.
//!
//! Decide, then apply. *Decide* is the leader's: it looks at the head state and a `now` that it is given, may
//! refuse, and makes an entry. *Apply* is every replica's: total and deterministic, it never refuses and knows
//! no clock. One file for each kind of entry holds both.
//!
//! | kind | file | what it is |
//! |---|---|---|
//! | [`Produce`](EntryKind::Produce) | [`produce`] | batches of producers |
//! | [`Step`](EntryKind::Step) | [`step`] | a step of a task |
//! | [`Arrival`](EntryKind::Arrival), [`Shipped`](EntryKind::Shipped) | [`ship`] | what steps derive for other shards |
//! | [`Control`](EntryKind::Control) | [`control`] | what the shard holds and runs |
//! | — of log starts | [`trim`] | what of a partition is there still |
//! | — | [`behind`] | tasks that were to read what is not there any more |
//! | — of dead letters | [`letters`] | what becomes of them |
//! | [`GroupOffsets`](EntryKind::GroupOffsets) | [`group_offsets`] | what consumers committed |

pub mod behind;
pub mod control;
pub mod group_offsets;
pub mod letters;
pub mod produce;
pub mod ship;
pub mod step;
pub mod trim;

use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::ids::{Offset, TopicPartition};

use crate::effect::Effect;
use crate::entry::{Entry, EntryKind};
use crate::fault::Fault;
use crate::ids::{LogIndex, Term};
use crate::rows::{PartitionRow, ShardRow};
use crate::seams::Timestamp;
use crate::tables::{self, Key, Tables, View};

/// What a leader decides with.
pub struct Deciding<'a> {
    /// The head state.
    pub head: &'a dyn View,
    /// The broker's clock.
    pub now: Timestamp,
    /// The term in which it leads.
    pub term: Term,
}

impl Deciding<'_> {
    /// The append time of an entry made now: the clock's, but never below that of the entry before.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn append_time(&self) -> Result<Timestamp, Fault> {
        let last = tables::read::<ShardRow>(self.head, &Key::Shard)?.unwrap_or_default();
        Ok(self.now.max(last.append_time))
    }

    /// What Kafka calls the leader epoch: our term.
    pub fn leader_epoch(&self) -> i32 {
        i32::try_from(self.term.0).unwrap_or(i32::MAX)
    }
}

/// Applies one committed entry. Also folds a decided one into the head; its index is not known yet then, and
/// whatever the head is asked does not depend on it.
///
/// # Errors
/// A [`Fault`] of the storage, or of an entry that this version cannot read.
pub fn apply(
    tables: &mut dyn Tables,
    index: LogIndex,
    entry: &Entry,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    match entry.kind {
        EntryKind::Produce => produce::apply(tables, entry, effects)?,
        EntryKind::Step => step::apply(tables, index, entry, effects)?,
        EntryKind::Arrival => ship::apply_arrival(tables, entry, effects)?,
        EntryKind::Shipped => ship::apply_shipped(tables, entry)?,
        EntryKind::Control => control::apply(tables, entry, effects)?,
        EntryKind::GroupOffsets => group_offsets::apply(tables, entry)?,
        EntryKind::Catalog => {
            return Err(Fault::damaged("a shard's log", "it holds an entry of the catalog"));
        }
    }
    tables::write(tables, &Key::Shard, &ShardRow { append_time: entry.append_time });
    Ok(())
}

/// Moves a partition's end behind a batch that lies in it now.
fn extend(
    tables: &mut dyn Tables,
    at: TopicPartition,
    header: &BatchHeader,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    let key = Key::Partition(at);
    let row = tables::read::<PartitionRow>(tables, &key)?;
    let mut row = row.ok_or_else(|| Fault::damaged("a shard's log", "a batch of a partition it has not"))?;
    if row.end != header.base_offset {
        return Err(Fault::damaged("a shard's log", format!("a gap before offset {}", header.base_offset.0)));
    }
    row.end = header.next_offset();
    tables::write(tables, &key, &row);
    effects.push(Effect::Appended { at });
    Ok(())
}

/// The state of a partition as a reader may see it.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn partition(view: &(impl View + ?Sized), at: TopicPartition) -> Result<Option<PartitionRow>, Fault> {
    tables::read(view, &Key::Partition(at))
}

/// The first free offset of a partition, once everything decided is written.
fn end_of(view: &(impl View + ?Sized), at: TopicPartition) -> Result<Option<Offset>, Fault> {
    Ok(partition(view, at)?.map(|row| row.end))
}
