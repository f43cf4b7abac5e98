//! The life of a shard with a task: core's own entries in a log, applied to tables that are checkpointed behind it.
//!
//! Entries are made and applied by core's rules; its tests' mill decides. What was acknowledged is in the log; the tables
//! stand where some checkpoint stood, not before the last durable one and never ahead of the log; and what the log holds
//! beyond them makes them whole: the step's number, the task's state, every partition's end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_core::entry::EntryKind;
use tidemill_core::ids::StepNumber;
use tidemill_core::plugin::Effects;
use tidemill_core::rows::TaskRow;
use tidemill_core::shard;
use tidemill_core::tables::{self, Key, MemoryTables, View};
use tidemill_sim::disk::SimDisk;
use tidemill_sim::lab::{Named, Recorder, Story};
use tidemill_storage::log::{EncodedEntry, GroupLog, LogEntry, LogId, Payload};
use tidemill_storage::state::{StateOptions, StateStore};

use super::log::{named, options};
use super::mill::{self, Mill};
use crate::world::{Life, Lots, all_entries, append, folder, id};

/// What was asked for, and how much of it is durable.
#[derive(Debug, Clone, Default)]
pub struct ShardPromise {
    entries: Vec<LogEntry>,
    /// The tables before and after each entry.
    tables: Vec<Arc<MemoryTables>>,
    acknowledged: usize,
    /// Entries that a durable checkpoint covers.
    checkpointed: usize,
}

/// The story.
pub struct ShardStory;

fn state_options() -> StateOptions {
    StateOptions { log_bytes: 2_000, age: Duration::from_secs(5) }
}

fn entries_upto(id: Option<LogId>) -> usize {
    id.map_or(0, |id| id.index.0 as usize + 1)
}

fn steps(entries: &[LogEntry]) -> u64 {
    let is_step =
        |entry: &&LogEntry| matches!(&entry.payload, Payload::Entry(inner) if inner.kind == EntryKind::Step);
    entries.iter().filter(is_step).count() as u64
}

fn apply(store: &StateStore, entry: &LogEntry) {
    let Payload::Entry(inner) = &entry.payload else { return };
    store.write(|tables| shard::apply(tables, entry.id.index, inner, &mut Vec::new()).unwrap());
}

impl Story for ShardStory {
    type Promise = ShardPromise;
    type Found = (Vec<LogId>, Option<LogId>, u64);

