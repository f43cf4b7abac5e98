//! What consumers committed, as they ask for it: of the partitions that they name, or all of a group's.

use std::collections::BTreeMap;

use tidemill_core::catalog;
use tidemill_core::fault::Fault;
use tidemill_core::limits;
use tidemill_core::rows::GroupOffsetRow;
use tidemill_core::shard::group_offsets;
use tidemill_core::tables::Key;
use tidemill_protocol::api::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use tidemill_protocol::api::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use tidemill_protocol::api::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use tidemill_protocol::api::{Response, StrBytes};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{Partition, TopicId};

use super::{Requests, Session, refused_group};

/// The first version that asks about several groups.
const SEVERAL: i16 = 8;

/// Answers for each group. What is committed is what is synced: a commit under way does not show.
pub async fn answer(
    requests: &Requests,
    session: &Session,
    request: OffsetFetchRequest,
    version: i16,
) -> Response {
    let asked = if version < SEVERAL { vec![alone(request)] } else { request.groups };
    let mut groups = Vec::with_capacity(asked.len());
    for group in asked {
        groups.push(of_group(requests, session, group).await);
    }
    Response::OffsetFetch(OffsetFetchResponse::default().with_groups(groups))
}

/// A request about one group, as the newer ones ask about several.
fn alone(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let several = topics.into_iter().map(|topic| {
            OffsetFetchRequestTopics::default()
                .with_name(topic.name)
                .with_partition_indexes(topic.partition_indexes)
        });
        several.collect()
    });
    OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(topics)
}

async fn of_group(
    requests: &Requests,
    session: &Session,
    asked: OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let group = asked.group_id.to_string();
    let is_member = asked.member_id.as_ref().is_some_and(|id| !id.is_empty()) || asked.member_epoch >= 0;
    let refused = refused_group(&group).or(is_member.then_some(ErrorCode::UNKNOWN_MEMBER_ID));
    let answer = OffsetFetchResponseGroup::default().with_group_id(asked.group_id);
    let code = match (refused, &asked.topics) {
        (Some(code), _) => code,
        (None, Some(topics)) => {
            let found = topics.iter().map(|topic| of_topic(requests, session, &group, topic, None));
            return answer.with_topics(found.collect());
        }
        (None, None) => match all(requests, session, &group).await {
            Ok(topics) => return answer.with_topics(topics),
            Err(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        },
    };
    // Versions that cannot say it of the whole say it of each partition.
    let named = asked.topics.unwrap_or_default();
    let topics = named.iter().map(|topic| of_topic(requests, session, &group, topic, Some(code)));
    answer.with_topics(topics.collect()).with_error_code(code.0)
}

fn of_topic(
    requests: &Requests,
    session: &Session,
    group: &str,
    asked: &OffsetFetchRequestTopics,
    refused: Option<ErrorCode>,
) -> OffsetFetchResponseTopics {
    let partitions = asked.partition_indexes.iter().map(|number| {
        let found = match refused {
            Some(code) => Err(code),
            None => find(requests, session, group, &asked.name, *number),
        };
        partition(*number, found)
    });
    OffsetFetchResponseTopics::default().with_name(asked.name.clone()).with_partitions(partitions.collect())
}

/// What the group committed for a partition. Of what is not there nothing was ever committed: that is no error.
fn find(
    requests: &Requests,
    session: &Session,
    group: &str,
    topic: &TopicName,
    number: i32,
) -> Result<Option<GroupOffsetRow>, ErrorCode> {
    let storage = |_: Fault| ErrorCode::KAFKA_STORAGE_ERROR;
    let view = requests.catalog.view();
    let topic = requests.catalog.topics().find(&view, &session.tenant, topic).map_err(storage)?;
    let Some((at, shard)) = topic.and_then(|topic| topic.partition(number)) else { return Ok(None) };
    let shard = &requests.shards[usize::from(shard.0)];
    if shard.leader().is_none() {
        return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    }
    group_offsets::committed(&shard.group.tables(), at, group).map_err(storage)
}

fn partition(number: i32, found: Result<Option<GroupOffsetRow>, ErrorCode>) -> OffsetFetchResponsePartitions {
    let answer = OffsetFetchResponsePartitions::default()
        .with_partition_index(number)
        .with_committed_offset(-1)
        .with_committed_leader_epoch(-1)
        .with_metadata(Some(StrBytes::default()));
    match found {
        Ok(None) => answer,
        Ok(Some(row)) => answer
            .with_committed_offset(row.offset.0 as i64)
            .with_committed_leader_epoch(row.leader_epoch)
            .with_metadata(Some(StrBytes::from_string(row.metadata))),
        Err(code) => answer.with_error_code(code.0),
    }
}

/// All that the group committed: every row of every shard is looked at, which is for those who administer.
async fn all(
    requests: &Requests,
    session: &Session,
    group: &str,
) -> Result<Vec<OffsetFetchResponseTopics>, Fault> {
    let mut topics: BTreeMap<TopicId, Vec<(Partition, GroupOffsetRow)>> = BTreeMap::new();
    for shard in &requests.shards {
        let mut from = Some(Key::table(Key::GROUP_OFFSETS));
        while let Some(start) = from {
            let (rows, next) =
                group_offsets::page(&shard.group.tables(), &start, limits::GROUP_OFFSETS_PAGE)?;
            for (at, _, row) in rows.into_iter().filter(|(_, of, _)| of == group) {
                topics.entry(at.topic).or_default().push((at.partition, row));
            }
            from = next;
            tokio::task::yield_now().await;
        }
    }
    let mut answer = Vec::new();
    for (id, mut rows) in topics {
        let row = catalog::topic_by_id(&requests.catalog.view(), id)?;
        let Some(topic) = row.filter(|topic| topic.tenant == session.tenant) else { continue };
        rows.sort_by_key(|(number, _)| *number);
        let partitions =
            rows.into_iter().map(|(number, row)| partition(number.0 as i32, Ok(Some(row)))).collect();
        let name = TopicName(StrBytes::from_string(topic.name));
        answer.push(OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions));
    }
    Ok(answer)
}
