//! Answers about several groups, for versions that ask about one: there its fields stand in the message itself.

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
};
use kafka_protocol::messages::{FindCoordinatorResponse, OffsetFetchResponse};

/// The first version of OffsetFetch that asks about several groups.
const SEVERAL_GROUPS: i16 = 8;
/// The first version of FindCoordinator that asks about several keys.
const SEVERAL_KEYS: i16 = 4;

/// Gives committed offsets the form of this version.
pub(super) fn of_one_group(response: &mut OffsetFetchResponse, version: i16) {
    if version >= SEVERAL_GROUPS {
        response.topics.clear();
        response.error_code = 0;
        return;
    }
    for group in response.groups.drain(..).take(1) {
        response.error_code = group.error_code;
        let topics = group.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(plain);
            OffsetFetchResponseTopic::default()
                .with_name(topic.name)
                .with_partitions(partitions.collect())
                .with_unknown_tagged_fields(topic.unknown_tagged_fields)
        });
        response.topics = topics.collect();
    }
    let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    partitions.filter(|_| version < 5).for_each(|it| it.committed_leader_epoch = -1);
    if version < 2 {
        response.error_code = 0;
    }
}

fn plain(partition: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition::default()
        .with_partition_index(partition.partition_index)
        .with_committed_offset(partition.committed_offset)
        .with_committed_leader_epoch(partition.committed_leader_epoch)
        .with_metadata(partition.metadata)
        .with_error_code(partition.error_code)
        .with_unknown_tagged_fields(partition.unknown_tagged_fields)
}

/// Gives coordinators the form of this version.
pub(super) fn of_one_key(response: &mut FindCoordinatorResponse, version: i16) {
    if version >= SEVERAL_KEYS {
        let FindCoordinatorResponse { throttle_time_ms, coordinators, unknown_tagged_fields, .. } =
            std::mem::take(response);
        *response = FindCoordinatorResponse::default()
            .with_throttle_time_ms(throttle_time_ms)
            .with_coordinators(coordinators)
            .with_unknown_tagged_fields(unknown_tagged_fields);
        return;
    }
    for coordinator in response.coordinators.drain(..).take(1) {
        response.error_code = coordinator.error_code;
        response.error_message = coordinator.error_message;
        response.node_id = coordinator.node_id;
        response.host = coordinator.host;
        response.port = coordinator.port;
    }
    if version < 1 {
        response.error_message = Some(Default::default());
    }
}
