//! Giving segments back: what readers may read stays what it was, whatever is unlinked, written anew, or cut short.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::ids::{Offset, Position, TopicPartition};
use tidemill_sim::disk::SimDisk;
use tidemill_storage::log::{EncodedEntry, GroupLog, LogEntry, Payload, Reclaimed};

use super::descent::{all_children, found_children, some_positions};
use super::history::small_segments;
use super::model::{Model, partitions};
use super::world::{Life, Lots, all_entries, append, at, batch, entry, for_seeds, id, placed, plain};

/// What may be gone of a log.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The first entry that was never given back.
    pub below: u64,
    pub starts: BTreeMap<TopicPartition, Offset>,
    pub deleted: BTreeSet<TopicPartition>,
}

impl Given {
    pub fn log_start(&self, at: TopicPartition) -> Option<Offset> {
        (!self.deleted.contains(&at)).then(|| self.starts.get(&at).copied().unwrap_or_default())
    }

    /// Moves a log start up.
    pub fn trim(&mut self, lots: &Lots, model: &Model) {
        let at = partitions()[lots.below(3) as usize];
        let end = model.batches(at).last().map_or(0, |(_, _, header)| header.next_offset().0);
        let start = self.starts.entry(at).or_default();
        *start = Offset(start.0 + lots.below(end + 1 - start.0.min(end)));
    }

    fn is_dead(&self, index: u64, at: TopicPartition, batch: &[u8]) -> bool {
        let end = BatchHeader::parse(batch).unwrap().next_offset();
        index < self.below && self.log_start(at).is_none_or(|start| end <= start)
    }

    /// The entry without what may be gone.
    fn rest_of(&self, logged: &LogEntry) -> LogEntry {
        let Payload::Entry(entry) = &logged.payload else { return logged.clone() };
        let mut rest = (*entry.shared()).clone();
        rest.batches.retain(|placed| !self.is_dead(logged.id.index.0, placed.at, &placed.batch));
        LogEntry { id: logged.id, payload: Payload::Entry(EncodedEntry::new(rest)) }
    }

    fn is_empty(&self, logged: &LogEntry) -> bool {
        match &self.rest_of(logged).payload {
            Payload::Entry(entry) => entry.batches.is_empty(),
            Payload::Blank | Payload::Membership(_) => true,
        }
    }

    /// Whether `found` is `expected` but for what may be gone.
    pub fn is_rest_of(&self, found: &[LogEntry], expected: &[LogEntry]) -> bool {
        let first = found.first().map_or(u64::MAX, |entry| entry.id.index.0);
        let (gone, there): (Vec<_>, Vec<_>) = expected.iter().partition(|entry| entry.id.index.0 < first);
        let may_go = |entry: &&LogEntry| entry.id.index.0 < self.below && self.is_empty(entry);
        let rest = |entry: &LogEntry| self.rest_of(entry);
        gone.iter().all(may_go)
            && found.iter().map(rest).collect::<Vec<_>>() == there.into_iter().map(rest).collect::<Vec<_>>()
    }
}

