//! A line: segments one behind the other, and what is in memory of them.
//!
//! ```text
//!   ┌────────┬────────┬──────── … ─┬─────────┬─────────┬─────────────────┐
//!   │ sealed │ sealed │            │ rolled  │ active  │ not written yet │
//!   └────────┴────────┴──────── … ─┴─────────┴─────────┴─────────────────┘
//!    ◀── found by the directory ──▶ ◀─────── found by the index ────────▶
//!                                              ◀──── held by the tail ───▶ ◀ foreseen
//! ```
//!
//! The log is one line. While a snapshot is installed its records gather in a second one, which takes the log's place
//! when it is whole.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidemill_core::ids::LogIndex;

use super::directory::Listed;
use super::entry::LogId;
use super::foreseen::Foreseen;
use super::index::Index;
use super::segment::Segment;
use super::tail::Tail;

/// A line of segments.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) number: u32,
    /// The first entry that it may hold.
    pub(super) first: LogIndex,
    /// The last entry appended; nothing above it counts, whatever is still on disk.
    pub(super) last: Option<LogId>,
    /// By their first index.
    pub(super) sealed: BTreeMap<LogIndex, Listed>,
    /// Those that are not sealed, in order; the last of them is active if `has_active`.
    pub(super) open: VecDeque<OpenSegment>,
    pub(super) has_active: bool,
    /// Of all that is not sealed.
    pub(super) index: Index,
    pub(super) tail: Tail,
    /// What comes next.
    pub(super) foreseen: Foreseen,
}

/// A segment that is not sealed, and what was written to it.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) segment: Arc<Segment>,
    /// Where its chunks begin.
    pub(super) chunks: Vec<LogIndex>,
    /// What they take on disk.
    pub(super) bytes: u64,
    /// The last entry written.
    pub(super) last: Option<LogId>,
    /// The last turn that wrote to it.
    pub(super) turn: u64,
}

impl OpenSegment {
    /// A new segment.
    pub(super) fn new(segment: Arc<Segment>) -> OpenSegment {
        let turn = segment.birth.turn;
        OpenSegment { segment, chunks: Vec::new(), bytes: 0, last: None, turn }
    }
}

/// Where an entry lies on disk.
pub(super) enum Place {
    Sealed(u64),
    Open(Arc<Segment>),
}

impl Line {
    /// The empty line after this one, that goes on behind `last`.
    pub(super) fn next_line(&self, last: LogId) -> Line {
        Line { last: Some(last), ..self.next_line_from(after(last.index)) }
    }

    /// The empty line after this one, that begins with entry `first`.
    pub(super) fn next_line_from(&self, first: LogIndex) -> Line {
        Line { number: self.number + 1, first, tail: self.tail.emptied(), ..Line::default() }
    }

    /// The index that the next entry must have.
    pub(super) fn next(&self) -> LogIndex {
        self.last.map_or(self.first, |last| after(last.index))
    }

    /// The segment being written.
    pub(super) fn active(&mut self) -> Option<&mut OpenSegment> {
        if self.has_active { self.open.back_mut() } else { None }
    }

    /// The last entry on disk.
    pub(super) fn last_on_disk(&self) -> Option<LogId> {
        let open = self.open.iter().rev().find_map(|open| open.last);
        open.or_else(|| self.sealed.last_key_value().map(|(_, listed)| listed.seal.last))
    }

    /// The last turn of its segments that begin at `upto` or before.
    pub(super) fn turn_upto(&self, upto: LogIndex) -> u64 {
        let open = self.open.iter().filter(|open| open.segment.birth.first <= upto).map(|open| open.turn);
        let sealed = self.sealed.range(..=upto).map(|(_, listed)| listed.seal.turn);
        open.chain(sealed).max().unwrap_or(0)
    }

    /// The lowest entry on disk or in the tail.
    pub(super) fn lowest(&self) -> Option<LogIndex> {
        let sealed = self.sealed.first_key_value().map(|(first, _)| *first);
        let open = self.open.iter().find(|open| open.last.is_some()).map(|open| open.segment.birth.first);
        sealed.or(open).or_else(|| self.tail.first())
    }

    /// Where the segment lies that holds entry `index` or, when none does, the next behind it, and the index of that
    /// entry.
    pub(super) fn place_of(&self, index: LogIndex) -> Option<(LogIndex, Place)> {
        let sealed = self.sealed.range(..=index).next_back().map(|(_, listed)| listed);
        let sealed = sealed.filter(|listed| index <= listed.seal.last.index);
        let sealed = sealed.or_else(|| self.sealed.range(index..).next().map(|(_, listed)| listed));
        if let Some(listed) = sealed {
            return Some((index.max(listed.first), Place::Sealed(listed.number)));
        }
        let open = self.open.iter().find(|open| open.last.is_some_and(|last| index <= last.index))?;
        Some((index.max(open.segment.birth.first), Place::Open(open.segment.clone())))
    }

    /// The oldest segment that takes no more entries and has some, with its last one.
    pub(super) fn oldest_rolled(&self) -> Option<(&OpenSegment, LogId)> {
        if self.open.len() == 1 && self.has_active {
            return None;
        }
        let oldest = self.open.front()?;
        Some((oldest, oldest.last?))
    }

    /// Whether this is the oldest of the segments that are not sealed.
    pub(super) fn is_oldest(&self, number: u64) -> bool {
        self.open.front().is_some_and(|open| open.segment.birth.number == number)
    }

    /// Takes over what was sealed; false when that is not its oldest segment any more.
    pub(super) fn sealed(&mut self, listed: Listed) -> bool {
        let is_oldest = self.is_oldest(listed.number);
        if is_oldest {
            self.open.pop_front();
            self.index.forget_upto(listed.seal.last.index);
            self.sealed.insert(listed.first, listed);
        }
        is_oldest
    }

    /// The numbers of all its segments.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let sealed = self.sealed.values().map(|listed| listed.number);
        sealed.chain(self.open.iter().map(|open| open.segment.birth.number)).collect()
    }
}

/// The index behind `index`.
pub(super) fn after(index: LogIndex) -> LogIndex {
    LogIndex(index.0 + 1)
}
