//! Random work on a log, held against the model, with restarts in between.

use std::time::Duration;

use tidemill_core::ids::{BrokerId, Term};
use tidemill_sim::disk::SimDisk;
use tidemill_storage::log::{LogOptions, Vote};

use super::model::{Model, check, check_records};
use super::world::{Life, Lots, append, for_seeds, id, plain};

pub fn small_segments() -> LogOptions {
    LogOptions { segment_bytes: 100_000, tail_bytes: 30_000, ..LogOptions::default() }
}

#[test]
fn a_log_is_what_was_done_to_it() {
    for_seeds(10, |seed| {
        let lots = Lots::new(seed);
        let mut disk = SimDisk::new();
        let mut model = Model { term: 1, ..Model::default() };
        let (mut committed, mut vote, mut purged) = (0, None, None);
        for life_number in 0..6 {
            let life = Life::on(&disk, seed);
            let (log, recovery) = life.open(&small_segments()).unwrap();
            assert_eq!(recovery.amnesia, None);
            assert_eq!((log.vote(), log.purged()), (vote, purged));
            check(&log, &model, committed);
            for _ in 0..lots.below(40) {
                match lots.below(20) {
                    0 => {
                        model.term += 1;
                        let node = [None, Some(BrokerId(lots.below(3)))][lots.below(2) as usize];
                        let new = Vote { term: Term(model.term), node, committed: lots.below(2) == 0 };
                        life.run(log.save_vote(new)).unwrap();
                        vote = Some(new);
                    }
                    1 | 2 if committed < model.next() => {
                        let next = committed + lots.below(model.next() - committed);
                        model.truncate(next);
                        model.term += 1;
                        life.run(log.truncate_after(model.last())).unwrap();
                    }
                    3 if committed > 0 => {
                        let upto = model.id_at(lots.below(committed));
                        if upto > purged {
                            life.run(log.purge(upto.unwrap())).unwrap();
                            purged = upto;
                        }
                    }
                    4 | 5 => {
                        committed += lots.below(model.next() + 1 - committed);
                        if let Some(last) = committed.checked_sub(1).and_then(|last| model.id_at(last)) {
                            log.set_committed(last);
                        }
                        life.settle();
                        check_records(&log, &model, committed);
                    }
                    6 => check(&log, &model, committed),
                    7 => life.clock.advance(Duration::from_secs(lots.below(3000))),
                    _ => {
                        let (count, bytes) =
                            (1 + lots.below(20), [50, 3_000, 20_000][lots.below(3) as usize]);
                        let entries = model.grow(&lots, count, bytes);
                        if lots.below(3) == 0 {
                            log.append(entries, Box::new(|result| result.unwrap()));
                        } else {
                            life.run(append(&log, entries)).unwrap();
                        }
                    }
                }
            }
            check(&log, &model, committed);
            // Everything that was asked for is written before the next life begins.
            life.run(append(&log, Vec::new())).unwrap();
            let is_clean = lots.below(2) == 0;
            if is_clean {
                life.run(log.close()).unwrap();
            }
            disk = if lots.below(2) == 0 { disk.after_process_end() } else { disk.after_power_cut(&lots) };
            life.disk.power_off();
            assert_eq!(life.faults(), [], "life {life_number}");
            let again = Life::on(&disk.after_process_end(), seed).open(&small_segments()).unwrap().1;
            assert_eq!(again.unclean, !is_clean);
        }
    });
}

#[test]
fn segments_are_sealed_when_they_are_full_or_old_and_all_is_committed() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&small_segments()).unwrap();
    let segments =
        || disk.files().iter().filter(|(path, _)| path.to_string_lossy().contains("segment-")).count();
    assert_eq!(segments(), 0, "nothing is made before it is needed");
    for index in 0..10 {
        life.run(append(&log, vec![plain(1, index, 15_000)])).unwrap();
    }
    assert_eq!(segments(), 2, "a page of 16 KiB each: six fit");
    life.clock.advance(Duration::from_secs(3600));
    life.settle();
    life.run(append(&log, vec![plain(1, 10, 10)])).unwrap();
    assert_eq!(segments(), 3, "an hour has passed");
    // What is not committed may still be cut, though the segment is full.
    life.run(log.truncate_after(Some(id(1, 3)))).unwrap();
    assert_eq!(segments(), 1);
    life.run(append(&log, (4..12).map(|index| plain(2, index, 15_000)).collect())).unwrap();
    log.set_committed(id(2, 11));
    life.settle();
    let cut = life.run(log.truncate_after(Some(id(1, 3))));
    assert!(cut.is_err(), "what is committed is not cut");
}

#[test]
fn entries_are_readable_before_they_are_durable_and_done_comes_in_order() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&LogOptions::default()).unwrap();
    let done = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    for index in 0..5 {
        let done = done.clone();
        log.append(vec![plain(1, index, 100)], Box::new(move |result| done.lock().push((index, result))));
    }
    assert_eq!(log.entries(0..5, usize::MAX).unwrap().len(), 5, "nothing was written yet");
    assert_eq!((log.durable_id(), log.last_id()), (None, Some(id(1, 4))));
    let syncs = disk.counts().syncs;
    life.settle();
    assert_eq!(*done.lock(), (0..5).map(|index| (index, Ok(()))).collect::<Vec<_>>());
    assert_eq!(log.durable_id(), Some(id(1, 4)));
    life.run(append(&log, vec![plain(1, 5, 100)])).unwrap();
    let after_first = disk.counts().syncs;
    life.run(append(&log, vec![plain(1, 6, 100)])).unwrap();
    assert_eq!(disk.counts().syncs - after_first, 1, "a turn is one sync");
    assert!(after_first > syncs);
}

#[test]
#[should_panic(expected = "without gaps")]
fn an_append_with_a_gap_is_a_bug() {
    let life = Life::on(&SimDisk::new(), 1);
    let (log, _) = life.open(&LogOptions::default()).unwrap();
    log.append(vec![plain(1, 1, 10)], Box::new(|_| {}));
}
