//! The tables: what apply writes is read at once, checkpointed lazily, and after a crash stands where some checkpoint
//! stood, never between two entries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_core::fault::Fault;
use tidemill_core::limits;
use tidemill_core::tables::{MemoryTables, Tables, View};
use tidemill_sim::disk::{Operation, SimDisk};
use tidemill_storage::log::LogOptions;
use tidemill_storage::state::{Checkpoint, StateOptions, StateStore};

use super::world::{Life, Lots, folder, for_seeds, id, plain};

fn open(life: &Life, options: &StateOptions) -> Result<(StateStore, Checkpoint), Fault> {
    StateStore::open(&life.world, folder(), options.clone(), life.on_fault())
}

fn small() -> StateOptions {
    StateOptions { log_bytes: 1_000, age: Duration::from_secs(5) }
}

/// One entry's changes, to both.
fn apply(store: &StateStore, model: &mut MemoryTables, index: u64, lots: &Lots) {
    let changes: Vec<(Bytes, Option<Bytes>)> = (0..1 + lots.below(8))
        .map(|_| {
            let key = Bytes::from(vec![lots.below(4) as u8, lots.below(40) as u8, 0, 7]);
            let value = Bytes::from(vec![lots.below(256) as u8; lots.below(60) as usize]);
            (key, (lots.below(4) > 0).then_some(value))
        })
        .collect();
    let change = |tables: &mut dyn Tables| {
        for (key, value) in &changes {
            match value {
                Some(value) => tables.put(key.clone(), value.clone()),
                None => tables.delete(key.clone()),
            }
        }
    };
    store.write(change);
    change(model);
    store.checkpoint(id(1, index), &Bytes::from(format!("members {index}")), lots.below(300));
}

fn rows(view: &dyn View) -> Vec<(Bytes, Bytes)> {
    view.scan(b"", None, usize::MAX).unwrap()
}

#[test]
fn tables_are_what_was_applied_also_after_a_power_cut() {
    for_seeds(12, |seed| {
        let (lots, mut disk) = (Lots::new(seed), SimDisk::new());
        // What the tables were after each entry.
        let mut past: Vec<MemoryTables> = vec![MemoryTables::default()];
        for _ in 0..4 {
            let life = Life::on(&disk, seed);
            let (store, checkpoint) = open(&life, &small()).unwrap();
            let applied = checkpoint.applied.map_or(0, |id| id.index.0 as usize);
            assert!(applied < past.len());
            past.truncate(applied + 1);
            let mut model = past[applied].clone();
            assert_eq!(rows(&store), rows(&model));
            if applied > 0 {
                assert_eq!(checkpoint.standing, format!("members {applied}"));
            }
            let images = Arc::new(Mutex::new(Vec::new()));
            let (watched, seen, cuts) = (disk.clone(), images.clone(), Lots::new(seed));
            let durable = Arc::new(Mutex::new(checkpoint.applied));
            let known = durable.clone();
            disk.watch(move |operation, _| {
                if operation == Operation::Sync || cuts.below(4) == 0 {
                    seen.lock().push((watched.after_power_cut(&cuts), *known.lock()));
                }
            });
            for _ in 0..lots.below(60) {
                apply(&store, &mut model, past.len() as u64, &lots);
                past.push(model.clone());
                match lots.below(6) {
                    0 => life.settle(),
                    1 => life.clock.advance(Duration::from_secs(lots.below(6))),
                    2 => {
                        let flushed = life.run(store.flush()).unwrap();
                        assert_eq!(flushed.map(|id| id.index.0 as usize), Some(past.len() - 1));
                    }
                    _ => {}
                }
                *durable.lock() = store.durable_checkpoint();
                let (start, end) = ([lots.below(4) as u8], [lots.below(5) as u8, 20]);
                let limit = lots.below(50) as usize;
                assert_eq!(store.scan(&start, Some(&end), limit), model.scan(&start, Some(&end), limit));
                assert_eq!(store.keys(&start, Some(&end), limit), model.keys(&start, Some(&end), limit));
                let key = [lots.below(4) as u8, lots.below(40) as u8, 0, 7];
                assert_eq!(store.get(&key), model.get(&key));
            }
            disk.unwatch();
            for (image, known) in images.lock().drain(..) {
                let life = Life::on(&image, seed);
                let (store, checkpoint) = open(&life, &small()).unwrap();
                assert!(
                    checkpoint.applied >= known,
                    "{:?} was durable, {:?} is there",
                    known,
                    checkpoint.applied
                );
                let applied = checkpoint.applied.map_or(0, |id| id.index.0 as usize);
                assert_eq!(rows(&store), rows(&past[applied]));
                image.power_off();
            }
            if lots.below(2) == 0 {
                life.run(store.close()).unwrap();
                assert_eq!(store.durable_checkpoint().map_or(0, |id| id.index.0 as usize), past.len() - 1);
            }
            assert_eq!(life.faults(), []);
            disk = disk.after_power_cut(&lots);
            life.disk.power_off();
        }
    });
}

#[test]
fn a_checkpoint_waits_until_it_is_worth_it() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (store, _) = open(&life, &StateOptions::default()).unwrap();
    life.settle();
    let syncs = || disk.counts().syncs;
    let (start, lots) = (syncs(), Lots::new(1));
    let mut model = MemoryTables::default();
    for index in 1..100 {
        apply(&store, &mut model, index, &lots);
        life.settle();
    }
    assert_eq!((syncs(), store.durable_checkpoint()), (start, None), "neither much nor old");
    life.clock.advance(limits::CHECKPOINT_AGE_MAX);
    life.settle();
    assert_eq!(store.durable_checkpoint(), Some(id(1, 99)));
    assert!((2..=3).contains(&(syncs() - start)), "one commit with two syncs, and one if the file grew");
    store.checkpoint(id(1, 100), &Bytes::new(), limits::CHECKPOINT_LOG_BYTES);
    assert_eq!(store.durable_checkpoint(), Some(id(1, 99)), "apply does not wait for the disk");
    life.settle();
    assert_eq!(store.durable_checkpoint(), Some(id(1, 100)));
}

