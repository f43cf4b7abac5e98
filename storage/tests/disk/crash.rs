//! The power is cut at every point of a busy life, and leaves one of many possible disks each time.
//!
//! Whatever it leaves: all that was acknowledged is there, nothing is there that was not asked for, no loss is reported
//! (nothing that was acknowledged is missing), and a second start, also one after a power cut during the first, finds
//! the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_core::ids::Term;
use tidemill_sim::disk::{Operation, SimDisk};
use tidemill_storage::log::{GroupLog, LogEntry, LogId, LogOptions, Planted, Vote};

use super::history::small_segments;
use super::model::{Model, check_records};
use super::world::{Life, Lots, all_entries, append, for_seeds};

/// What must be on a disk, and what may be.
#[derive(Debug, Clone, Default)]
struct Promised {
    /// Entries that must be there, from the log's first on.
    durable: Vec<LogEntry>,
    /// What was asked for since everything was last durable: the log may be a prefix of any of these.
    asked: Vec<Vec<LogEntry>>,
    votes: Vec<Option<Vote>>,
    purges: Vec<Option<LogId>>,
}

impl Promised {
    /// Everything that was asked for is durable.
    fn all(&mut self, model: &Model) {
        self.durable = model.entries.clone();
        self.asked = vec![model.entries.clone()];
        self.votes.drain(..self.votes.len().saturating_sub(1));
        self.purges.drain(..self.purges.len().saturating_sub(1));
    }

    fn check(&self, log: &GroupLog) -> Vec<LogEntry> {
        let found = all_entries(log).unwrap();
        let ids = |entries: &[LogEntry]| entries.iter().map(|entry| entry.id).collect::<Vec<_>>();
        assert!(found.starts_with(&self.durable), "lost: {:?}\nof {:?}", ids(&found), ids(&self.durable));
        let is_asked = self.asked.iter().any(|asked| asked.starts_with(&found));
        assert!(is_asked, "never asked for: {:?}", ids(&found));
        assert!(self.votes.contains(&log.vote()), "{:?} is none of {:?}", log.vote(), self.votes);
        assert!(self.purges.contains(&log.purged()), "{:?} is none of {:?}", log.purged(), self.purges);
        found
    }
}

/// A disk that a power cut left, and what it must hold.
struct Image {
    disk: SimDisk,
    promised: Promised,
    moment: String,
}

/// A life on `disk` with much of everything, in which the power is cut in mind at every `stride`-th operation.
fn busy_life(disk: &SimDisk, seed: u64, options: &LogOptions, images_per_cut: usize) -> Vec<Image> {
    let images = Arc::new(Mutex::new(Vec::new()));
    let promised = Arc::new(Mutex::new(Promised::default()));
    let life = Life::on(disk, seed);
    let (log, _) = life.open(options).unwrap();
    let mut model = Model { term: 1, ..Model::default() };
    let lots = Lots::new(seed);
    promised.lock().votes.push(None);
    promised.lock().purges.push(None);
    promised.lock().all(&model);

    let (watched, cuts) = (disk.clone(), Lots::new(seed ^ 0xc07));
    let (images_seen, promised_seen) = (images.clone(), promised.clone());
    let is_cutting = Arc::new(Mutex::new(()));
    disk.watch(move |operation, path| {
        // Not while an image is being drawn.
        let Some(_guard) = is_cutting.try_lock() else { return };
        if operation == Operation::Write && cuts.below(4) != 0 {
            return;
        }
        for _ in 0..images_per_cut {
            let moment = format!("before {operation:?} of {}", path.display());
            let image = Image {
                disk: watched.after_power_cut(&cuts),
                promised: promised_seen.lock().clone(),
                moment,
            };
            images_seen.lock().push(image);
        }
    });

    let mut committed = 0;
    for _ in 0..45 {
        match lots.below(14) {
            0 | 1 => {
                model.term += 1;
                let vote = Vote { term: Term(model.term), node: None, committed: lots.below(2) == 0 };
                promised.lock().votes.push(Some(vote));
                life.run(log.save_vote(vote)).unwrap();
                promised.lock().all(&model);
            }
            2 | 3 if committed < model.next() => {
                life.run(append(&log, Vec::new())).unwrap();
                let next = committed + lots.below(model.next() - committed);
                model.truncate(next);
                model.term += 1;
                {
                    let mut promised = promised.lock();
                    promised.durable.truncate(next as usize);
                    promised.asked.push(model.entries.clone());
                }
                life.run(log.truncate_after(model.last())).unwrap();
                promised.lock().all(&model);
            }
            4 if committed > 0 => {
                let upto = model.id_at(lots.below(committed));
                if upto > log.purged() {
                    promised.lock().purges.push(upto);
                    life.run(log.purge(upto.unwrap())).unwrap();
                    promised.lock().all(&model);
                }
            }
            5 => life.clock.advance(Duration::from_secs(lots.below(3000))),
            6 | 7 => {
                committed += lots.below(model.next() + 1 - committed);
                if let Some(last) = committed.checked_sub(1).and_then(|last| model.id_at(last)) {
                    log.set_committed(last);
                }
                life.settle();
            }
            _ => {
                let entries =
                    model.grow(&lots, 1 + lots.below(6), [50, 3_000, 20_000][lots.below(3) as usize]);
                promised.lock().asked.push(model.entries.clone());
                // What counts is when `done` is called, not when somebody gets to hear of it.
                let (acknowledged, known) = (model.entries.clone(), promised.clone());
                let done = move |result: Result<(), _>| {
                    result.unwrap();
                    known.lock().durable = acknowledged;
                };
                log.append(entries, Box::new(done));
                if lots.below(3) > 0 {
                    life.run(append(&log, Vec::new())).unwrap();
                    promised.lock().all(&model);
                }
            }
        }
    }
    disk.unwatch();
    assert_eq!(life.faults(), []);
    std::mem::take(&mut *images.lock())
}

