//! The tail: the newest entries, in memory, for all who read live, and for all that is not durable yet.

use std::collections::VecDeque;
use std::ops::Range;

use tidemill_core::ids::LogIndex;

use super::chunk;
use super::entry::LogEntry;

/// The newest entries, without gaps.
#[derive(Debug, Default)]
pub(super) struct Tail {
    entries: VecDeque<LogEntry>,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    /// An empty tail that keeps about `bytes_max` bytes of durable entries.
    pub(super) fn new(bytes_max: usize) -> Tail {
        Tail { bytes_max, ..Tail::default() }
    }

    /// An empty tail like this one.
    pub(super) fn emptied(&self) -> Tail {
        Tail::new(self.bytes_max)
    }

    /// Adds the next entry.
    pub(super) fn push(&mut self, entry: LogEntry) {
        self.bytes += chunk::bytes_of(&entry);
        self.entries.push_back(entry);
    }

    /// The index of its first entry.
    pub(super) fn first(&self) -> Option<LogIndex> {
        self.entries.front().map(|entry| entry.id.index)
    }

    /// The entry at `index`, if it is here.
    pub(super) fn get(&self, index: LogIndex) -> Option<&LogEntry> {
        let at = index.0.checked_sub(self.first()?.0)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// What is here of `range`, in order.
    pub(super) fn within(&self, range: Range<u64>) -> impl Iterator<Item = &LogEntry> {
        let first = self.first().map_or(0, |first| first.0);
        let place = |index: u64| (index.saturating_sub(first) as usize).min(self.entries.len());
        self.entries.range(place(range.start)..place(range.end).max(place(range.start)))
    }

    /// Drops all above `last`; everything, if there is no last.
    pub(super) fn truncate_after(&mut self, last: Option<LogIndex>) {
        while let Some(entry) =
            self.entries.pop_back_if(|entry| last.is_none_or(|last| entry.id.index > last))
        {
            self.bytes -= chunk::bytes_of(&entry);
        }
    }

    /// Drops the oldest entries until the tail is as small as it should be, but nothing from `kept` on.
    pub(super) fn trim(&mut self, kept: LogIndex) {
        while self.bytes > self.bytes_max {
            let Some(entry) = self.entries.pop_front_if(|entry| entry.id.index < kept) else { return };
            self.bytes -= chunk::bytes_of(&entry);
        }
    }
}
