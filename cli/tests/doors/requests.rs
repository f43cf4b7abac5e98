//! Every request of Kafka's but Produce: fetching, offsets, topics and their settings, groups.

use std::fmt::Write as _;

use tidemill_protocol::api::messages::create_partitions_request::CreatePartitionsTopic;
use tidemill_protocol::api::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use tidemill_protocol::api::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use tidemill_protocol::api::messages::delete_topics_request::DeleteTopicState;
use tidemill_protocol::api::messages::describe_configs_request::DescribeConfigsResource;
use tidemill_protocol::api::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use tidemill_protocol::api::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidemill_protocol::api::messages::metadata_request::MetadataRequestTopic;
use tidemill_protocol::api::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidemill_protocol::api::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use tidemill_protocol::api::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, FetchRequest, FindCoordinatorRequest, GroupId, IncrementalAlterConfigsRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use tidemill_protocol::api::{Request, Response, StrBytes, uuid};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::TopicId;
use xtask::kafka::{Connection, name};

use crate::door::{Door, Row, fetch};

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The first thing that an answer says: a code, and words where there are any.
fn told(answer: Response) -> String {
    let mut all = String::new();
    let mut say = |code: i16, why: &dyn std::fmt::Debug| {
        let _ = write!(all, "{}: {why:?}; ", ErrorCode(code));
    };
    match answer {
        Response::Fetch(answer) => {
            answer.responses.iter().flat_map(|topic| &topic.partitions).for_each(|part| {
                say(
                    part.error_code,
                    &(part.high_watermark, part.records.as_ref().map(|records| records.len())),
                );
            })
        }
        Response::ListOffsets(answer) => {
            answer.topics.iter().flat_map(|topic| &topic.partitions).for_each(|part| {
                say(part.error_code, &part.offset);
            })
        }
        Response::Metadata(answer) => {
            answer.topics.iter().for_each(|topic| say(topic.error_code, &topic.name))
        }
        Response::OffsetCommit(answer) => {
            answer
                .topics
                .iter()
                .flat_map(|topic| &topic.partitions)
                .for_each(|part| say(part.error_code, &""));
        }
        Response::OffsetFetch(answer) => {
            answer.topics.iter().flat_map(|topic| &topic.partitions).for_each(|part| {
                say(part.error_code, &part.committed_offset);
            });
            if answer.topics.is_empty() {
                say(answer.error_code, &"");
            }
        }
        Response::FindCoordinator(answer) => {
            if answer.coordinators.is_empty() {
                say(answer.error_code, &answer.error_message);
            }
            answer.coordinators.iter().for_each(|found| say(found.error_code, &found.error_message));
        }
        Response::CreateTopics(answer) => {
            answer.topics.iter().for_each(|topic| say(topic.error_code, &topic.error_message));
        }
        Response::DeleteTopics(answer) => {
            answer.responses.iter().for_each(|topic| say(topic.error_code, &topic.error_message));
        }
        Response::DeleteRecords(answer) => {
            answer.topics.iter().flat_map(|topic| &topic.partitions).for_each(|part| {
                say(part.error_code, &part.low_watermark);
            });
        }
        Response::InitProducerId(answer) => say(answer.error_code, &answer.producer_id),
        Response::DescribeConfigs(answer) => {
            answer.results.iter().for_each(|result| say(result.error_code, &result.error_message));
        }
        Response::CreatePartitions(answer) => {
            answer.results.iter().for_each(|result| say(result.error_code, &result.error_message));
        }
        Response::IncrementalAlterConfigs(answer) => {
            answer.responses.iter().for_each(|result| say(result.error_code, &result.error_message));
        }
        other => panic!("{other:?}"),
    }
    all
}

fn ask(door: &Door, version: i16, request: Request) -> String {
    match Connection::to(door.tcp()).unwrap().ask(version, request) {
        Ok(answer) => told(answer),
        Err(error) => format!("no answer: {error:#}"),
    }
}

fn topic(name: &str) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(xtask::kafka::name(name))
        .with_num_partitions(1)
        .with_replication_factor(-1)
}