/// Opens what a power cut left, checks it, and opens it again, after another cut in the middle of that. Returns whether
/// it had left a torn turn.
fn survive(image: &Image, seed: u64, options: &LogOptions) -> bool {
    let lots = Lots::new(seed);
    // What the first start does is cut off at some operation, too, its repairs among them.
    let during = Arc::new(Mutex::new(None));
    let (watched, kept, countdown) = (image.disk.clone(), during.clone(), Mutex::new(lots.below(80)));
    let cuts = Lots::new(seed);
    image.disk.watch(move |_, _| {
        let mut left = countdown.lock();
        if *left == 0 {
            *kept.lock() = Some(watched.after_power_cut(&cuts));
        }
        *left = left.wrapping_sub(1);
    });
    let life = Life::on(&image.disk, seed);
    let (log, recovery) = life.open(options).unwrap();
    image.disk.unwatch();
    assert_eq!(recovery.amnesia, None, "nothing acknowledged is missing, so nothing may be reported");
    let found = image.promised.check(&log);
    check_readers(&log, &found);
    life.settle();
    image.disk.power_off();

    let second = during.lock().take().unwrap_or_else(|| image.disk.after_power_cut(&lots));
    let life = Life::on(&second, seed);
    let (log, after_second) = life.open(options).unwrap();
    assert_eq!(after_second.amnesia, None);
    let again = image.promised.check(&log);
    assert_eq!(again.len(), found.len(), "the second start finds what the first one found");
    // And life goes on.
    let next = again.last().map_or(0, |last| last.id.index.0 + 1);
    life.run(append(&log, vec![super::world::plain(99, next, 10)])).unwrap();
    life.run(log.close()).unwrap();
    assert_eq!(life.faults(), []);
    second.power_off();
    recovery.torn
}

fn check_readers(log: &GroupLog, found: &[LogEntry]) {
    let first = found.first().map_or(0, |entry| entry.id.index.0);
    let model =
        Model { first, entries: found.to_vec(), term: 0, ends_before: BTreeMap::new(), timestamp_ms: 0 };
    check_records(log, &model, model.next());
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_is_cut() {
    for_seeds(2, |seed| {
        let images = busy_life(&SimDisk::new(), seed, &small_segments(), 2);
        assert!(images.len() > 200, "{} images are not many", images.len());
        let mut torn = 0;
        for (number, image) in images.iter().enumerate() {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                survive(image, seed + number as u64, &small_segments())
            }));
            match result {
                Ok(was_torn) => torn += u32::from(was_torn),
                Err(panic) => {
                    eprintln!("image {number}, {}", image.moment);
                    std::panic::resume_unwind(panic);
                }
            }
        }
        assert!(torn > 3, "{torn} torn turns are not many, of {} images", images.len());
    });
}

#[test]
fn an_early_acknowledgement_is_found() {
    let planted = LogOptions { planted: Some(Planted::EarlyAck), ..small_segments() };
    let images = busy_life(&SimDisk::new(), 1, &planted, 2);
    let survives = |image: &Image| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| survive(image, 1, &small_segments())))
            .is_ok()
    };
    let lost = images.iter().filter(|image| !survives(image)).count();
    assert!(lost > 10, "of {} power cuts, {lost} showed what was acknowledged too early", images.len());
}

#[test]
fn a_life_is_the_same_each_time_it_is_lived() {
    let lived = |seed| {
        let disk = SimDisk::new();
        let images = busy_life(&disk, seed, &small_segments(), 1);
        let moments: Vec<String> = images.into_iter().map(|image| image.moment).collect();
        (moments, disk.counts(), disk.digest())
    };
    assert_eq!(lived(5), lived(5));
    assert_ne!(lived(5), lived(6));
}
