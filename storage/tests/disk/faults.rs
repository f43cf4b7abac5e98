//! The disk fails: the log stops at once, says so once, and never tries again.

use tidemill_core::fault::Fault;
use tidemill_core::ids::Term;
use tidemill_sim::disk::{Operation, SimDisk};
use tidemill_storage::log::{LogOptions, Vote};

use super::history::small_segments;
use super::model::Model;
use super::world::{Life, Lots, all_entries, append, for_seeds, plain};

#[test]
fn the_first_error_ends_the_log() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&LogOptions::default()).unwrap();
    life.run(append(&log, vec![plain(1, 0, 100)])).unwrap();
    disk.fail(Operation::Sync, "segment", 0);
    let results = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    for index in 1..4 {
        let results = results.clone();
        log.append(vec![plain(1, index, 100)], Box::new(move |result| results.lock().push(result)));
    }
    life.settle();
    let results = results.lock().clone();
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(|result| matches!(result, Err(Fault::Disk { .. }))), "{results:?}");
    assert_eq!(life.faults().len(), 1, "told once: {:?}", life.faults());

    let touched = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = touched.clone();
    disk.watch(move |operation, path| seen.lock().push((operation, path.to_owned())));
    let vote = Vote { term: Term(2), node: None, committed: false };
    for result in [
        life.run(append(&log, vec![plain(1, 4, 100)])),
        life.run(log.save_vote(vote)),
        life.run(log.truncate_after(None)),
        life.run(log.close()),
    ] {
        assert_eq!(result, Err(life.faults()[0].clone()));
    }
    life.run(log.wait_for_room());
    drop(log);
    life.settle();
    let touched = touched.lock().clone();
    let failed = |path: &std::path::Path| path.to_string_lossy().contains("segment");
    assert!(!touched.iter().any(|(_, path)| failed(path)), "the file is never touched again: {touched:?}");
}

#[test]
fn whichever_operation_fails_what_was_acknowledged_is_kept() {
    for_seeds(3, |seed| {
        for operation in
            [Operation::Write, Operation::Sync, Operation::SetLength, Operation::Rename, Operation::Read]
        {
            for nth in (0..130).step_by(7) {
                let disk = SimDisk::new();
                let life = Life::on(&disk, seed);
                let (lots, mut model) = (Lots::new(seed + nth), Model { term: 1, ..Model::default() });
                let Ok((log, _)) = life.open(&small_segments()) else { panic!("nothing fails yet") };
                disk.fail(operation, "", nth);
                let mut acknowledged = 0;
                for _ in 0..12 {
                    if life.run(append(&log, model.grow(&lots, 4, 3_000))).is_err() {
                        break;
                    }
                    acknowledged = model.entries.len();
                    log.set_committed(model.last().unwrap());
                }
                life.settle();
                let failed = !life.faults().is_empty();
                assert_eq!(life.faults().len(), usize::from(failed));
                let left =
                    if lots.below(2) == 0 { disk.after_process_end() } else { disk.after_power_cut(&lots) };
                disk.power_off();
                let life = Life::on(&left, seed);
                let (log, recovery) = life.open(&small_segments()).unwrap();
                assert_eq!(recovery.amnesia, None);
                let found = all_entries(&log).unwrap();
                let what = format!("{operation:?} {nth}, seed {seed}");
                assert!(found.len() >= acknowledged && model.entries.starts_with(&found), "{what}");
            }
        }
    });
}

#[test]
fn a_full_disk_is_a_fault_and_loses_nothing() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&LogOptions::default()).unwrap();
    life.run(append(&log, vec![plain(1, 0, 100)])).unwrap();
    let used: u64 = disk.files().iter().map(|(_, length)| length).sum();
    disk.set_capacity(Some(used + 1_000_000));
    let mut acknowledged = 0;
    for index in 1..200 {
        if life.run(append(&log, vec![plain(1, index, 100_000)])).is_err() {
            break;
        }
        acknowledged = index;
    }
    assert!(acknowledged < 150 && matches!(&life.faults()[..], [Fault::Disk { .. }]), "{:?}", life.faults());
    let left = disk.after_process_end();
    disk.power_off();
    let (log, _) = Life::on(&left, 1).open(&LogOptions::default()).unwrap();
    assert!(all_entries(&log).unwrap().len() as u64 > acknowledged);
}
