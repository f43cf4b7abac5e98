//! What a leader decides on, for one term: the head state, and the order of its proposals.
//!
//! A decision and the handing over of its entry to Raft happen under one lock, so that entries lie in the log in
//! the order in which they were decided. The lock is not held while anything is written.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tidemill_core::entry::Entry;
use tidemill_core::fault::Fault;
use tidemill_core::head::{Draft, Head, Proposal};
use tidemill_core::ids::{LogIndex, Term};
use tidemill_core::limits;
use tidemill_core::seams::Timestamp;
use tidemill_core::shard::{self, Deciding};
use tidemill_core::tables::View;
use tidemill_storage::group::{Group, ProposeError};
use tokio::sync::watch;

/// A leader in one term.
pub struct Leader {
    term: Term,
    order: tokio::sync::Mutex<()>,
    head: Mutex<Head>,
    settled: watch::Sender<Proposal>,
    /// Who is called when which proposal is applied; none once the term is over.
    calls: Mutex<Option<BTreeMap<Proposal, Vec<Call>>>>,
}

/// What is done once a proposal is applied. It must not wait for anything.
type Call = Box<dyn FnOnce() + Send>;

/// Why nothing was proposed, or why nobody knows whether it was committed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// This broker does not lead the shard: nothing was done.
    #[error("this broker does not lead the shard")]
    NotLeader,
    /// The leadership ended before the commit was known: it may have happened.
    #[error("the leadership ended before the commit was known")]
    Unknown,
    /// The storage failed: the broker is about to end.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<ProposeError> for Refused {
    fn from(error: ProposeError) -> Refused {
        match error {
            ProposeError::NotLeader { .. } => Refused::NotLeader,
            ProposeError::Unknown | ProposeError::Stopped => Refused::Unknown,
        }
    }
}

/// A proposal on its way: wait for it to know that it is committed and applied.
#[derive(Debug)]
pub struct Commit {
    /// The last proposal that it is about.
    number: Proposal,
    waiting: Waiting,
}

#[derive(Debug)]
enum Waiting {
    Entry(tidemill_storage::group::Proposal),
    Earlier(watch::Receiver<Proposal>),
}

impl Commit {
    /// Ready once it is applied, with its place in the log; without one when it had no entry of its own.
    ///
    /// # Errors
    /// [`Refused`] when that is not known, or never will be.
    pub async fn applied(self) -> Result<Option<LogIndex>, Refused> {
        match self.waiting {
            Waiting::Entry(proposal) => Ok(Some(proposal.await?)),
            Waiting::Earlier(mut settled) => {
                settled.wait_for(|settled| *settled >= self.number).await.map_err(|_| Refused::Unknown)?;
                Ok(None)
            }
        }
    }
}

impl Leader {
    /// A leader whose applied tables show all that was ever decided.
    pub fn new(term: Term) -> Leader {
        Leader {
            term,
            order: tokio::sync::Mutex::new(()),
            head: Mutex::default(),
            settled: watch::Sender::new(0),
            calls: Mutex::new(Some(BTreeMap::new())),
        }
    }

    /// The term in which it leads.
    pub fn term(&self) -> Term {
        self.term
    }

    /// So many more of its proposals are applied.
    pub fn settle(&self, applied: u64) {
        if applied > 0 {
            self.settled.send_modify(|settled| *settled += applied);
            let settled = *self.settled.borrow();
            self.head.lock().settle(settled);
            let due = self.calls.lock().as_mut().map(|calls| {
                let later = calls.split_off(&(settled + 1));
                std::mem::replace(calls, later)
            });
            due.into_iter().flatten().flat_map(|(_, calls)| calls).for_each(|call| call());
        }
    }

    /// Calls this once the proposal is applied, on the thread that applies it; never, if the term ends before that is
    /// known. A task that waits for each proposal would cost a small step as much as the rest of its way.
    pub fn when_applied(&self, commit: &Commit, call: impl FnOnce() + Send + 'static) {
        let mut calls = self.calls.lock();
        if *self.settled.borrow() >= commit.number {
            drop(calls);
            return call();
        }
        if let Some(calls) = &mut *calls {
            calls.entry(commit.number).or_default().push(Box::new(call));
        }
    }