fn with_config(key: &str, value: Option<&str>) -> CreatableTopic {
    let config = CreatableTopicConfig::default().with_name(text(key)).with_value(value.map(text));
    topic("with-config").with_configs(vec![config])
}

fn creations() -> Vec<Row<CreatableTopic>> {
    let assigned = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
    vec![
        ("a name of nothing", topic(""), "INVALID_TOPIC_EXCEPTION | is no topic name"),
        ("the name .", topic("."), "INVALID_TOPIC_EXCEPTION"),
        ("the name ..", topic(".."), "INVALID_TOPIC_EXCEPTION"),
        ("a path for a name", topic("../../etc"), "INVALID_TOPIC_EXCEPTION"),
        ("a name with a space", topic("or ders"), "INVALID_TOPIC_EXCEPTION"),
        ("a name with a line's end", topic("orders\n"), "INVALID_TOPIC_EXCEPTION"),
        ("a name with a zero byte", topic("orders\0"), "INVALID_TOPIC_EXCEPTION"),
        ("a name with a terminal's command", topic("\u{1b}[2J"), "INVALID_TOPIC_EXCEPTION | \\u{1b}"),
        ("a name that looks like another", topic("оrders"), "INVALID_TOPIC_EXCEPTION"),
        ("a name of 250 letters", topic(&"n".repeat(250)), "INVALID_TOPIC_EXCEPTION"),
        ("a name of 30,000 control characters", topic(&"\u{1}".repeat(30_000)), "INVALID_TOPIC_EXCEPTION"),
        (
            "a name that is taken",
            topic("orders"),
            "TOPIC_ALREADY_EXISTS: Some(\"topic orders exists already\")",
        ),
        (
            "0 partitions",
            topic("new").with_num_partitions(0),
            "INVALID_PARTITIONS | 0 partitions: use 1 to 1024",
        ),
        ("-2 partitions", topic("new").with_num_partitions(-2), "INVALID_PARTITIONS | -2 partitions"),
        ("1,025 partitions", topic("new").with_num_partitions(1_025), "INVALID_PARTITIONS | use 1 to 1024"),
        (
            "the largest number of partitions",
            topic("new").with_num_partitions(i32::MAX),
            "INVALID_PARTITIONS",
        ),
        (
            "replication factor 0",
            topic("new").with_replication_factor(0),
            "INVALID_REPLICATION_FACTOR | replication factor 0",
        ),
        ("replication factor 3", topic("new").with_replication_factor(3), "INVALID_REPLICATION_FACTOR"),
        ("replication factor -2", topic("new").with_replication_factor(-2), "INVALID_REPLICATION_FACTOR"),
        ("replicas assigned", topic("new").with_assignments(vec![assigned]), "INVALID_REPLICA_ASSIGNMENT"),
        (
            "a setting that is not known",
            with_config("retention.ns", Some("1")),
            "INVALID_CONFIG | retention.ns: there is no such",
        ),
        ("a setting without a name", with_config("", Some("1")), "INVALID_CONFIG | there is no such setting"),
        ("a setting of 30,000 letters", with_config(&"k".repeat(30_000), Some("1")), "INVALID_CONFIG"),
        (
            "retention.ms: words",
            with_config("retention.ms", Some("a week")),
            "INVALID_CONFIG | retention.ms: \\\"a week\\\"",
        ),
        ("retention.ms: 0", with_config("retention.ms", Some("0")), "INVALID_CONFIG | retention.ms 0"),
        ("retention.ms: -2", with_config("retention.ms", Some("-2")), "INVALID_CONFIG | retention.ms -2"),
        (
            "retention.ms: more than 63 bits",
            with_config("retention.ms", Some("9223372036854775808")),
            "INVALID_CONFIG | retention.ms",
        ),
        (
            "retention.bytes: a fraction",
            with_config("retention.bytes", Some("1.5")),
            "INVALID_CONFIG | retention.bytes",
        ),
        (
            "max.message.bytes: 0",
            with_config("max.message.bytes", Some("0")),
            "INVALID_CONFIG | max.message.bytes 0: use 1 to",
        ),
        (
            "max.message.bytes: -1",
            with_config("max.message.bytes", Some("-1")),
            "INVALID_CONFIG | max.message.bytes",
        ),
        (
            "max.message.bytes: 8 MiB and one",
            with_config("max.message.bytes", Some("8388609")),
            "INVALID_CONFIG | use 1 to 8388608",
        ),
        (
            "max.message.bytes: 33 bits",
            with_config("max.message.bytes", Some("4294967296")),
            "INVALID_CONFIG",
        ),
        (
            "cleanup.policy: compact",
            with_config("cleanup.policy", Some("compact")),
            "INVALID_CONFIG | cleanup.policy | compaction is not offered",
        ),
        (
            "compression.type: zstd",
            with_config("compression.type", Some("zstd")),
            "INVALID_CONFIG | compression.type",
        ),
        (
            "message.timestamp.type: LogAppendTime",
            with_config("message.timestamp.type", Some("LogAppendTime")),
            "INVALID_CONFIG",
        ),
        (
            "min.insync.replicas: 2",
            with_config("min.insync.replicas", Some("2")),
            "INVALID_CONFIG | min.insync.replicas",
        ),
        ("all as it may be", topic("made-at-last"), "NONE"),
    ]
}

