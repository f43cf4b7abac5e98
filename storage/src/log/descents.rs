//! Which entries hold batches that descend from a record: rows of an ordered table, and the same in memory.
//!
//! What an entry descends from, core says (`tidemill_core::descent`): covers, which are ranges of offsets of a partition.
//! A row is a cover and its entry. Rows are sorted by how long their covers are, in classes of powers of two; so that those
//! which hold an offset are found by one short range for each class, and not by looking at all that begin before it:
//!
//! ```text
//!   key: topic 16 · partition u32 · class u8 · first offset u64 · entry u64      a cover of class c begins at most
//!   row: crc32c u32 · offsets varint                                             2^c - 1 before what it holds
//! ```
//!
//! The rows of what is not sealed are in memory, in blocks, each of some stretch of the log: a seal takes blocks over
//! without a copy, and drops them whole. A sealed segment has its rows in a table of its own, and for each partition that
//! covers lie in, the directory has one row for the segment, from its first cover to its last. What is looked for may be
//! in any shard and behind any record, so this index is asked by parent alone.
//!
//! A row that has rotten is found by its checksum; one that a rotten page hides is not: what descends there is not shown.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use redb::{ReadOnlyTable, TableDefinition};
use tidemill_core::descent::Cover;
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;
use tidemill_protocol::ids::{Offset, Partition, Position, TopicId, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use crate::database::Problem;

const CRC_BYTES: usize = 4;
/// The class of the longest covers.
const CLASS_MAX: u8 = limits::DESCENT_COVER_MAX.trailing_zeros() as u8;

/// Key and value as above.
pub(super) type DescentTable = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The key of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    at: TopicPartition,
    class: u8,
    first: Offset,
    index: LogIndex,
}

/// An entry, and a cover of what it descends from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Descent {
    key: Key,
    length: u64,
}

/// The stretch of a partition that the covers of a segment lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) at: TopicPartition,
    pub(super) first: Offset,
    pub(super) last: Offset,
}

impl Key {
    /// The keys of a class whose covers may hold an offset.
    fn range(of: Position, class: u8) -> (Key, Key) {
        let longest = (1_u64 << class) - 1;
        let key = |first, index| Key { at: of.at, class, first, index };
        let from = Offset(of.offset.0.saturating_sub(longest));
        (key(from, LogIndex(0)), key(of.offset, LogIndex(u64::MAX)))
    }

    fn encode(&self) -> [u8; 37] {
        let mut key = [0; 37];
        key[..16].copy_from_slice(&self.at.topic.0);
        key[16..20].copy_from_slice(&self.at.partition.0.to_be_bytes());
        key[20] = self.class;
        key[21..29].copy_from_slice(&self.first.0.to_be_bytes());
        key[29..].copy_from_slice(&self.index.0.to_be_bytes());
        key
    }
}

impl Descent {
    fn new(cover: &Cover, index: LogIndex) -> Descent {
        let class = cover.length().next_power_of_two().trailing_zeros() as u8;
        Descent { key: Key { at: cover.at, class, first: cover.first, index }, length: cover.length() }
    }

    fn holds(&self, offset: Offset) -> bool {
        offset.0.checked_sub(self.key.first.0).is_some_and(|behind| behind < self.length)
    }

    /// The row and its key.
    pub(super) fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let key = self.key.encode().to_vec();
        let mut writer = Writer::with_capacity(16);
        writer.u32(0).varint(self.length);
        let crc = checksum(&key, &writer.as_slice()[CRC_BYTES..]);
        writer.patch(0, &crc.to_be_bytes());
        (key, writer.as_slice().to_vec())
    }

    pub(super) fn decode(key: &[u8], row: &[u8]) -> Result<Descent, Malformed> {
        check(key, row)?;
        let mut reader = Reader::new(bytes::Bytes::copy_from_slice(key));
        let topic = TopicId(reader.array("topic")?);
        let at = TopicPartition { topic, partition: Partition(reader.u32("partition")?) };
        let (class, first) = (reader.u8("class")?, Offset(reader.u64("first offset")?));
        let index = LogIndex(reader.u64("entry")?);
        reader.finish("descent key")?;
        let mut reader = Reader::new(bytes::Bytes::copy_from_slice(&row[CRC_BYTES..]));
        let length = reader.varint("offsets")?;
        reader.finish("descent")?;
        Ok(Descent { key: Key { at, class, first, index }, length })
    }
}

impl Reach {
    /// What the directory holds under this key: `crc32c u32 · first offset varint · (last - first) varint`.
    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut writer = Writer::with_capacity(24);
        writer.u32(0).varint(self.first.0).varint(self.last.0 - self.first.0);
        let crc = checksum(key, &writer.as_slice()[CRC_BYTES..]);
        writer.patch(0, &crc.to_be_bytes());
        writer.as_slice().to_vec()
    }

    pub(super) fn decode(at: TopicPartition, key: &[u8], row: &[u8]) -> Result<Reach, Malformed> {
        check(key, row)?;
        let mut reader = Reader::new(bytes::Bytes::copy_from_slice(&row[CRC_BYTES..]));
        let first = reader.varint("first offset")?;
        let last = first.checked_add(reader.varint("last offset")?);
        let last = last.ok_or_else(|| reader.malformed("last offset"))?;
        reader.finish("reach")?;
        Ok(Reach { at, first: Offset(first), last: Offset(last) })
    }

    pub(super) fn holds(&self, offset: Offset) -> bool {
        (self.first..=self.last).contains(&offset)
    }
}

