//! What is durable rots, or is taken away: that ends in a fault that names it or in a loss that says what is gone, and
//! never in silence.

use std::path::{Path, PathBuf};

use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, LogIndex, Term};
use tidemill_core::seams::{Disk, OpenMode};
use tidemill_sim::disk::SimDisk;
use tidemill_storage::log::{GroupLog, LogOptions, Vote};

use super::history::small_segments;
use super::model::{Model, partitions};
use super::world::{Life, Lots, all_entries, append, folder, for_seeds, id, plain};
use tidemill_protocol::ids::Offset;

const VOTE: Vote = Vote { term: Term(7), node: Some(BrokerId(2)), committed: true };

/// A disk with a few sealed segments, an active one, a vote and a purge mark; closed or left open.
fn a_disk(seed: u64, is_clean: bool) -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let life = Life::on(&disk, seed);
    let (log, _) = life.open(&small_segments()).unwrap();
    let (lots, mut model) = (Lots::new(seed), Model { term: 1, ..Model::default() });
    life.run(log.save_vote(VOTE)).unwrap();
    for _ in 0..25 {
        life.run(append(&log, model.grow(&lots, 5, 3_000))).unwrap();
        log.set_committed(model.last().unwrap());
        life.settle();
    }
    life.run(log.purge(model.id_at(9).unwrap())).unwrap();
    life.run(append(&log, model.grow(&lots, 5, 3_000))).unwrap();
    if is_clean {
        life.run(log.close()).unwrap();
    }
    let left = disk.after_process_end();
    disk.power_off();
    (left, model)
}

/// A byte that is not in a page of zeros, and often one of the header.
fn some_byte(disk: &SimDisk, path: &Path, length: u64, lots: &Lots) -> Option<u64> {
    if lots.below(4) == 0 {
        return Some(lots.below(length.min(400)));
    }
    let file = disk.open(path, OpenMode::Read).unwrap();
    for _ in 0..200 {
        let page = lots.below(length.div_ceil(4096)) * 4096;
        let mut bytes = vec![0; (length - page).min(4096) as usize];
        file.read_at(page, &mut bytes).unwrap();
        if bytes.iter().any(|byte| *byte != 0) {
            return Some(page + lots.below(bytes.len() as u64));
        }
    }
    None
}

/// Reads everything there is; `Err` when any of it is refused.
fn read_everything(log: &GroupLog, model: &Model) -> Result<(), Fault> {
    let entries = all_entries(log)?;
    assert!(model.entries == entries, "what is read is not what was written");
    let upto = LogIndex(model.next());
    for at in partitions() {
        let read = log.batches(at, Offset(0), upto, usize::MAX)?;
        let expected: Vec<_> =
            model.batches(at).into_iter().map(|(index, placed, _)| (index, placed)).collect();
        assert!(read == expected, "what is read of {at:?} is not what was written");
        let mut next = LogIndex(0);
        let mut indexes: Vec<LogIndex> = expected.iter().map(|(index, _)| *index).collect();
        indexes.dedup();
        for index in indexes {
            assert_eq!(log.next_with(next, upto, &[at])?, Some(index));
            next = LogIndex(index.0 + 1);
        }
        assert_eq!(log.next_with(next, upto, &[at])?, None);
    }
    Ok(())
}

