//! Giving parts of segments back where they lie: what dies among others goes, alone, and nothing is written for it.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_core::ids::LogIndex;
use tidemill_protocol::ids::{Offset, TopicPartition};
use tidemill_sim::disk::{Operation, SimDisk};
use tidemill_storage::log::offline::{self, OfflineSegment};
use tidemill_storage::log::{GroupLog, LogOptions, Payload, Reclaimed};

use super::model::Model;
use super::reclaim::{Given, check};
use super::world::{Life, Lots, all_entries, append, at, batch, entry, folder, for_seeds, id, placed};

fn options() -> LogOptions {
    LogOptions { segment_bytes: 1 << 20, tail_bytes: 30_000, punch_bytes: 8 << 10, ..LogOptions::default() }
}

/// A tenth of this is any partition's: turns of ten batches of `bytes` bytes each, of as many partitions.
fn fill(life: &Life, log: &GroupLog, model: &mut Model, turns: u64, bytes: usize) {
    for _ in 0..turns {
        let next = model.next();
        let entries: Vec<_> = (0..10)
            .map(|number| {
                let batch = batch(Offset(next / 10), 1, bytes, next as i64);
                entry(id(1, next + number), vec![placed(place(number), batch)])
            })
            .collect();
        model.entries.extend(entries.clone());
        life.run(append(log, entries)).unwrap();
    }
    log.set_committed(log.last_id().unwrap());
    life.run(log.roll(0)).unwrap();
    life.settle();
    life.run(log.purge(log.last_id().unwrap())).unwrap();
}

fn place(number: u64) -> TopicPartition {
    at(1, number as u32)
}

/// What the segments take of the disk.
fn taken(disk: &SimDisk) -> u64 {
    segments(disk).iter().map(|path| disk.taken(path)).sum()
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let is_segment = |path: &PathBuf| path.to_string_lossy().contains("segment-");
    disk.files().into_iter().map(|(path, _)| path).filter(is_segment).collect()
}

fn reclaim(life: &Life, log: &GroupLog, given: &Given) -> Reclaimed {
    life.run(log.reclaim(LogIndex(given.below), |at| Ok(given.log_start(at)))).unwrap()
}

/// Every batch of every entry that is there, as whoever reads the log sees it.
fn whole_batches(log: &GroupLog) -> usize {
    let mut batches = 0;
    for logged in all_entries(log).unwrap() {
        let Payload::Entry(entry) = &logged.payload else { continue };
        for placed in entry.resident() {
            assert!(tidemill_protocol::batch::BatchHeader::parse(&placed.batch).is_ok());
            assert!(placed.batch.iter().any(|byte| *byte != 0), "zeros were handed out");
            batches += 1;
        }
    }
    batches
}

