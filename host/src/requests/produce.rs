//! Appending batches.
//!
//! All batches of a request for one shard go into one entry. They are decided when the request begins, in the order
//! of the stream; the answer waits for their commit. It keeps nothing of the request's bytes, nor of the room that they
//! had: its client may be slow to take it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tidemill_core::ids::ShardId;
use tidemill_core::limits;
use tidemill_core::rejection::Rejection;
use tidemill_core::seams::BoxFuture;
use tidemill_core::shard::Deciding;
use tidemill_core::shard::produce::{self, Produced, Verdict};
use tidemill_protocol::api::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use tidemill_protocol::api::messages::{ProduceRequest, ProduceResponse, TopicName};
use tidemill_protocol::api::{Response, StrBytes};
use tidemill_protocol::batch::{self, BatchError};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids;
use tokio::sync::OwnedSemaphorePermit;

use super::{Requests, Session, code_of_refused, told, words};
use crate::shards::{Commit, Refused};

/// One partition of a request, and what is known of its answer.
struct Part {
    topic: TopicName,
    index: i32,
    answer: Answer,
}

enum Answer {
    Refused(ErrorCode, String),
    /// There is no such partition.
    Missing,
    /// It is decided with the batches of a shard: which of them it is.
    Decided(ShardId, usize),
}

/// What a shard made of its batches.
struct Share {
    verdicts: Vec<Verdict>,
    commit: Option<Commit>,
    failed: Option<ErrorCode>,
}

/// The first version of the request whose senders, and whoever reads what they send, know zstd.
const KNOWS_ZSTD: i16 = 7;

/// Begins to append what a request of this version holds.
pub async fn begin(
    requests: &Arc<Requests>,
    session: &Session,
    request: ProduceRequest,
    version: i16,
) -> BoxFuture<Response> {
    let start = requests.world.clock.monotonic();
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let (mut parts, batches) = sort(requests, session, request, version);
    let bytes: usize = batches.values().flatten().map(|produced| produced.batch.len()).sum();
    let records: u64 =
        batches.values().flatten().map(|produced| u64::from(produced.header.record_count)).sum();
    let room = Arc::new(room(requests, bytes).await);

    let mut shares = BTreeMap::new();
    for (shard, batches) in batches {
        let share = match propose(requests, shard, &batches, room.clone()).await {
            Ok((verdicts, commit)) => Share { verdicts, commit: Some(commit), failed: None },
            Err(refused) => {
                Share { verdicts: Vec::new(), commit: None, failed: Some(code_of_refused(&refused)) }
            }
        };
        shares.insert(shard, share);
    }

    let requests = requests.clone();
    Box::pin(async move {
        wait(&requests, &mut shares, timeout).await;
        let took = requests.world.clock.monotonic().saturating_sub(start);
        requests.metrics.produced(records, bytes as u64, took);
        Response::Produce(respond(&mut parts, &shares))
    })
}

/// Appends the batches of a shard. Their room is given back once they are applied, or nobody can know any more whether
/// they are; nobody has to ask for the answer.
async fn propose(
    requests: &Requests,
    shard: ShardId,
    batches: &[Produced],
    room: Arc<Option<OwnedSemaphorePermit>>,
) -> Result<(Vec<Verdict>, Commit), Refused> {
    let shard = &requests.shards[usize::from(shard.0)];
    let leader = shard.leader().ok_or(Refused::NotLeader)?;
    let now = requests.world.clock.now();
    let decide = |deciding: &Deciding| produce::decide(deciding, batches);
    let (verdicts, commit) = leader.propose(&shard.group, now, decide).await?;
    leader.when_applied(&commit, move || drop(room));
    Ok((verdicts, commit))
}

/// Holds the bytes of batches until their commit, so that their sum over all clients is bounded.
async fn room(requests: &Requests, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let bytes = u32::try_from(bytes.min(limits::PRODUCE_PENDING_BYTES_MAX)).unwrap_or(u32::MAX);
    requests.room.clone().acquire_many_owned(bytes).await.ok()
}

/// Checks the batches, and sorts them by their shards.
fn sort(
    requests: &Requests,
    session: &Session,
    request: ProduceRequest,
    version: i16,
) -> (Vec<Part>, BTreeMap<ShardId, Vec<Produced>>) {
    let full = requests.reserve.check().err().map(|full| (full.code(), full.to_string()));
    let whole = refused_whole(&request).or(full);
    let mut parts = Vec::new();
    let mut batches: BTreeMap<ShardId, Vec<Produced>> = BTreeMap::new();
    for topic in request.topic_data {
        let view = requests.catalog.view();
        let found = requests.catalog.topics().find(&view, &session.tenant, &topic.name);
        // The name as it came shares the memory of the whole request.
        let name = TopicName(StrBytes::from_string(topic.name.to_string()));
        for data in topic.partition_data {
            let place =
                found.as_ref().ok().and_then(Option::as_ref).and_then(|found| found.partition(data.index));
            let answer = match (&whole, &found, place) {
                (Some((code, why)), _, _) => Answer::Refused(*code, why.clone()),
                (None, Err(fault), _) => Answer::Refused(ErrorCode::KAFKA_STORAGE_ERROR, fault.to_string()),
                (None, Ok(_), None) => Answer::Missing,
                (None, Ok(_), Some((at, shard))) => {
                    let of_shard = batches.entry(shard).or_default();
                    match check(data.records, version) {
                        Err((code, why)) => Answer::Refused(code, why),
                        Ok(_) if of_shard.iter().any(|other| other.at == at) => {
                            let why = "the request names a partition twice".to_owned();
                            Answer::Refused(ErrorCode::INVALID_REQUEST, why)
                        }
                        Ok((batch, header)) => {
                            of_shard.push(Produced { at, batch, header });
                            Answer::Decided(shard, of_shard.len() - 1)
                        }
                    }
                }
            };
            parts.push(Part { topic: name.clone(), index: data.index, answer });
        }
    }
    batches.retain(|_, batches| !batches.is_empty());
    (parts, batches)
}