#[test]
fn a_flipped_bit_is_never_passed_over_in_silence() {
    for_seeds(4, |seed| {
        for is_clean in [true, false] {
            let (disk, model) = a_disk(seed, is_clean);
            let files: Vec<(PathBuf, u64)> = disk.files();
            let lots = Lots::new(seed);
            let (mut refused, mut lost, mut unharmed) = (0, 0, 0);
            for _ in 0..60 {
                let (path, length) = &files[lots.below(files.len() as u64) as usize];
                let rotten = disk.after_process_end();
                let Some(byte) = some_byte(&rotten, path, *length, &lots) else { continue };
                rotten.flip_bit(path, byte, lots.below(8) as u8);
                let what = format!("byte {byte} of {}, seed {seed}, closed: {is_clean}", path.display());
                let life = Life::on(&rotten, seed);
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let (log, recovery) = life.open(&small_segments())?;
                    if recovery.amnesia.is_some() {
                        return Ok(true);
                    }
                    assert_eq!((log.vote(), log.purged()), (Some(VOTE), model.id_at(9)));
                    read_everything(&log, &model).map(|()| false)
                }));
                match result {
                    Ok(Ok(true)) => lost += 1,
                    Ok(Ok(false)) => unharmed += 1,
                    Ok(Err(Fault::Damaged { .. } | Fault::Newer { .. })) => refused += 1,
                    Ok(Err(fault)) => panic!("{what}: {fault}"),
                    Err(panic) => {
                        eprintln!("{what}");
                        std::panic::resume_unwind(panic);
                    }
                }
                rotten.power_off();
            }
            eprintln!("seed {seed}, closed {is_clean}: {refused} refused, {lost} lost, {unharmed} unharmed");
            assert!(refused > 5, "{refused} refused, {lost} lost, {unharmed} unharmed");
        }
    });
}

/// Flips a bit in every page that the last turn wrote, so that redb has to fall back.
fn rot_last_turn(before: &SimDisk, after: &SimDisk, path: &Path) {
    let read = |disk: &SimDisk| {
        let file = disk.open(path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    };
    let (old, new) = (read(before), read(after));
    let pages = new.chunks(4096).enumerate().skip(1);
    let changed =
        pages.filter(|(page, bytes)| old.get(page * 4096..page * 4096 + bytes.len()) != Some(*bytes));
    for (page, _) in changed.collect::<Vec<_>>() {
        assert!(after.flip_bit(path, (page * 4096 + 50) as u64, 3));
    }
}

#[test]
fn a_turn_that_was_acknowledged_and_is_gone_is_missed() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&LogOptions::default()).unwrap();
    for index in 0..4 {
        life.run(append(&log, vec![plain(1, index, 100)])).unwrap();
    }
    let before = disk.after_process_end();
    life.run(append(&log, vec![plain(1, 4, 100), plain(1, 5, 100)])).unwrap();
    let after = disk.after_process_end();
    disk.power_off();
    rot_last_turn(&before, &after, &folder().join("segment-00000001.redb"));

    for start in 0..3 {
        let life = Life::on(&after, 1);
        let (log, recovery) = life.open(&LogOptions::default()).unwrap();
        let loss = recovery.amnesia.expect("two acknowledged entries are missing");
        assert_eq!((loss.turns, loss.entries), (5..=5, Some(LogIndex(4)..=LogIndex(5))), "start {start}");
        assert!(!recovery.torn && log.last_id() == Some(id(1, 3)), "what is left is served");
        assert_eq!(log.entries(0..9, usize::MAX).unwrap().len(), 4);
        if start == 1 {
            life.run(append(&log, vec![plain(2, 4, 10)])).unwrap();
            life.run(log.truncate_after(Some(id(1, 3)))).unwrap();
        }
        life.run(log.close()).unwrap();
    }
    let life = Life::on(&after, 1);
    let (log, _) = life.open(&LogOptions::default()).unwrap();
    life.run(log.clear_amnesia()).unwrap();
    life.run(append(&log, vec![plain(3, 4, 10)])).unwrap();
    life.run(log.close()).unwrap();
    let (log, recovery) = Life::on(&after, 1).open(&LogOptions::default()).unwrap();
    assert_eq!((recovery.amnesia, log.last_id()), (None, Some(id(3, 4))));
}

#[test]
fn a_cut_that_is_gone_is_missed_also_when_it_removed_segments() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    for index in 0..6 {
        life.run(append(&log, vec![plain(1, index, 30_000)])).unwrap();
    }
    let first = folder().join("segment-00000001.redb");
    assert!(disk.files().iter().any(|(path, _)| path.ends_with("segment-00000002.redb")));
    let before = disk.after_process_end();
    life.run(log.truncate_after(Some(id(1, 0)))).unwrap();
    let after = disk.after_process_end();
    disk.power_off();
    rot_last_turn(&before, &after, &first);
    let (log, recovery) = Life::on(&after, 1).open(&small_segments()).unwrap();
    assert!(log.last_id() > Some(id(1, 0)), "entries that were cut off are back");
    let loss = recovery.amnesia.expect("the cut was acknowledged");
    assert_eq!(loss.entries, None, "it is a cut that is lost, and no entry");
}