#[test]
fn a_checkpoint_never_passes_what_is_durable_in_the_log() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (log, _) = life.open(&LogOptions::default()).unwrap();
    let (store, _) = open(&life, &small()).unwrap();
    store.follow(&log);
    // Both are asked for, and the checkpoint's thread is woken first.
    log.append(vec![plain(1, 0, 100)], Box::new(|_| {}));
    store.checkpoint(id(1, 0), &Bytes::new(), 1_000_000);
    let (seen, watched, opened) = (Arc::new(Mutex::new(None)), log.clone(), Mutex::new(false));
    let at_checkpoint = seen.clone();
    disk.watch(move |operation, path| {
        if operation == Operation::Sync
            && path.to_string_lossy().contains("state")
            && !std::mem::replace(&mut *opened.lock(), true)
        {
            *at_checkpoint.lock() = Some(watched.durable_id());
        }
    });
    life.run(store.flush()).unwrap();
    assert_eq!(*seen.lock(), Some(Some(id(1, 0))));
}

#[test]
fn a_checkpoint_moves_to_another_replica_whole() {
    for_seeds(4, |seed| {
        let (lots, ours, theirs) = (Lots::new(seed), SimDisk::new(), SimDisk::new());
        let (from, to) = (Life::on(&ours, seed), Life::on(&theirs, seed));
        let (source, _) = open(&from, &small()).unwrap();
        let (target, _) = open(&to, &small()).unwrap();
        let (mut model, mut old) = (MemoryTables::default(), MemoryTables::default());
        (1..60).for_each(|index| apply(&source, &mut model, index, &lots));
        (1..9).for_each(|index| apply(&target, &mut old, index, &lots));
        from.run(source.flush()).unwrap();
        to.run(target.flush()).unwrap();
        let dump = source.dump();
        // What comes after it does not show in it.
        let mut later = model.clone();
        (60..70).for_each(|index| apply(&source, &mut later, index, &lots));
        from.run(source.flush()).unwrap();

        let abandoned = target.install().unwrap();
        let mut install = target.install().unwrap();
        assert!(abandoned.finish(Checkpoint::default()).is_err(), "another has begun");
        let images = Arc::new(Mutex::new(Vec::new()));
        let (watched, seen, cuts) = (theirs.clone(), images.clone(), Lots::new(seed));
        theirs.watch(move |_, _| seen.lock().push(watched.after_power_cut(&cuts)));
        let mut after: Option<Bytes> = None;
        loop {
            let page = dump.page(after.as_deref(), 300).unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            install.page(&page).unwrap();
        }
        assert_eq!(rows(&target), rows(&old), "nothing has changed yet");
        install.finish(dump.checkpoint().clone()).unwrap();
        theirs.unwatch();
        assert_eq!(target.durable_checkpoint(), Some(id(1, 59)));
        assert_eq!(rows(&target), rows(&model));
        apply(&target, &mut model.clone(), 60, &lots);
        to.run(target.close()).unwrap();

        for image in images.lock().drain(..) {
            let (store, checkpoint) = open(&Life::on(&image, seed), &small()).unwrap();
            let expected = if checkpoint.applied == Some(id(1, 59)) { &model } else { &old };
            assert_eq!(rows(&store), rows(expected));
            image.power_off();
        }
    });
}

#[test]
fn rot_in_the_tables_is_found() {
    for_seeds(2, |seed| {
        let (lots, disk) = (Lots::new(seed), SimDisk::new());
        let life = Life::on(&disk, seed);
        let (store, _) = open(&life, &small()).unwrap();
        let mut model = MemoryTables::default();
        (1..80).for_each(|index| apply(&store, &mut model, index, &lots));
        life.run(store.close()).unwrap();
        let path = folder().join("state.redb");
        let length = disk.files().iter().find(|(file, _)| *file == path).map(|(_, length)| *length).unwrap();
        let (mut found, mut unharmed) = (0, 0);
        for _ in 0..150 {
            let rotten = disk.after_process_end();
            rotten.flip_bit(&path, lots.below(length.min(40_000)), lots.below(8) as u8);
            let opened = open(&Life::on(&rotten, seed), &small());
            match opened.and_then(|(store, checkpoint)| Ok((store.scan(b"", None, usize::MAX)?, checkpoint)))
            {
                Ok((read, checkpoint)) => {
                    assert!(
                        read == rows(&model) && checkpoint.applied == Some(id(1, 79)),
                        "passed over in silence"
                    );
                    unharmed += 1;
                }
                Err(Fault::Damaged { .. } | Fault::Newer { .. }) => found += 1,
                Err(fault) => panic!("{fault}"),
            }
            rotten.power_off();
        }
        assert!(found > 10, "{found} found, {unharmed} unharmed");
    });
}

#[test]
fn a_failed_checkpoint_ends_the_store() {
    let disk = SimDisk::new();
    let life = Life::on(&disk, 1);
    let (store, _) = open(&life, &small()).unwrap();
    disk.fail(Operation::Sync, "state", 1);
    apply(&store, &mut MemoryTables::default(), 1, &Lots::new(1));
    let failed = life.run(store.flush());
    assert!(matches!(failed, Err(Fault::Disk { .. })), "{failed:?}");
    assert_eq!(life.faults().len(), 1);
    assert_eq!(life.run(store.close()), failed.map(drop));
    life.run(store.wait_for_room());
}