#[test]
fn one_of_ten_partitions_gives_its_bytes_back_and_nothing_is_written() {
    for bytes in [8_500, 16_000, 64_000, 300_000] {
        let disk = SimDisk::new();
        let life = Life::on(&disk, 1);
        let (log, _) = life.open(&options()).unwrap();
        let mut model = Model { term: 1, ..Model::default() };
        let turns = 3_000_000 / (10 * bytes as u64) + 2;
        fill(&life, &log, &mut model, turns, bytes);
        let before = taken(&disk);
        let mut given = Given { below: model.next(), deleted: [place(3)].into(), ..Given::default() };
        let reclaimed = reclaim(&life, &log, &given);
        assert_eq!((reclaimed.rewritten, reclaimed.unlinked), (0, 0), "{bytes}: {reclaimed:?}");
        let (of_it, back) = (turns * bytes as u64, before - taken(&disk));
        assert!(back * 10 >= of_it * 9, "{bytes}: of {of_it} bytes {back} are back");
        assert_eq!(reclaimed.freed_bytes, back, "{bytes}");
        assert!(reclaimed.written_bytes * 20 <= back, "{bytes}: {reclaimed:?}");
        assert!(!log.is_whole());
        assert_eq!(whole_batches(&log) as u64, turns * 9);
        check(&log, &model, &given);
        assert_eq!(reclaim(&life, &log, &given), Reclaimed::default(), "there is no more to give back");

        // The next one, and a part of one more; and all of it after a restart.
        given.deleted.insert(place(4));
        given.starts.insert(place(5), Offset(turns / 2));
        assert!(reclaim(&life, &log, &given).freed_bytes * 10 >= of_it * 13, "{bytes}");
        check(&log, &model, &given);
        life.run(log.close()).unwrap();
        assert_eq!(life.faults(), []);
        let life = Life::on(&disk, 1);
        let (log, recovery) = life.open(&options()).unwrap();
        assert_eq!(recovery.amnesia, None);
        check(&log, &model, &given);
        whole_batches(&log);

        // What is read offline is what is left, too.
        let mut read = 0;
        for number in offline::segments(&disk, &folder()).unwrap() {
            let segment = OfflineSegment::read(Arc::new(disk.clone()), &folder(), number).unwrap();
            read += segment.turns().unwrap().map(|turn| turn.unwrap().entries.len()).sum::<usize>();
        }
        assert_eq!(read as u64, model.next());

        // At last nothing is left, and the segments go.
        given.deleted.extend((0..10).map(place));
        let reclaimed = reclaim(&life, &log, &given);
        assert!(reclaimed.unlinked > 0 && reclaimed.rewritten == 0, "{bytes}: {reclaimed:?}");
        check(&log, &model, &given);
    }
}

