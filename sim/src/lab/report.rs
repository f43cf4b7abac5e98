//! Images, counted by kind.

use std::collections::BTreeMap;
use std::fmt;

use crate::disk::Kind;

/// What an image was, or how one with a flipped bit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Cut(Kind),
    CutAgain,
    Unharmed,
    Named,
}

/// What was run of some stories.
#[derive(Debug, Clone, Default)]
pub struct Report {
    stories: Vec<&'static str>,
    counts: BTreeMap<(Outcome, &'static str), u64>,
    /// Lives that were lived.
    pub lives: u64,
}

impl Report {
    pub(super) fn new(story: &'static str) -> Report {
        Report { stories: vec![story], ..Report::default() }
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        if let Some(story) = self.stories.first() {
            *self.counts.entry((outcome, story)).or_default() += 1;
        }
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Report) {
        for story in &other.stories {
            if !self.stories.contains(story) {
                self.stories.push(story);
            }
        }
        for (place, count) in &other.counts {
            *self.counts.entry(*place).or_default() += count;
        }
        self.lives += other.lives;
    }

    /// All images.
    pub fn images(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Images of this kind.
    pub fn of_kind(&self, kind: Kind) -> u64 {
        let cuts = self.counts.iter().filter(|((outcome, _), _)| *outcome == Outcome::Cut(kind));
        cuts.map(|(_, count)| count).sum()
    }

    /// Images with a flipped bit that ended in a loss or a damage that was named.
    pub fn named(&self) -> u64 {
        self.counts
            .iter()
            .filter(|((outcome, _), _)| *outcome == Outcome::Named)
            .map(|(_, count)| count)
            .sum()
    }
}

/// A table: a row for each kind, a column for each story.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<Outcome> = self.counts.keys().map(|(outcome, _)| *outcome).collect();
        rows.dedup();
        write!(f, "{:<28}", "images")?;
        self.stories.iter().try_for_each(|story| write!(f, "{story:>12}"))?;
        writeln!(f, "{:>12}", "all")?;
        let mut row = |name: &str, is_in: &dyn Fn(Outcome) -> bool| {
            let of = |story: Option<&str>| -> u64 {
                let counts = self.counts.iter();
                let counts = counts
                    .filter(|((outcome, of), _)| is_in(*outcome) && story.is_none_or(|story| story == *of));
                counts.map(|(_, count)| count).sum()
            };
            write!(f, "{name:<28}")?;
            self.stories.iter().try_for_each(|story| write!(f, "{:>12}", of(Some(story))))?;
            writeln!(f, "{:>12}", of(None))
        };
        rows.iter().try_for_each(|outcome| row(outcome.words(), &|other| other == *outcome))?;
        row("all", &|_| true)
    }
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Outcome::Cut(Kind::Nothing) => "nothing unsynced",
            Outcome::Cut(Kind::Everything) => "everything",
            Outcome::Cut(Kind::Prefix) => "prefix of a file's changes",
            Outcome::Cut(Kind::Single) => "single change",
            Outcome::Cut(Kind::TornAtByte) => "torn at a byte",
            Outcome::Cut(Kind::TornAtSector) => "torn at 512 B",
            Outcome::Cut(Kind::TornAtPage) => "torn at 4 KiB",
            Outcome::Cut(Kind::HalfPunched) => "half given back",
            Outcome::Cut(Kind::Selection) => "some changes, drawn",
            Outcome::Cut(Kind::Names) => "names of a folder",
            Outcome::CutAgain => "cut again while recovering",
            Outcome::Unharmed => "bit flipped, harmless",
            Outcome::Named => "bit flipped, loss named",
        }
    }
}