/// That there is no such partition. A request may name a hundred thousand, all of one topic: a name that no topic can
/// have, which may be long, is not repeated.
fn missing(topic: &TopicName, index: i32) -> String {
    let can_be = topic.len() <= ids::TopicName::BYTES_MAX && ids::TopicName::new(&***topic).is_ok();
    if can_be {
        format!("there is no partition {index} of topic {:?}", &**topic)
    } else {
        format!("there is no partition {index} of a topic that cannot be")
    }
}

/// Why nothing of a request is done.
fn refused_whole(request: &ProduceRequest) -> Option<(ErrorCode, String)> {
    if request.transactional_id.is_some() {
        let why = "transactional.id: transactions are not offered; leave it out".to_owned();
        return Some((ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, why));
    }
    (!matches!(request.acks, -1..=1)).then(|| {
        let why = format!("acks {}: use 0, 1 or -1 (all)", request.acks);
        (ErrorCode::INVALID_REQUIRED_ACKS, why)
    })
}

/// The one batch of a partition's records, checked.
fn check(records: Option<Bytes>, version: i16) -> Result<(Bytes, batch::BatchHeader), (ErrorCode, String)> {
    let refused = |error: BatchError| (error.code(), error.to_string());
    let records = records.filter(|records| !records.is_empty());
    let records = records.ok_or_else(|| (ErrorCode::INVALID_RECORD, "there are no records".to_owned()))?;
    let header = batch::BatchHeader::parse(&records).map_err(refused)?;
    if (header.batch_bytes as usize) < records.len() && batch::split(records.clone()).is_ok() {
        let why = "a request holds one batch for each partition".to_owned();
        return Err((ErrorCode::RECORD_LIST_TOO_LARGE, why));
    }
    if version < KNOWS_ZSTD && header.codec() == Ok(Codec::Zstd) {
        let why = format!("zstd is for Produce {KNOWS_ZSTD} and later, and this is version {version}");
        return Err((ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, why));
    }
    let header = batch::verify(&records, &limits::ACCEPTED_BATCH).map_err(refused)?;
    Ok((records, header))
}

/// Waits for the commits, as long as the client does.
async fn wait(requests: &Requests, shares: &mut BTreeMap<ShardId, Share>, timeout: Duration) {
    let mut waiting = Vec::new();
    for (shard, share) in shares.iter_mut() {
        let shard = *shard;
        if let Some(commit) = share.commit.take() {
            waiting.push(async move { (shard, commit.applied().await) });
        }
    }
    let ends = tokio::select! {
        ends = join_all(waiting) => ends,
        () = requests.world.clock.sleep(timeout) => {
            shares.values_mut().for_each(|share| share.failed = share.failed.or(Some(ErrorCode::REQUEST_TIMED_OUT)));
            return;
        }
    };
    for (shard, end) in ends {
        if let (Err(refused), Some(share)) = (end, shares.get_mut(&shard)) {
            share.failed = Some(code_of_refused(&refused));
        }
    }
}

fn respond(parts: &mut Vec<Part>, shares: &BTreeMap<ShardId, Share>) -> ProduceResponse {
    let mut topics: Vec<TopicProduceResponse> = Vec::new();
    for part in parts.drain(..) {
        let answer = PartitionProduceResponse::default()
            .with_index(part.index)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1);
        let answer = match part.answer {
            Answer::Refused(code, why) => answer.with_error_code(code.0).with_error_message(words(why)),
            Answer::Missing => answer
                .with_error_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0)
                .with_error_message(words(missing(&part.topic, part.index))),
            Answer::Decided(shard, number) => decided(answer, &shares[&shard], number),
        };
        match topics.last_mut().filter(|topic| topic.name == part.topic) {
            Some(topic) => topic.partition_responses.push(answer),
            None => topics.push(
                TopicProduceResponse::default().with_name(part.topic).with_partition_responses(vec![answer]),
            ),
        }
    }
    ProduceResponse::default().with_responses(topics)
}

fn decided(answer: PartitionProduceResponse, share: &Share, number: usize) -> PartitionProduceResponse {
    let verdict = share.verdicts.get(number);
    if let Some(Verdict::Refuse(rejection)) = verdict {
        let (code, why) = told(rejection);
        return answer.with_error_code(code).with_error_message(why);
    }
    match (share.failed, verdict) {
        (None, Some(Verdict::Append { base_offset } | Verdict::Duplicate { base_offset })) => {
            answer.with_base_offset(base_offset.0 as i64)
        }
        (failed, _) => answer.with_error_code(failed.unwrap_or_else(|| Rejection::NotLeader.code()).0),
    }
}
