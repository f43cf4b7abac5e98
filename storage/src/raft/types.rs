//! openraft's types of ours, and the way between them and our words.
//!
//! What is written to disk or said to a peer is made of our words only: [`LogId`], [`Vote`], [`LogEntry`].

use openraft::entry::RaftEntry;
use openraft::impls::{BoxedErrorSource, InlineBatch, leader_id_std};
use openraft::rt::deterministic_rng::DeterministicRng;
use openraft::type_config::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::vote::RaftLeaderId;
use openraft::{EmptyNode, EntryPayload, OptionalSend, RaftTypeConfig};
use openraft_rt_tokio::TokioRuntime;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, LogIndex, Term};

use super::machine::Outcome;
use super::reign::{Proposed, Tell};
use super::standing;
use crate::log::{LogEntry, LogId, Payload, Vote};

/// tokio, with random numbers that follow from a seed.
pub type Runtime = DeterministicRng<TokioRuntime>;

/// A group's Raft: brokers by their ids, one leader a term, entries of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Proposed;
    type R = Outcome;
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::impls::Vote<LeaderId>;
    type Payload = EntryPayload<Proposed, u64, EmptyNode>;
    type Entry = openraft::impls::Entry<CommittedLeaderId, Self::Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Tell<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// openraft's log id.
pub type RaftLogId = LogIdOf<TypeConfig>;
/// openraft's vote.
pub type RaftVote = VoteOf<TypeConfig>;
/// openraft's entry.
pub type RaftEntryOf = EntryOf<TypeConfig>;
/// openraft's name of a leader whose entries may be committed: its term.
pub type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;

type LeaderId = leader_id_std::LeaderId<u64, u64>;

/// Ours to openraft's.
pub fn raft_log_id(id: LogId) -> RaftLogId {
    RaftLogId::new(raft_term(id.term), id.index.0)
}

/// A term, as openraft names the leader of committed entries.
pub fn raft_term(term: Term) -> CommittedLeaderId {
    // In entries, only the term of a leader is kept.
    LeaderId { term: term.0, voted_for: 0 }.to_committed()
}

/// openraft's to ours.
pub fn log_id(id: &RaftLogId) -> LogId {
    LogId { term: Term(**id.committed_leader_id()), index: LogIndex(id.index()) }
}

/// Ours to openraft's.
pub fn raft_vote(vote: Vote) -> RaftVote {
    let voted_for = vote.node.unwrap_or_default().0;
    RaftVote { leader_id: LeaderId { term: vote.term.0, voted_for }, committed: vote.committed }
}

/// openraft's to ours.
pub fn vote(vote: &RaftVote) -> Vote {
    let LeaderId { term, voted_for } = vote.leader_id;
    Vote { term: Term(term), node: Some(BrokerId(voted_for)), committed: vote.committed }
}

/// Ours to openraft's.
///
/// # Errors
/// [`Fault::Damaged`] for a membership that is none.
pub fn raft_entry(entry: LogEntry) -> Result<RaftEntryOf, Fault> {
    let payload = match entry.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Entry(entry) => EntryPayload::Normal(Proposed::read(entry)),
        Payload::Membership(bytes) => EntryPayload::Membership(
            standing::decode_membership(&bytes)
                .map_err(|malformed| Fault::damaged("a membership entry", malformed))?,
        ),
    };
    Ok(RaftEntryOf::new(raft_log_id(entry.id), payload))
}
