//! Moving log starts, as Kafka's clients ask for it: records below an offset are deleted.
//!
//! Each log start moves in the log of the shard in which its partition lies, all those of one shard in one entry, and the
//! answer waits until that is applied: no fetch that begins after it sees what was deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use tidemill_core::ids::ShardId;
use tidemill_core::limits;
use tidemill_core::shard::trim::{Trim, Verdict};
use tidemill_protocol::api::Response;
use tidemill_protocol::api::messages::delete_records_request::DeleteRecordsPartition;
use tidemill_protocol::api::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use tidemill_protocol::api::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};
use tidemill_protocol::error::ErrorCode;

use super::{Requests, Session, code_of_refused};

/// Says "all that is committed now" in place of an offset.
const HIGH_WATERMARK: i64 = -1;
/// The low watermark of an answer that has none.
const NONE: i64 = -1;

/// One partition of a request: why it is refused, or which of the trims of a shard it is.
struct Part {
    topic: TopicName,
    index: i32,
    place: Result<(ShardId, usize), ErrorCode>,
}

/// Moves the log starts that a request names.
pub async fn answer(requests: &Requests, session: &Session, request: &DeleteRecordsRequest) -> Response {
    let mut parts = Vec::new();
    let mut trims: BTreeMap<ShardId, Vec<Trim>> = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let place = place(requests, session, &topic.name, partition).map(|(shard, trim)| {
                let of_shard = trims.entry(shard).or_default();
                of_shard.push(trim);
                (shard, of_shard.len() - 1)
            });
            parts.push(Part { topic: topic.name.clone(), index: partition.partition_index, place });
        }
    }
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let wait = wait.min(limits::DELETE_RECORDS_WAIT_MAX);
    let moves = trims.into_iter().map(|(id, trims)| async move {
        let moved = tokio::select! {
            moved = move_starts(requests, id, &trims) => moved,
            () = requests.world.clock.sleep(wait) => Err(ErrorCode::REQUEST_TIMED_OUT),
        };
        (id, moved)
    });
    let moved: BTreeMap<_, _> = join_all(moves).await.into_iter().collect();
    Response::DeleteRecords(respond(parts, &moved))
}

fn place(
    requests: &Requests,
    session: &Session,
    topic: &TopicName,
    wanted: &DeleteRecordsPartition,
) -> Result<(ShardId, Trim), ErrorCode> {
    let storage = |_| ErrorCode::KAFKA_STORAGE_ERROR;
    let view = requests.catalog.view();
    let found = requests.catalog.topics().find(&view, &session.tenant, topic).map_err(storage)?;
    let place = found.and_then(|found| found.partition(wanted.partition_index));
    let (at, shard) = place.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let before = if wanted.offset == HIGH_WATERMARK {
        let row = requests.shards[usize::from(shard.0)].partition(at).map_err(storage)?;
        row.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?.end.0
    } else {
        u64::try_from(wanted.offset).map_err(|_| ErrorCode::OFFSET_OUT_OF_RANGE)?
    };
    Ok((shard, Trim { topic: at.topic, partition: at.partition.0, before }))
}

async fn move_starts(requests: &Requests, id: ShardId, trims: &[Trim]) -> Result<Vec<Verdict>, ErrorCode> {
    let shard = &requests.shards[usize::from(id.0)];
    shard.trim(trims).await.map_err(|refused| code_of_refused(&refused))
}

fn respond(
    parts: Vec<Part>,
    moved: &BTreeMap<ShardId, Result<Vec<Verdict>, ErrorCode>>,
) -> DeleteRecordsResponse {
    let mut topics: Vec<DeleteRecordsTopicResult> = Vec::new();
    for part in parts {
        let start = part.place.and_then(|(shard, number)| match &moved[&shard] {
            Ok(verdicts) => verdicts[number].as_ref().map_err(|rejection| rejection.code()),
            Err(code) => Err(*code),
        });
        let answer = DeleteRecordsPartitionResult::default().with_partition_index(part.index);
        let answer = match start {
            Ok(start) => answer.with_low_watermark(start.0 as i64),
            Err(code) => answer.with_low_watermark(NONE).with_error_code(code.0),
        };
        match topics.last_mut().filter(|topic| topic.name == part.topic) {
            Some(topic) => topic.partitions.push(answer),
            None => topics.push(
                DeleteRecordsTopicResult::default().with_name(part.topic).with_partitions(vec![answer]),
            ),
        }
    }
    DeleteRecordsResponse::default().with_topics(topics)
}