fn altered(resource: i8, topic: &str, configs: &[(&str, i8, Option<&str>)]) -> AlterConfigsResource {
    let config = |(key, operation, value): &(&str, i8, Option<&str>)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    };
    AlterConfigsResource::default()
        .with_resource_type(resource)
        .with_resource_name(text(topic))
        .with_configs(configs.iter().map(config).collect())
}

fn alterations() -> Vec<Row<AlterConfigsResource>> {
    let ms = "retention.ms";
    vec![
        (
            "settings of a broker",
            altered(4, "1", &[(ms, 0, Some("1"))]),
            "INVALID_REQUEST | topics have settings",
        ),
        ("settings of what there is not", altered(99, "orders", &[(ms, 0, Some("1"))]), "INVALID_REQUEST"),
        ("settings of -1", altered(-1, "orders", &[(ms, 0, Some("1"))]), "INVALID_REQUEST"),
        (
            "of a topic that is not there",
            altered(2, "nowhere", &[(ms, 0, Some("1"))]),
            "UNKNOWN_TOPIC_OR_PARTITION | nowhere",
        ),
        ("of a topic without a name", altered(2, "", &[(ms, 0, Some("1"))]), "UNKNOWN_TOPIC_OR_PARTITION"),
        (
            "one that is not known",
            altered(2, "orders", &[("retention", 0, Some("1"))]),
            "INVALID_CONFIG | retention: there is no such",
        ),
        (
            "one set to nothing",
            altered(2, "orders", &[(ms, 0, None)]),
            "INVALID_CONFIG | retention.ms: no value",
        ),
        ("one set to words", altered(2, "orders", &[(ms, 0, Some("soon"))]), "INVALID_CONFIG | retention.ms"),
        (
            "one added to",
            altered(2, "orders", &[(ms, 2, Some("1"))]),
            "INVALID_CONFIG | retention.ms | no list",
        ),
        ("one taken from", altered(2, "orders", &[(ms, 3, Some("1"))]), "INVALID_CONFIG | retention.ms"),
        (
            "an operation that there is not",
            altered(2, "orders", &[(ms, 9, Some("1"))]),
            "INVALID_CONFIG | retention.ms",
        ),
        ("an operation of -1", altered(2, "orders", &[(ms, -1, Some("1"))]), "INVALID_CONFIG | retention.ms"),
        (
            "one twice",
            altered(2, "orders", &[(ms, 0, Some("1000")), (ms, 0, Some("2000"))]),
            "INVALID_REQUEST | retention.ms: it is named twice",
        ),
        (
            "one twice, set and unset",
            altered(2, "orders", &[(ms, 0, Some("1000")), (ms, 1, None)]),
            "INVALID_REQUEST",
        ),
        (
            "a good one and a bad one",
            altered(2, "orders", &[(ms, 0, Some("1000")), ("cleanup.policy", 0, Some("compact"))]),
            "INVALID_CONFIG | cleanup.policy",
        ),
        ("none", altered(2, "orders", &[]), "NONE"),
    ]
}

