//! Offsets that consumers commit, and what old versions of requests are told: asked byte by byte, as no client would.

use tidemill_protocol::api::messages::find_coordinator_response::Coordinator;
use tidemill_protocol::api::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidemill_protocol::api::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use tidemill_protocol::api::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidemill_protocol::api::messages::{
    FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest,
};
use tidemill_protocol::api::{Request, Response, StrBytes};
use tidemill_protocol::batch::BatchBuilder;
use tidemill_protocol::codec::Codec;
use tidemill_protocol::error::ErrorCode;
use xtask::kafka::{Connection, name};
use xtask::process::Broker;

use crate::broker;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn commit(topic: &str, offsets: &[(i32, i64)]) -> OffsetCommitRequest {
    let partitions = offsets.iter().map(|(partition, offset)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(1)
            .with_committed_metadata(Some(text("noted")))
    });
    let topic =
        OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(partitions.collect());
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text("mail")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// The error of each partition.
fn committed(connection: &mut Connection, version: i16, mut request: OffsetCommitRequest) -> Vec<i16> {
    if version < 6 {
        let partitions = request.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        partitions.for_each(|partition| partition.committed_leader_epoch = -1);
    }
    match connection.ask(version, Request::OffsetCommit(request)).unwrap() {
        Response::OffsetCommit(answer) => {
            answer.topics.iter().flat_map(|topic| &topic.partitions).map(|it| it.error_code).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// What is committed for partitions of `orders`: of the named ones, or all.
fn fetched(connection: &mut Connection, version: i16, named: Option<&[i32]>) -> Vec<(i32, i64, String)> {
    let mut request = OffsetFetchRequest::default();
    if version < 8 {
        let topic = |named: &[i32]| {
            let topic = OffsetFetchRequestTopic::default().with_name(name("orders"));
            vec![topic.with_partition_indexes(named.to_vec())]
        };
        request = request.with_group_id(GroupId(text("mail"))).with_topics(named.map(topic));
    } else {
        let topic = |named: &[i32]| {
            let topic = OffsetFetchRequestTopics::default().with_name(name("orders"));
            vec![topic.with_partition_indexes(named.to_vec())]
        };
        let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text("mail")));
        request = request.with_groups(vec![group.with_topics(named.map(topic))]);
    }
    let Response::OffsetFetch(answer) = connection.ask(version, Request::OffsetFetch(request)).unwrap()
    else {
        panic!("no offsets")
    };
    let said = |text: &Option<StrBytes>| text.as_ref().map(ToString::to_string).unwrap_or_default();
    assert_eq!(answer.error_code, 0);
    let of_one = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let of_one = of_one.map(|it| (it.partition_index, it.committed_offset, said(&it.metadata)));
    let of_several = answer.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions);
    let of_several = of_several.map(|it| (it.partition_index, it.committed_offset, said(&it.metadata)));
    of_one.chain(of_several).collect()
}

fn connect(broker: &Broker) -> Connection {
    Connection::to(broker.address("tcp").unwrap()).unwrap()
}

#[test]
fn what_a_consumer_commits_is_there_after_a_kill() {
    let (_folder, mut broker) = broker(&[&format!("listen.tcp=127.0.0.1:{}", xtask::ports::lasting())]);
    broker.run(&["topic", "create", "orders", "--partitions", "8"]).unwrap();
    let mut connection = connect(&broker);
    for version in 2..=9 {
        let offset = i64::from(version);
        let request = commit("orders", &[(0, offset), (1, 10 * offset), (5, 100 * offset)]);
        assert_eq!(committed(&mut connection, version, request), [0, 0, 0], "version {version}");
        let expected = |number, offset| (number, offset, "noted".to_owned());
        let expected = [expected(0, offset), expected(1, 10 * offset), (2, -1, String::new())];
        for version in 1..=9 {
            assert_eq!(fetched(&mut connection, version, Some(&[0, 1, 2])), expected, "version {version}");
        }
    }
    broker.kill().unwrap();
    broker.restart().unwrap();
    let mut connection = connect(&broker);
    let all: Vec<_> =
        [(0, 9), (1, 90), (5, 900)].map(|(number, offset)| (number, offset, "noted".to_owned())).into();
    for version in [2, 7, 8, 9] {
        assert_eq!(fetched(&mut connection, version, None), all, "version {version}");
    }
    assert_eq!(fetched(&mut connection, 9, Some(&[5, 8])), [all[2].clone(), (8, -1, String::new())]);
}

