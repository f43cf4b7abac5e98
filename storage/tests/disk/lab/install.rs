//! A snapshot arrives: its records gather beside the log, restarts in between, and take the log's place at once.

use tidemill_sim::disk::SimDisk;
use tidemill_sim::lab::{Named, Recorder, Story};
use tidemill_storage::log::{LogEntry, LogId};

use super::log::{named, options, read_records};
use crate::install::{another, ranges};
use crate::model::Model;
use crate::world::{Life, Lots, all_entries, append, plain};

/// How far the install is, as asked for and as acknowledged.
#[derive(Debug, Clone, Default)]
pub struct InstallPromise {
    /// The log before; the first so many are durable.
    ours: Vec<LogEntry>,
    acknowledged: usize,
    /// The log afterwards.
    theirs: Vec<LogEntry>,
    /// Entries of theirs that are gathered.
    gathering: usize,
    gathered: usize,
    /// They take the log's place.
    replacing: bool,
    replaced: bool,
}

/// The story.
pub struct InstallStory;

impl Story for InstallStory {
    type Promise = InstallPromise;
    type Found = (Vec<LogId>, Option<LogId>, Option<LogId>);

    fn name(&self) -> &'static str {
        "install"
    }

    fn live(&self, disk: &SimDisk, seed: u64, recorder: &Recorder<InstallPromise>) {
        let (lots, mut ours) = (Lots::new(seed), Model { term: 1, ..Model::default() });
        let theirs = another(&lots, 40);
        let entries = ours.grow(&lots, 8, 1_000);
        recorder
            .promise(|promise| (promise.ours, promise.theirs) = (entries.clone(), theirs.entries.clone()));
        let mut life = Life::on(disk, seed);
        let (mut log, _) = life.open(&options()).unwrap();
        life.run(append(&log, entries)).unwrap();
        recorder.promise(|promise| promise.acknowledged = promise.ours.len());
        for range in ranges(&theirs, &lots) {
            let length = range.len();
            recorder.promise(|promise| promise.gathering += length);
            life.run(log.install_range(range)).unwrap();
            recorder.promise(|promise| promise.gathered = promise.gathering);
            match lots.below(6) {
                0 => {
                    life.run(log.close()).unwrap();
                    life = Life::on(disk, seed);
                    log = life.open(&options()).unwrap().0;
                }
                1 => life.settle(),
                _ => {}
            }
        }
        recorder.promise(|promise| promise.replacing = true);
        life.run(log.reset_to(theirs.last().unwrap())).unwrap();
        recorder.promise(|promise| promise.replaced = true);
        life.settle();
        life.run(log.close()).unwrap();
        assert_eq!(life.faults(), []);
    }

    fn recover(&self, disk: &SimDisk, promise: &InstallPromise) -> Result<Self::Found, Named> {
        let life = Life::on(disk, 1);
        let (log, recovery) = life.open(&options()).map_err(named)?;
        if let Some(loss) = recovery.amnesia {
            return Err(Named(format!("{loss:?}")));
        }
        let found = all_entries(&log).map_err(named)?;
        read_records(&log, &found)?;
        let gathered = log.installing().map(|(_, last)| last);
        if log.purged().is_some() {
            assert!(promise.replacing, "nobody asked for that");
            assert!(found == promise.theirs, "the new log is not theirs");
            assert_eq!((log.purged(), gathered), (promise.theirs.last().map(|last| last.id), None));
        } else {
            assert!(!promise.replaced, "the old log is back");
            assert!(
                promise.ours.starts_with(&found) && found.len() >= promise.acknowledged,
                "the old log changed"
            );
            let is_next = |entry: &&LogEntry| Some(entry.id) <= gathered;
            let there = promise.theirs.iter().take_while(is_next).count();
            assert!(there <= promise.gathering, "more was gathered than came");
            if there < promise.gathered {
                return Err(Named(format!("of {} gathered entries {there} are left", promise.gathered)));
            }
        }
        assert_eq!(life.faults(), []);
        Ok((found.iter().map(|entry| entry.id).collect(), log.purged(), gathered))
    }

    fn go_on(&self, disk: &SimDisk) {
        let life = Life::on(disk, 1);
        let (log, _) = life.open(&options()).unwrap();
        let next = log.last_id().map_or(0, |last| last.index.0 + 1);
        life.run(append(&log, vec![plain(99, next, 10)])).unwrap();
        life.run(log.close()).unwrap();
        assert_eq!(life.faults(), []);
    }
}
