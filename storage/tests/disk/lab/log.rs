//! The life of a log: appends, votes, truncations, purges, segments that grow, roll, are sealed, unlinked, written anew
//! and given back in parts, restarts.

use std::collections::BTreeSet;
use std::time::Duration;

use tidemill_core::fault::Fault;
use tidemill_core::ids::{LogIndex, Term};
use tidemill_protocol::ids::{Offset, TopicPartition};
use tidemill_sim::disk::{Pretence, SimDisk};
use tidemill_sim::lab::{Named, Recorder, Story};
use tidemill_storage::log::{GroupLog, LogEntry, LogId, LogOptions, ReadError, Vote};

use crate::descent::wrong_descent;
use crate::model::{Model, partitions};
use crate::promised::Promised;
use crate::reclaim::Given;
use crate::world::{Life, Lots, append, plain};

/// Small segments, so that a life has many.
pub fn options() -> LogOptions {
    LogOptions { segment_bytes: 12_000, tail_bytes: 4_000, punch_bytes: 4_096, ..LogOptions::default() }
}

/// The story; `planted` is how its disk lies, and about which files.
#[derive(Default)]
pub struct LogStory {
    pub planted: Option<(Pretence, &'static str, &'static str)>,
}

/// What a start finds: entries, vote, purge mark.
pub type LogFound = (Vec<LogId>, Option<Vote>, Option<LogId>);

impl Story for LogStory {
    type Promise = Promised;
    type Found = LogFound;

    fn name(&self) -> &'static str {
        "log"
    }

    fn live(&self, disk: &SimDisk, seed: u64, recorder: &Recorder<Promised>) {
        if let Some((pretence, begins, ends)) = self.planted {
            disk.pretend(pretence, begins, ends);
        }
        recorder.promise(|promised| *promised = Promised::nothing());
        let (lots, mut model) = (Lots::new(seed), Model { term: 1, ..Model::default() });
        let (mut committed, mut given) = (0, Given::default());
        for _ in 0..3 {
            let life = Life::on(disk, seed);
            let (log, recovery) = life.open(&options()).unwrap();
            assert_eq!(recovery.amnesia, None);
            for _ in 0..20 {
                act(&life, &log, recorder, &lots, (&mut model, &mut committed, &mut given));
            }
            life.run(append(&log, Vec::new())).unwrap();
            recorder.promise(|promised| promised.all(&model));
            if lots.below(2) == 0 {
                life.run(log.close()).unwrap();
            }
            assert_eq!(life.faults(), []);
        }
    }

    fn recover(&self, disk: &SimDisk, promised: &Promised) -> Result<LogFound, Named> {
        let life = Life::on(disk, 1);
        let (log, recovery) = life.open(&options()).map_err(named)?;
        if let Some(loss) = recovery.amnesia {
            return Err(Named(format!("{loss:?}")));
        }
        let first = log.first_index().map_or(0, |first| first.0);
        let found = log.entries(first..u64::MAX, usize::MAX).map_err(named)?;
        read_records(&log, &found)?;
        assert_eq!(promised.check(&log), found);
        assert_eq!(life.faults(), []);
        Ok((found.iter().map(|entry| entry.id).collect(), log.vote(), log.purged()))
    }

    fn go_on(&self, disk: &SimDisk) {
        let life = Life::on(disk, 1);
        let (log, _) = life.open(&options()).unwrap();
        let next = log.last_id().map_or(0, |last| last.index.0 + 1);
        life.run(append(&log, vec![plain(99, next, 10)])).unwrap();
        life.run(log.close()).unwrap();
        assert_eq!(life.faults(), []);
        let (log, recovery) = Life::on(disk, 1).open(&options()).unwrap();
        assert_eq!((recovery.amnesia, log.last_id().map(|id| id.index.0)), (None, Some(next)));
    }
}