/// Reads everything that may be read, every way there is.
pub fn check(log: &GroupLog, model: &Model, given: &Given) {
    assert_eq!(log.last_id(), model.last());
    assert!(given.is_rest_of(&all_entries(log).unwrap(), &model.entries), "{given:?}");
    let upto = LogIndex(model.next());
    let children = all_children(&model.entries);
    for of in some_positions(&children) {
        // What is dead and still there may be found; what is alive always is, and nothing that never was.
        let expected = children.get(&of).cloned().unwrap_or_default();
        let found = found_children(log, of, upto).unwrap();
        let is_alive = |(_, child): &(LogIndex, Position)| {
            given.log_start(child.at).is_some_and(|start| child.offset >= start)
        };
        assert!(found.is_subset(&expected), "of {of:?}: {found:?} {expected:?}");
        assert!(
            expected.difference(&found).all(|child| !is_alive(child)),
            "of {of:?}: {found:?} {expected:?}"
        );
    }
    for at in partitions() {
        let Some(start) = given.log_start(at) else { continue };
        let all = model.batches(at);
        let live: Vec<_> = all.iter().filter(|(_, _, header)| header.next_offset() > start).collect();
        let end = live.last().map_or(start.0, |(_, _, header)| header.next_offset().0);
        for offset in (start.0..end + 2).step_by(1 + (end - start.0) as usize / 23) {
            let offset = Offset(offset);
            let wanted = live.iter().filter(|(_, _, header)| header.next_offset() > offset);
            let wanted: Vec<_> = wanted.map(|(index, placed, _)| (*index, placed.clone())).collect();
            assert_eq!(log.batches(at, offset, upto, usize::MAX).unwrap(), wanted, "{at:?} {offset:?}");
            let index = wanted.first().map(|(index, _)| *index);
            assert_eq!(log.index_of(at, offset).unwrap(), index, "{at:?} {offset:?}");
        }
        // What is dead and still there may be found; what is alive is never passed over.
        for from in (0..model.next() + 2).step_by(1 + model.entries.len() / 40) {
            let found = log.next_with(LogIndex(from), upto, &[at]).unwrap();
            let wanted = live.iter().map(|(index, ..)| *index).find(|index| index.0 >= from);
            let is_there = |index: &LogIndex| index.0 >= from && all.iter().any(|(other, ..)| other == index);
            assert!(found.is_none_or(|found| is_there(&found)), "{at:?} from {from}: {found:?}");
            assert!(wanted.is_none_or(|wanted| found.is_some_and(|found| found <= wanted)), "{at:?} {from}");
        }
        for time in live.iter().map(|(_, _, header)| header.max_timestamp_ms).step_by(1 + live.len() / 15) {
            let found = log.batch_for_time(at, time, upto).unwrap().map(|(index, _)| index);
            let wanted = live.iter().find(|(_, _, header)| header.max_timestamp_ms >= time);
            let wanted = wanted.map(|(index, ..)| *index);
            assert!(found.is_some() && found <= wanted, "{at:?} at {time} ms: {found:?} {wanted:?}");
        }
    }
}

fn reclaim(life: &Life, log: &GroupLog, given: &Given) -> Result<Reclaimed, Fault> {
    life.run(log.reclaim(LogIndex(given.below), |at| Ok(given.log_start(at))))
}

#[test]
fn what_may_be_read_stays_through_restarts_and_power_cuts() {
    let mut all = Reclaimed::default();
    let all_seeds = std::sync::Mutex::new(&mut all);
    for_seeds(10, |seed| {
        let lots = Lots::new(seed);
        let mut disk = SimDisk::new();
        let (mut model, mut given) = (Model { term: 1, ..Model::default() }, Given::default());
        for _ in 0..6 {
            let life = Life::on(&disk, seed);
            let (log, recovery) = life.open(&small_segments()).unwrap();
            assert_eq!(recovery.amnesia, None);
            check(&log, &model, &given);
            for _ in 0..lots.below(12) {
                let entries = model.grow(&lots, 1 + lots.below(20), 20_000);
                life.run(append(&log, entries)).unwrap();
                let last = model.last().unwrap();
                log.set_committed(last);
                life.settle();
                match lots.below(5) {
                    0 => life.run(log.roll(0)).unwrap(),
                    1 => {
                        let upto = model.id_at(lots.below(model.next()));
                        if upto > log.purged() {
                            life.run(log.purge(upto.unwrap())).unwrap();
                        }
                    }
                    2 if lots.below(8) == 0 => {
                        given.deleted.insert(partitions()[lots.below(3) as usize]);
                    }
                    2 => given.trim(&lots, &model),
                    3 => {
                        given.below = given.below.max(lots.below(model.next() + 1));
                        let reclaimed = reclaim(&life, &log, &given).unwrap();
                        let mut all = all_seeds.lock().unwrap();
                        all.unlinked += reclaimed.unlinked;
                        all.rewritten += reclaimed.rewritten;
                        assert!(reclaimed.written_bytes <= reclaimed.freed_bytes * 2);
                        check(&log, &model, &given);
                    }
                    _ => life.clock.advance(Duration::from_secs(lots.below(3000))),
                }
            }
            if lots.below(2) == 0 {
                life.run(log.close()).unwrap();
            }
            disk = if lots.below(2) == 0 { disk.after_process_end() } else { disk.after_power_cut(&lots) };
            life.disk.power_off();
            assert_eq!(life.faults(), []);
        }
    });
    assert!(all.unlinked > 5 && all.rewritten > 5, "{all:?}");
}

