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
//! ```text
//!   proposed   7   8   9   10          openraft refused 8
//!   in the log 7   -   ▢   ▢           9 and 10 are blanks
//! ```

use std::fmt;

use openraft::raft::responder::Responder;
use tidemill_core::ids::Term;
use tokio::sync::OwnedSemaphorePermit;

use super::types::TypeConfig;
use crate::log::EncodedEntry;

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
}

impl fmt::Display for Proposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} bytes", self.entry.kind, self.entry.bytes().len())
    }
}

/// Counts the proposals of a term, from 0: once where they are made, once where they enter the log.
#[derive(Debug, Default)]
pub struct Reign {
    term: Term,
    next: u64,
}

impl Reign {
    /// Gives a proposal its number. The number is not used up before [`Reign::made`].
    pub fn propose(&mut self, term: Term, entry: EncodedEntry, room: OwnedSemaphorePermit) -> Proposed {
        self.turn_to(term);
        Proposed { entry, place: Some(Place { term, number: self.next, _room: room }) }
    }

    /// The proposal was handed over.
    pub fn made(&mut self) {
        self.next += 1;
    }

    /// What enters the log: the entry, or nothing when one before it is missing.
    pub fn admit(&mut self, proposed: Proposed) -> Option<EncodedEntry> {
        let Some(place) = proposed.place else { return Some(proposed.entry) };
        self.turn_to(place.term);
        if place.number != self.next {
            return None;
        }
        self.next += 1;
        Some(proposed.entry)
    }

    fn turn_to(&mut self, term: Term) {
        if self.term != term {
            *self = Reign { term, next: 0 };
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
    use std::sync::Arc;

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

    fn proposals(term: u64, count: usize) -> Vec<Proposed> {
        let room = Arc::new(Semaphore::new(count));
        let mut reign = Reign::default();
        let propose = |_| {
            let permit = room.clone().try_acquire_owned().expect("there is room for all");
            let proposed = reign.propose(Term(term), entry(), permit);
            reign.made();
            proposed
        };
        (0..count).map(propose).collect()
    }

    #[test]
    fn nothing_enters_behind_a_gap_until_the_next_term() {
        let mut log = Reign::default();
        let admitted: Vec<bool> = proposals(3, 5)
            .into_iter()
            .enumerate()
            .filter(|(number, _)| *number != 2)
            .map(|(_, proposed)| log.admit(proposed).is_some())
            .collect();
        assert_eq!(admitted, [true, true, false, false]);
        assert!(log.admit(Proposed::read(entry())).is_some(), "what was not proposed here is none of this");
        assert!(proposals(4, 2).into_iter().all(|proposed| log.admit(proposed).is_some()));
    }

    #[test]
    fn a_reign_that_misses_its_first_proposal_has_none() {
        let mut log = Reign::default();
        let mut proposals = proposals(1, 2).into_iter();
        drop(proposals.next());
        assert!(proposals.all(|proposed| log.admit(proposed).is_none()));
    }
}