    /// The term is over: who waits to be called is forgotten.
    pub fn ends(&self) {
        let calls = self.calls.lock().take();
        drop(calls);
    }

    /// Looks at the head state.
    pub fn look<T>(&self, applied: &dyn View, look: impl FnOnce(&dyn View) -> T) -> T {
        let head = self.head.lock();
        look(&head.over(applied))
    }

    /// Decides and proposes. `decide` may make no entry; what it returns is then to be believed once everything
    /// decided before it is applied.
    ///
    /// # Errors
    /// [`Refused`] when nothing was proposed.
    pub async fn propose<T>(
        &self,
        group: &Group,
        now: Timestamp,
        decide: impl FnOnce(&Deciding) -> Result<(T, Option<Entry>), Fault>,
    ) -> Result<(T, Commit), Refused> {
        let _order = self.order.lock().await;
        let applied = group.tables();
        let (answer, entry, draft) = {
            let head = self.head.lock();
            let (answer, entry) = decide(&Deciding { head: &head.over(&applied), now, term: self.term })?;
            let Some(entry) = entry else {
                let waiting = Waiting::Earlier(self.settled.subscribe());
                return Ok((answer, Commit { number: head.last(), waiting }));
            };
            ensure_fits(&entry)?;
            // Now, because it may be applied as soon as Raft has it, and the tables then show it already.
            let draft = draft(&head, &applied, &entry)?;
            (answer, entry, draft)
        };
        // Whoever waits here may be gone before it is over; then nothing was proposed, and nothing is folded. No
        // decision falls between the two: that is what the order is for.
        let proposal = group.propose(self.term, entry).await?;
        let mut head = self.head.lock();
        let number = head.fold(draft);
        head.settle(*self.settled.borrow());
        Ok((answer, Commit { number, waiting: Waiting::Entry(proposal) }))
    }
}

impl std::fmt::Debug for Leader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leader").field("term", &self.term).finish_non_exhaustive()
    }
}

/// An entry that is larger than the log can give back must not get into it. Whoever decides sees to that, each in its own
/// way; this is in case one does not.
fn ensure_fits(entry: &Entry) -> Result<(), Fault> {
    let bytes = entry.encoded_bytes();
    if bytes <= limits::ENTRY_BYTES_MAX {
        return Ok(());
    }
    Err(Fault::damaged("a decision", format!("its entry would have {bytes} bytes")))
}

fn draft(head: &Head, applied: &dyn View, entry: &Entry) -> Result<Draft, Fault> {
    let unknown = LogIndex(u64::MAX);
    head.draft(applied, |tables| shard::apply(tables, unknown, entry, &mut Vec::new()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_waits_is_called_in_order_or_never() {
        let (leader, called) = (Leader::new(Term(1)), Arc::new(Mutex::new(Vec::new())));
        let waits = |number| {
            let (called, waiting) = (called.clone(), Waiting::Earlier(leader.settled.subscribe()));
            leader.when_applied(&Commit { number, waiting }, move || called.lock().push(number));
        };
        [2, 1, 2, 3, 4].into_iter().for_each(waits);
        assert!(called.lock().is_empty());
        leader.settle(2);
        assert_eq!(*called.lock(), [1, 2, 2]);
        waits(2);
        assert_eq!(*called.lock(), [1, 2, 2, 2], "it is applied already");
        leader.settle(1);
        assert_eq!(*called.lock(), [1, 2, 2, 2, 3]);
        leader.ends();
        waits(5);
        leader.settle(9);
        assert_eq!(*called.lock(), [1, 2, 2, 2, 3], "the term is over");
        assert_eq!(Arc::strong_count(&called), 1, "nobody is waited for any more");
    }
}
