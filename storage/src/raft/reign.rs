//! A leader's proposals of one term: all up to one, and none behind it.
//!
//! What a leader proposes was decided on the head state, so with all that it had proposed before: if one entry does
//! not make it into the log, no later one of that term may. openraft gives no such promise. It refuses a write while
//! too few followers have been heard from, and takes the next one when they are heard again; with several writes on
//! their way to its queue, nobody could stop the later ones in time.
//!
//! So each proposal bears a number in its term, beside the entry and never written. Where the entries enter the log, on
//! the leader alone, the numbers are looked at: behind a gap everything of that term becomes a *blank*, which every
//! replica then holds at that place, and whose proposer is told that it was not applied. The leadership is given up
//! ([`leadership`](super::leadership)), and the next term begins with a clean head.
//!
//! Since all proposals of a term go into the log in their order, their indices are known beforehand, unless openraft
//! appends something of its own in between; it does so when members are changed. An index is *foreseen* only while that
//! cannot happen, and an entry that does not come to lie where it was foreseen is a gap, too: what was decided on it may
//! name its place.
//!
//! ```text
//!   proposed   7   8   9   10          openraft refused 8
//!   in the log 7   -   ▢   ▢           9 and 10 are blanks
//! ```

use std::fmt;
use std::sync::Arc;

use openraft::raft::responder::Responder;
use parking_lot::Mutex;
use tidemill_core::ids::{LogIndex, Term};
use tokio::sync::OwnedSemaphorePermit;

use super::types::TypeConfig;
use crate::log::{EncodedEntry, LogId};

/// An entry in openraft's hands.
#[derive(Debug)]
pub struct Proposed {
    entry: EncodedEntry,
    /// Only on the leader that proposes it, on its way into the log.
    place: Option<Place>,
}

/// A proposal's place among those of its term.
#[derive(Debug)]
struct Place {
    term: Term,
    number: u64,
    /// Where it is foreseen to lie.
    index: Option<LogIndex>,
    /// Given back when the entry is in the log, where it is counted otherwise; or is refused.
    _room: OwnedSemaphorePermit,
}

impl Proposed {
    /// An entry that comes out of the log, or from a peer.
    pub fn read(entry: EncodedEntry) -> Proposed {
        Proposed { entry, place: None }
    }

    /// The entry.
    pub fn entry(&self) -> &EncodedEntry {
        &self.entry
    }

    /// Where it is foreseen to lie.
    pub fn foreseen(&self) -> Option<LogIndex> {
        self.place.as_ref()?.index
    }
}

impl fmt::Display for Proposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} bytes", self.entry.kind, self.entry.bytes().len())
    }
}

/// How many proposals of which term have entered the log, for who makes them.
pub type Entered = Arc<Mutex<(Term, u64)>>;

/// Counts the proposals of a term, from 0: once where they are made, once where they enter the log.
#[derive(Debug, Default)]
pub struct Reign {
    term: Term,
    next: u64,
    /// Where the last proposal is foreseen to lie.
    foreseen: Option<LogIndex>,
    /// Changes of the members that are under way: nothing is foreseen meanwhile.
    changes: u32,
}

impl Reign {
    /// Gives a proposal its number, and foresees its place, if it can. Neither is used up before [`Reign::made`].
    /// `entered` is how far the log has come, and `last` looks at its end.
    pub fn propose(
        &mut self,
        term: Term,
        (entered, last): (&Entered, impl FnOnce() -> Option<LogId>),
        entry: EncodedEntry,
        room: OwnedSemaphorePermit,
    ) -> Proposed {
        self.turn_to(term);
        let (entered_term, entered) = *entered.lock();
        let all_entered = self.next == if entered_term == term { entered } else { 0 };
        let before = match all_entered {
            // A leader's first entry is openraft's.
            true => last().filter(|last| last.term == term).map(|last| last.index),
            false => self.foreseen,
        };
        let index = before.filter(|_| self.changes == 0).map(|before| LogIndex(before.0 + 1));
        Proposed { entry, place: Some(Place { term, number: self.next, index, _room: room }) }
    }

    /// The proposal was handed over, with this place in prospect.
    pub fn made(&mut self, index: Option<LogIndex>) {
        self.next += 1;
        self.foreseen = index;
    }

    /// A change of the members begins: openraft may append entries of its own until it is over.
    pub fn change_begins(&mut self) {
        self.changes += 1;
        self.foreseen = None;
    }

    /// It is over, with all that openraft appends for it.
    pub fn change_ends(&mut self) {
        self.changes -= 1;
        self.foreseen = None;
    }