fn check(key: &[u8], row: &[u8]) -> Result<(), Malformed> {
    let crc = row.first_chunk().map(|crc| u32::from_be_bytes(*crc));
    if crc == Some(checksum(key, row.get(CRC_BYTES..).unwrap_or_default())) {
        return Ok(());
    }
    Err(Malformed { what: "checksum of a descent", at: 0 })
}

fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), rest)
}

/// Where the covers of a segment lie, partition by partition, from its rows in the order of their keys.
pub(super) fn reaches(rows: &[Descent]) -> Vec<Reach> {
    let mut reaches: Vec<Reach> = Vec::new();
    for Descent { key, length } in rows {
        let last = Offset(key.first.0 + (length - 1));
        match reaches.last_mut().filter(|reach| reach.at == key.at) {
            Some(reach) => (reach.first, reach.last) = (reach.first.min(key.first), reach.last.max(last)),
            None => reaches.push(Reach { at: key.at, first: key.first, last }),
        }
    }
    reaches
}

/// Entries that may descend from a record, as they are found.
pub(super) struct Found {
    pub(super) entries: BTreeSet<LogIndex>,
    of: Position,
    /// Only those below it are looked for.
    upto: LogIndex,
    /// No more than so many are.
    most: usize,
}

impl Found {
    /// None yet, of a record; at most so many of those below `upto` are wanted.
    pub(super) fn none(of: Position, upto: LogIndex, most: usize) -> Found {
        Found { entries: BTreeSet::new(), of, upto, most }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.most
    }

    fn take(&mut self, row: &Descent) {
        if row.holds(self.of.offset) && row.key.index < self.upto && !self.is_full() {
            self.entries.insert(row.key.index);
        }
    }
}

/// Adds the entries of a table, until there are enough.
pub(super) fn find(
    table: &ReadOnlyTable<&'static [u8], &'static [u8]>,
    found: &mut Found,
) -> Result<(), Problem> {
    for class in 0..=CLASS_MAX {
        let (from, to) = Key::range(found.of, class);
        for row in table.range::<&[u8]>(&from.encode()[..]..=&to.encode()[..])? {
            if found.is_full() {
                return Ok(());
            }
            let (key, value) = row?;
            let descent = Descent::decode(key.value(), value.value())
                .map_err(|malformed| Fault::damaged("a row of the index of descent", malformed))?;
            found.take(&descent);
        }
    }
    Ok(())
}

/// A stretch of the log's rows.
#[derive(Debug, Clone)]
struct Block {
    /// The first entry that has a row in it, and the last.
    first: LogIndex,
    last: LogIndex,
    lengths: BTreeMap<Key, u64>,
}

/// The rows of all that is not sealed.
#[derive(Debug, Default)]
pub(super) struct Descents {
    blocks: VecDeque<Arc<Block>>,
}

/// Some of them, taken out for a seal.
pub(super) struct Taken {
    blocks: Vec<Arc<Block>>,
    last: LogIndex,
}

impl Taken {
    /// In the order of their keys.
    pub(super) fn sorted(self) -> Vec<Descent> {
        let mut rows: Vec<Descent> = Vec::new();
        for block in &self.blocks {
            let of_block = block.lengths.iter().filter(|(key, _)| key.index <= self.last);
            rows.extend(of_block.map(|(key, length)| Descent { key: *key, length: *length }));
        }
        rows.sort_unstable();
        rows
    }
}

impl Descents {
    /// Takes in what an entry descends from.
    pub(super) fn add(&mut self, index: LogIndex, covers: &[Cover]) {
        for cover in covers {
            let is_full = |block: &Arc<Block>| block.lengths.len() >= limits::DESCENT_BLOCK_ROWS;
            if self.blocks.back().is_none_or(is_full) {
                let block = Block { first: index, last: index, lengths: BTreeMap::new() };
                self.blocks.push_back(Arc::new(block));
            }
            if let Some(block) = self.blocks.back_mut().map(Arc::make_mut) {
                let Descent { key, length } = Descent::new(cover, index);
                block.last = index;
                block.lengths.insert(key, length);
            }
        }
    }

    /// Forgets all above `last`; everything, if there is no last.
    pub(super) fn truncate_after(&mut self, last: Option<LogIndex>) {
        let is_above = |index: LogIndex| last.is_none_or(|last| index > last);
        while self.blocks.back().is_some_and(|block| is_above(block.first)) {
            self.blocks.pop_back();
        }
        let cut = self.blocks.back_mut().filter(|block| is_above(block.last)).map(Arc::make_mut);
        if let (Some(block), Some(last)) = (cut, last) {
            block.last = last;
            block.lengths.retain(|key, _| key.index <= last);
        }
    }

    /// Forgets all up to `last`, which a sealed segment holds now.
    pub(super) fn forget_upto(&mut self, last: LogIndex) {
        while self.blocks.front().is_some_and(|block| block.last <= last) {
            self.blocks.pop_front();
        }
        if let Some(block) = self.blocks.front_mut().filter(|block| block.first <= last) {
            let block = Arc::make_mut(block);
            block.first = LogIndex(last.0 + 1);
            block.lengths.retain(|key, _| key.index > last);
        }
    }

    /// Adds the entries of these, until there are enough.
    pub(super) fn find(&self, found: &mut Found) {
        for block in &self.blocks {
            for class in 0..=CLASS_MAX {
                let (from, to) = Key::range(found.of, class);
                for (key, length) in block.lengths.range(from..=to) {
                    if found.is_full() {
                        return;
                    }
                    found.take(&Descent { key: *key, length: *length });
                }
            }
        }
    }

    /// All rows of entries up to `last`.
    pub(super) fn upto(&self, last: LogIndex) -> Taken {
        let blocks = self.blocks.iter().take_while(|block| block.first <= last).cloned().collect();
        Taken { blocks, last }
    }
}
