//! Reading batches, waiting for them if need be.
//!
//! Batches go out as they lie in the log. A fetch session is not kept: every request names all that it wants, which
//! Kafka's protocol allows.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidemill_core::limits;
use tidemill_core::rejection::Rejection;
use tidemill_protocol::api::Response;
use tidemill_protocol::api::messages::fetch_request::FetchPartition;
use tidemill_protocol::api::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use tidemill_protocol::api::messages::{FetchRequest, FetchResponse, TopicName};
use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::codec::Codec;
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{Offset, TopicPartition};
use tokio::sync::Notify;

use super::{Requests, Session, check_epoch};
use crate::shards::Shard;

/// A partition that is asked for, and where it is.
struct Wanted {
    topic: TopicName,
    request: FetchPartition,
    place: Result<(TopicPartition, Arc<Shard>), ErrorCode>,
}

/// The first version of the request whose senders know zstd.
const KNOWS_ZSTD: i16 = 10;

/// Answers a request of this version once there are enough bytes, or the client has waited long enough.
pub async fn answer(requests: &Requests, session: &Session, request: FetchRequest, version: i16) -> Response {
    let wanted = find(requests, session, &request);
    let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
    let patience = Duration::from_millis(wait_ms).min(limits::FETCH_WAIT_MAX);
    let least = usize::try_from(request.min_bytes).unwrap_or(0);
    let most = usize::try_from(request.max_bytes).unwrap_or(0).min(limits::FETCH_BYTES_MAX);

    let notify = Arc::new(Notify::new());
    let places = wanted.iter().filter_map(|wanted| wanted.place.as_ref().ok());
    let watches: Vec<_> = places
        .map(|(at, shard)| shard.machine.waiters.watch(std::slice::from_ref(at), notify.clone()))
        .collect();
    let mut over = requests.world.clock.sleep(patience);
    let mut is_over = patience.is_zero();
    loop {
        let (data, bytes, failed) = read(&wanted, most, version >= KNOWS_ZSTD);
        if bytes >= least || failed || is_over || watches.is_empty() {
            requests.metrics.fetched(bytes as u64);
            return Response::Fetch(respond(&wanted, data));
        }
        tokio::select! {
            () = notify.notified() => {}
            () = &mut over => is_over = true,
        }
    }
}

fn find(requests: &Requests, session: &Session, request: &FetchRequest) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let view = requests.catalog.view();
        let found = requests.catalog.topics().find(&view, &session.tenant, &topic.topic);
        for partition in &topic.partitions {
            let place = match &found {
                Err(_) => Err(ErrorCode::KAFKA_STORAGE_ERROR),
                Ok(None) => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                Ok(Some(found)) => match found.partition(partition.partition) {
                    Some((at, shard)) => Ok((at, requests.shards[usize::from(shard.0)].clone())),
                    None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                },
            };
            wanted.push(Wanted { topic: topic.topic.clone(), request: partition.clone(), place });
        }
    }
    wanted
}

/// What is there now: the data of each partition, the bytes of all, and whether one cannot be read.
fn read(wanted: &[Wanted], most: usize, zstd: bool) -> (Vec<PartitionData>, usize, bool) {
    let mut data = Vec::with_capacity(wanted.len());
    let mut bytes = 0;
    let mut failed = false;
    for wanted in wanted {
        let answer =
            PartitionData::default().with_partition_index(wanted.request.partition).with_high_watermark(-1);
        let answer = read_one(wanted, answer.clone(), most.saturating_sub(bytes), bytes == 0, zstd)
            .unwrap_or_else(|code| answer.with_error_code(code.0));
        failed |= answer.error_code != ErrorCode::NONE.0;
        bytes += answer.records.as_ref().map_or(0, Bytes::len);
        data.push(answer);
    }
    (data, bytes, failed)
}

fn read_one(
    wanted: &Wanted,
    answer: PartitionData,
    room: usize,
    first: bool,
    zstd: bool,
) -> Result<PartitionData, ErrorCode> {
    let (at, shard) = wanted.place.as_ref().map_err(|code| *code)?;
    let leader = shard.leader().ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    check_epoch(&leader, wanted.request.current_leader_epoch)?;
    let storage = |_| ErrorCode::KAFKA_STORAGE_ERROR;
    let row = shard.partition(*at).map_err(storage)?.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let asked = wanted.request.fetch_offset;
    let (start, end) = (row.log_start, row.end);
    let answer = answer
        .with_high_watermark(end.0 as i64)
        .with_last_stable_offset(end.0 as i64)
        .with_log_start_offset(start.0 as i64);
    let offset = u64::try_from(asked).ok().filter(|offset| (start.0..=end.0).contains(offset));
    let Some(offset) = offset else {
        let code = Rejection::OffsetOutOfRange { asked, start, end }.code();
        return Ok(answer.with_error_code(code.0));
    };
    let own =
        usize::try_from(wanted.request.partition_max_bytes).map_err(|_| ErrorCode::INVALID_FETCH_SIZE)?;
    let most = own.min(room);
    // At least one batch goes out, however large it is, so that a client always gets on.
    if offset == end.0 || (most == 0 && !first) {
        return Ok(answer.with_records(Some(Bytes::new())));
    }
    let batches = shard.group.log().batches(*at, Offset(offset), shard.upto(), most);
    let batches = batches.map_err(|error| {
        tracing::error!(%error, "a fetch cannot be served");
        ErrorCode::KAFKA_STORAGE_ERROR
    })?;
    // What was read may reach beyond the high watermark that was looked at first; clients take both as they are.
    let batches: Vec<Bytes> = batches.into_iter().map(|(_, placed)| placed.batch).collect();
    if !zstd && batches.iter().any(|batch| is_zstd(batch)) {
        return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    }
    Ok(answer.with_records(Some(joined(batches))))
}

fn is_zstd(batch: &[u8]) -> bool {
    BatchHeader::parse(batch).is_ok_and(|header| header.codec() == Ok(Codec::Zstd))
}

fn joined(mut batches: Vec<Bytes>) -> Bytes {
    if batches.len() == 1 {
        return batches.remove(0);
    }
    let mut records = BytesMut::with_capacity(batches.iter().map(Bytes::len).sum());
    batches.iter().for_each(|batch| records.extend_from_slice(batch));
    records.freeze()
}

fn respond(wanted: &[Wanted], data: Vec<PartitionData>) -> FetchResponse {
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    for (wanted, data) in wanted.iter().zip(data) {
        match topics.last_mut().filter(|topic| topic.topic == wanted.topic) {
            Some(topic) => topic.partitions.push(data),
            None => topics.push(
                FetchableTopicResponse::default()
                    .with_topic(wanted.topic.clone())
                    .with_partitions(vec![data]),
            ),
        }
    }
    FetchResponse::default().with_responses(topics)
}
