//! Descent: from which records an entry's records descend, as an index wants to know it, and which records those are.
//!
//! The envelope of a derived batch names the parent of each of its records. An index that finds them the other way round
//! keeps, for each entry, *covers*: ranges of parents' offsets, as few as will do.
//!
//! ```text
//!   parents of an entry's records, by offset:   7 8 9 · 11 · · 14          (one cover: 7 to 14)
//!                                               7 8 9 · · · … · · 900      (two: 7 to 9, and 900)
//! ```
//!
//! A cover may hold offsets of which nothing descends. So an index leads to every entry with a descendant and to a few
//! without one; [`children`] tells them apart.

use std::collections::BTreeMap;

use tidemill_protocol::ids::{Offset, Position, TopicPartition};

use crate::entry::{Entry, PlacedBatch};
use crate::envelope::{Derivation, Envelope, Origin};
use crate::fault::Fault;
use crate::limits;
use crate::seams::Timestamp;

/// Records of a partition, some of which are parents of an entry's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cover {
    /// The partition.
    pub at: TopicPartition,
    /// The first of them, which is a parent.
    pub first: Offset,
    /// The last, which is one, too.
    pub last: Offset,
}

impl Cover {
    /// How many offsets it covers: at most [`limits::DESCENT_COVER_MAX`].
    pub fn length(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}

/// What covers the parents of the records that an entry puts into partitions of its shard. An envelope that cannot be read
/// has none: whoever reads its batch is told.
pub fn covers(entry: &Entry) -> Vec<Cover> {
    let mut parents: BTreeMap<TopicPartition, Vec<u64>> = BTreeMap::new();
    for placed in entry.resident() {
        let Ok(Envelope { origin: Origin::Task(derivation), .. }) = Envelope::parse(&placed.envelope) else {
            continue;
        };
        for line in &derivation.lineage {
            let offsets = parents.entry(line.parent.at).or_default();
            if offsets.last() != Some(&line.parent.offset.0) {
                offsets.push(line.parent.offset.0);
            }
        }
    }
    let mut covers: Vec<Cover> = Vec::new();
    for (at, mut offsets) in parents {
        offsets.sort_unstable();
        for offset in offsets {
            let fits = |cover: &&mut Cover| {
                cover.at == at
                    && offset - cover.last.0 <= limits::DESCENT_GAP_MAX
                    && offset - cover.first.0 < limits::DESCENT_COVER_MAX
            };
            match covers.last_mut().filter(fits) {
                Some(cover) => cover.last = Offset(offset),
                None => covers.push(Cover { at, first: Offset(offset), last: Offset(offset) }),
            }
        }
    }
    covers
}

/// Records of a batch that descend from one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Children {
    /// When the batch was taken in.
    pub append_time: Timestamp,
    /// How it came to be.
    pub by: Derivation,
    /// Which records of it, each with how many steps lie between its root and it.
    pub records: Vec<(Position, u32)>,
}

