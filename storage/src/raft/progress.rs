//! How far a replica has applied, and what it knows by that; for everybody to read.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_core::fault::Fault;
use tidemill_core::ids::Term;
use tokio::sync::watch;

use super::standing::{Standing, StoredMembership};
use crate::log::LogId;
use crate::state::Checkpoint;

/// How far a replica has applied. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Progress(Arc<Shown>);

struct Shown {
    now: Mutex<Now>,
    term: watch::Sender<Option<Term>>,
}

struct Now {
    applied: Option<LogId>,
    standing: Standing,
    /// The standing as it is written: it changes seldom, and every checkpoint needs it.
    written: Bytes,
}

impl Now {
    fn of(checkpoint: &Checkpoint) -> Result<Now, Fault> {
        let written = checkpoint.standing.clone();
        let standing = Standing::decode(&written)
            .map_err(|malformed| Fault::damaged("the standing of a checkpoint", malformed))?;
        Ok(Now { applied: checkpoint.applied, standing, written })
    }

    fn change(&mut self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.standing);
        self.written = self.standing.encode();
    }
}

impl Progress {
    /// As far as a checkpoint.
    ///
    /// # Errors
    /// A [`Fault`] when its standing is damaged.
    pub fn new(checkpoint: &Checkpoint) -> Result<Progress, Fault> {
        let term = watch::Sender::new(checkpoint.applied.map(|id| id.term));
        Ok(Progress(Arc::new(Shown { now: Mutex::new(Now::of(checkpoint)?), term })))
    }

    /// The last entry that the tables show.
    pub fn applied(&self) -> Option<LogId> {
        self.0.now.lock().applied
    }

    /// The term of that entry, now and from now on.
    pub fn term(&self) -> watch::Receiver<Option<Term>> {
        self.0.term.subscribe()
    }

    /// The last entry of every term that was applied and not forgotten, in order.
    pub fn terms(&self) -> Vec<LogId> {
        let now = self.0.now.lock();
        now.standing.ended.iter().copied().chain(now.applied).collect()
    }

    /// Who belongs to the group, by what is applied.
    pub fn membership(&self) -> StoredMembership {
        self.0.now.lock().standing.membership.clone()
    }

    /// What a checkpoint holds for Raft.
    pub fn standing(&self) -> Bytes {
        self.0.now.lock().written.clone()
    }

    /// The tables show an entry.
    pub fn applied_to(&self, id: LogId) {
        self.pass(id, None);
    }

    /// A membership entry is applied.
    pub fn applied_membership(&self, id: LogId, membership: StoredMembership) {
        self.pass(id, Some(membership));
    }

    /// The tables were replaced.
    ///
    /// # Errors
    /// A [`Fault`] when the checkpoint's standing is damaged.
    pub fn installed(&self, checkpoint: &Checkpoint) -> Result<(), Fault> {
        *self.0.now.lock() = Now::of(checkpoint)?;
        self.0.term.send_replace(checkpoint.applied.map(|id| id.term));
        Ok(())
    }

    /// Entries up to this one need no longer be known.
    pub fn forget(&self, purged: LogId) {
        self.0.now.lock().change(|standing| standing.forget(purged));
    }

    fn pass(&self, id: LogId, membership: Option<StoredMembership>) {
        let mut now = self.0.now.lock();
        let previous = now.applied.replace(id);
        let is_new_term = previous.is_none_or(|previous| previous.term != id.term);
        if is_new_term || membership.is_some() {
            now.change(|standing| {
                standing.ended.extend(previous.filter(|_| is_new_term));
                if let Some(membership) = membership {
                    standing.membership = membership;
                }
            });
        }
        drop(now);
        if is_new_term {
            self.0.term.send_replace(Some(id.term));
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::ids::LogIndex;

    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId { term: Term(term), index: LogIndex(index) }
    }

    #[test]
    fn it_knows_where_each_term_ended_also_after_a_restart() -> Result<(), Fault> {
        let progress = Progress::new(&Checkpoint::default())?;
        for id in [id(1, 0), id(1, 1), id(4, 2), id(4, 3), id(5, 4), id(5, 5)] {
            progress.applied_to(id);
        }
        assert_eq!(progress.terms(), [id(1, 1), id(4, 3), id(5, 5)]);

        let checkpoint = Checkpoint { applied: progress.applied(), standing: progress.standing() };
        let again = Progress::new(&checkpoint)?;
        assert_eq!(again.terms(), progress.terms());
        again.applied_to(id(5, 6));
        again.forget(id(4, 3));
        assert_eq!(again.terms(), [id(5, 6)]);
        assert_eq!(*again.term().borrow(), Some(Term(5)));
        Ok(())
    }
}
