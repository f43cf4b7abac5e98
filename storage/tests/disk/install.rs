//! A snapshot's records arrive beside the log, and take its place at once or not at all.

use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_core::ids::LogIndex;
use tidemill_core::seams::Disk;
use tidemill_sim::disk::{Operation, SimDisk};
use tidemill_storage::log::{GroupLog, LogEntry};

use super::history::small_segments;
use super::model::{Model, check_records};
use super::world::{Life, Lots, all_entries, append, for_seeds, id};

/// The log of another replica, of which entries from `first` on are retained.
pub fn another(lots: &Lots, first: u64) -> Model {
    let mut model = Model { term: 5, ..Model::default() };
    model.grow(lots, 150, 3_000);
    for at in super::model::partitions() {
        let before = model.batches(at).into_iter().rfind(|(index, _, _)| index.0 < first);
        model.ends_before.insert(at, before.map(|(_, _, header)| header.next_offset()).unwrap_or_default());
    }
    model.entries.drain(..first as usize);
    model.first = first;
    model
}

pub fn ranges(model: &Model, lots: &Lots) -> Vec<Vec<LogEntry>> {
    let mut rest = &model.entries[..];
    let mut ranges = Vec::new();
    while !rest.is_empty() {
        let (range, others) = rest.split_at((1 + lots.below(30) as usize).min(rest.len()));
        ranges.push(range.to_vec());
        rest = others;
    }
    ranges
}

fn is(log: &GroupLog, model: &Model) -> bool {
    all_entries(log).unwrap() == model.entries
}

#[test]
fn an_empty_replica_takes_over_record_segments() {
    for_seeds(4, |seed| {
        let (lots, mut disk) = (Lots::new(seed), SimDisk::new());
        let mut theirs = another(&lots, 40);
        let mut ranges = ranges(&theirs, &lots).into_iter();
        // It is interrupted again and again.
        loop {
            let life = Life::on(&disk, seed);
            let (log, recovery) = life.open(&small_segments()).unwrap();
            assert_eq!((recovery.amnesia, log.last_id()), (None, None), "what gathers is not the log yet");
            let next = log.installing().map(|(first, last)| {
                assert_eq!(first, LogIndex(40));
                last.index.0 + 1
            });
            // What was acknowledged is there, and the next range follows it.
            let waiting = ranges.as_slice().first().map_or(theirs.next(), |range| range[0].id.index.0);
            assert_eq!(next.unwrap_or(40), waiting);
            let mut is_over = false;
            for _ in 0..3 {
                match ranges.next() {
                    Some(range) => life.run(log.install_range(range)).unwrap(),
                    None => is_over = true,
                }
            }
            life.settle();
            if is_over {
                break;
            }
            disk = disk.after_power_cut(&lots);
            life.disk.power_off();
        }
        let life = Life::on(&disk.after_process_end(), seed);
        let (log, _) = life.open(&small_segments()).unwrap();
        let upto = theirs.last().unwrap();
        life.run(log.reset_to(upto)).unwrap();
        assert_eq!((log.last_id(), log.purged(), log.installing()), (Some(upto), Some(upto), None));
        assert!(is(&log, &theirs));
        check_records(&log, &theirs, theirs.next());
        life.run(append(&log, theirs.grow(&lots, 20, 3_000))).unwrap();
        life.run(log.close()).unwrap();
        let (log, recovery) = Life::on(&life.disk.after_process_end(), seed).open(&small_segments()).unwrap();
        assert!(recovery.amnesia.is_none() && !recovery.unclean && is(&log, &theirs));
        check_records(&log, &theirs, theirs.next());
    });
}

#[test]
fn a_power_cut_leaves_the_old_log_or_the_new_one() {
    for_seeds(3, |seed| {
        let lots = Lots::new(seed);
        let disk = SimDisk::new();
        let life = Life::on(&disk, seed);
        let (log, _) = life.open(&small_segments()).unwrap();
        let mut ours = Model { term: 1, ..Model::default() };
        for _ in 0..10 {
            life.run(append(&log, ours.grow(&lots, 8, 3_000))).unwrap();
        }
        let theirs = another(&lots, 40);
        let images = Arc::new(Mutex::new(Vec::new()));
        let (watched, seen, cuts) = (disk.clone(), images.clone(), Lots::new(seed));
        let is_reset = Arc::new(Mutex::new(false));
        let was_reset = is_reset.clone();
        disk.watch(move |_, _| {
            if cuts.below(3) == 0 {
                seen.lock().push((watched.after_power_cut(&cuts), *was_reset.lock()));
            }
        });
        for range in ranges(&theirs, &lots) {
            life.run(log.install_range(range)).unwrap();
        }
        life.run(log.reset_to(theirs.last().unwrap())).unwrap();
        *is_reset.lock() = true;
        assert!(is(&log, &theirs));
        let mut more = theirs.clone();
        life.run(append(&log, more.grow(&lots, 5, 100))).unwrap();
        disk.unwatch();
        assert_eq!(life.faults(), []);
        let (mut old, mut new) = (0, 0);
        for (image, was_reset) in images.lock().drain(..) {
            let life = Life::on(&image, seed);
            let (log, recovery) = life.open(&small_segments()).unwrap();
            assert_eq!(recovery.amnesia, None);
            if is(&log, &ours) {
                assert!(!was_reset, "once it is told, the new log is durable");
                check_records(&log, &ours, ours.next());
                old += 1;
            } else {
                let model = if is(&log, &theirs) { &theirs } else { &more };
                assert!(is(&log, model));
                check_records(&log, model, model.next());
                new += 1;
            }
            drop(log);
            life.settle();
            image.power_off();
        }
        assert!(old > 10 && new > 5, "{old} old, {new} new");
    });
}