#[test]
fn what_a_deleted_partition_took_comes_back_and_the_rest_is_left() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    let bytes = || disk.files().iter().map(|(_, bytes)| bytes).sum::<u64>();
    for index in 0..40 {
        life.run(append(&log, vec![plain(1, index, 15_000)])).unwrap();
    }
    log.set_committed(log.last_id().unwrap());
    life.run(log.roll(0)).unwrap();
    life.settle();
    assert!(log.is_whole());
    let before = bytes();
    let keeps_all = Given { below: 40, ..Given::default() };
    let all_gone = Given { deleted: [at(1, 0)].into(), ..keeps_all.clone() };
    let nothing = Reclaimed::default();
    assert_eq!(reclaim(&life, &log, &all_gone), Ok(nothing), "Raft may still ask for all of it");
    life.run(log.purge(log.last_id().unwrap())).unwrap();
    assert_eq!(reclaim(&life, &log, &keeps_all), Ok(nothing), "nothing of it is dead");
    let reclaimed = reclaim(&life, &log, &all_gone).unwrap();
    assert!(reclaimed.unlinked > 2, "{reclaimed:?}");
    assert!(!log.is_whole());
    assert!(bytes() < before / 5, "{} of {before} bytes are left", bytes());
    // The log goes on where it was.
    life.run(append(&log, vec![plain(1, 40, 100)])).unwrap();
    life.run(log.close()).unwrap();
    let (log, recovery) = Life::on(&disk, 1).open(&small_segments()).unwrap();
    assert_eq!((recovery.amnesia, log.last_id().map(|id| id.index.0)), (None, Some(40)));
}

#[test]
fn a_segment_without_records_stays_until_those_behind_it_go() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    life.run(append(&log, vec![entry(id(1, 0), Vec::new())])).unwrap();
    life.run(log.roll(0)).unwrap();
    for index in 1..3 {
        life.run(append(&log, vec![plain(1, index, 15_000)])).unwrap();
        life.run(log.roll(0)).unwrap();
    }
    log.set_committed(log.last_id().unwrap());
    life.settle();
    life.run(log.purge(log.last_id().unwrap())).unwrap();
    let given = |start| Given { below: 3, starts: [(at(1, 0), Offset(start))].into(), ..Given::default() };
    assert_eq!(reclaim(&life, &log, &given(1)), Ok(Reclaimed::default()));
    assert!(log.is_whole());
    let reclaimed = reclaim(&life, &log, &given(2)).unwrap();
    assert_eq!((reclaimed.unlinked, reclaimed.rewritten), (2, 0));
    assert_eq!(log.first_index(), Some(LogIndex(2)));
}

#[test]
fn an_error_on_the_way_leaves_the_log_as_it_was() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    for index in 0..20 {
        life.run(append(&log, vec![plain(1, index, 15_000)])).unwrap();
    }
    log.set_committed(log.last_id().unwrap());
    life.settle();
    life.run(log.purge(log.last_id().unwrap())).unwrap();
    let failed = life.run(log.reclaim(LogIndex(20), |_| Err(Fault::disk("a table", "it cannot be read"))));
    assert!(matches!(failed, Err(Fault::Disk { .. })));
    assert_eq!(all_entries(&log).unwrap().len(), 20);
    assert_eq!(life.faults(), []);
}