/// The records of a batch that name `parent` as theirs, if any do.
///
/// # Errors
/// [`Fault::Damaged`] when batch or envelope is none.
pub fn children(placed: &PlacedBatch, parent: Position) -> Result<Option<Children>, Fault> {
    let envelope = Envelope::parse(&placed.envelope)?;
    let Origin::Task(by) = envelope.origin else { return Ok(None) };
    let header = placed.header()?;
    let of_parent = by.lineage.iter().enumerate().filter(|(_, line)| line.parent == parent);
    let records: Vec<_> = of_parent
        .map(|(number, line)| {
            let offset = header.base_offset.plus(number as u64);
            (Position { at: placed.at, offset }, line.hops)
        })
        .collect();
    Ok((!records.is_empty()).then_some(Children { append_time: envelope.append_time, by, records }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tidemill_protocol::batch::BatchBuilder;
    use tidemill_protocol::codec::Codec;
    use tidemill_protocol::ids::{Partition, TopicId};

    use super::*;
    use crate::entry::EntryKind;
    use crate::envelope::Lineage;
    use crate::ids::{Digest, Generation, StepNumber, TaskId};

    fn at(topic: u8) -> TopicPartition {
        TopicPartition { topic: TopicId([topic; 16]), partition: Partition(0) }
    }

    /// A batch at offset 5 of topic 9 whose records have these parents.
    fn derived(parents: &[(u8, u64)]) -> PlacedBatch {
        let mut builder = BatchBuilder::new(Codec::None);
        parents.iter().for_each(|_| builder.push(0, None, None, &[]).unwrap());
        let mut batch = builder.build().unwrap().to_vec();
        tidemill_protocol::batch::stamp(&mut batch, Offset(5), 1);
        let line = |(topic, offset): &(u8, u64)| {
            let parent = Position { at: at(*topic), offset: Offset(*offset) };
            Lineage { parent, root: parent, hops: 1 }
        };
        let by = Derivation {
            task: TaskId::default(),
            generation: Generation(1),
            digest: Digest::default(),
            step: StepNumber(1),
            by_timer: false,
            event_time_watermark_ms: None,
            lineage: parents.iter().map(line).collect(),
        };
        let envelope = Envelope { append_time: Timestamp(7), origin: Origin::Task(by) };
        PlacedBatch {
            away: None,
            at: at(9),
            envelope: envelope.seal(at(9), Offset(5), 0),
            batch: batch.into(),
        }
    }

    fn entry(batches: Vec<PlacedBatch>) -> Entry {
        Entry { kind: EntryKind::Step, append_time: Timestamp(7), meta: Bytes::new(), batches }
    }

    #[test]
    fn what_lies_close_has_one_cover_and_what_does_not_has_its_own() {
        let covered = |batches| -> Vec<_> {
            covers(&entry(batches)).iter().map(|cover| (cover.at, cover.first.0, cover.last.0)).collect()
        };
        assert_eq!(covered(vec![derived(&[(1, 9), (1, 7), (1, 8), (1, 14)])]), [(at(1), 7, 14)]);
        assert_eq!(covered(vec![derived(&[(1, 7)]), derived(&[(1, 9)])]), [(at(1), 7, 9)], "two batches");
        assert_eq!(covered(vec![derived(&[(1, 7), (1, 900)])]), [(at(1), 7, 7), (at(1), 900, 900)]);
        assert_eq!(covered(vec![derived(&[(1, 7), (2, 8)])]), [(at(1), 7, 7), (at(2), 8, 8)]);
        let away = PlacedBatch { away: Some(crate::ids::ShardId(3)), ..derived(&[(1, 7)]) };
        let unreadable = PlacedBatch { envelope: Bytes::from_static(b"?"), ..derived(&[(1, 7)]) };
        assert_eq!(covered(vec![away, unreadable]), []);
    }

    #[test]
    fn children_are_those_that_name_their_parent() {
        let placed = derived(&[(1, 7), (2, 7), (1, 7), (1, 8)]);
        let parent = |topic, offset| Position { at: at(topic), offset: Offset(offset) };
        let offsets = |parent| {
            let children = children(&placed, parent).unwrap();
            children.map(|found| found.records.iter().map(|(child, _)| child.offset.0).collect::<Vec<_>>())
        };
        assert_eq!(offsets(parent(1, 7)), Some(vec![5, 7]));
        assert_eq!(offsets(parent(2, 7)), Some(vec![6]));
        assert_eq!(offsets(parent(2, 8)), None);
    }

    proptest! {
        #[test]
        fn every_parent_is_covered_and_no_cover_is_too_long(
            parents in prop::collection::vec((1_u8..3, 0_u64..5_000), 1..200),
        ) {
            let covers = covers(&entry(vec![derived(&parents)]));
            for cover in &covers {
                prop_assert!(cover.length() <= limits::DESCENT_COVER_MAX);
                for end in [cover.first, cover.last] {
                    prop_assert!(parents.iter().any(|(topic, offset)| at(*topic) == cover.at && *offset == end.0));
                }
            }
            for (topic, offset) in parents {
                let holding = covers.iter().filter(|cover| {
                    cover.at == at(topic) && (cover.first.0..=cover.last.0).contains(&offset)
                });
                prop_assert_eq!(holding.count(), 1);
            }
        }
    }
}