/// Does something, and says what that promises.
fn act(
    life: &Life,
    log: &GroupLog,
    recorder: &Recorder<Promised>,
    lots: &Lots,
    (model, committed, given): (&mut Model, &mut u64, &mut Given),
) {
    match lots.below(17) {
        0 | 1 => {
            model.term += 1;
            let vote = Vote { term: Term(model.term), node: None, committed: lots.below(2) == 0 };
            recorder.promise(|promised| promised.votes.push(Some(vote)));
            life.run(log.save_vote(vote)).unwrap();
            recorder.promise(|promised| promised.all(model));
        }
        2 | 3 if *committed < model.next() => {
            life.run(append(log, Vec::new())).unwrap();
            let next = *committed + lots.below(model.next() - *committed);
            model.truncate(next);
            model.term += 1;
            recorder.promise(|promised| {
                promised.durable.truncate(next as usize);
                promised.asked.push(model.entries.clone());
            });
            life.run(log.truncate_after(model.last())).unwrap();
            recorder.promise(|promised| promised.all(model));
        }
        4 if *committed > 0 => {
            let upto = model.id_at(lots.below(*committed));
            if let Some(upto) = upto.filter(|upto| Some(*upto) > log.purged()) {
                recorder.promise(|promised| promised.purges.push(Some(upto)));
                life.run(log.purge(upto)).unwrap();
                recorder.promise(|promised| promised.all(model));
            }
        }
        5 => life.clock.advance(Duration::from_secs(lots.below(3000))),
        6 | 7 => {
            *committed += lots.below(model.next() + 1 - *committed);
            if let Some(last) = committed.checked_sub(1).and_then(|last| model.id_at(last)) {
                log.set_committed(last);
            }
            life.settle();
        }
        8 => {
            given.trim(lots, model);
            recorder.promise(|promised| promised.given = given.clone());
        }
        9 | 10 => {
            given.below = *committed;
            recorder.promise(|promised| promised.given = given.clone());
            life.run(log.roll(0)).unwrap();
            life.settle();
            life.run(log.reclaim(LogIndex(given.below), |at| Ok(given.log_start(at)))).unwrap();
        }
        _ => {
            // The largest lie apart, and are given back alone.
            let (count, bytes) = [(5, 20), (5, 300), (5, 3_000), (2, 15_000)][lots.below(4) as usize];
            let entries = model.grow(lots, 1 + lots.below(count), bytes);
            recorder.promise(|promised| promised.asked.push(model.entries.clone()));
            // What counts is when `done` is called, not when somebody gets to hear of it.
            let (acknowledged, known) = (model.entries.clone(), recorder.clone());
            let done = move |result: Result<(), _>| {
                result.unwrap();
                known.promise(|promised| promised.durable = acknowledged);
            };
            log.append(entries, Box::new(done));
            if lots.below(3) > 0 {
                life.run(append(log, Vec::new())).unwrap();
                recorder.promise(|promised| promised.all(model));
            }
        }
    }
}

/// Reads what readers of records see: every batch of every entry, and nothing else.
pub fn read_records(log: &GroupLog, entries: &[LogEntry]) -> Result<(), Named> {
    let first = entries.first().map_or(0, |entry| entry.id.index.0);
    let model = Model { first, entries: entries.to_vec(), ..Model::default() };
    let upto = LogIndex(model.next());
    // A flipped bit may hide a row of the index of descent; nobody but who reads everything can tell.
    if let Some(of) = wrong_descent(log, entries, upto).map_err(named)? {
        return Err(Named(format!("the index of descent is wrong about {of:?}")));
    }
    for at in partitions() {
        let read = log.batches(at, Offset(0), upto, usize::MAX).map_err(|error| match error {
            ReadError::Damaged(fault) | ReadError::Fault(fault) => named(fault),
        })?;
        let batches = model.batches(at);
        let expected: Vec<_> = batches.into_iter().map(|(index, placed, _)| (index, placed)).collect();
        assert!(read == expected, "the records of {at:?} are not those of the entries");
        let indexes: BTreeSet<LogIndex> = expected.iter().map(|(index, _)| *index).collect();
        read_as_a_task(log, at, upto, indexes)?;
    }
    Ok(())
}

/// Goes from batch to batch as a task does: where the index says that the next one lies. What it says is not written down
/// twice, so rot may change it; a task that finds no batch there, or not the next offset, names that.
fn read_as_a_task(
    log: &GroupLog,
    at: TopicPartition,
    upto: LogIndex,
    indexes: BTreeSet<LogIndex>,
) -> Result<(), Named> {
    let mut from = LogIndex(0);
    for index in indexes {
        let next = log.next_with(from, upto, &[at]).map_err(named)?;
        if next != Some(index) {
            return Err(Named(format!(
                "the next batch of {at:?} lies at {index:?}, and is said to at {next:?}"
            )));
        }
        from = LogIndex(index.0 + 1);
    }
    match log.next_with(from, upto, &[at]).map_err(named)? {
        None => Ok(()),
        more => Err(Named(format!("there is no batch of {at:?} at {more:?}"))),
    }
}

/// A fault as the lab wants it: damage is named, and all else is a bug.
pub fn named(fault: Fault) -> Named {
    match fault {
        Fault::Damaged { .. } | Fault::Newer { .. } => Named(fault.to_string()),
        other => panic!("{other}"),
    }
}
