//! Offsets by time: the first, the next, that of a moment.

use tidemill_core::fault::Fault;
use tidemill_protocol::api::messages::list_offsets_request::ListOffsetsPartition;
use tidemill_protocol::api::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use tidemill_protocol::api::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::TopicPartition;

use super::{Requests, Session, check_epoch, epoch_of};
use crate::offsets::{self, Moment};
use crate::shards::Shard;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// Answers for each partition; others run in between, for each may take reads of the disk.
pub async fn answer(
    requests: &Requests,
    session: &Session,
    request: &ListOffsetsRequest,
) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let answer = ListOffsetsPartitionResponse::default()
                .with_partition_index(wanted.partition_index)
                .with_timestamp(-1)
                .with_offset(-1);
            partitions.push(match find(requests, session, &topic.name, wanted).await {
                Ok((offset, timestamp, epoch)) => {
                    answer.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(epoch)
                }
                Err(code) => answer.with_error_code(code.0),
            });
            tokio::task::yield_now().await;
        }
        topics.push(
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// Offset, timestamp and leader epoch; Kafka's -1 for an offset that is not there.
async fn find(
    requests: &Requests,
    session: &Session,
    topic: &TopicName,
    wanted: &ListOffsetsPartition,
) -> Result<(i64, i64, i32), ErrorCode> {
    let (at, shard, epoch) = place(requests, session, topic, wanted)?;
    let moment = match wanted.timestamp {
        LATEST => Moment::Latest,
        EARLIEST => Moment::Earliest,
        time if time >= 0 => Moment::Time(time),
        _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
    };
    let found = offsets::find(shard, at, moment).await.map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
    Ok(match found {
        Some(found) => (found.offset.0 as i64, found.timestamp_ms.unwrap_or(-1), epoch),
        None => (-1, -1, epoch),
    })
}

/// A partition, its shard, and the epoch in which that is led here.
fn place<'a>(
    requests: &'a Requests,
    session: &Session,
    topic: &TopicName,
    wanted: &ListOffsetsPartition,
) -> Result<(TopicPartition, &'a Shard, i32), ErrorCode> {
    let storage = |_: Fault| ErrorCode::KAFKA_STORAGE_ERROR;
    let view = requests.catalog.view();
    let found = requests.catalog.topics().find(&view, &session.tenant, topic).map_err(storage)?;
    let place = found.and_then(|found| found.partition(wanted.partition_index));
    let (at, shard) = place.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let shard: &Shard = &requests.shards[usize::from(shard.0)];
    let leader = shard.leader().ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    check_epoch(&leader, wanted.current_leader_epoch)?;
    Ok((at, shard, epoch_of(&leader)))
}
