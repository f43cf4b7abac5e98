//! A snapshot on its way to openraft and back: a checkpoint of the tables. The records below it are not part of it.
//!
//! They lie in the log already, on the replica that sends; and on the one that receives they go into the log, by ranges
//! ([`arrival`](super::arrival)), before the tables do. So a snapshot is small, and nothing is held twice.

use std::sync::Arc;

use openraft::EmptyNode;
use openraft::type_config::alias::SnapshotOf;
use tidemill_core::fault::Fault;
use tidemill_core::limits;

use super::standing::Standing;
use super::types::{self, CommittedLeaderId, TypeConfig};
use crate::log::{GroupLog, LogId};
use crate::state::{Checkpoint, Dump, Install, StateStore};

/// openraft's snapshot.
pub type Snapshot = SnapshotOf<TypeConfig, SnapshotData>;
/// What openraft knows of a snapshot.
pub type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, EmptyNode>;

/// The tables of a snapshot.
pub enum SnapshotData {
    /// A durable checkpoint of this replica, to be sent.
    Kept(Arc<Dump>),
    /// A checkpoint of another replica that has arrived whole, with its standing: to be put in the place of this one's.
    Arrived(Install, Checkpoint),
}

impl SnapshotData {
    /// Ready to be put in the place of these tables.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn into_install(self, store: &StateStore) -> Result<Install, Fault> {
        match self {
            SnapshotData::Arrived(install, _) => Ok(install),
            SnapshotData::Kept(dump) => copy(&dump, store),
        }
    }
}

fn copy(dump: &Dump, store: &StateStore) -> Result<Install, Fault> {
    let mut install = store.install()?;
    let mut after = None;
    loop {
        let rows = dump.page(after.as_deref(), limits::RAFT_PAGE_BYTES)?;
        let Some((last, _)) = rows.last() else { return Ok(install) };
        after = Some(last.clone());
        install.page(&rows)?;
    }
}

/// What a snapshot is a checkpoint of.
pub fn checkpoint(meta: &SnapshotMeta, data: &SnapshotData) -> Checkpoint {
    match data {
        SnapshotData::Kept(dump) => dump.checkpoint().clone(),
        SnapshotData::Arrived(_, checkpoint) => {
            debug_assert_eq!(meta.last_log_id.as_ref().map(types::log_id), checkpoint.applied);
            checkpoint.clone()
        }
    }
}

/// What openraft is told of a checkpoint.
///
/// # Errors
/// A [`Fault`] when its standing is damaged.
pub fn meta(checkpoint: &Checkpoint) -> Result<SnapshotMeta, Fault> {
    let standing = Standing::decode(&checkpoint.standing)
        .map_err(|malformed| Fault::damaged("the standing of a checkpoint", malformed))?;
    let last_log_id = checkpoint.applied.map(types::raft_log_id);
    Ok(SnapshotMeta { last_log_id, last_membership: standing.membership })
}

/// A snapshot of the last durable checkpoint.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn take(store: &StateStore) -> Result<Snapshot, Fault> {
    let dump = store.dump();
    Ok(Snapshot { meta: meta(dump.checkpoint())?, snapshot: SnapshotData::Kept(Arc::new(dump)) })
}

/// Makes the log fit tables that were installed up to `applied`. Where the log holds that entry it may stay, with what
/// lies behind it; else the records that arrived take its place.
///
/// # Errors
/// A [`Fault`] of the log.
pub async fn settle_log(log: &GroupLog, applied: LogId) -> Result<(), Fault> {
    if holds(log, applied)? {
        return match log.installing() {
            Some(_) => log.discard_install().await,
            None => Ok(()),
        };
    }
    log.reset_to(applied).await
}

/// Whether the log has this entry, or ends with it.
fn holds(log: &GroupLog, id: LogId) -> Result<bool, Fault> {
    if log.last_id() == Some(id) {
        return Ok(true);
    }
    let entries = log.entries(id.index.0..id.index.0 + 1, usize::MAX)?;
    Ok(entries.first().is_some_and(|entry| entry.id == id))
}
