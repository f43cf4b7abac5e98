//! What consumers committed, as they ask for it: of the partitions that they name, or all of a group's.

use std::collections::{BTreeMap, BTreeSet};

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

use super::{Requests, Session, Spare, refused_group};

/// The first version that asks about several groups.
const SEVERAL: i16 = 8;
/// What an offset takes of an answer beside its words, in bytes.
const OFFSET_BYTES: usize = 64;

/// Answers for each group, and in it for each partition, once: the words that are kept with an offset are many times as
/// long as what names it. What is committed is what is synced: a commit under way does not show.
pub async fn answer(
    requests: &Requests,
    session: &Session,
    request: OffsetFetchRequest,
    version: i16,
) -> Response {
    let asked = if version < SEVERAL { vec![alone(request)] } else { request.groups };
    let mut spare = Spare(limits::OFFSETS_ANSWER_BYTES_MAX);
    let mut seen = BTreeSet::new();
    let mut groups = Vec::with_capacity(asked.len());
    for mut group in asked {
        if seen.insert(group.group_id.clone()) {
            group.topics.iter_mut().for_each(|topics| each_once(topics));
            groups.push(of_group(requests, session, group, &mut spare).await);
        }
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

/// Leaves of each partition the first place where it is named.
fn each_once(topics: &mut [OffsetFetchRequestTopics]) {
    let mut seen = BTreeSet::new();
    for OffsetFetchRequestTopics { name, partition_indexes, .. } in topics {
        partition_indexes.retain(|number| seen.insert((name.clone(), *number)));
    }
}

async fn of_group(
    requests: &Requests,
    session: &Session,
    asked: OffsetFetchRequestGroup,
    spare: &mut Spare,
) -> OffsetFetchResponseGroup {
    let group = asked.group_id.to_string();
    let is_member = asked.member_id.as_ref().is_some_and(|id| !id.is_empty()) || asked.member_epoch >= 0;
    let refused = refused_group(&group).or(is_member.then_some(ErrorCode::UNKNOWN_MEMBER_ID));
    let answer = OffsetFetchResponseGroup::default().with_group_id(asked.group_id);
    let code = match (refused, &asked.topics) {
        (Some(code), _) => code,
        (None, Some(topics)) => {
            let mut found = |name: &TopicName, number: i32| {
                let found = find(requests, session, &group, name, number);
                found.and_then(|found| take(spare, found.as_ref()).map(|()| found))
            };
            let topics = topics.iter().map(|topic| of_topic(topic, &mut found));
            return answer.with_topics(topics.collect());
        }
        (None, None) => match all(requests, session, &group, spare).await {
            Ok(topics) => return answer.with_topics(topics),
            Err(code) => code,
        },
    };
    // Versions that cannot say it of the whole say it of each partition.
    let named = asked.topics.unwrap_or_default();
    let topics = named.iter().map(|topic| of_topic(topic, |_, _| Err(code)));
    answer.with_topics(topics.collect()).with_error_code(code.0)
}

fn of_topic(
    asked: &OffsetFetchRequestTopics,
    mut find: impl FnMut(&TopicName, i32) -> Result<Option<GroupOffsetRow>, ErrorCode>,
) -> OffsetFetchResponseTopics {
    let numbers = asked.partition_indexes.iter();
    let partitions = numbers.map(|number| partition(*number, find(&asked.name, *number)));
    OffsetFetchResponseTopics::default().with_name(asked.name.clone()).with_partitions(partitions.collect())
}

/// Whether the answer holds this as well.
fn take(spare: &mut Spare, row: Option<&GroupOffsetRow>) -> Result<(), ErrorCode> {
    spare.take(OFFSET_BYTES + row.map_or(0, |row| row.metadata.len()))
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
    spare: &mut Spare,
) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
    let storage = |_: Fault| ErrorCode::KAFKA_STORAGE_ERROR;
    let mut topics: BTreeMap<TopicId, Vec<(Partition, GroupOffsetRow)>> = BTreeMap::new();
    for shard in &requests.shards {
        let mut from = Some(Key::table(Key::GROUP_OFFSETS));
        while let Some(start) = from {
            let page = group_offsets::page(&shard.group.tables(), &start, limits::GROUP_OFFSETS_PAGE);
            let (rows, next) = page.map_err(storage)?;
            for (at, _, row) in rows.into_iter().filter(|(_, of, _)| of == group) {
                take(spare, Some(&row))?;
                topics.entry(at.topic).or_default().push((at.partition, row));
            }
            from = next;
            tokio::task::yield_now().await;
        }
    }
    let mut answer = Vec::new();
    for (id, mut rows) in topics {
        let row = catalog::topic_by_id(&requests.catalog.view(), id).map_err(storage)?;
        let Some(topic) = row.filter(|topic| topic.tenant == session.tenant) else { continue };
        rows.sort_by_key(|(number, _)| *number);
        let partitions =
            rows.into_iter().map(|(number, row)| partition(number.0 as i32, Ok(Some(row)))).collect();
        let name = TopicName(StrBytes::from_string(topic.name));
        answer.push(OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions));
    }
    Ok(answer)
}