#[test]
fn a_snapshot_without_records_leaves_an_empty_log_behind_it() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    let (lots, mut model) = (Lots::new(1), Model { term: 1, ..Model::default() });
    // What is still queued for the old log is not called durable before the new one is.
    let order = Arc::new(Mutex::new(Vec::new()));
    let (told, marked) = (order.clone(), log.clone());
    log.append(
        model.grow(&lots, 5, 100),
        Box::new(move |result| told.lock().push((result, marked.purged()))),
    );
    life.run(log.reset_to(id(7, 99))).unwrap();
    assert_eq!(*order.lock(), [(Ok(()), Some(id(7, 99)))]);
    assert_eq!((log.last_id(), log.first_index()), (Some(id(7, 99)), None));
    let mut next = Model { first: 100, term: 8, ..Model::default() };
    life.run(append(&log, next.grow(&lots, 5, 100))).unwrap();
    life.run(log.close()).unwrap();
    for _ in 0..2 {
        let life = Life::on(&disk, 1);
        let (log, recovery) = life.open(&small_segments()).unwrap();
        assert!(recovery.amnesia.is_none() && is(&log, &next));
        life.run(log.close()).unwrap();
    }
}

#[test]
fn what_was_installed_can_be_dropped() {
    let (disk, lots) = (SimDisk::new(), Lots::new(1));
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    let theirs = another(&lots, 40);
    life.run(log.install_range(theirs.entries[..50].to_vec())).unwrap();
    let early = life.run(log.reset_to(theirs.last().unwrap()));
    assert!(early.is_err(), "its records do not reach that far");
    life.run(log.discard_install()).unwrap();
    assert_eq!(log.installing(), None);
    life.run(log.install_range(theirs.entries[10..].to_vec())).unwrap();
    life.run(log.reset_to(theirs.last().unwrap())).unwrap();
    assert_eq!(log.first_index(), Some(LogIndex(50)));
}

#[test]
fn what_was_installed_and_has_a_gap_is_dropped() {
    let (disk, lots) = (SimDisk::new(), Lots::new(1));
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    let mut ours = Model { term: 1, ..Model::default() };
    life.run(append(&log, ours.grow(&lots, 3, 100))).unwrap();
    let theirs = another(&lots, 40);
    for range in ranges(&theirs, &lots) {
        life.run(log.install_range(range)).unwrap();
    }
    life.settle();
    life.run(log.close()).unwrap();
    let segments = disk
        .files()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.to_string_lossy().contains("segment"));
    let incoming: Vec<_> = segments.skip(1).collect();
    disk.remove(&incoming[0]).unwrap();
    for _ in 0..2 {
        let life = Life::on(&disk, 1);
        let (log, recovery) = life.open(&small_segments()).unwrap();
        assert_eq!((recovery.amnesia, log.installing()), (None, None));
        assert!(is(&log, &ours), "the log itself is not touched by that");
        life.run(log.close()).unwrap();
    }
    assert!(!disk.files().iter().any(|(path, _)| incoming.contains(path)), "nothing of it is left");
}

#[test]
fn what_is_dropped_of_an_install_is_dropped_whole() {
    let (disk, lots) = (SimDisk::new(), Lots::new(1));
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    let theirs = another(&lots, 40);
    let images = Arc::new(Mutex::new(Vec::new()));
    let (watched, seen) = (disk.clone(), images.clone());
    disk.watch(move |operation, _| {
        if operation == Operation::Sync {
            seen.lock().push(watched.after_process_end());
        }
    });
    for range in ranges(&theirs, &lots) {
        life.run(log.install_range(range)).unwrap();
    }
    disk.unwatch();
    let (mut whole, mut dropped) = (0, 0);
    for image in images.lock().iter() {
        let files = image.files().into_iter().map(|(path, _)| path);
        for robbed in
            files.filter(|path| path.to_string_lossy().ends_with("redb") && segment_number(path).is_some())
        {
            let left = image.after_process_end();
            left.remove(&robbed).unwrap();
            let found: Vec<_> =
                (0..2).map(|_| Life::on(&left, 1).open(&small_segments()).unwrap().0.installing()).collect();
            assert_eq!(found[0], found[1], "without {}", robbed.display());
            *(if found[0].is_some() { &mut whole } else { &mut dropped }) += 1;
        }
    }
    assert!(whole > 10 && dropped > 10, "{whole} went on, {dropped} did not");
}

fn segment_number(path: &std::path::Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix("segment-")
}