#[test]
fn a_time_that_went_with_a_segment_is_not_found_in_what_is_not_sealed() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    for (index, time) in [(0, 1_000), (1, 500), (2, 900)] {
        let batch = batch(Offset(index), 1, 100, time);
        life.run(append(&log, vec![entry(id(1, index), vec![placed(at(1, 0), batch)])])).unwrap();
        // It is sealed only once it is committed: what follows is known before that.
        if index == 0 {
            life.run(log.roll(0)).unwrap();
        }
    }
    log.set_committed(id(1, 2));
    life.settle();
    let found = |time| {
        let found = log.batch_for_time(at(1, 0), time, LogIndex(3)).unwrap();
        found.map(|(index, _)| index.0)
    };
    assert_eq!([800, 950].map(found), [Some(0), Some(0)]);
    life.run(log.purge(id(1, 0))).unwrap();
    let given = Given { below: 1, starts: [(at(1, 0), Offset(1))].into(), ..Given::default() };
    assert_eq!(reclaim(&life, &log, &given).unwrap().unlinked, 1);
    assert_eq!([500, 800, 950].map(found), [Some(1), Some(2), None]);
}

#[test]
fn the_segment_that_is_written_ends_early_only_for_what_died_in_it() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    // One partition lies in a sealed segment, another in the one that is written.
    life.run(append(&log, vec![plain(1, 0, 15_000)])).unwrap();
    life.run(log.roll(0)).unwrap();
    for index in 1..3 {
        let batch = batch(Offset(index - 1), 1, 15_000, 0);
        life.run(append(&log, vec![entry(id(1, index), vec![placed(at(1, 1), batch)])])).unwrap();
    }
    log.set_committed(log.last_id().unwrap());
    life.settle();
    let mut next = 3;
    let mut segments_after = |at_least, given: &Given| {
        life.run(log.roll_dead(at_least, |at| Ok(given.log_start(at)))).unwrap();
        life.run(append(&log, vec![entry(id(1, next), Vec::new())])).unwrap();
        next += 1;
        disk.files().iter().filter(|(path, _)| path.to_string_lossy().contains("segment-")).count()
    };
    let sealed_gone = Given { deleted: [at(1, 0)].into(), ..Given::default() };
    assert_eq!(segments_after(0, &sealed_gone), 2);
    let some_dead = Given { starts: [(at(1, 1), Offset(1))].into(), ..sealed_gone };
    assert_eq!(segments_after(1 << 20, &some_dead), 2, "it is too small");
    assert_eq!(segments_after(0, &some_dead), 3);
    log.set_committed(log.last_id().unwrap());
    life.settle();
    assert_eq!(segments_after(0, &some_dead), 3, "what died in it is sealed");
    let all_gone = Given { deleted: [at(1, 1)].into(), ..Given::default() };
    assert_eq!(segments_after(0, &all_gone), 3);
}

#[test]
fn the_segment_that_is_written_ends_for_a_partition_that_is_gone() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    life.run(append(&log, vec![plain(1, 0, 15_000)])).unwrap();
    log.set_committed(log.last_id().unwrap());
    life.run(log.roll_dead(0, |_| Ok(Some(Offset(0))))).unwrap();
    life.run(append(&log, vec![entry(id(1, 1), Vec::new())])).unwrap();
    life.run(log.roll_dead(0, |_| Ok(None))).unwrap();
    life.run(append(&log, vec![entry(id(1, 2), Vec::new())])).unwrap();
    log.set_committed(log.last_id().unwrap());
    life.settle();
    life.run(log.purge(log.last_id().unwrap())).unwrap();
    let given = Given { below: 3, deleted: [at(1, 0)].into(), ..Given::default() };
    assert_eq!(reclaim(&life, &log, &given).unwrap().unlinked, 1);
    assert_eq!(log.first_index(), Some(LogIndex(2)));
}