#[test]
fn a_turn_that_is_gone_is_missed_also_when_a_new_segment_knows_of_it() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    life.run(append(&log, vec![plain(1, 0, 70_000)])).unwrap();
    let before = disk.after_process_end();
    life.run(append(&log, vec![plain(1, 1, 20_000)])).unwrap();
    // The next segment has its name, and nothing is in it yet.
    let at_birth = std::sync::Arc::new(parking_lot::Mutex::new(None));
    let (seen, watched) = (at_birth.clone(), disk.clone());
    disk.watch(move |_, _| {
        let is_born = watched.files().iter().any(|(path, _)| path.ends_with("segment-00000002.redb"));
        if is_born && seen.lock().is_none() {
            *seen.lock() = Some(watched.after_process_end());
        }
    });
    life.run(append(&log, vec![plain(1, 2, 70_000)])).unwrap();
    disk.unwatch();
    let after = at_birth.lock().take().unwrap();
    rot_last_turn(&before, &after, &folder().join("segment-00000001.redb"));
    let (log, recovery) = Life::on(&after, 1).open(&small_segments()).unwrap();
    let loss = recovery.amnesia.expect("an acknowledged entry is missing");
    assert_eq!((loss.entries, log.last_id()), (Some(LogIndex(1)..=LogIndex(1)), Some(id(1, 0))));
}

#[test]
fn a_cut_that_is_gone_is_missed_also_while_its_segment_is_removed() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    for (index, bytes) in [(0, 90_000), (1, 10_000), (2, 10_000)] {
        life.run(append(&log, vec![plain(1, index, bytes)])).unwrap();
    }
    let second = folder().join("segment-00000002.redb");
    let before = disk.after_process_end();
    life.run(log.truncate_after(Some(id(1, 1)))).unwrap();
    let at_removal = std::sync::Arc::new(parking_lot::Mutex::new(None));
    let (seen, watched) = (at_removal.clone(), disk.clone());
    disk.watch(move |operation, _| {
        if operation == tidemill_sim::disk::Operation::Remove {
            *seen.lock() = Some(watched.after_process_end());
        }
    });
    life.run(log.truncate_after(Some(id(1, 0)))).unwrap();
    disk.unwatch();
    let after = at_removal.lock().take().unwrap();
    rot_last_turn(&before, &after, &second);
    let (log, recovery) = Life::on(&after, 1).open(&small_segments()).unwrap();
    assert_eq!(log.last_id(), Some(id(1, 2)), "the entry that was cut off first is back");
    assert!(recovery.amnesia.is_some(), "the first cut was acknowledged, and is gone");
}

#[test]
fn a_log_that_lost_its_first_segment_does_not_begin_later() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    // What the segment is before its only turn.
    let at_birth = std::sync::Arc::new(parking_lot::Mutex::new(None));
    let (seen, watched) = (at_birth.clone(), disk.clone());
    disk.watch(move |_, _| {
        let is_born = watched.files().iter().any(|(path, _)| path.ends_with("segment-00000001.redb"));
        if is_born && seen.lock().is_none() {
            *seen.lock() = Some(watched.after_process_end());
        }
    });
    for index in 0..2 {
        life.run(append(&log, vec![plain(1, index, 90_000)])).unwrap();
    }
    disk.unwatch();
    let (before, after) = (at_birth.lock().take().unwrap(), disk.after_process_end());
    assert!(after.files().iter().any(|(path, _)| path.ends_with("segment-00000002.redb")));
    rot_last_turn(&before, &after, &folder().join("segment-00000001.redb"));
    for start in 0..2 {
        let fault = Life::on(&after, 1).open(&small_segments()).map(|(_, recovery)| recovery);
        let fault = fault.expect_err("an acknowledged entry is missing");
        assert!(
            matches!(&fault, Fault::Damaged { what, .. } if what.ends_with("segment-00000001.redb")),
            "start {start}: {fault}"
        );
    }
}

