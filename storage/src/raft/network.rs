//! openraft's network: asking a peer, over the transport that the broker was handed.
//!
//! A peer is asked one thing at a time by each of openraft's tasks, and the transport gives up by itself. Whatever else
//! goes wrong is "unreachable" to openraft: it waits a moment and asks again.

use std::future::Future;
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, EntryPayload, OptionalSend};
use tidemill_core::ids::{BrokerId, GroupId};
use tidemill_core::seams::Transport;

use super::message::answer::Answer;
use super::message::ask::Ask;
use super::snapshot::{Snapshot, SnapshotData};
use super::standing;
use super::types::{self, RaftEntryOf, RaftVote, TypeConfig};
use crate::log::{GroupLog, LogEntry, Payload};

/// The way to the other replicas of a group.
#[derive(Clone)]
pub struct Network {
    /// The group.
    pub group: GroupId,
    /// The way to the peers.
    pub transport: Arc<dyn Transport>,
    /// Where the records of a snapshot are read.
    pub log: GroupLog,
}

/// The way to one replica.
pub struct Peer {
    pub(super) network: Network,
    pub(super) to: BrokerId,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Peer {
        Peer { network: self.clone(), to: BrokerId(target) }
    }
}

/// Why a peer gave no answer that helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broker {to}: {why}")]
pub struct NoAnswer {
    to: BrokerId,
    why: String,
}

impl Peer {
    /// Asks, and returns what is answered, unless it is that this was not done.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Answer, NoAnswer> {
        let message = ask.encode(self.network.group);
        // What was asked may be long; it need not be held while the peer works on it.
        drop(ask);
        let answered = self.network.transport.call(self.to, message).await;
        let answer = answered.map_err(|unreachable| self.no_answer(unreachable))?;
        match Answer::decode(&answer).map_err(|malformed| self.no_answer(malformed))? {
            Answer::Refused(why) => Err(self.no_answer(why)),
            Answer::Malformed => Err(self.no_answer("it did not understand")),
            answer => Ok(answer),
        }
    }

    pub(super) fn no_answer(&self, why: impl ToString) -> NoAnswer {
        NoAnswer { to: self.to, why: why.to_string() }
    }

    pub(super) fn strange(&self, answer: &Answer) -> NoAnswer {
        self.no_answer(format!("it answered {answer:?}"))
    }

    async fn ask_for_vote(
        &self,
        request: VoteRequest<TypeConfig>,
        pre: bool,
    ) -> Result<VoteResponse<TypeConfig>, NoAnswer> {
        let ask = Ask::Vote {
            vote: types::vote(&request.vote),
            last: request.last_log_id.as_ref().map(types::log_id),
            transfer: request.leadership_transfer,
            pre,
        };
        match self.ask(ask).await? {
            Answer::Voted { vote, granted, last } => {
                Ok(VoteResponse::new(types::raft_vote(vote), last.map(types::raft_log_id), granted))
            }
            strange => Err(self.strange(&strange)),
        }
    }

    async fn ask_to_append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, NoAnswer> {
        let previous = request.prev_log_id.as_ref().map(types::log_id);
        let entries: Vec<LogEntry> = request.entries.into_iter().map(log_entry).collect();
        let last = entries.last().map(|last| last.id).or(previous);
        let vote = types::vote(&request.vote);
        let committed = request.leader_commit.as_ref().map(types::log_id);
        match self.ask(Ask::Append { vote, previous, committed, entries }).await? {
            Answer::Appended(upto) if upto == last => Ok(AppendEntriesResponse::Success),
            Answer::Appended(upto) => Ok(AppendEntriesResponse::PartialSuccess(upto.map(types::raft_log_id))),
            Answer::Conflict => Ok(AppendEntriesResponse::Conflict),
            Answer::HigherVote(vote) => Ok(AppendEntriesResponse::HigherVote(types::raft_vote(vote))),
            strange => Err(self.strange(&strange)),
        }
    }
}

/// openraft's entry, as it came out of the log.
fn log_entry(entry: RaftEntryOf) -> LogEntry {
    let id = types::log_id(&entry.log_id());
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(proposed) => Payload::Entry(proposed.entry().clone()),
        EntryPayload::Membership(membership) => Payload::Membership(standing::encode_membership(&membership)),
    };
    LogEntry { id, payload }
}

impl From<NoAnswer> for RPCError<TypeConfig> {
    fn from(error: NoAnswer) -> Self {
        RPCError::Unreachable(Unreachable::new(&error))
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.ask_to_append(request).await?)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.ask_for_vote(request, false).await?)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.ask_for_vote(request, true).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sent = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(types::vote(&vote), &snapshot.snapshot) => sent,
        };
        match sent {
            Ok(vote) => Ok(SnapshotResponse::new(types::raft_vote(vote))),
            Err(error) => {
                tracing::info!(group = %self.network.group, %error, "a snapshot was not sent to its end");
                Err(StreamingError::Unreachable(Unreachable::new(&error)))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let ask = Ask::Transfer {
            vote: types::vote(request.from_leader()),
            to: BrokerId(*request.to_node_id()),
            last: request.last_log_id().map(types::log_id),
        };
        match self.ask(ask).await? {
            Answer::Done => Ok(Ok(())),
            strange => Err(self.strange(&strange).into()),
        }
    }
}