#[test]
fn members_of_groups_are_told_that_there_are_none() {
    let (_folder, broker) = broker(&["listen.tcp=127.0.0.1:0"]);
    broker.run(&["topic", "create", "orders"]).unwrap();
    let mut connection = connect(&broker);
    let one = || commit("orders", &[(0, 5)]);
    let code = |code: ErrorCode| [code.0];
    let mut told = |request| committed(&mut connection, 9, request);
    assert_eq!(told(one().with_generation_id_or_member_epoch(0)), code(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(told(one().with_member_id(text("m"))), code(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(told(one().with_group_instance_id(Some(text("i")))), code(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(told(one().with_group_id(GroupId(text("")))), code(ErrorCode::INVALID_GROUP_ID));
    let long = GroupId(text(&"g".repeat(256)));
    assert_eq!(told(one().with_group_id(long)), code(ErrorCode::INVALID_GROUP_ID));
    let several = commit("orders", &[(0, 5), (1, 5), (0, -1)]);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
    assert_eq!(told(several), [0, unknown, ErrorCode::INVALID_REQUEST.0]);
    assert_eq!(told(commit("nothing", &[(0, 5)])), [unknown]);
    let mut noted = one();
    noted.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(4_097)));
    assert_eq!(told(noted), code(ErrorCode::OFFSET_METADATA_TOO_LARGE));
    assert_eq!(fetched(&mut connection, 9, None), [(0, 5, "noted".to_owned())]);
}

#[test]
fn coordinators_are_found_at_the_address_that_was_asked() {
    let (_folder, broker) = broker(&["listen.tcp=127.0.0.1:0"]);
    let tcp = broker.address("tcp").unwrap();
    let mut connection = connect(&broker);
    for version in 0..=3 {
        let request = FindCoordinatorRequest::default().with_key(text("mail"));
        let answer = connection.ask(version, Request::FindCoordinator(request)).unwrap();
        let Response::FindCoordinator(found) = answer else { panic!("{answer:?}") };
        assert_eq!((found.error_code, format!("{}:{}", found.host, found.port)), (0, tcp.to_owned()));
    }
    let mut coordinators = |key_type, keys: &[&str]| -> Vec<Coordinator> {
        let keys = keys.iter().map(|key| text(key)).collect();
        let request = FindCoordinatorRequest::default().with_key_type(key_type).with_coordinator_keys(keys);
        let answer = connection.ask(4, Request::FindCoordinator(request)).unwrap();
        let Response::FindCoordinator(found) = answer else { panic!("{answer:?}") };
        found.coordinators
    };
    let found = coordinators(0, &["mail", ""]);
    assert_eq!((found[0].error_code, format!("{}:{}", found[0].host, found[0].port)), (0, tcp.to_owned()));
    assert_eq!((found[1].error_code, found[1].node_id.0), (ErrorCode::INVALID_GROUP_ID.0, -1));
    let transactional = &coordinators(1, &["t"])[0];
    assert_eq!(transactional.error_code, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED.0);
    assert!(transactional.error_message.as_ref().unwrap().contains("transactions are not offered"));
    assert_eq!(coordinators(2, &["s"])[0].error_code, ErrorCode::INVALID_REQUEST.0);
}

#[test]
fn zstd_is_neither_taken_from_nor_given_to_whom_does_not_know_it() {
    let (_folder, broker) = broker(&["listen.tcp=127.0.0.1:0"]);
    broker.run(&["topic", "create", "orders"]).unwrap();
    let mut connection = connect(&broker);
    let mut produce = |version, codec| {
        let mut builder = BatchBuilder::new(codec);
        builder.push(7, None, Some(b"hello"), &[]).unwrap();
        let data = PartitionProduceData::default().with_records(Some(builder.build().unwrap()));
        let topic = TopicProduceData::default().with_name(name("orders")).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(9_000);
        match connection.ask(version, Request::Produce(request.with_topic_data(vec![topic]))).unwrap() {
            Response::Produce(answer) => answer.responses[0].partition_responses[0].error_code,
            other => panic!("{other:?}"),
        }
    };
    let unsupported = ErrorCode::UNSUPPORTED_COMPRESSION_TYPE.0;
    assert_eq!(unsupported, 76);
    for version in 3..=12 {
        assert_eq!(produce(version, Codec::Lz4), 0, "version {version}");
    }
    assert_eq!((produce(6, Codec::Zstd), produce(7, Codec::Zstd)), (unsupported, 0));

    let heads = connection.batches("orders", 0).unwrap();
    assert_eq!(heads.len(), 11);
    assert_eq!(heads[10].codec(), Ok(Codec::Zstd));
    let mut fetch = |version| connection.fetch(version, "orders", 0).unwrap();
    assert_eq!(fetch(9), (unsupported, 0));
    assert_eq!(fetch(10), (0, 11));
}
