//! A replica that lost what it had acknowledged.
//!
//! Others counted on it: an entry that this replica and one other held was committed, and may now be on that other alone.
//! So it must not help anybody into office, itself included, before it has all of it again. What it appends meanwhile it
//! may acknowledge, since that says what it holds: all entries up to one, as the leader has them.
//!
//! It has all of it again when its log reaches as far as what it lost, or holds an entry of a term after those in which it
//! had promised anything. For whoever led in the terms of those promises has all that was acknowledged to it; and
//! whoever was elected later was elected by others, who had it.
//!
//! A broker that is the only voter has nobody to ask. It goes on with what it has, and says what it lost.

use tidemill_core::ids::{LogIndex, Term};

use crate::log::{LogId, Loss, Vote};

/// What must be there again before this replica votes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amnesia {
    lost_to: Option<LogIndex>,
    promised: Term,
}

impl Amnesia {
    /// For a replica that lost this, and whose last vote was that.
    pub fn new(loss: &Loss, vote: Option<Vote>) -> Amnesia {
        let lost_to = loss.entries.as_ref().map(|entries| *entries.end());
        Amnesia { lost_to, promised: vote.map_or(Term(0), |vote| vote.term) }
    }

    /// Whether a replica with a log that is durable up to this entry has all of it again. To be asked only after a leader
    /// has appended something, or found nothing to append.
    pub fn is_over(&self, durable: Option<LogId>) -> bool {
        let is_refilled = match (self.lost_to, durable) {
            (Some(lost_to), Some(durable)) => durable.index >= lost_to,
            (Some(_), None) => false,
            // Only that something was cut off had been forgotten.
            (None, _) => true,
        };
        is_refilled || durable.is_some_and(|durable| durable.term > self.promised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> Option<LogId> {
        Some(LogId { term: Term(term), index: LogIndex(index) })
    }

    #[test]
    fn it_ends_when_the_log_is_refilled_or_the_term_is_a_later_one() {
        let loss = Loss { turns: 7..=8, entries: Some(LogIndex(10)..=LogIndex(12)) };
        let amnesia = Amnesia::new(&loss, Some(Vote { term: Term(3), node: None, committed: true }));
        assert!(!amnesia.is_over(None));
        assert!(!amnesia.is_over(id(3, 11)));
        assert!(amnesia.is_over(id(3, 12)));
        assert!(amnesia.is_over(id(4, 10)));
    }

    #[test]
    fn a_lost_cut_is_over_with_the_first_word_of_a_leader() {
        let loss = Loss { turns: 7..=7, entries: None };
        assert!(Amnesia::new(&loss, None).is_over(id(1, 1)));
    }
}
