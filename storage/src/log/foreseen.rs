//! Entries on their way into the log: Raft was handed them, and has not appended them yet.
//!
//! Tasks read them already, so that a chain of tasks need not wait, at each link, for a way to Raft's own task. Nobody
//! else does, and nothing depends on them: what Raft appends in their place is what counts. If that is anything else,
//! all of them are forgotten, and with them goes the term in which they were proposed (`raft/reign.rs`).

use std::collections::VecDeque;

use tidemill_core::ids::LogIndex;
use tidemill_protocol::ids::TopicPartition;

use super::GroupLog;
use super::entry::{LogEntry, LogId, Payload};
use super::line::after;

/// The entries that come next, without gaps.
#[derive(Debug, Default)]
pub(super) struct Foreseen(VecDeque<LogEntry>);

impl Foreseen {
    /// Takes an entry for the next one, if it can be that: `end` is the first index that is not in the log.
    pub(super) fn expect(&mut self, end: LogIndex, entry: &LogEntry) -> bool {
        let fits = entry.id.index == self.end().unwrap_or(end);
        if fits {
            self.0.push_back(entry.clone());
        }
        fits
    }

    /// An entry enters the log. Whether it was the one that came next; if not, none of them is any more.
    pub(super) fn arrives(&mut self, id: LogId) -> bool {
        let is_next = self.0.pop_front().is_some_and(|next| next.id == id);
        if !is_next {
            self.0.clear();
        }
        is_next
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The first index behind them, if there are any.
    pub(super) fn end(&self) -> Option<LogIndex> {
        self.0.back().map(|last| after(last.id.index))
    }

    /// What is here from `first` on, in order.
    pub(super) fn from(&self, first: u64) -> impl Iterator<Item = &LogEntry> {
        self.0.iter().skip_while(move |entry| entry.id.index.0 < first)
    }

    /// The first of them from `from` on that holds a batch of one of these partitions.
    pub(super) fn next_with(&self, from: LogIndex, at: &[TopicPartition]) -> Option<LogIndex> {
        let holds = |entry: &&LogEntry| match &entry.payload {
            Payload::Entry(entry) => entry.resident().any(|placed| at.contains(&placed.at)),
            Payload::Blank | Payload::Membership(_) => false,
        };
        self.from(from.0).find(holds).map(|entry| entry.id.index)
    }
}

impl GroupLog {
    /// Raft was just handed this entry, and will append it next: tasks may read it at once. It is forgotten if anything
    /// else is appended in its place; does nothing if that has happened already, or it cannot be the next.
    pub fn foresee(&self, entry: &LogEntry) {
        let mut memory = self.memory();
        let end = memory.line.next();
        if memory.refusal().is_none() && memory.line.foreseen.expect(end, entry) {
            // Under the lock, so that nobody is told of its append before.
            self.shared().options.ahead.readable(std::slice::from_ref(entry));
        }
    }

    /// The first index that is neither in the log nor foreseen.
    pub fn foreseen_end(&self) -> LogIndex {
        let memory = self.memory();
        memory.line.foreseen.end().unwrap_or_else(|| memory.line.next())
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::ids::Term;

    use super::*;

    fn entry(term: u64, index: u64) -> LogEntry {
        LogEntry { id: LogId { term: Term(term), index: LogIndex(index) }, payload: Payload::Blank }
    }

    #[test]
    fn they_come_in_order_or_not_at_all() {
        let mut foreseen = Foreseen::default();
        let end = LogIndex(7);
        assert!(!foreseen.expect(end, &entry(1, 8)), "a gap");
        assert!(!foreseen.expect(end, &entry(1, 6)), "it is there already");
        assert!(foreseen.expect(end, &entry(1, 7)) && foreseen.expect(end, &entry(1, 8)));
        assert_eq!(foreseen.end(), Some(LogIndex(9)));
        assert!(foreseen.arrives(entry(1, 7).id));
        assert_eq!(foreseen.from(0).count(), 1);
        assert!(!foreseen.arrives(entry(2, 8).id), "another leader's");
        assert_eq!(foreseen.end(), None);
    }
}
