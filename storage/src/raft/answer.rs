//! Answering a peer.
//!
//! A broker speaks for itself only: a message that names another as its author is refused. What cannot be read, or says
//! what no leader could say, is answered and harms nobody (`message/`); what openraft or the storage refuses is told as
//! text, for the peer's log.

use bytes::Bytes;
use openraft::errors::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use tidemill_core::fault::Fault;
use tidemill_core::ids::BrokerId;
use tokio::sync::oneshot;

use super::message::answer::Answer;
use super::message::ask::{Ask, Part};
use super::node::Node;
use super::types::{self, TypeConfig};
use crate::log::{LogEntry, LogId, Vote};

impl Node {
    /// The answer to a peer's message.
    pub async fn answer(&self, from: BrokerId, message: Bytes) -> Bytes {
        let answer = match Ask::decode(&message) {
            Ok((group, _)) if group != self.options.group => {
                Answer::Refused(format!("this is {}", self.options.group))
            }
            Ok((_, ask)) if ask.author().is_some_and(|author| author != from) => {
                Answer::Refused(format!("broker {from} speaks for another"))
            }
            Ok((_, ask)) => self.respond(ask).await.unwrap_or_else(Answer::Refused),
            Err(malformed) => {
                tracing::warn!(group = %self.options.group, %from, %malformed, "a message that is none");
                Answer::Malformed
            }
        };
        answer.encode()
    }

    async fn respond(&self, ask: Ask) -> Result<Answer, String> {
        match ask {
            Ask::Append { vote, previous, committed, entries } => {
                self.append(vote, previous, committed, entries).await
            }
            Ask::Vote { vote, last, transfer, pre } => self.vote(vote, last, transfer, pre).await,
            Ask::Transfer { vote, to, last } => self.take_over(vote, to, last).await,
            Ask::Snapshot(part) => self.arriving(part).await,
        }
    }

    /// Works on an arriving snapshot in a task of its own: who asked may go away, and half of it must not be done.
    async fn arriving(&self, part: Part) -> Result<Answer, String> {
        let (tell, told) = oneshot::channel();
        let (arrival, raft) = (self.arrival.clone(), self.raft.clone());
        let working = async move {
            let result = arrival.lock().await.take(&raft, part).await;
            tell.send(result).ok();
        };
        self.spawner.task("snapshot", Box::pin(working));
        let answer = text(told.await.map_err(|_| "it has ended"))?.map_err(|not_taken| not_taken.to_string());
        if matches!(answer, Ok(Answer::Installed(_))) {
            self.recall().await;
        }
        answer
    }

    async fn append(
        &self,
        vote: Vote,
        previous: Option<LogId>,
        committed: Option<LogId>,
        entries: Vec<LogEntry>,
    ) -> Result<Answer, String> {
        let last = entries.last().map(|last| last.id).or(previous);
        let entries: Result<Vec<_>, Fault> = entries.into_iter().map(types::raft_entry).collect();
        let request = AppendEntriesRequest {
            vote: types::raft_vote(vote),
            prev_log_id: previous.map(types::raft_log_id),
            leader_commit: committed.map(types::raft_log_id),
            entries: text(entries)?,
        };
        // openraft itself must not wait for the disk.
        self.log().wait_for_room().await;
        let answer = match self.raft.append_entries(request).await.map_err(said)? {
            AppendEntriesResponse::Success => Answer::Appended(last),
            AppendEntriesResponse::PartialSuccess(upto) => Answer::Appended(upto.as_ref().map(types::log_id)),
            AppendEntriesResponse::Conflict => Answer::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Answer::HigherVote(types::vote(&vote)),
        };
        if matches!(answer, Answer::Appended(_)) {
            self.recall().await;
        }
        Ok(answer)
    }

    async fn vote(
        &self,
        vote: Vote,
        last: Option<LogId>,
        transfer: bool,
        pre: bool,
    ) -> Result<Answer, String> {
        if self.amnesia.lock().is_some() {
            return Err("it has lost what it had promised, and does not vote".to_owned());
        }
        let request = VoteRequest {
            vote: types::raft_vote(vote),
            last_log_id: last.map(types::raft_log_id),
            leadership_transfer: transfer,
        };
        let voted = if pre { self.raft.pre_vote(request).await } else { self.raft.vote(request).await };
        let voted = voted.map_err(said)?;
        Ok(Answer::Voted {
            vote: types::vote(&voted.vote),
            granted: voted.vote_granted,
            last: voted.last_log_id.as_ref().map(types::log_id),
        })
    }

    async fn take_over(&self, vote: Vote, to: BrokerId, last: Option<LogId>) -> Result<Answer, String> {
        if to == self.options.broker && self.amnesia.lock().is_some() {
            return Err("it has lost what it had promised, and does not lead".to_owned());
        }
        let last = last.map(types::raft_log_id);
        let request = TransferLeaderRequest::new(types::raft_vote(vote), to.0, last);
        match text(self.raft.handle_transfer_leader(request).await)? {
            Ok(()) => Ok(Answer::Done),
            Err(refused) => Err(refused.to_string()),
        }
    }
}

fn text<T>(result: Result<T, impl ToString>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn said(error: RaftError<TypeConfig>) -> String {
    error.to_string()
}