    fn name(&self) -> &'static str {
        "shard"
    }

    fn live(&self, disk: &SimDisk, seed: u64, recorder: &Recorder<ShardPromise>) {
        let (lots, mut mill) =
            (Lots::new(seed), Mill::holding(&[mill::ORDERS, mill::at(2, 0), mill::at(3, 0)]));
        recorder.promise(|promise| promise.tables.push(Arc::default()));
        let (mut consumed, mut sequence, mut logged) = (0, 0, 0);
        mill::start(&mut mill, 1);
        for _ in 0..3 {
            let life = Life::on(disk, seed);
            let (log, _) = life.open(&options()).unwrap();
            let (store, checkpoint) =
                StateStore::open(&life.world, folder(), state_options(), life.on_fault()).unwrap();
            store.follow(&log);
            let held = recorder.promise(|promise| promise.entries.clone());
            held.iter().skip(entries_upto(checkpoint.applied)).for_each(|entry| apply(&store, entry));
            for _ in 0..12 {
                match lots.below(4) {
                    0 | 1 => {
                        mill.produce(mill::batch(9, 0, sequence, 1));
                        sequence += 1;
                    }
                    2 if consumed < sequence as u64 => {
                        let sources = [mill::source(consumed)];
                        let effects = Effects {
                            emitted: vec![mill::emitted(0, mill::key_for(lots.below(2) as u32))],
                            state: vec![mill::set("balance", ["12", "13"][lots.below(2) as usize])],
                            timers: vec![],
                        };
                        mill.step(&mill::proposed(&sources, consumed, effects)).unwrap();
                        consumed += 1;
                    }
                    2 => {}
                    _ => life.clock.advance(Duration::from_secs(lots.below(2_000))),
                }
                mill.commit();
                write_down(&life, (&log, &store), recorder, &mill, &mut logged, &lots);
            }
            if lots.below(2) == 0 {
                life.run(store.close()).unwrap();
                life.run(log.close()).unwrap();
            }
            assert_eq!(life.faults(), []);
        }
    }

    fn recover(&self, disk: &SimDisk, promise: &ShardPromise) -> Result<Self::Found, Named> {
        let life = Life::on(disk, 1);
        let (log, recovery) = life.open(&options()).map_err(named)?;
        if let Some(loss) = recovery.amnesia {
            return Err(Named(format!("{loss:?}")));
        }
        let found = all_entries(&log).map_err(named)?;
        assert!(found.len() >= promise.acknowledged, "{} of {} are there", found.len(), promise.acknowledged);
        assert!(promise.entries.starts_with(&found), "what is there was never asked for");
        let (store, checkpoint) =
            StateStore::open(&life.world, folder(), state_options(), life.on_fault()).map_err(named)?;
        let covered = entries_upto(checkpoint.applied);
        assert!(covered >= promise.checkpointed, "{covered} of {} checkpointed", promise.checkpointed);
        assert!(covered <= found.len(), "the tables are ahead of the log");
        assert!(entries_upto(log.purged()) <= covered, "the log forgot what the tables do not know");
        is(&store, &promise.tables[covered])?;
        found[covered..].iter().for_each(|entry| apply(&store, entry));
        is(&store, &promise.tables[found.len()])?;
        let task = tables::read::<TaskRow>(&store, &Key::Task(mill::TASK)).map_err(named)?;
        let step = task.map_or(StepNumber(0), |task| task.step);
        assert_eq!(step.0, steps(&found), "every step happened once");
        assert_eq!(life.faults(), []);
        Ok((found.iter().map(|entry| entry.id).collect(), checkpoint.applied, step.0))
    }

    fn go_on(&self, disk: &SimDisk) {
        let life = Life::on(disk, 1);
        let (log, _) = life.open(&options()).unwrap();
        let (store, checkpoint) =
            StateStore::open(&life.world, folder(), state_options(), life.on_fault()).unwrap();
        store.follow(&log);
        let found = all_entries(&log).unwrap();
        found[entries_upto(checkpoint.applied)..].iter().for_each(|entry| apply(&store, entry));
        if let Some(last) = log.last_id() {
            store.checkpoint(last, &Bytes::new(), 0);
            assert_eq!(life.run(store.flush()).unwrap(), Some(last));
        }
        life.run(store.close()).unwrap();
        life.run(log.close()).unwrap();
        assert_eq!(life.faults(), []);
    }
}

/// Appends what the mill decided, and applies it once it is durable.
fn write_down(
    life: &Life,
    (log, store): (&GroupLog, &StateStore),
    recorder: &Recorder<ShardPromise>,
    mill: &Mill,
    logged: &mut usize,
    lots: &Lots,
) {
    for entry in &mill.log[*logged..] {
        let entry =
            LogEntry { id: id(1, *logged as u64), payload: Payload::Entry(EncodedEntry::new(entry.clone())) };
        *logged += 1;
        recorder.promise(|promise| {
            let mut tables = MemoryTables::clone(promise.tables.last().expect("those before any entry"));
            let Payload::Entry(inner) = &entry.payload else { return };
            shard::apply(&mut tables, entry.id.index, inner, &mut Vec::new()).unwrap();
            promise.tables.push(Arc::new(tables));
            promise.entries.push(entry.clone());
        });
        let (known, upto) = (recorder.clone(), *logged);
        let done = move |result: Result<(), _>| {
            result.unwrap();
            known.promise(|promise| promise.acknowledged = upto);
        };
        log.append(vec![entry.clone()], Box::new(done));
        life.run(append(log, Vec::new())).unwrap();
        log.set_committed(entry.id);
        apply(store, &entry);
        store.checkpoint(entry.id, &Bytes::new(), lots.below(900));
    }
    if lots.below(2) == 0 {
        life.settle();
    }
    let durable = store.durable_checkpoint();
    recorder.promise(|promise| promise.checkpointed = entries_upto(durable));
    if let (Some(durable), 0) = (durable, lots.below(4)) {
        life.run(log.purge(durable)).unwrap();
    }
}

/// Whether the tables are these.
fn is(store: &StateStore, wanted: &MemoryTables) -> Result<(), Named> {
    let rows = store.scan(b"", None, usize::MAX).map_err(named)?;
    assert!(
        rows.iter().map(|(key, value)| (key, value)).eq(wanted.rows()),
        "the tables are not what was applied"
    );
    Ok(())
}