#[test]
fn a_turn_that_was_never_acknowledged_and_is_torn_is_ordinary() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&LogOptions::default()).unwrap();
    life.run(append(&log, vec![plain(1, 0, 100)])).unwrap();
    let before = disk.after_process_end();
    // The turn is written whole, and the mark is not: the power goes before the sync returns.
    let at_sync = std::sync::Arc::new(parking_lot::Mutex::new(None));
    let (seen, watched) = (at_sync.clone(), disk.clone());
    disk.watch(move |operation, _| {
        if operation == tidemill_sim::disk::Operation::Sync {
            *seen.lock() = Some(watched.after_process_end());
        }
    });
    life.run(append(&log, vec![plain(1, 1, 100)])).unwrap();
    disk.unwatch();
    let after = at_sync.lock().take().unwrap();
    rot_last_turn(&before, &after, &folder().join("segment-00000001.redb"));
    let (log, recovery) = Life::on(&after, 1).open(&LogOptions::default()).unwrap();
    assert!(recovery.unclean && recovery.torn, "{recovery:?}");
    assert_eq!((recovery.amnesia, log.last_id()), (None, Some(id(1, 0))));
}

#[test]
fn what_was_lost_below_the_purge_mark_leaves_a_hole_and_life_goes_on() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&LogOptions::default()).unwrap();
    for index in 0..4 {
        life.run(append(&log, vec![plain(1, index, 100)])).unwrap();
    }
    let before = disk.after_process_end();
    life.run(append(&log, vec![plain(1, 4, 100), plain(1, 5, 100)])).unwrap();
    // The state had gone further than the log that is left, and Raft goes on behind the state.
    life.run(log.purge(id(1, 5))).unwrap();
    let after = disk.after_process_end();
    disk.power_off();
    rot_last_turn(&before, &after, &folder().join("segment-00000001.redb"));
    for start in 0..3 {
        let life = Life::on(&after, 1);
        let (log, recovery) = life.open(&LogOptions::default()).unwrap();
        let loss = recovery.amnesia.expect("two entries are missing");
        assert_eq!(loss.entries, Some(LogIndex(4)..=LogIndex(5)), "start {start}");
        if start == 0 {
            assert_eq!(log.last_id(), Some(id(1, 5)), "Raft never goes back below its purge mark");
            life.run(append(&log, vec![plain(2, 6, 10)])).unwrap();
        }
        let held: Vec<u64> = all_entries(&log).unwrap().iter().map(|entry| entry.id.index.0).collect();
        assert_eq!(held, [0, 1, 2, 3, 6], "what is left is served, over the hole");
        life.run(log.close()).unwrap();
    }
}

#[test]
fn files_that_were_taken_away_are_missed() {
    let (disk, model) = a_disk(3, true);
    let open_without = |name: &str| {
        let robbed = disk.after_process_end();
        robbed.remove(&folder().join(name)).unwrap();
        let life = Life::on(&robbed, 1);
        life.open(&small_segments()).map(|(log, recovery)| (log, recovery, life))
    };
    for name in ["vote.redb", "segment-00000002.redb"] {
        let fault = open_without(name).err().expect("a file is missing");
        assert!(matches!(&fault, Fault::Damaged { what, .. } if what.ends_with(name)), "{fault}");
    }
    let (log, recovery, _life) = open_without("turn.mark").unwrap_or_else(|fault| panic!("{fault}"));
    assert!(recovery.unmarked && recovery.amnesia.is_none());
    read_everything(&log, &model).unwrap();
    // The directory is derived: it is made again.
    let (log, recovery, _life) = open_without("directory.redb").unwrap_or_else(|fault| panic!("{fault}"));
    assert!(!recovery.unmarked && recovery.amnesia.is_none());
    read_everything(&log, &model).unwrap();
    // Without the newest segment the log ends too early, and the mark knows.
    let last = disk
        .files()
        .iter()
        .filter_map(|(path, _)| path.file_name()?.to_str().map(str::to_owned))
        .rfind(|name| name.starts_with("segment"));
    let (_, recovery, _life) = open_without(&last.unwrap()).unwrap_or_else(|fault| panic!("{fault}"));
    let loss = recovery.amnesia.expect("the newest segment is missing");
    assert_eq!(loss.entries.map(|entries| *entries.end()), model.last().map(|last| last.index));
}
