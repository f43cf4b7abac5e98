//! What was acknowledged of a log, and what was asked for: between the two lies what a power cut may leave.

use tidemill_storage::log::{GroupLog, LogEntry, LogId, Vote};

use super::model::Model;
use super::reclaim::Given;
use super::world::all_entries;

/// What must be on a disk, and what may be.
#[derive(Debug, Clone, Default)]
pub struct Promised {
    /// Entries that must be there, from the log's first on.
    pub durable: Vec<LogEntry>,
    /// What was asked for since everything was last durable: the log may be a prefix of any of these.
    pub asked: Vec<Vec<LogEntry>>,
    /// The last of these, or one of those that it was asked to be meanwhile.
    pub votes: Vec<Option<Vote>>,
    /// As `votes`.
    pub purges: Vec<Option<LogId>>,
    /// What may be given back to the disk already.
    pub given: Given,
}

impl Promised {
    /// A new log is promised to be empty.
    pub fn nothing() -> Promised {
        let given = Given::default();
        Promised {
            durable: Vec::new(),
            asked: vec![Vec::new()],
            votes: vec![None],
            purges: vec![None],
            given,
        }
    }

    /// Everything that was asked for is durable.
    pub fn all(&mut self, model: &Model) {
        self.durable = model.entries.clone();
        self.asked = vec![model.entries.clone()];
        self.votes.drain(..self.votes.len().saturating_sub(1));
        self.purges.drain(..self.purges.len().saturating_sub(1));
    }

    /// Holds a log against it, and returns what it holds.
    pub fn check(&self, log: &GroupLog) -> Vec<LogEntry> {
        let found = all_entries(log).unwrap();
        let ids = |entries: &[LogEntry]| entries.iter().map(|entry| entry.id).collect::<Vec<_>>();
        let is_asked = self.asked.iter().any(|asked| self.given.is_rest_of(&found, upto(asked, &found)));
        assert!(
            self.given.is_rest_of(upto(&found, &self.durable), &self.durable),
            "lost: {:?}\nof {:?}",
            ids(&found),
            ids(&self.durable)
        );
        let asked: Vec<_> = self.asked.iter().map(|asked| ids(asked)).collect();
        assert!(is_asked, "never asked for: {:?}\nasked for: {asked:?}", ids(&found));
        assert!(self.votes.contains(&log.vote()), "{:?} is none of {:?}", log.vote(), self.votes);
        assert!(self.purges.contains(&log.purged()), "{:?} is none of {:?}", log.purged(), self.purges);
        found
    }
}

/// As much of a log as another one has.
fn upto<'a>(entries: &'a [LogEntry], other: &[LogEntry]) -> &'a [LogEntry] {
    let last = other.last().map(|entry| entry.id.index);
    let count = entries.iter().take_while(|entry| Some(entry.id.index) <= last).count();
    &entries[..count]
}
