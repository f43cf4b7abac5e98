//! Keeping offsets for consumers that assign their partitions themselves.
//!
//! Each offset goes into the log of the shard in which its partition lies, all those of one shard in one entry. They
//! are decided when the request begins, so that of two commits on a stream the later one counts; the answer waits
//! for the shards' commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tidemill_core::ids::ShardId;
use tidemill_core::limits;
use tidemill_core::rejection::Rejection;
use tidemill_core::seams::BoxFuture;
use tidemill_core::shard::group_offsets::{self, NewOffset, Verdict};
use tidemill_protocol::api::Response;
use tidemill_protocol::api::messages::offset_commit_request::OffsetCommitRequestPartition;
use tidemill_protocol::api::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use tidemill_protocol::api::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{Offset, TopicPartition};

use super::{Requests, Session, refused_group};
use crate::catalog::topics::Topic;
use crate::shards::{Commit, Refused};

/// One partition of a request, and what is known of its answer.
struct Part {
    topic: TopicName,
    index: i32,
    answer: Answer,
}

enum Answer {
    Refused(ErrorCode),
    /// It is decided with the offsets of a shard: which of them it is.
    Decided(ShardId, usize),
}

/// What a shard makes of its offsets: a verdict each, or what failed for all.
type Share = Result<Vec<Verdict>, ErrorCode>;

/// Begins to keep what a request holds.
pub async fn begin(
    requests: &Arc<Requests>,
    session: &Session,
    request: OffsetCommitRequest,
) -> BoxFuture<Response> {
    let group = request.group_id.to_string();
    let (parts, offsets) = sort(requests, session, request);
    let mut shares: BTreeMap<ShardId, Share> = BTreeMap::new();
    let mut commits = Vec::new();
    for (id, offsets) in offsets {
        let shard = &requests.shards[usize::from(id.0)];
        match shard.propose(|deciding| group_offsets::decide(deciding, &group, &offsets)).await {
            Ok((verdicts, commit)) => {
                shares.insert(id, Ok(verdicts));
                commits.push((id, commit));
            }
            Err(refused) => {
                shares.insert(id, Err(code_of(&refused)));
            }
        }
    }
    let requests = requests.clone();
    Box::pin(async move {
        wait(&requests, &mut shares, commits).await;
        Response::OffsetCommit(respond(parts, &shares))
    })
}

/// Looks at each offset, and sorts them by the shards of their partitions.
fn sort(
    requests: &Requests,
    session: &Session,
    request: OffsetCommitRequest,
) -> (Vec<Part>, BTreeMap<ShardId, Vec<NewOffset>>) {
    let whole = refused_whole(&request);
    let mut parts = Vec::new();
    let mut offsets: BTreeMap<ShardId, Vec<NewOffset>> = BTreeMap::new();
    for topic in request.topics {
        let view = requests.catalog.view();
        let found = requests.catalog.topics().find(&view, &session.tenant, &topic.name);
        let found = found.map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR);
        for partition in topic.partitions {
            let index = partition.partition_index;
            let placed = match (whole, &found) {
                (Some(code), _) | (None, &Err(code)) => Err(code),
                (None, Ok(found)) => place(found.as_deref(), partition),
            };
            let answer = match placed {
                Err(code) => Answer::Refused(code),
                Ok((shard, new)) => {
                    let of_shard = offsets.entry(shard).or_default();
                    of_shard.push(new);
                    Answer::Decided(shard, of_shard.len() - 1)
                }
            };
            parts.push(Part { topic: topic.name.clone(), index, answer });
        }
    }
    (parts, offsets)
}

/// Why nothing of a request is done. Whoever is no member of anything names neither member nor generation.
fn refused_whole(request: &OffsetCommitRequest) -> Option<ErrorCode> {
    let is_member = !request.member_id.is_empty() || request.group_instance_id.is_some();
    refused_group(&request.group_id)
        .or((request.generation_id_or_member_epoch >= 0).then_some(ErrorCode::ILLEGAL_GENERATION))
        .or(is_member.then_some(ErrorCode::UNKNOWN_MEMBER_ID))
}

fn place(
    topic: Option<&Topic>,
    partition: OffsetCommitRequestPartition,
) -> Result<(ShardId, NewOffset), ErrorCode> {
    let place: Option<(TopicPartition, ShardId)> =
        topic.and_then(|topic| topic.partition(partition.partition_index));
    let (at, shard) = place.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    // Kafka's clients refuse a negative one themselves: to whoever fetches it, -1 says that there is none.
    let offset = u64::try_from(partition.committed_offset).map_err(|_| ErrorCode::INVALID_REQUEST)?;
    let new = NewOffset {
        at,
        offset: Offset(offset),
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.map(|text| text.to_string()).unwrap_or_default(),
    };
    Ok((shard, new))
}

/// Waits for the commits, for a while.
async fn wait(requests: &Requests, shares: &mut BTreeMap<ShardId, Share>, commits: Vec<(ShardId, Commit)>) {
    let waiting = commits.into_iter().map(|(shard, commit)| async move { (shard, commit.applied().await) });
    let ends = tokio::select! {
        ends = join_all(waiting) => ends,
        () = requests.world.clock.sleep(limits::OFFSET_COMMIT_WAIT_MAX) => {
            shares.values_mut().for_each(|share| *share = Err(ErrorCode::REQUEST_TIMED_OUT));
            return;
        }
    };
    for (shard, end) in ends {
        if let Err(refused) = end {
            shares.insert(shard, Err(code_of(&refused)));
        }
    }
}

/// What clients do something about: the coordinator is asked for anew, and the commit tried again.
fn code_of(refused: &Refused) -> ErrorCode {
    match refused {
        Refused::NotLeader | Refused::Unknown => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        Refused::Fault(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

fn respond(parts: Vec<Part>, shares: &BTreeMap<ShardId, Share>) -> OffsetCommitResponse {
    let mut topics: Vec<OffsetCommitResponseTopic> = Vec::new();
    for part in parts {
        let code = match part.answer {
            Answer::Refused(code) => code,
            Answer::Decided(shard, number) => match &shares[&shard] {
                Err(code) => *code,
                Ok(verdicts) => verdicts[number].as_ref().err().map_or(ErrorCode::NONE, Rejection::code),
            },
        };
        let partition =
            OffsetCommitResponsePartition::default().with_partition_index(part.index).with_error_code(code.0);
        match topics.last_mut().filter(|topic| topic.name == part.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(
                OffsetCommitResponseTopic::default().with_name(part.topic).with_partitions(vec![partition]),
            ),
        }
    }
    OffsetCommitResponse::default().with_topics(topics)
}
