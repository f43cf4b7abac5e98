//! openraft's state machine, over our tables.
//!
//! Entries are applied one by one. After each, in this order: the tables show it, [`Progress`] says so, its effects are
//! performed, and whoever proposed it is told.
//!
//! The tables are written to disk later. After a crash they are behind the log, and openraft applies again what is
//! known to be committed.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tidemill_core::fault::Fault;
use tokio::sync::oneshot;

use super::log_store::other;
use super::progress::Progress;
use super::snapshot::{self, Snapshot, SnapshotData, SnapshotMeta};
use super::standing::{Membership, StoredMembership};
use super::types::{self, RaftEntryOf, RaftLogId, TypeConfig};
use crate::group::Machine;
use crate::log::{EncodedEntry, GroupLog, LogId, OnFault};
use crate::state::StateStore;

/// What became of a write that went through the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is applied.
    Applied,
    /// A blank is in its place: it is not applied, and never will be.
    Dropped,
}

/// openraft's state machine.
pub struct StateMachine {
    store: StateStore,
    log: GroupLog,
    machine: Arc<dyn Machine>,
    progress: Progress,
    on_fault: OnFault,
    /// Closed when openraft has dropped the machine: nothing is applied any more.
    _ended: oneshot::Sender<()>,
}

impl StateMachine {
    /// Over tables that stand where `progress` says; and what is ready once nothing is applied any more.
    pub fn new(
        store: StateStore,
        log: GroupLog,
        machine: Arc<dyn Machine>,
        progress: Progress,
        on_fault: OnFault,
    ) -> (StateMachine, oneshot::Receiver<()>) {
        let (ending, ended) = oneshot::channel();
        (StateMachine { store, log, machine, progress, on_fault, _ended: ending }, ended)
    }

    fn apply_one(&self, entry: RaftEntryOf) -> Result<Outcome, Fault> {
        let id = types::log_id(&entry.log_id());
        let mut bytes = 0;
        let outcome = match entry.payload {
            EntryPayload::Blank => {
                self.progress.applied_to(id);
                Outcome::Dropped
            }
            EntryPayload::Membership(membership) => {
                self.change_members(id, membership);
                Outcome::Applied
            }
            EntryPayload::Normal(proposed) => {
                bytes = proposed.entry().bytes().len() as u64;
                self.apply_entry(id, proposed.entry())?;
                Outcome::Applied
            }
        };
        self.store.checkpoint(id, &self.progress.standing(), bytes);
        self.log.set_applied(id.index);
        Ok(outcome)
    }

    fn change_members(&self, id: LogId, membership: Membership) {
        let membership = StoredMembership::new(Some(types::raft_log_id(id)), membership);
        self.progress.applied_membership(id, membership);
    }

    fn apply_entry(&self, id: LogId, entry: &EncodedEntry) -> Result<(), Fault> {
        let mut effects = Vec::new();
        self.store.write(|tables| self.machine.apply(tables, id.index, entry, &mut effects))?;
        self.progress.applied_to(id);
        self.machine.perform(id.term, effects);
        Ok(())
    }

    /// Puts another replica's checkpoint in the place of the tables, and the records below it in the place of the log.
    ///
    /// The tables go first, each durably. A crash between the two is repaired at the next start
    /// ([`snapshot::settle_log`]).
    async fn install(&self, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), Fault> {
        let checkpoint = snapshot::checkpoint(meta, &data);
        let install = data.into_install(&self.store)?;
        install.finish(checkpoint.clone())?;
        self.progress.installed(&checkpoint)?;
        match checkpoint.applied {
            Some(applied) => {
                snapshot::settle_log(&self.log, applied).await?;
                self.log.set_applied(applied.index);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn fault(&self, fault: Fault) -> io::Error {
        (self.on_fault)(fault.clone());
        other(fault)
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembership)> {
        Ok((self.progress.applied().map(types::raft_log_id), self.progress.membership()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.store.wait_for_room().await;
            let outcome = self.apply_one(entry).map_err(|fault| self.fault(fault))?;
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        if let Some(applied) = self.progress.applied() {
            self.store.checkpoint(applied, &self.progress.standing(), 0);
        }
        Builder { store: self.store.clone(), on_fault: self.on_fault.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> io::Result<()> {
        self.install(meta, data).await.map_err(|fault| self.fault(fault))
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        if self.store.durable_checkpoint().is_none() {
            return Ok(None);
        }
        snapshot::take(&self.store).map(Some).map_err(|fault| self.fault(fault))
    }
}

/// Makes the newest checkpoint durable, for a snapshot.
pub struct Builder {
    store: StateStore,
    on_fault: OnFault,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let built = match self.store.flush().await {
            Ok(_) => snapshot::take(&self.store),
            Err(fault) => Err(fault),
        };
        built.map_err(|fault| {
            (self.on_fault)(fault.clone());
            other(fault)
        })
    }
}