    /// What enters the log at `index`: the entry, or nothing when one before it is missing.
    pub fn admit(&mut self, proposed: Proposed, index: LogIndex) -> Option<EncodedEntry> {
        let Some(place) = proposed.place else { return Some(proposed.entry) };
        self.turn_to(place.term);
        if place.number != self.next || place.index.is_some_and(|foreseen| foreseen != index) {
            return None;
        }
        self.next += 1;
        Some(proposed.entry)
    }

    /// Says how many have entered the log.
    pub fn tell(&self, entered: &Entered) {
        *entered.lock() = (self.term, self.next);
    }

    fn turn_to(&mut self, term: Term) {
        if self.term != term {
            *self = Reign { term, changes: self.changes, ..Reign::default() };
        }
    }
}

/// What openraft calls when it knows what became of a write, on its own task and in order.
pub struct Tell<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Tell<T> {
    /// Calls this. It must not block.
    pub fn new(tell: impl FnOnce(T) + Send + 'static) -> Tell<T> {
        Tell(Box::new(tell))
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for Tell<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidemill_core::entry::{Entry, EntryKind};
    use tidemill_core::seams::Timestamp;
    use tokio::sync::Semaphore;

    use super::*;

    fn entry() -> EncodedEntry {
        let entry = Entry {
            kind: EntryKind::Control,
            append_time: Timestamp(0),
            meta: Bytes::new(),
            batches: Vec::new(),
        };
        EncodedEntry::new(entry)
    }

    /// So many, behind the entry with which the term begins, at index 4; nothing of them has entered the log.
    fn proposals(term: u64, count: usize) -> Vec<Proposed> {
        let mut reign = Reign::default();
        (0..count).map(|_| propose(&mut reign, term, 4, &Entered::default())).collect()
    }

    fn propose(reign: &mut Reign, term: u64, last: u64, entered: &Entered) -> Proposed {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("there is room");
        let last = LogId { term: Term(term), index: LogIndex(last) };
        let proposed = reign.propose(Term(term), (entered, || Some(last)), entry(), permit);
        reign.made(proposed.foreseen());
        proposed
    }

    #[test]
    fn nothing_enters_behind_a_gap_until_the_next_term() {
        let mut log = Reign::default();
        let admitted: Vec<bool> = proposals(3, 5)
            .into_iter()
            .enumerate()
            .filter(|(number, _)| *number != 2)
            .zip(5..)
            .map(|((_, proposed), index)| log.admit(proposed, LogIndex(index)).is_some())
            .collect();
        assert_eq!(admitted, [true, true, false, false]);
        let read = Proposed::read(entry());
        assert!(log.admit(read, LogIndex(9)).is_some(), "what was not proposed here is none of this");
        let mut next = proposals(4, 2).into_iter().zip(5..);
        assert!(next.all(|(proposed, index)| log.admit(proposed, LogIndex(index)).is_some()));
    }

    #[test]
    fn places_are_foreseen_unless_members_change() {
        let (mut made, mut log, entered) = (Reign::default(), Reign::default(), Entered::default());
        let first = propose(&mut made, 3, 4, &entered);
        // Nobody looks at the end of the log while something is on its way there.
        let second = propose(&mut made, 3, 99, &entered);
        assert_eq!([&first, &second].map(Proposed::foreseen), [Some(LogIndex(5)), Some(LogIndex(6))]);
        made.change_begins();
        let third = propose(&mut made, 3, 99, &entered);
        made.change_ends();
        let fourth = propose(&mut made, 3, 99, &entered);
        assert_eq!([&third, &fourth].map(Proposed::foreseen), [None, None]);
        for (proposed, index) in [(first, 5), (second, 6), (third, 8), (fourth, 10)] {
            assert!(log.admit(proposed, LogIndex(index)).is_some());
        }
        log.tell(&entered);
        let (fifth, sixth) = (propose(&mut made, 3, 10, &entered), propose(&mut made, 3, 10, &entered));
        assert_eq!([&fifth, &sixth].map(Proposed::foreseen), [Some(LogIndex(11)), Some(LogIndex(12))]);
        assert!(log.admit(fifth, LogIndex(12)).is_none(), "another entry came between");
        assert!(log.admit(sixth, LogIndex(12)).is_none(), "a gap is before it");
    }

    #[test]
    fn a_reign_that_misses_its_first_proposal_has_none() {
        let mut log = Reign::default();
        let mut proposals = proposals(1, 2).into_iter();
        drop(proposals.next());
        assert!(proposals.all(|proposed| log.admit(proposed, LogIndex(5)).is_none()));
    }
}
