//! The index of descent: what it leads to is what looking at every entry finds, whatever happens to the log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidemill_core::descent;
use tidemill_core::entry::PlacedBatch;
use tidemill_core::envelope::{Derivation, Envelope, Lineage, Origin};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{Digest, Generation, LogIndex, StepNumber, TaskId};
use tidemill_core::seams::Timestamp;
use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::ids::{Offset, Position, TopicPartition};
use tidemill_sim::disk::SimDisk;
use tidemill_storage::log::{GroupLog, LogEntry, Payload};

use super::history::small_segments;
use super::model::partitions;
use super::world::{Life, Lots, append, at, batch, entry, id, placed};

/// As many entries as there are.
const ALL: usize = usize::MAX;

/// A batch at a place, derived from these records, one for each of its own.
pub fn derived(at: TopicPartition, batch: Bytes, parents: Vec<Position>) -> PlacedBatch {
    let by = Derivation {
        task: TaskId::default(),
        generation: Generation(1),
        digest: Digest::default(),
        step: StepNumber(1),
        by_timer: false,
        event_time_watermark_ms: None,
        lineage: parents.into_iter().map(|parent| Lineage { parent, root: parent, hops: 1 }).collect(),
    };
    let header = BatchHeader::parse(&batch).unwrap();
    let envelope = Envelope { append_time: Timestamp(1), origin: Origin::Task(by) };
    PlacedBatch { away: None, at, envelope: envelope.seal(at, header.base_offset, header.crc), batch }
}

/// Parents as a step has them: mostly in a row, sometimes from anywhere.
pub fn parents(lots: &Lots, records: u32) -> Vec<Position> {
    let from = partitions()[lots.below(4) as usize];
    let first = lots.below(120);
    let parent = |number| match lots.below(8) {
        0 => Position { at: partitions()[lots.below(4) as usize], offset: Offset(lots.below(3_000)) },
        _ => Position { at: from, offset: Offset(first + number) },
    };
    (0..u64::from(records)).map(parent).collect()
}

type Children = BTreeMap<Position, BTreeSet<(LogIndex, Position)>>;

/// All parents of the records in some entries, with those records: found by reading everything.
pub fn all_children(entries: &[LogEntry]) -> Children {
    let mut all = Children::new();
    for logged in entries {
        let Payload::Entry(inner) = &logged.payload else { continue };
        for placed in inner.resident() {
            let Ok(Envelope { origin: Origin::Task(by), .. }) = Envelope::parse(&placed.envelope) else {
                continue;
            };
            let base = BatchHeader::parse(&placed.batch).unwrap().base_offset;
            for (number, line) in by.lineage.iter().enumerate() {
                let child = Position { at: placed.at, offset: base.plus(number as u64) };
                all.entry(line.parent).or_default().insert((logged.id.index, child));
            }
        }
    }
    all
}

/// The records that descend from one, by the index.
pub fn found_children(
    log: &GroupLog,
    of: Position,
    upto: LogIndex,
) -> Result<BTreeSet<(LogIndex, Position)>, Fault> {
    let mut found = BTreeSet::new();
    for index in log.descendants(of, upto, ALL)? {
        for logged in log.entries(index.0..index.0 + 1, usize::MAX)? {
            let Payload::Entry(inner) = &logged.payload else { panic!("{index:?} descends from nothing") };
            for placed in inner.resident() {
                // Of an envelope that is none, nothing descends.
                let children = descent::children(placed, of).ok().flatten();
                let children = children.into_iter().flat_map(|children| children.records);
                found.extend(children.map(|(child, _)| (index, child)));
            }
        }
    }
    Ok(found)
}

/// Some positions worth asking for: parents, and records that are none.
pub fn some_positions(all: &Children) -> Vec<Position> {
    let mut positions: Vec<Position> = all.keys().copied().step_by(1 + all.len() / 12).collect();
    positions.extend(partitions().into_iter().map(|at| Position { at, offset: Offset(60) }));
    positions
}

/// Holds the index against the entries.
pub fn check_descent(log: &GroupLog, entries: &[LogEntry], upto: LogIndex) {
    assert_eq!(wrong_descent(log, entries, upto), Ok(None));
}

/// The first position of which the index says something else than the entries do.
pub fn wrong_descent(
    log: &GroupLog,
    entries: &[LogEntry],
    upto: LogIndex,
) -> Result<Option<Position>, Fault> {
    let all = all_children(entries);
    for of in some_positions(&all) {
        let mut expected = all.get(&of).cloned().unwrap_or_default();
        expected.retain(|(index, _)| *index < upto);
        if found_children(log, of, upto)? != expected {
            return Ok(Some(of));
        }
    }
    Ok(None)
}

/// The step that consumed `records` records of partition 1/0 from `first` on, one for each of which it wrote one to 2/0.
fn step(index: u64, first: u64, records: u32) -> LogEntry {
    let parents =
        (first..first + u64::from(records)).map(|offset| Position { at: at(1, 0), offset: Offset(offset) });
    let batch = batch(Offset(first), records, 100, 0);
    entry(id(1, index), vec![derived(at(2, 0), batch, parents.collect())])
}

