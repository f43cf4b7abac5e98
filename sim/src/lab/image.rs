//! One image: made, recovered from, and recovered from again.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use tidemill_core::seams::Chance;

use super::record::{Point, Recorder};
use super::report::Outcome;
use super::{Failure, Named, Report, Story};
use crate::chance::SimChance;
use crate::disk::{Choice, Kind, SimDisk};

/// An image of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// One of the moment's choices.
    Choice(usize),
    /// All that was written, with a bit flipped.
    Flip(usize),
}

/// Which image of all it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) story: String,
    pub(super) seed: u64,
    pub(super) moment: usize,
    pub(super) number: Number,
}

impl Name {
    pub(super) fn parse(text: &str) -> Option<Name> {
        let mut parts = text.split('/');
        let (story, seed, moment) =
            (parts.next()?.to_owned(), parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let number = parts.next()?;
        let number = match number.strip_prefix("flip") {
            Some(flip) => Number::Flip(flip.parse().ok()?),
            None => Number::Choice(number.parse().ok()?),
        };
        Some(Name { story, seed, moment, number })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/", self.story, self.seed, self.moment)?;
        match self.number {
            Number::Choice(number) => write!(f, "{number}"),
            Number::Flip(number) => write!(f, "flip{number}"),
        }
    }
}

/// Of so many recoveries one is cut off in its turn.
const SECOND_CUTS_EVERY: u64 = 12;
/// Images of such a recovery.
const SECOND_CUTS: usize = 4;

/// Runs an image, and counts it.
pub(super) fn run<S: Story>(
    story: &S,
    name: &Name,
    point: &Point<S::Promise>,
    choices: &[Choice],
    is_alone: bool,
    report: &mut Report,
) -> Result<(), Failure> {
    // Not the moment's own numbers: those were drawn for its choices.
    let lots = SimChance::new(name.seed ^ ((name.moment as u64) << 32) ^ (name.number.drawn() << 8));
    let tell =
        |what: String| Failure { image: name.to_string(), what: format!("before {}: {what}", point.before) };
    let recover = |disk: &SimDisk| quietly(|| story.recover(disk, &point.promise));
    match name.number {
        Number::Choice(number) => {
            let Some(choice) = choices.get(number) else { return Ok(()) };
            let disk = point.moment.disk(choice);
            let is_cut_again = is_alone || lots.between(0, SECOND_CUTS_EVERY) == 0;
            let recorder = is_cut_again.then(|| Recorder::promising(&disk, point.promise.clone()));
            let found = intact(recover(&disk)).map_err(|what| tell(format!("{:?}: {what}", choice.kind)))?;
            let second = recorder.map(|recorder| recorder.end(&disk));
            let again = disk.after_process_end();
            disk.power_off();
            same(&found, intact(recover(&again)))
                .map_err(|what| tell(format!("{:?}, again: {what}", choice.kind)))?;
            report.count(Outcome::Cut(choice.kind));
            let Some(second) = second else { return Ok(()) };
            quietly(|| story.go_on(&again))
                .map_err(|what| tell(format!("{:?}, going on: {what}", choice.kind)))?;
            for _ in 0..SECOND_CUTS {
                let at = &second[lots.between(0, second.len() as u64) as usize];
                let choices = at.moment.choices(&lots);
                let choice = &choices[lots.between(0, choices.len() as u64) as usize];
                let disk = at.moment.disk(choice);
                let result = same(&found, intact(recover(&disk)));
                result.map_err(|what| {
                    tell(format!("{:?}, recovering, before {}: {what}", choice.kind, at.before))
                })?;
                disk.power_off();
                report.count(Outcome::CutAgain);
            }
            Ok(())
        }
        Number::Flip(_) => {
            // With all that was written: rot is one thing and a power cut another. After both, a mark that was never
            // synced may be gone that would have told of the loss.
            let Some(choice) = choices.iter().find(|choice| choice.kind == Kind::Everything) else {
                return Ok(());
            };
            let disk = point.moment.disk(choice);
            let Some(place) = disk.rot(&lots) else { return Ok(()) };
            let tell = |what: String| tell(format!("{place}: {what}"));
            let first = recover(&disk).map_err(tell)?;
            let again = disk.after_process_end();
            disk.power_off();
            let second = recover(&again).map_err(tell)?;
            again.power_off();
            match (first, second) {
                (Ok(first), Ok(second)) => {
                    same(&first, Ok(second)).map_err(tell)?;
                    report.count(Outcome::Unharmed);
                }
                (Err(_), Err(_)) => report.count(Outcome::Named),
                (Ok(_), Err(_)) => report.count(Outcome::Named),
                (Err(Named(why)), Ok(_)) => {
                    return Err(tell(format!("the first start said: {why}; the second is content")));
                }
            }
            Ok(())
        }
    }
}

impl Number {
    fn drawn(self) -> u64 {
        match self {
            Number::Choice(number) | Number::Flip(number) => number as u64,
        }
    }
}

impl SimDisk {
    /// Flips a bit in a page that holds something, and says where; `None` when there is none.
    fn rot(&self, lots: &SimChance) -> Option<String> {
        let files: Vec<_> = self.files().into_iter().filter(|(_, length)| *length > 0).collect();
        let (path, _) = files.get(lots.between(0, files.len() as u64) as usize)?;
        let pages = self.pages_written(path);
        let page = *pages.get(lots.between(0, pages.len() as u64) as usize)?;
        // Headers are small, and hold much.
        let within = if lots.happens(200) { lots.between(0, 400) } else { lots.between(0, 4096) };
        let (byte, bit) = (page * 4096 + within, (lots.number() % 8) as u8);
        self.flip_bit(path, byte, bit)
            .then(|| format!("bit {bit} of byte {byte} of {} flipped", path.display()))
    }
}

fn intact<F>(result: Result<Result<F, Named>, String>) -> Result<F, String> {
    result?.map_err(|Named(why)| format!("nothing synced is missing, and it says: {why}"))
}

fn same<F: PartialEq + std::fmt::Debug>(first: &F, again: Result<F, String>) -> Result<(), String> {
    let again = again?;
    if *first == again {
        Ok(())
    } else {
        Err(format!("the first start found {first:?}\nand another {again:?}"))
    }
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs what may panic; the panic is returned, and not printed.
fn quietly<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_QUIET.get() {
                LAST.with_borrow_mut(|last| *last = panic.to_string());
            } else {
                usual(panic);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    IS_QUIET.set(false);
    result.map_err(|_| LAST.with_borrow(Clone::clone))
}
