//! What a leader decides on, for one term: the head state, and the order of its proposals.
//!
//! A decision and the handing over of its entry to Raft happen under one lock, so that entries lie in the log in
//! the order in which they were decided. The lock is not held while anything is written.

use parking_lot::Mutex;
use tidemill_core::entry::Entry;
use tidemill_core::fault::Fault;
use tidemill_core::head::{Draft, Head, Proposal};
use tidemill_core::ids::{LogIndex, Term};
use tidemill_core::rejection::Rejection;
use tidemill_core::seams::Timestamp;
use tidemill_core::shard::{self, Deciding};
use tidemill_core::tables::View;
use tidemill_storage::group::{Group, ProposeError};
use tokio::sync::watch;

/// A leader in one term.
#[derive(Debug)]
pub struct Leader {
    term: Term,
    order: tokio::sync::Mutex<()>,
    head: Mutex<Head>,
    settled: watch::Sender<Proposal>,
}

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

impl From<Refused> for Rejection {
    fn from(_: Refused) -> Rejection {
        Rejection::NotLeader
    }
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
pub struct Commit(Waiting);

#[derive(Debug)]
enum Waiting {
    Entry(tidemill_storage::group::Proposal),
    Earlier(Proposal, watch::Receiver<Proposal>),
}

impl Commit {
    /// Ready once it is applied, with its place in the log; without one when it had no entry of its own.
    ///
    /// # Errors
    /// [`Refused`] when that is not known, or never will be.
    pub async fn applied(self) -> Result<Option<LogIndex>, Refused> {
        match self.0 {
            Waiting::Entry(proposal) => Ok(Some(proposal.await?)),
            Waiting::Earlier(last, mut settled) => {
                settled.wait_for(|settled| *settled >= last).await.map_err(|_| Refused::Unknown)?;
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
            self.head.lock().settle(*self.settled.borrow());
        }
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
                let earlier = Waiting::Earlier(head.last(), self.settled.subscribe());
                return Ok((answer, Commit(earlier)));
            };
            // Now, because it may be applied as soon as Raft has it, and the tables then show it already.
            let draft = draft(&head, &applied, &entry)?;
            (answer, entry, draft)
        };
        // Whoever waits here may be gone before it is over; then nothing was proposed, and nothing is folded. No
        // decision falls between the two: that is what the order is for.
        let proposal = group.propose(self.term, entry).await?;
        let mut head = self.head.lock();
        head.fold(draft);
        head.settle(*self.settled.borrow());
        Ok((answer, Commit(Waiting::Entry(proposal))))
    }
}

fn draft(head: &Head, applied: &dyn View, entry: &Entry) -> Result<Draft, Fault> {
    let unknown = LogIndex(u64::MAX);
    head.draft(applied, |tables| shard::apply(tables, unknown, entry, &mut Vec::new()))
}
