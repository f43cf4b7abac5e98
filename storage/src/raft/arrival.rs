//! A snapshot that arrives, page by page: the other end of [`departure`](super::departure).
//!
//! Messages may come twice, late, and from a leader of the past. A page is taken only if it goes on where the last one
//! ended; one that is there already is acknowledged again. Records go straight into the log's waiting room, durably
//! ([`GroupLog::install_range`]), and survive a restart; rows are kept by the tables' own until the end, and do not.
//! Nothing of it shows before openraft has taken the whole.

use bytes::Bytes;
use openraft::Raft;
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;

use super::machine::StateMachine;
use super::message::answer::Answer;
use super::message::ask::Part;
use super::snapshot::{self, Snapshot, SnapshotData};
use super::types::{self, TypeConfig};
use crate::log::{GroupLog, LogEntry, LogId, Vote};
use crate::state::{Checkpoint, Install, StateStore};

/// Where snapshots of a group arrive, one at a time.
pub struct Arrival {
    log: GroupLog,
    tables: StateStore,
    arriving: Option<Arriving>,
}

struct Arriving {
    vote: Vote,
    snapshot: LogId,
    standing: Bytes,
    install: Install,
    /// The last key that is there.
    after: Option<Bytes>,
}

/// Why something of a snapshot was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The sender is told, and may begin again.
    #[error("{0}")]
    Refused(&'static str),
    /// The storage failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Arrival {
    /// Nothing is arriving yet, but records may be there from before a restart.
    pub fn new(log: GroupLog, tables: StateStore) -> Arrival {
        Arrival { log, tables, arriving: None }
    }

    /// Takes a part.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub async fn take(
        &mut self,
        raft: &Raft<TypeConfig, StateMachine>,
        part: Part,
    ) -> Result<Answer, NotTaken> {
        match part {
            Part::Begin { vote, snapshot, standing, afresh } => {
                self.begin(vote, snapshot, standing, afresh).await
            }
            Part::Records { snapshot, entries } => self.records(snapshot, entries).await,
            Part::Rows { snapshot, after, rows } => self.rows(snapshot, after, &rows),
            Part::End { vote, snapshot, first } => self.end(raft, vote, snapshot, first).await,
        }
    }

    async fn begin(
        &mut self,
        vote: Vote,
        snapshot: LogId,
        standing: Bytes,
        afresh: bool,
    ) -> Result<Answer, NotTaken> {
        if self.arriving.as_ref().is_some_and(|arriving| vote.term < arriving.vote.term) {
            return Err(NotTaken::Refused("the snapshot of a later leader is arriving"));
        }
        let is_known = |arriving: &Arriving| arriving.snapshot == snapshot && arriving.standing == standing;
        if !self.arriving.as_ref().is_some_and(is_known) {
            let checkpoint = Checkpoint { applied: Some(snapshot), standing: standing.clone() };
            snapshot::meta(&checkpoint).map_err(|_| NotTaken::Refused("that is no standing"))?;
            let install = self.tables.install()?;
            self.arriving = Some(Arriving { vote, snapshot, standing, install, after: None });
        }
        let is_too_long = self.log.installing().is_some_and(|(_, last)| last.index > snapshot.index);
        if afresh || is_too_long {
            self.log.discard_install().await?;
        }
        let arriving = self.arriving.as_mut().ok_or(NotTaken::Refused("no snapshot was begun"))?;
        arriving.vote = vote;
        Ok(Answer::Have { records: self.log.installing(), after: arriving.after.clone() })
    }

    /// Records below it.
    async fn records(&mut self, snapshot: LogId, entries: Vec<LogEntry>) -> Result<Answer, NotTaken> {
        self.arriving(snapshot)?;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(Answer::Done) };
        if last.id.index > snapshot.index || (last.id.index == snapshot.index && last.id != snapshot) {
            return Err(NotTaken::Refused("these are records of another snapshot"));
        }
        match self.log.installing() {
            Some((_, have)) if last.id.index <= have.index => return Ok(Answer::Done),
            Some((_, have)) if first.id.index.0 != have.index.0 + 1 => {
                return Err(NotTaken::Refused("records are missing before these"));
            }
            _ => {}
        }
        self.log.install_range(entries).await?;
        Ok(Answer::Done)
    }

    /// Rows of its tables.
    fn rows(
        &mut self,
        snapshot: LogId,
        after: Option<Bytes>,
        rows: &[(Bytes, Bytes)],
    ) -> Result<Answer, NotTaken> {
        let arriving = self.arriving(snapshot)?;
        let Some((last, _)) = rows.last() else { return Ok(Answer::Done) };
        if arriving.after.as_ref().is_some_and(|have| last <= have) {
            return Ok(Answer::Done);
        }
        if arriving.after != after {
            return Err(NotTaken::Refused("rows are missing before these"));
        }
        arriving.install.page(rows)?;
        arriving.after = Some(last.clone());
        Ok(Answer::Done)
    }

    /// It is complete: openraft is given it, and may take it.
    async fn end(
        &mut self,
        raft: &Raft<TypeConfig, StateMachine>,
        vote: Vote,
        snapshot: LogId,
        first: Option<LogIndex>,
    ) -> Result<Answer, NotTaken> {
        self.arriving(snapshot)?;
        if snapshot.term > vote.term || !vote.committed {
            return Err(NotTaken::Refused("no leader of this term has such a snapshot"));
        }
        let records = self.log.installing().map(|(first, last)| (first, last.index));
        if records != first.map(|first| (first, snapshot.index)) {
            return Err(NotTaken::Refused("records are missing"));
        }
        let arrived = self.arriving.take().ok_or(NotTaken::Refused("no snapshot was begun"))?;
        let checkpoint = Checkpoint { applied: Some(snapshot), standing: arrived.standing };
        let meta = snapshot::meta(&checkpoint)?;
        let data = SnapshotData::Arrived(arrived.install, checkpoint);
        let given = Snapshot { meta, snapshot: data };
        let installed = raft.install_full_snapshot(types::raft_vote(vote), given).await;
        let installed = installed.map_err(|_| NotTaken::Refused("it is about to end"))?;
        // What was not needed is dropped.
        if self.log.installing().is_some() {
            self.log.discard_install().await?;
        }
        Ok(Answer::Installed(types::vote(&installed.vote)))
    }

    fn arriving(&mut self, snapshot: LogId) -> Result<&mut Arriving, NotTaken> {
        let arriving = self.arriving.as_mut().filter(|arriving| arriving.snapshot == snapshot);
        arriving.ok_or(NotTaken::Refused("no such snapshot was begun"))
    }
}
