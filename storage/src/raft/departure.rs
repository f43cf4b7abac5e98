//! A snapshot that is sent, page by page.
//!
//! ```text
//!   begin ──▶ have: records up to i, rows up to k
//!   records (i, snapshot], a page at a time ──▶ done
//!   rows above k, a page at a time ──▶ done
//!   end ──▶ installed
//! ```
//!
//! What breaks off is begun again by openraft, and goes on where the peer is. Records are the same in every snapshot,
//! so they go on also from another leader; rows only within the same snapshot.

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;

use super::message::answer::Answer;
use super::message::ask::{Ask, Part};
use super::network::{NoAnswer, Peer};
use super::snapshot::SnapshotData;
use crate::log::{LogId, Vote};
use crate::state::Dump;

/// Why a snapshot was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The peer did not take it.
    #[error(transparent)]
    Peer(#[from] NoAnswer),
    /// It could not be read here. Whoever read it has reported the fault already.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Peer {
    /// Sends a snapshot with the records below it, as far as the peer does not have them. Returns the peer's vote.
    pub(super) async fn send_snapshot(&self, vote: Vote, snapshot: &SnapshotData) -> Result<Vote, SendError> {
        let SnapshotData::Kept(dump) = snapshot else {
            return Err(self.no_answer("a snapshot that is still arriving is not sent on").into());
        };
        let Some(id) = dump.checkpoint().applied else {
            return Err(self.no_answer("a snapshot of nothing is not sent").into());
        };
        let (mut records, after) = self.begin(vote, dump, id, false).await?;
        if records.is_some_and(|(_, last)| !self.is_ours(last)) {
            (records, _) = self.begin(vote, dump, id, true).await?;
        }
        let first = self.send_records(records, id).await?;
        self.send_rows(dump, id, after).await?;
        match self.ask(Ask::Snapshot(Part::End { vote, snapshot: id, first })).await? {
            Answer::Installed(vote) => Ok(vote),
            strange => Err(self.strange(&strange).into()),
        }
    }

    async fn begin(
        &self,
        vote: Vote,
        dump: &Dump,
        snapshot: LogId,
        afresh: bool,
    ) -> Result<(Option<(LogIndex, LogId)>, Option<Bytes>), SendError> {
        let standing = dump.checkpoint().standing.clone();
        match self.ask(Ask::Snapshot(Part::Begin { vote, snapshot, standing, afresh })).await? {
            Answer::Have { records, after } => Ok((records, after)),
            strange => Err(self.strange(&strange).into()),
        }
    }

    /// Whether what the peer has may be gone on from here.
    fn is_ours(&self, last: LogId) -> bool {
        let entries = self.network.log.entries(last.index.0..last.index.0 + 1, usize::MAX);
        entries.is_ok_and(|entries| entries.first().is_some_and(|entry| entry.id == last))
    }

    /// Sends the records behind those that the peer has; returns the first that it has then.
    async fn send_records(
        &self,
        have: Option<(LogIndex, LogId)>,
        snapshot: LogId,
    ) -> Result<Option<LogIndex>, SendError> {
        let log = &self.network.log;
        let Some(lowest) = log.first_index().filter(|first| *first <= snapshot.index) else {
            return Ok(None);
        };
        let (first, mut next) = have.map_or((lowest, lowest.0), |(first, last)| (first, last.index.0 + 1));
        while next <= snapshot.index.0 {
            let entries = log.entries(next..snapshot.index.0 + 1, limits::RAFT_PAGE_BYTES)?;
            let Some(last) = entries.last() else {
                return Err(self.no_answer(format!("records from {next} on are gone")).into());
            };
            next = last.id.index.0 + 1;
            self.done(Ask::Snapshot(Part::Records { snapshot, entries })).await?;
        }
        Ok(Some(first))
    }

    async fn send_rows(&self, dump: &Dump, snapshot: LogId, after: Option<Bytes>) -> Result<(), SendError> {
        let mut after = after;
        loop {
            let rows = dump.page(after.as_deref(), limits::RAFT_PAGE_BYTES)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            let next = Some(last.clone());
            self.done(Ask::Snapshot(Part::Rows { snapshot, after, rows })).await?;
            after = next;
        }
    }

    async fn done(&self, ask: Ask) -> Result<(), SendError> {
        match self.ask(ask).await? {
            Answer::Done => Ok(()),
            strange => Err(self.strange(&strange).into()),
        }
    }
}
