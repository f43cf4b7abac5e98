//! The crash lab: every disk that a power cut could leave of a life, one after the other.
//!
//! A [`Story`] lives on a disk and says meanwhile what it promised. The lab keeps the disk as it was before every
//! operation, enumerates what a power cut there could leave ([`crate::disk::Moment::choices`]), and has the story recover from each
//! image, twice: all that was promised is there, nothing is called lost, and the second recovery finds what the first
//! one found. Some recoveries are watched in their turn and cut off at every point, too. And on some images a bit is
//! flipped in what was synced: there, and only there, a loss may be reported, and none may pass in silence.
//!
//! ```text
//!   a life     op  op  sync  op  op  op  sync …
//!   moments   ▲   ▲   ▲     ▲   ▲   ▲   ▲
//!             └─ choices: none, all, prefixes, single changes, torn ones, … ─▶ image ─▶ recover ─▶ recover again
//!                                                                         └─▶ moments of the recovery ─▶ …
//! ```
//!
//! Whatever fails is told with the name of its image, `story/seed/moment/number`; `TIDEMILL_IMAGE` runs that one
//! again, alone. Images that two moments share are run once for each thing that was promised meanwhile.

mod image;
mod record;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::chance::SimChance;
use crate::disk::{Kind, SimDisk};

pub use record::Recorder;
pub use report::Report;

use image::{Name, Number};
use record::Point;

/// A life, and what must be left of it.
pub trait Story: Sync {
    /// What was acknowledged, and what was asked for.
    type Promise: Clone + Default + Send + Sync + 'static;
    /// What a recovery found: two of the same disk find the same.
    type Found: PartialEq + std::fmt::Debug;

    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Lives on an empty disk, and tells the recorder what it promises.
    fn live(&self, disk: &SimDisk, seed: u64, recorder: &Recorder<Self::Promise>);

    /// Recovers and reads everything.
    ///
    /// # Errors
    /// [`Named`] when it says that something is lost or damaged.
    ///
    /// # Panics
    /// When less is there than was promised and nothing says so, or more than was asked for.
    fn recover(&self, disk: &SimDisk, promise: &Self::Promise) -> Result<Self::Found, Named>;

    /// Goes on living on a disk from which it recovered.
    ///
    /// # Panics
    /// When it cannot.
    fn go_on(&self, disk: &SimDisk);
}

/// A loss or a damage that a recovery named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named(pub String);

/// What went wrong, and with which image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `story/seed/moment/number`.
    pub image: String,
    /// What happened.
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Failure { image, what } = self;
        write!(f, "{what}\nto run this image again: TIDEMILL_IMAGE={image} cargo xtask crash-lab")
    }
}

/// How much is run.
#[derive(Debug, Clone)]
pub struct Lab {
    /// Images of each story, at least.
    pub images: u64,
    /// The first life's seed.
    pub seed: u64,
    /// Threads that recover.
    pub threads: usize,
    /// Images of one life, about: then another life is lived.
    pub images_per_life: usize,
    /// For so many other images, one has a bit flipped.
    pub flips_every: usize,
    /// The image to run, alone.
    pub only: Option<String>,
}

impl Lab {
    /// Runs a story's images.
    ///
    /// # Errors
    /// The first [`Failure`].
    pub fn run<S: Story>(&self, story: &S) -> Result<Report, Failure> {
        if let Some(only) = &self.only {
            return self.run_one(story, only);
        }
        let mut report = Report::new(story.name());
        for seed in self.seed.. {
            if report.images() >= self.images {
                break;
            }
            let points = record::live(story, seed);
            let chosen = self.choose(&points, seed);
            report.merge(&self.run_life(story, seed, &points, &chosen)?);
        }
        Ok(report)
    }

    fn run_one<S: Story>(&self, story: &S, only: &str) -> Result<Report, Failure> {
        let mut report = Report::new(story.name());
        let Some(name) = Name::parse(only).filter(|name| name.story == story.name()) else {
            return Ok(report);
        };
        let points = record::live(story, name.seed);
        if let Some(point) = points.get(name.moment) {
            let choices = point.moment.choices(&chance(name.seed, name.moment));
            image::run(story, &name, point, &choices, true, &mut report)?;
        }
        Ok(report)
    }

    /// The images of a life that are run, by moment.
    fn choose<P>(&self, points: &[Point<P>], seed: u64) -> BTreeMap<usize, Vec<Number>> {
        let (mut seen, mut all) = (BTreeSet::new(), Vec::new());
        for (moment, point) in points.iter().enumerate() {
            for (number, choice) in point.moment.choices(&chance(seed, moment)).iter().enumerate() {
                if seen.insert((point.moment.identity(choice), point.epoch)) {
                    all.push((moment, Number::Choice(number), is_rare(choice.kind)));
                    if all.len().is_multiple_of(self.flips_every) {
                        all.push((moment, Number::Flip(all.len()), false));
                    }
                }
            }
        }
        // When there are too many, they are taken from all over the life.
        let (kept, lots) = (self.images_per_life, SimChance::new(seed));
        let share = |at: usize| at * kept / all.len().max(1);
        let mut chosen: BTreeMap<usize, Vec<Number>> = BTreeMap::new();
        let offset = lots.between(0, all.len() as u64) as usize;
        for (at, (moment, number, is_rare)) in all.iter().enumerate() {
            let turned = (at + offset) % all.len();
            if *is_rare || all.len() <= kept || share(turned) != share(turned + 1) {
                chosen.entry(*moment).or_default().push(*number);
            }
        }
        chosen
    }

    fn run_life<S: Story>(
        &self,
        story: &S,
        seed: u64,
        points: &[Point<S::Promise>],
        chosen: &BTreeMap<usize, Vec<Number>>,
    ) -> Result<Report, Failure> {
        let work: Vec<(&usize, &Vec<Number>)> = chosen.iter().collect();
        let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let total = Mutex::new(Report::new(story.name()));
        let failure = Mutex::new(None);
        let worker = || {
            let mut report = Report::new(story.name());
            while let Some((moment, numbers)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                let point = &points[**moment];
                let choices = point.moment.choices(&chance(seed, **moment));
                for number in *numbers {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let name =
                        Name { story: story.name().to_owned(), seed, moment: **moment, number: *number };
                    if let Err(failed) = image::run(story, &name, point, &choices, false, &mut report) {
                        is_over.store(true, Ordering::Relaxed);
                        failure.lock().get_or_insert(failed);
                        return;
                    }
                }
            }
            total.lock().merge(&report);
        };
        std::thread::scope(|scope| {
            (1..self.threads).for_each(|_| drop(scope.spawn(worker)));
            worker();
        });
        let mut total = total.into_inner();
        total.lives += 1;
        failure.into_inner().map_or(Ok(total), Err)
    }
}

/// Kinds of which a life has few images: all of them are run.
fn is_rare(kind: Kind) -> bool {
    matches!(kind, Kind::Nothing | Kind::Everything | Kind::Names | Kind::TornAtPage | Kind::HalfPunched)
}

/// What is drawn at a moment of a life: the same whenever it is looked at again.
fn chance(seed: u64, moment: usize) -> SimChance {
    SimChance::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ moment as u64)
}