#[test]
fn it_leads_to_the_step_of_a_record_and_nowhere_else() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    let mut entries = Vec::new();
    let mut first = 0;
    for index in 0..400 {
        let records = [1, 7, 300][index as usize % 3];
        entries.push(step(index, first, records));
        first += u64::from(records);
    }
    for entry in &entries {
        life.run(append(&log, vec![entry.clone()])).unwrap();
    }
    let look = |log: &GroupLog| {
        let of = |offset| Position { at: at(1, 0), offset: Offset(offset) };
        for (offset, index) in [(0, 0), (1, 1), (7, 1), (8, 2), (307, 2), (308, 3), (first - 1, 399)] {
            assert_eq!(
                log.descendants(of(offset), LogIndex(400), ALL),
                Ok(vec![LogIndex(index)]),
                "{offset}"
            );
        }
        assert_eq!(log.descendants(of(first), LogIndex(400), ALL), Ok(vec![]));
        assert_eq!(log.descendants(of(first - 1), LogIndex(399), ALL), Ok(vec![]), "it is not committed");
        let elsewhere = Position { at: at(2, 0), offset: Offset(7) };
        assert_eq!(log.descendants(elsewhere, LogIndex(400), ALL), Ok(vec![]));
        check_descent(log, &entries, LogIndex(400));
    };
    look(&log);
    log.set_committed(log.last_id().unwrap());
    life.run(log.roll(0)).unwrap();
    life.settle();
    look(&log);
    life.run(log.close()).unwrap();
    let (log, _) = Life::on(&disk, 1).open(&small_segments()).unwrap();
    look(&log);
}

#[test]
fn a_directory_that_is_gone_is_made_again_with_it() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    let entries: Vec<_> = (0..60).map(|index| step(index, index * 40, 40)).collect();
    life.run(append(&log, entries.clone())).unwrap();
    log.set_committed(log.last_id().unwrap());
    life.run(log.roll(0)).unwrap();
    life.settle();
    life.run(log.close()).unwrap();
    let world = &Life::on(&disk, 1).world;
    world.disk.remove(&super::world::folder().join("directory.redb")).unwrap();
    let (log, _) = Life::on(&disk, 1).open(&small_segments()).unwrap();
    check_descent(&log, &entries, LogIndex(60));
}

#[test]
fn a_segment_that_is_written_anew_leads_to_what_is_left() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    // What is derived lies between produced records, which go.
    let mut entries = Vec::new();
    for index in 0..40 {
        entries.push(match index % 4 {
            0 => step(index, index * 10, 10),
            _ => entry(id(1, index), vec![placed(at(9, 0), batch(Offset(index), 1, 15_000, 0))]),
        });
        life.run(append(&log, vec![entries[index as usize].clone()])).unwrap();
    }
    log.set_committed(log.last_id().unwrap());
    life.run(log.roll(0)).unwrap();
    life.settle();
    life.run(log.purge(log.last_id().unwrap())).unwrap();
    let keeps = |gone: TopicPartition| move |at| Ok((at != gone).then_some(Offset(0)));
    let reclaimed = life.run(log.reclaim(LogIndex(40), keeps(at(9, 0)))).unwrap();
    assert!(reclaimed.rewritten > 2, "{reclaimed:?}");
    check_descent(&log, &entries, LogIndex(40));
    // And of what is gone altogether, nothing.
    let reclaimed = life.run(log.reclaim(LogIndex(40), |_| Ok(None))).unwrap();
    assert!(reclaimed.unlinked > 2, "{reclaimed:?}");
    let of = Position { at: at(1, 0), offset: Offset(0) };
    assert_eq!(log.descendants(of, LogIndex(40), ALL), Ok(vec![]));
}

#[test]
fn no_more_is_looked_for_than_is_wanted() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    let of = Position { at: at(1, 0), offset: Offset(7) };
    // All of them descend from one record: some are sealed, some are not, and the last ones are not committed.
    for index in 0..600 {
        let entry = entry(id(1, index), vec![derived(at(2, 0), batch(Offset(index), 1, 500, 0), vec![of])]);
        life.run(append(&log, vec![entry])).unwrap();
        if index == 400 {
            log.set_committed(log.last_id().unwrap());
            life.run(log.roll(0)).unwrap();
        }
    }
    life.settle();
    let found = |upto, most| log.descendants(of, LogIndex(upto), most).unwrap();
    let all: Vec<_> = (0..500).map(LogIndex).collect();
    assert_eq!(found(500, ALL), all);
    for most in [0, 1, 20, 300, 499, 500, 501] {
        let some = found(500, most);
        assert_eq!(some.len(), most.min(500));
        assert!(some.is_sorted() && some.iter().all(|index| all.contains(index)), "{most}: {some:?}");
    }
    // What is not committed takes nobody's place.
    assert_eq!(found(30, 30), all[..30]);
}