fn commit(partition: i32, offset: i64, metadata: &str) -> OffsetCommitRequest {
    let part = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text(metadata)));
    let topic = OffsetCommitRequestTopic::default().with_name(name("orders")).with_partitions(vec![part]);
    OffsetCommitRequest::default().with_group_id(GroupId(text("readers"))).with_topics(vec![topic])
}

fn commits() -> Vec<Row<OffsetCommitRequest>> {
    let group = |of: &str| commit(0, 0, "").with_group_id(GroupId(text(of)));
    let nowhere = || {
        let mut request = commit(0, 0, "");
        request.topics[0].name = name("nowhere");
        request
    };
    vec![
        ("a group without a name", group(""), "INVALID_GROUP_ID"),
        ("a group of 256 letters", group(&"g".repeat(256)), "INVALID_GROUP_ID"),
        ("a group of 30,000 letters", group(&"g".repeat(30_000)), "INVALID_GROUP_ID"),
        ("a generation", commit(0, 0, "").with_generation_id_or_member_epoch(3), "ILLEGAL_GENERATION"),
        ("a member", commit(0, 0, "").with_member_id(text("m-1")), "UNKNOWN_MEMBER_ID"),
        ("a static member", commit(0, 0, "").with_group_instance_id(Some(text("m-1"))), "UNKNOWN_MEMBER_ID"),
        ("offset -1", commit(0, -1, ""), "INVALID_REQUEST"),
        ("the least offset", commit(0, i64::MIN, ""), "INVALID_REQUEST"),
        ("partition 4 of 4", commit(4, 0, ""), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("partition -1", commit(-1, 0, ""), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("a topic that is not there", nowhere(), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("4,097 bytes of words", commit(0, 0, &"w".repeat(4_097)), "OFFSET_METADATA_TOO_LARGE"),
        ("30,000 bytes of words", commit(0, 0, &"w".repeat(30_000)), "OFFSET_METADATA_TOO_LARGE"),
        ("4,096 bytes of words", commit(0, 0, &"w".repeat(4_096)), "NONE"),
        // Kafka keeps what it is told: an offset may be ahead of what this broker has.
        ("the largest offset", commit(0, i64::MAX, ""), "NONE"),
    ]
}

fn fetches(epoch: i32) -> Vec<Row<Request>> {
    let with = |change: fn(&mut FetchRequest)| {
        let Request::Fetch(mut request) = fetch("orders", 0, 0) else { panic!() };
        change(&mut request);
        Request::Fetch(request)
    };
    let at_epoch = |epoch: i32| {
        let Request::Fetch(mut request) = fetch("orders", 0, 0) else { panic!() };
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        Request::Fetch(request)
    };
    vec![
        ("a topic that is not there", fetch("nowhere", 0, 0), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("a topic without a name", fetch("", 0, 0), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("partition 4 of 4", fetch("orders", 4, 0), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("partition -1", fetch("orders", -1, 0), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("an offset behind the end", fetch("orders", 0, 1), "OFFSET_OUT_OF_RANGE"),
        ("the largest offset", fetch("orders", 0, i64::MAX), "OFFSET_OUT_OF_RANGE"),
        ("offset -1", fetch("orders", 0, -1), "OFFSET_OUT_OF_RANGE"),
        ("the least offset", fetch("orders", 0, i64::MIN), "OFFSET_OUT_OF_RANGE"),
        (
            "-1 bytes of a partition",
            with(|it| it.topics[0].partitions[0].partition_max_bytes = -1),
            "INVALID_FETCH_SIZE",
        ),
        (
            "the fewest bytes of a partition",
            with(|it| it.topics[0].partitions[0].partition_max_bytes = i32::MIN),
            "INVALID_FETCH_SIZE",
        ),
        ("-1 bytes in all", with(|it| it.max_bytes = -1), "NONE"),
        ("0 bytes in all", with(|it| it.max_bytes = 0), "NONE"),
        ("a wait of -1", with(|it| (it.max_wait_ms, it.min_bytes) = (-1, 1)), "NONE"),
        ("at least -1 bytes", with(|it| it.min_bytes = -1), "NONE"),
        (
            "a partition twice",
            with(|it| {
                let again = it.topics[0].partitions[0].clone();
                it.topics[0].partitions.push(again);
            }),
            "NONE: (0, Some(0)); NONE: (0, Some(0))",
        ),
        ("an epoch that is over", at_epoch(epoch - 1), "FENCED_LEADER_EPOCH"),
        ("epoch 0", at_epoch(0), "FENCED_LEADER_EPOCH"),
        ("an epoch to come", at_epoch(epoch + 1), "UNKNOWN_LEADER_EPOCH"),
        ("the largest epoch", at_epoch(i32::MAX), "UNKNOWN_LEADER_EPOCH"),
        ("the epoch as it is", at_epoch(epoch), "NONE"),
    ]
}

fn offsets(epoch: i32) -> Vec<Row<Request>> {
    let of = |topic: &str, partition: i32, timestamp: i64, epoch: i32| {
        let part = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(timestamp)
            .with_current_leader_epoch(epoch);
        let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![part]);
        Request::ListOffsets(ListOffsetsRequest::default().with_topics(vec![topic]))
    };
    vec![
        ("a topic that is not there", of("nowhere", 0, -1, -1), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("partition 4 of 4", of("orders", 4, -1, -1), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("partition -1", of("orders", -1, -1, -1), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("time -3", of("orders", 0, -3, -1), "UNSUPPORTED_VERSION"),
        ("the least time", of("orders", 0, i64::MIN, -1), "UNSUPPORTED_VERSION"),
        ("the largest time", of("orders", 0, i64::MAX, -1), "NONE: -1"),
        ("an epoch that is over", of("orders", 0, -1, epoch - 1), "FENCED_LEADER_EPOCH"),
        ("an epoch to come", of("orders", 0, -1, epoch + 1), "UNKNOWN_LEADER_EPOCH"),
        ("the epoch as it is", of("orders", 0, -1, epoch), "NONE: 0"),
    ]
}

fn others() -> Vec<Row<(i16, Request)>> {
    let delete = |names: &[&str]| {
        let names = names.iter().map(|topic| name(topic)).collect();
        Request::DeleteTopics(DeleteTopicsRequest::default().with_timeout_ms(1_000).with_topic_names(names))
    };
    let state = |named: Option<&str>, id: [u8; 16]| {
        let state = DeleteTopicState::default().with_name(named.map(name)).with_topic_id(uuid(TopicId(id)));
        Request::DeleteTopics(DeleteTopicsRequest::default().with_topics(vec![state]))
    };
    let trim = |topic: &str, partition: i32, offset: i64, wait: i32| {
        let part = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![part]);
        Request::DeleteRecords(DeleteRecordsRequest::default().with_timeout_ms(wait).with_topics(vec![topic]))
    };
    let coordinator = |kind: i8, keys: &[&str]| {
        let keys = keys.iter().map(|key| text(key)).collect();
        Request::FindCoordinator(
            FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(keys),
        )
    };
    let fetched = |group: &str, topic: &str, partition: i32| {
        let topic =
            OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(vec![partition]);
        Request::OffsetFetch(
            OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(Some(vec![topic])),
        )
    };
    let metadata = |named: Option<&str>, id: [u8; 16]| {
        let topic =
            MetadataRequestTopic::default().with_name(named.map(name)).with_topic_id(uuid(TopicId(id)));
        Request::Metadata(MetadataRequest::default().with_topics(Some(vec![topic])))
    };
    let describe = |kind: i8, topic: &str, keys: Option<&[&str]>| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(topic))
            .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
        Request::DescribeConfigs(DescribeConfigsRequest::default().with_resources(vec![resource]))
    };
    let partitions = |topic: &str, count: i32| {
        let topic = CreatePartitionsTopic::default().with_name(name(topic)).with_count(count);
        Request::CreatePartitions(CreatePartitionsRequest::default().with_topics(vec![topic]))
    };
    let producer = |id: Option<&str>| {
        let id = id.map(|id| text(id).into());
        Request::InitProducerId(InitProducerIdRequest::default().with_transactional_id(id))
    };
    let missing = "UNKNOWN_TOPIC_OR_PARTITION";
    vec![
        (
            "delete: not there",
            (5, delete(&["nowhere"])),
            "UNKNOWN_TOPIC_OR_PARTITION | there is no topic nowhere",
        ),
        ("delete: no name", (5, delete(&[""])), missing),
        ("delete: a name of 30,000 letters", (1, delete(&[&"n".repeat(30_000)])), missing),
        ("delete: twice", (5, delete(&["nowhere", "nowhere"])), missing),
        (
            "delete: an id that is not there",
            (6, state(None, [7; 16])),
            "UNKNOWN_TOPIC_ID | there is no topic with id",
        ),
        ("delete: neither name nor id", (6, state(None, [0; 16])), "UNKNOWN_TOPIC_ID"),
        (
            "delete: name and id",
            (6, state(Some("orders"), [7; 16])),
            "INVALID_REQUEST | by its name or its id",
        ),
        ("trim: not there", (2, trim("nowhere", 0, 0, 1_000)), missing),
        ("trim: partition 4 of 4", (2, trim("orders", 4, 0, 1_000)), missing),
        ("trim: partition -1", (2, trim("orders", -1, 0, 1_000)), missing),
        ("trim: behind the end", (2, trim("orders", 0, 1, 1_000)), "OFFSET_OUT_OF_RANGE"),
        ("trim: the largest offset", (2, trim("orders", 0, i64::MAX, 1_000)), "OFFSET_OUT_OF_RANGE"),
        ("trim: offset -2", (2, trim("orders", 0, -2, 1_000)), "OFFSET_OUT_OF_RANGE"),
        ("trim: the least offset", (2, trim("orders", 0, i64::MIN, 1_000)), "OFFSET_OUT_OF_RANGE"),
        (
            "coordinator: of a transaction",
            (4, coordinator(1, &["t"])),
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED | transactions are not",
        ),
        ("coordinator: of a share group", (4, coordinator(2, &["t"])), "INVALID_REQUEST | groups alone"),
        ("coordinator: of -1", (4, coordinator(-1, &["t"])), "INVALID_REQUEST"),
        ("coordinator: no name", (4, coordinator(0, &[""])), "INVALID_GROUP_ID | 1 to 255 bytes"),
        ("coordinator: 256 letters", (4, coordinator(0, &[&"g".repeat(256)])), "INVALID_GROUP_ID"),
        (
            "coordinator: of one and of none",
            (4, coordinator(0, &["g", ""])),
            "INVALID_GROUP_ID: Some(\"a group has a name",
        ),
        ("committed: no group's name", (5, fetched("", "orders", 0)), "INVALID_GROUP_ID"),
        ("committed: 256 letters", (5, fetched(&"g".repeat(256), "orders", 0)), "INVALID_GROUP_ID"),
        ("committed: not there", (5, fetched("g", "nowhere", 0)), "NONE: -1"),
        ("committed: partition -1", (5, fetched("g", "orders", -1)), "NONE: -1"),
        ("metadata: not there", (9, metadata(Some("nowhere"), [0; 16])), missing),
        ("metadata: no name", (9, metadata(Some(""), [0; 16])), "INVALID_TOPIC_EXCEPTION"),
        ("metadata: a path for a name", (9, metadata(Some("../a"), [0; 16])), "INVALID_TOPIC_EXCEPTION"),
        (
            "metadata: a name of 250 letters",
            (9, metadata(Some(&"n".repeat(250)), [0; 16])),
            "INVALID_TOPIC_EXCEPTION",
        ),
        ("metadata: an id that is not there", (12, metadata(None, [7; 16])), "UNKNOWN_TOPIC_ID"),
        ("describe: not there", (4, describe(2, "nowhere", None)), "UNKNOWN_TOPIC_OR_PARTITION | nowhere"),
        ("describe: a broker", (4, describe(4, "1", None)), "INVALID_REQUEST | topics have settings"),
        ("describe: what there is not", (4, describe(77, "orders", None)), "INVALID_REQUEST"),
        ("describe: a name of 30,000 letters", (1, describe(2, &"n".repeat(30_000), None)), missing),
        ("describe: a setting that is not known", (4, describe(2, "orders", Some(&["nothing"]))), "NONE"),
        ("partitions: more", (3, partitions("orders", 8)), "INVALID_PARTITIONS | a plugin that copies"),
        ("partitions: -1", (3, partitions("orders", -1)), "INVALID_PARTITIONS"),
        ("partitions: not there", (3, partitions("nowhere", 8)), "INVALID_PARTITIONS"),
        ("partitions: of 30,000 letters", (0, partitions(&"n".repeat(30_000), 8)), "INVALID_PARTITIONS"),
        ("producer: of a transaction", (4, producer(Some("t"))), "TRANSACTIONAL_ID_AUTHORIZATION_FAILED: -1"),
        (
            "producer: of a transaction without a name",
            (4, producer(Some(""))),
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        ),
    ]
}

/// How many things an answer tells of.
fn counted(door: &Door, version: i16, request: Request) -> String {
    let many = match Connection::to(door.tcp()).unwrap().ask(version, request) {
        Ok(Response::Metadata(answer)) => answer.topics.len(),
        Ok(Response::DescribeConfigs(answer)) => answer.results.len(),
        Ok(Response::OffsetFetch(answer)) => {
            let of_one = answer.topics.iter().map(|topic| topic.partitions.len());
            let of_several = answer.groups.iter().flat_map(|group| &group.topics);
            of_one.chain(of_several.map(|topic| topic.partitions.len())).sum::<usize>()
        }
        other => return format!("{other:?}"),
    };
    format!("told of {many}.")
}

/// What would make a large answer of a small request: each thing is told of once, however often it is named.
fn named_often() -> Vec<Row<(i16, Request)>> {
    let metadata = |topics: Vec<MetadataRequestTopic>| {
        Request::Metadata(MetadataRequest::default().with_topics(Some(topics)))
    };
    let named = |named: &str| MetadataRequestTopic::default().with_name(Some(name(named)));
    let by_id =
        |id: u8| MetadataRequestTopic::default().with_name(None).with_topic_id(uuid(TopicId([id; 16])));
    let orders = || vec![named("orders"); 131_000];
    let describe = |kinds: &[i8]| {
        let resource = |kind: &i8| {
            DescribeConfigsResource::default().with_resource_type(*kind).with_resource_name(text("orders"))
        };
        let resources = kinds.iter().map(resource).collect();
        Request::DescribeConfigs(DescribeConfigsRequest::default().with_resources(resources))
    };
    let group = || GroupId(text("readers"));
    let committed = |partitions: Vec<i32>| {
        let topic = OffsetFetchRequestTopic::default().with_name(name("orders"));
        let topics = vec![topic.with_partition_indexes(partitions)];
        Request::OffsetFetch(OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(topics)))
    };
    let of_groups = || {
        let topic = OffsetFetchRequestTopics::default().with_name(name("orders"));
        let topic = topic.with_partition_indexes(vec![0, 1, 0]);
        let asked = OffsetFetchRequestGroup::default().with_group_id(group());
        let asked = asked.with_topics(Some(vec![topic.clone(), topic]));
        Request::OffsetFetch(OffsetFetchRequest::default().with_groups(vec![asked; 1_000]))
    };
    vec![
        ("metadata 1: a topic 131,000 times", (1, metadata(orders())), "told of 1."),
        ("metadata 9: a topic 131,000 times", (9, metadata(orders())), "told of 1."),
        (
            "metadata: a topic that is not there, 131,000 times",
            (9, metadata(vec![named("nowhere"); 131_000])),
            "told of 1.",
        ),
        (
            "metadata: an id that is not there, 100,000 times",
            (12, metadata(vec![by_id(7); 100_000])),
            "told of 1.",
        ),
        (
            "metadata: two topics, twice each",
            (9, metadata(vec![named("orders"), named("alive"), named("orders"), named("alive")])),
            "told of 2.",
        ),
        ("describe: a topic 10,000 times", (4, describe(&[2; 10_000])), "told of 1."),
        ("describe: two things of one name, twice each", (4, describe(&[2, 4, 4, 2])), "told of 2."),
        ("committed: a partition 10,000 times", (5, committed(vec![0; 10_000])), "told of 1."),
        ("committed: partitions that are not there", (5, committed((0..10_000).collect())), "told of 10000."),
        ("committed: more partitions than may be", (5, committed(vec![0; 140_000])), "Err"),
        ("committed: a group 1,000 times", (8, of_groups()), "told of 2."),
    ]
}

/// The epoch in which the partition `orders/0` is led.
fn epoch(door: &Door) -> i32 {
    let topic = MetadataRequestTopic::default().with_name(Some(name("orders")));
    let request = Request::Metadata(MetadataRequest::default().with_topics(Some(vec![topic])));
    let answer = Connection::to(door.tcp()).unwrap().ask(9, request).unwrap();
    let Response::Metadata(answer) = answer else { panic!("{answer:?}") };
    answer.topics[0].partitions[0].leader_epoch
}

/// A topic that is named in both ways.
fn by_name_and_by_id(door: &Door) {
    let topic = MetadataRequestTopic::default().with_name(Some(name("orders")));
    let ask = |topics: Vec<MetadataRequestTopic>| {
        let request = Request::Metadata(MetadataRequest::default().with_topics(Some(topics)));
        let answer = Connection::to(door.tcp()).unwrap().ask(12, request).unwrap();
        let Response::Metadata(answer) = answer else { panic!("{answer:?}") };
        answer.topics
    };
    let id = ask(vec![topic.clone()])[0].topic_id;
    let by_id = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
    let told = ask(vec![by_id.clone(), topic, by_id]);
    let told = format!("told of {}, {:?}", told.len(), told[0].name);
    door.row("metadata: a topic by its id and by its name", &told, "told of 1, | orders");
}

#[test]
fn requests_that_cannot_be() {
    let door = Door::open(&[]);
    for version in [2, 5, 7] {
        // In the older versions a text has 15 bits of length, and so have the words of an answer.
        for (name, topic, wanted) in creations() {
            let request =
                CreateTopicsRequest::default().with_timeout_ms(1_000).with_topics(vec![topic.clone()]);
            let wanted = match (version, wanted) {
                // Made once, it is there.
                (5 | 7, "NONE") => "TOPIC_ALREADY_EXISTS",
                // Words came in version 1, and are in all that are spoken.
                (_, wanted) => wanted,
            };
            let told = ask(&door, version, Request::CreateTopics(request));
            door.row(&format!("create in version {version}: {name}"), &told, wanted);
            let dry = CreateTopicsRequest::default().with_validate_only(true).with_topics(vec![topic]);
            let wanted = if wanted == "NONE" { "TOPIC_ALREADY_EXISTS" } else { wanted };
            door.row(
                &format!("would create: {name}"),
                &ask(&door, version, Request::CreateTopics(dry)),
                wanted,
            );
        }
    }
    for version in [0, 1] {
        door.walk(alterations(), |resource| {
            let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
            ask(&door, version, Request::IncrementalAlterConfigs(request))
        });
    }
    for version in [2, 7, 9] {
        for (name, request, wanted) in commits() {
            if version == 2 && request.group_instance_id.is_some() {
                continue;
            }
            let told = ask(&door, version, Request::OffsetCommit(request));
            door.row(&format!("commit in version {version}: {name}"), &told, wanted);
        }
    }
    let epoch = epoch(&door);
    assert!(epoch > 0);
    door.walk(fetches(epoch), |request| ask(&door, 12, request));
    door.walk(offsets(epoch), |request| ask(&door, 6, request));
    door.walk(others(), |(version, request)| ask(&door, version, request));
    let words = Request::OffsetCommit(commit(0, 7, &"w".repeat(4_096)));
    door.row("commit: words to be asked for often", &ask(&door, 9, words), "NONE");
    door.walk(named_often(), |(version, request)| counted(&door, version, request));
    by_name_and_by_id(&door);
    // Nothing of all that was refused was done in part.
    let shown = door.broker.json(&["topic", "describe", "orders"]).unwrap();
    assert_eq!(shown["settings"], serde_json::json!({}), "{shown}");
    let topics = door.broker.json(&["topic", "list"]).unwrap();
    assert_eq!(topics.as_array().unwrap().len(), 3, "{topics}");
    door.close(313);
}