#[test]
fn small_batches_and_disks_without_holes_wait_for_half_a_segment() {
    for (bytes, has_holes) in [(700, true), (30_000, false)] {
        let disk = SimDisk::new();
        if !has_holes {
            disk.refuse_holes();
        }
        let life = Life::on(&disk, 1);
        let (log, _) = life.open(&options()).unwrap();
        let mut model = Model { term: 1, ..Model::default() };
        fill(&life, &log, &mut model, 1_000_000 / (10 * bytes as u64), bytes);
        let one = Given { below: model.next(), deleted: [place(3)].into(), ..Given::default() };
        assert_eq!(reclaim(&life, &log, &one), Reclaimed::default(), "{bytes}");
        let most = Given { deleted: (1..9).map(place).collect(), ..one };
        let reclaimed = reclaim(&life, &log, &most);
        assert!(reclaimed.rewritten > 0 && reclaimed.punched == 0, "{bytes}: {reclaimed:?}");
        assert!(reclaimed.written_bytes <= reclaimed.freed_bytes);
        check(&log, &model, &most);
    }
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_and_the_rest_is_given_back_at_the_start() {
    for_seeds(6, |seed| {
        let disk = SimDisk::new();
        let life = Life::on(&disk, seed);
        let (log, _) = life.open(&options()).unwrap();
        let mut model = Model { term: 1, ..Model::default() };
        fill(&life, &log, &mut model, 12, 16_000);
        let given = Given { below: model.next(), deleted: [place(3), place(7)].into(), ..Given::default() };
        let (cuts, lots) = (Arc::new(Mutex::new(Vec::new())), Lots::new(seed));
        let (watched, kept) = (disk.clone(), cuts.clone());
        disk.watch(move |operation, path| {
            if !matches!(operation, Operation::Open | Operation::Read) {
                let cut = watched.after_power_cut(&lots);
                kept.lock().push((cut, format!("{operation:?} of {}", path.display())));
            }
        });
        let reclaimed = reclaim(&life, &log, &given);
        disk.unwatch();
        let least = taken(&disk);
        assert!(reclaimed.punched > 0, "{reclaimed:?}");
        let cuts = std::mem::take(&mut *cuts.lock());
        assert!(cuts.iter().any(|(_, before)| before.starts_with("Punch")));
        for (cut, before) in cuts {
            let mut sizes = Vec::new();
            for _ in 0..2 {
                let life = Life::on(&cut, seed);
                let (log, recovery) = life.open(&options()).unwrap();
                assert_eq!(recovery.amnesia, None, "before {before}");
                check(&log, &model, &given);
                whole_batches(&log);
                assert_eq!(life.faults(), []);
                sizes.push(taken(&cut));
            }
            assert_eq!(sizes[0], sizes[1], "before {before}: a second start has nothing to do");
            let life = Life::on(&cut, seed);
            let (log, _) = life.open(&options()).unwrap();
            reclaim(&life, &log, &given);
            // But for what redb writes when it opens a file.
            assert!(taken(&cut) <= least + 65_536, "before {before}: {} and {least}", taken(&cut));
        }
    });
}

#[test]
fn what_failed_to_be_given_back_is_tried_again() {
    let failures = [
        // The first of these asks whether the file system can.
        (Operation::Punch, "segment-", 1),
        (Operation::Sync, "segment-", 0),
        (Operation::Write, "gone.redb", 0),
        (Operation::Sync, "gone.redb", 0),
        (Operation::Sync, "gone.redb", 2),
    ];
    for (operation, path, nth) in failures {
        let disk = SimDisk::new();
        let life = Life::on(&disk, 1);
        let (log, _) = life.open(&options()).unwrap();
        let mut model = Model { term: 1, ..Model::default() };
        let (turns, bytes) = (12, 16_000);
        fill(&life, &log, &mut model, turns, bytes);
        let before = taken(&disk);
        let mut given = Given { below: model.next(), deleted: [place(1)].into(), ..Given::default() };
        reclaim(&life, &log, &given);

        given.deleted.insert(place(3));
        disk.fail(operation, path, nth);
        let reclaimed = life.run(log.reclaim(LogIndex(given.below), |at| Ok(given.log_start(at))));
        assert!(reclaimed.is_err(), "{operation:?} of {path}: {reclaimed:?}");
        check(&log, &model, &given);
        given.deleted.insert(place(7));
        reclaim(&life, &log, &given);
        let (of_them, back) = (3 * turns * bytes as u64, before - taken(&disk));
        assert!(back * 10 >= of_them * 9, "{operation:?} of {path}: of {of_them} bytes {back} are back");
        check(&log, &model, &given);
        life.run(log.close()).unwrap();

        let life = Life::on(&disk, 1);
        let (log, recovery) = life.open(&options()).unwrap();
        assert_eq!(recovery.amnesia, None);
        check(&log, &model, &given);
        whole_batches(&log);
    }
}

#[test]
fn a_time_that_went_with_an_earlier_batch_hides_none_behind_it() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&options()).unwrap();
    let mut model = Model { term: 1, ..Model::default() };
    // The last of these lies in a segment of its own.
    for (turn, time) in [1_000, 500, 900, 400, 950].into_iter().enumerate() {
        let next = model.next();
        let entries: Vec<_> = (0..3)
            .map(|number| {
                let batch = batch(Offset(turn as u64), 1, 16_000, time);
                entry(id(1, next + number), vec![placed(place(number), batch)])
            })
            .collect();
        model.entries.extend(entries.clone());
        life.run(append(&log, entries)).unwrap();
        if turn >= 3 {
            log.set_committed(log.last_id().unwrap());
            life.run(log.roll(0)).unwrap();
            life.settle();
        }
    }
    life.run(log.purge(log.last_id().unwrap())).unwrap();
    let upto = LogIndex(model.next());
    let found = |log: &GroupLog, time| {
        let found = log.batch_for_time(place(0), time, upto).unwrap();
        found.map(|(index, _)| index.0)
    };
    assert_eq!(found(&log, 800), Some(0));

    let given = Given { below: model.next(), starts: [(place(0), Offset(1))].into(), ..Given::default() };
    let reclaimed = reclaim(&life, &log, &given);
    assert_eq!((reclaimed.punched, reclaimed.rewritten, reclaimed.unlinked), (1, 0, 0), "{reclaimed:?}");
    let all = |log: &GroupLog| [400, 500, 501, 900, 901, 950, 951, 1_000].map(|time| found(log, time));
    let expected = [Some(3), Some(3), Some(6), Some(6), Some(12), Some(12), None, None];
    assert_eq!(all(&log), expected);
    check(&log, &model, &given);
    life.run(log.close()).unwrap();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&options()).unwrap();
    assert_eq!(all(&log), expected);
}
