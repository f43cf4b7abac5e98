//! Requests and responses: round trips in every version, and hostile frames.

use bytes::Bytes;
use proptest::prelude::*;
use tidemill_protocol::api::messages::{
    ApiVersionsRequest, CreateTopicsRequest, FetchRequest, InitProducerIdRequest, InitProducerIdResponse,
    ListOffsetsRequest, MetadataRequest, ProduceRequest, TopicName, TransactionalId,
    create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
    create_topics_response::CreatableTopicResult,
    delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
    delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
    fetch_request::{FetchPartition, FetchTopic},
    fetch_response::{FetchableTopicResponse, PartitionData},
    find_coordinator_response::Coordinator,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    metadata_request::MetadataRequestTopic,
    metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
    },
    produce_request::{PartitionProduceData, TopicProduceData},
    produce_response::{PartitionProduceResponse, TopicProduceResponse},
};
use tidemill_protocol::api::{
    Envelope, Request, RequestError, Response, SPOKEN, StrBytes, api_versions, ask_window, asked_window,
    correlation_id, decode_request, decode_response, encode_request, encode_request_parts, encode_response,
    encode_response_parts, grant_window, granted_window, messages as m,
};
use tidemill_protocol::primitive::Malformed;

fn name(text: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(text))
}

fn requests() -> Vec<Request> {
    let topic = MetadataRequestTopic::default().with_name(Some(name("orders")));
    let data =
        PartitionProduceData::default().with_index(3).with_records(Some(Bytes::from_static(b"records")));
    let produced = TopicProduceData::default().with_name(name("orders")).with_partition_data(vec![data]);
    let fetched = FetchTopic::default()
        .with_topic(name("orders"))
        .with_partitions(vec![FetchPartition::default().with_partition(1).with_fetch_offset(42)]);
    let listed = ListOffsetsTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![ListOffsetsPartition::default().with_partition_index(2).with_timestamp(-1)]);
    let created = CreatableTopic::default()
        .with_name(name("orders"))
        .with_num_partitions(4)
        .with_replication_factor(-1)
        .with_assignments(vec![
            CreatableReplicaAssignment::default().with_broker_ids(vec![1.into(), 2.into()]),
        ])
        .with_configs(vec![CreatableTopicConfig::default().with_name(StrBytes::from_static_str("a.b"))]);
    let trimmed = DeleteRecordsTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![DeleteRecordsPartition::default().with_partition_index(2).with_offset(42)]);
    let noted = OffsetCommitRequestTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![OffsetCommitRequestPartition::default().with_committed_offset(42)]);
    vec![
        Request::ApiVersions(ApiVersionsRequest::default()),
        Request::Metadata(MetadataRequest::default().with_topics(Some(vec![topic]))),
        Request::Produce(
            ProduceRequest::default().with_acks(-1).with_timeout_ms(9).with_topic_data(vec![produced]),
        ),
        Request::Fetch(FetchRequest::default().with_max_wait_ms(5).with_topics(vec![fetched])),
        Request::ListOffsets(ListOffsetsRequest::default().with_topics(vec![listed])),
        Request::CreateTopics(CreateTopicsRequest::default().with_topics(vec![created])),
        Request::InitProducerId(
            InitProducerIdRequest::default()
                .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("t")))),
        ),
        Request::OffsetCommit(
            m::OffsetCommitRequest::default().with_generation_id_or_member_epoch(-1).with_topics(vec![noted]),
        ),
        Request::DescribeConfigs(m::DescribeConfigsRequest::default().with_include_synonyms(true)),
        Request::IncrementalAlterConfigs(
            m::IncrementalAlterConfigsRequest::default().with_validate_only(true),
        ),
        Request::CreatePartitions(m::CreatePartitionsRequest::default().with_timeout_ms(9)),
        Request::DeleteRecords(
            m::DeleteRecordsRequest::default().with_timeout_ms(9).with_topics(vec![trimmed]),
        ),
        // What these ask about stands in other fields in older versions than in newer ones.
        Request::DeleteTopics(m::DeleteTopicsRequest::default().with_timeout_ms(9)),
        Request::OffsetFetch(m::OffsetFetchRequest::default()),
        Request::FindCoordinator(m::FindCoordinatorRequest::default()),
    ]
}

fn frames() -> Vec<(Envelope, Request, Bytes)> {
    let mut frames = Vec::new();
    for request in requests() {
        let spoken = request.spoken();
        for version in spoken.min..=spoken.max {
            let client_id = Some("tester".to_owned());
            let envelope = Envelope { key: spoken.key, version, correlation_id: 17, client_id };
            let frame = encode_request(&envelope, &request).unwrap();
            frames.push((envelope, request.clone(), frame));
        }
    }
    frames
}

#[test]
fn every_request_is_read_in_every_version() {
    let frames = frames();
    let versions: usize = SPOKEN.iter().map(|spoken| (spoken.max - spoken.min + 1) as usize).sum();
    assert_eq!(frames.len(), versions, "each API is here in each of its versions");
    for (envelope, request, frame) in frames {
        let (read_envelope, read) = decode_request(frame).unwrap();
        assert_eq!(read_envelope, envelope);
        assert_eq!(read.spoken(), request.spoken(), "{envelope:?}");
        assert!(envelope.version < read.spoken().max || read == request, "{envelope:?}");
    }
}

fn responses() -> Vec<Response> {
    let announced = api_versions();
    let led = MetadataResponsePartition::default()
        .with_leader_id(1.into())
        .with_leader_epoch(7)
        .with_replica_nodes(vec![1.into(), 2.into()])
        .with_isr_nodes(vec![1.into()]);
    let described =
        MetadataResponseTopic::default().with_name(Some(name("orders"))).with_partitions(vec![led]);
    let broker = MetadataResponseBroker::default().with_node_id(1.into()).with_port(9_092);
    let appended = PartitionProduceResponse::default()
        .with_base_offset(42)
        .with_log_start_offset(3)
        .with_error_message(Some(StrBytes::from_static_str("why")));
    let fetched = PartitionData::default()
        .with_high_watermark(50)
        .with_log_start_offset(3)
        .with_records(Some(Bytes::from_static(b"records")));
    let listed = ListOffsetsPartitionResponse::default().with_offset(42).with_leader_epoch(7);
    let created = CreatableTopicResult::default()
        .with_name(name("orders"))
        .with_num_partitions(4)
        .with_replication_factor(3)
        .with_error_message(Some(StrBytes::from_static_str("why")));
    let topic = name("orders");
    let noted =
        OffsetFetchResponsePartitions::default().with_committed_offset(42).with_committed_leader_epoch(7);
    let noted = OffsetFetchResponseTopics::default().with_name(topic.clone()).with_partitions(vec![noted]);
    let committed = OffsetFetchResponseGroup::default().with_topics(vec![noted]).with_error_code(24);
    let trimmed = DeleteRecordsPartitionResult::default().with_partition_index(2).with_low_watermark(42);
    let trimmed = DeleteRecordsTopicResult::default().with_name(topic.clone()).with_partitions(vec![trimmed]);
    let coordinator = Coordinator::default().with_key(StrBytes::from_static_str("mail")).with_port(9_092);
    vec![
        Response::ApiVersions(announced),
        Response::Metadata(
            m::MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![described]),
        ),
        Response::Produce(m::ProduceResponse::default().with_responses(vec![
            TopicProduceResponse::default().with_name(topic.clone()).with_partition_responses(vec![appended]),
        ])),
        Response::Fetch(m::FetchResponse::default().with_session_id(9).with_responses(vec![
            FetchableTopicResponse::default().with_topic(topic.clone()).with_partitions(vec![fetched]),
        ])),
        Response::ListOffsets(m::ListOffsetsResponse::default().with_topics(vec![
            ListOffsetsTopicResponse::default().with_name(topic).with_partitions(vec![listed]),
        ])),
        Response::CreateTopics(m::CreateTopicsResponse::default().with_topics(vec![created])),
        Response::InitProducerId(InitProducerIdResponse::default().with_producer_id(5.into())),
        Response::OffsetCommit(m::OffsetCommitResponse::default().with_throttle_time_ms(1)),
        Response::OffsetFetch(m::OffsetFetchResponse::default().with_groups(vec![committed])),
        Response::DescribeConfigs(m::DescribeConfigsResponse::default().with_throttle_time_ms(3)),
        Response::IncrementalAlterConfigs(
            m::IncrementalAlterConfigsResponse::default().with_throttle_time_ms(3),
        ),
        Response::CreatePartitions(m::CreatePartitionsResponse::default().with_throttle_time_ms(3)),
        Response::DeleteTopics(m::DeleteTopicsResponse::default().with_responses(vec![
            m::delete_topics_response::DeletableTopicResult::default().with_name(Some(name("orders"))),
        ])),
        Response::DeleteRecords(m::DeleteRecordsResponse::default().with_topics(vec![trimmed])),
        Response::FindCoordinator(m::FindCoordinatorResponse::default().with_coordinators(vec![coordinator])),
    ]
}

#[test]
fn every_response_is_read_in_every_version() {
    for response in responses() {
        let spoken = response.spoken();
        for version in spoken.min..=spoken.max {
            let frame = encode_response(spoken.key, version, 3, &response).unwrap();
            assert_eq!(correlation_id(&frame), Ok(3));
            let read = decode_response(spoken.key, version, frame).unwrap();
            let newest = version == spoken.max;
            assert!(!newest || read == response, "{} {version}", spoken.name);
        }
    }
}

#[test]
fn record_data_are_not_copied_on_their_way_out() {
    let sizes = [0, 100, 5_000, 4_096, 127 * 128, 1 << 20, 300];
    let data: Vec<_> = sizes.iter().map(|size| Bytes::from(vec![7u8; *size])).collect();
    for version in 4..=12 {
        let fetched = |(n, data): (usize, &Bytes)| {
            let records = if n == 0 { None } else { Some(data.clone()) };
            PartitionData::default()
                .with_partition_index(n as i32)
                .with_high_watermark(1)
                .with_records(records)
        };
        let partitions: Vec<_> = data.iter().enumerate().map(fetched).collect();
        let (some, others) = partitions.split_at(4);
        let topic = |partitions: &[PartitionData]| {
            FetchableTopicResponse::default().with_topic(name("orders")).with_partitions(partitions.to_vec())
        };
        let response = m::FetchResponse::default().with_responses(vec![topic(some), topic(others)]);
        let response = Response::Fetch(response);
        let parts = encode_response_parts(1, version, 3, &response).unwrap();
        let shared =
            parts.iter().filter(|part| data.iter().any(|data| data.as_ptr() == part.as_ptr())).count();
        assert_eq!(shared, 4, "those of 4 KiB and more");
        let frame = Bytes::from(parts.concat());
        assert_eq!(frame, encode_response(1, version, 3, &response).unwrap());
        assert_eq!(decode_response(1, version, frame).unwrap().to_owned(), response, "{version}");
    }
    for version in 3..=12 {
        let produced = |(n, data): (usize, &Bytes)| {
            PartitionProduceData::default().with_index(n as i32).with_records(Some(data.clone()))
        };
        let partitions = data.iter().enumerate().map(produced).collect();
        let topic = TopicProduceData::default().with_name(name("orders")).with_partition_data(partitions);
        let request = Request::Produce(ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]));
        let head = Envelope { key: 0, version, correlation_id: 1, client_id: None };
        let parts = encode_request_parts(&head, &request).unwrap();
        assert_eq!(
            parts.iter().filter(|part| data.iter().any(|data| data.as_ptr() == part.as_ptr())).count(),
            4
        );
        assert_eq!(decode_request(Bytes::from(parts.concat())).unwrap(), (head, request));
    }
}

#[test]
fn a_request_says_no_more_than_its_version() {
    let waits = ListOffsetsRequest::default().with_isolation_level(1);
    let head = Envelope { key: 2, version: 1, correlation_id: 1, client_id: None };
    let error = encode_request(&head, &Request::ListOffsets(waits.clone())).unwrap_err();
    assert_eq!((error.api, error.version), ("ListOffsets", 1));
    assert!(
        encode_request(&Envelope { version: 2, ..head.clone() }, &Request::ListOffsets(waits.clone()))
            .is_ok()
    );
    assert!(
        encode_request(&Envelope { version: 8, ..head.clone() }, &Request::ListOffsets(waits.clone()))
            .is_err()
    );
    assert!(encode_request(&Envelope { key: 3, ..head }, &Request::ListOffsets(waits)).is_err());
}

#[test]
fn a_count_that_cannot_be_is_refused_before_it_is_believed() {
    // Metadata v1 with 2^31 - 1 topics in fifteen bytes.
    let mut frame = Vec::new();
    frame.extend_from_slice(&3i16.to_be_bytes());
    frame.extend_from_slice(&1i16.to_be_bytes());
    frame.extend_from_slice(&7i32.to_be_bytes());
    frame.extend_from_slice(&(-1i16).to_be_bytes());
    frame.extend_from_slice(&i32::MAX.to_be_bytes());
    let error = decode_request(Bytes::from(frame)).unwrap_err();
    let refused = Malformed { what: "the count of an array", at: 14 };
    assert_eq!(error, RequestError::Malformed(refused));

    // Fetch v12 with as many topics, in a varint.
    let frame =
        [&[0, 1, 0, 12, 0, 0, 0, 7, 0xff, 0xff, 0][..], &[0; 25], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    let refused = Malformed { what: "the count of an array", at: frame.len() };
    assert_eq!(decode_request(Bytes::from(frame)), Err(RequestError::Malformed(refused)));

    // And features in a tagged field of a response.
    let frame = [&[0, 0, 0, 7, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    let refused = Malformed { what: "the count of an array", at: frame.len() };
    assert_eq!(decode_response(18, 3, Bytes::from(frame)), Err(refused));
}

#[test]
fn small_elements_do_not_become_a_large_request() {
    // A million topics in two mebibytes: they would take some hundred in memory, were they believed.
    let count = 1 << 20;
    let head = [0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff];
    let frame = [&head[..], &i32::to_be_bytes(count), &vec![0; 2 * count as usize]].concat();
    let refused = Malformed { what: "more elements than may be", at: 14 };
    assert_eq!(decode_request(Bytes::from(frame)), Err(RequestError::Malformed(refused)));

    // Nor plain numbers: OffsetFetch of partitions, of which each is answered with many times its four bytes.
    let asks = |partitions: usize| {
        let head = [0, 9, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 1, b'g', 0, 0, 0, 1, 0, 1, b't'];
        let count = i32::try_from(partitions).unwrap().to_be_bytes();
        decode_request(Bytes::from([&head[..], &count, &vec![0; 4 * partitions]].concat()))
    };
    let refused = Malformed { what: "more elements than may be", at: 24 };
    assert_eq!(asks(1 << 17), Err(RequestError::Malformed(refused)));
    assert!(asks((1 << 17) - 1).is_ok());
}

#[test]
fn what_is_no_request_is_refused() {
    let refused = |frame: &[u8]| match decode_request(Bytes::copy_from_slice(frame)) {
        Err(RequestError::Malformed(malformed)) => (malformed.what, malformed.at),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&[]), ("request header", 0));
    assert_eq!(refused(&[0, 3, 0, 1, 0, 0, 0]), ("request header", 0));
    assert_eq!(refused(&[0, 3, 0, 1, 0, 0, 0, 7, 0, 3, b'm', b'e']), ("a string", 10));
    assert_eq!(refused(&[0, 3, 0, 1, 0, 0, 0, 7, 0, 1, 0xff]), ("UTF-8", 10));
    // A topic without a name, where only later versions allow that. (It is found by the decoder, which has no places.)
    let (what, _) =
        refused(&[0, 2, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!(what, "null where the message has none");
}

#[test]
fn an_unknown_version_says_what_an_answer_needs() {
    let frame = [&18i16.to_be_bytes()[..], &99i16.to_be_bytes(), &5i32.to_be_bytes(), &[0, 0]].concat();
    match decode_request(Bytes::from(frame)) {
        Err(RequestError::UnsupportedVersion(envelope)) => {
            assert_eq!((envelope.key, envelope.version, envelope.correlation_id), (18, 99, 5));
        }
        other => panic!("{other:?}"),
    }
    let frame = [&1_000i16.to_be_bytes()[..], &[0; 8]].concat();
    assert_eq!(decode_request(Bytes::from(frame)), Err(RequestError::UnknownApi { key: 1_000 }));
}

#[test]
fn the_window_travels_in_tagged_fields() {
    let mut request = InitProducerIdRequest::default();
    assert_eq!(asked_window(&request), None);
    ask_window(&mut request, 1_024);
    let envelope = Envelope { key: 22, version: 4, correlation_id: 1, client_id: None };
    let frame = encode_request(&envelope, &Request::InitProducerId(request)).unwrap();
    match decode_request(frame).unwrap().1 {
        Request::InitProducerId(request) => assert_eq!(asked_window(&request), Some(1_024)),
        other => panic!("{other:?}"),
    }
    let mut response = InitProducerIdResponse::default();
    grant_window(&mut response, 1_024);
    let frame = encode_response(22, 4, 1, &Response::InitProducerId(response)).unwrap();
    match decode_response(22, 4, frame).unwrap() {
        Response::InitProducerId(response) => assert_eq!(granted_window(&response), Some(1_024)),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn altered_frames_never_panic(seed in any::<prop::sample::Index>(), edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let frames = frames();
        let (_, _, frame) = &frames[seed.index(frames.len())];
        let mut bytes = frame.to_vec();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = decode_request(Bytes::from(bytes.clone()));
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = decode_request(Bytes::from(bytes));
    }

    #[test]
    fn altered_responses_never_panic(seed in any::<prop::sample::Index>(), edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let responses = responses();
        let response = &responses[seed.index(responses.len())];
        let spoken = response.spoken();
        for version in spoken.min..=spoken.max {
            let mut bytes = encode_response(spoken.key, version, 1, response).unwrap().to_vec();
            for (at, value) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            let _ = decode_response(spoken.key, version, Bytes::from(bytes.clone()));
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = decode_response(spoken.key, version, Bytes::from(bytes));
        }
    }

    #[test]
    fn rubbish_never_panics(key in 0i16..30, version in -1i16..15, rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let frame = [&key.to_be_bytes()[..], &version.to_be_bytes(), &rest].concat();
        let _ = decode_request(Bytes::from(frame));
        let _ = decode_response(key, version, Bytes::from(rest));
    }
}

#[test]
fn librdkafka_may_ask_for_all_topics_with_a_null_that_is_too_long() {
    // What librdkafka 2.16 sends as Metadata 12, when it asks for all topics.
    let asked = b"\x00\x03\x00\x0c\x00\x00\x00\x03\x00\x07rdkafka\x00\x00\x00\x00\x00\x01\x00\x00";
    let (head, request) = decode_request(Bytes::from_static(asked)).unwrap();
    assert_eq!((head.version, head.client_id.as_deref()), (12, Some("rdkafka")));
    assert_eq!(
        request,
        Request::Metadata(MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false))
    );
    // More than that is no message, nor is it behind any other.
    let longer = Bytes::from([&asked[..], b"\x00"].concat());
    assert!(matches!(decode_request(longer), Err(RequestError::Malformed(_))));
    let mut versions = asked.to_vec();
    versions[1] = 18;
    versions[3] = 0;
    assert!(matches!(decode_request(Bytes::from(versions)), Err(RequestError::Malformed(_))));
}

#[test]
fn versions_that_ask_about_one_group_are_answered_about_one() {
    let all = responses();
    let said = |response: &Response, version| {
        let key = response.spoken().key;
        decode_response(key, version, encode_response(key, version, 3, response).unwrap()).unwrap()
    };
    let one = |is: fn(&Response) -> bool| all.iter().find(|response| is(response)).expect("it is spoken");
    let committed = one(|response| matches!(response, Response::OffsetFetch(_)));
    let found = one(|response| matches!(response, Response::FindCoordinator(_)));
    for version in 1..8 {
        let Response::OffsetFetch(told) = said(committed, version) else { panic!("no offsets") };
        let partition = &told.topics[0].partitions[0];
        assert_eq!((partition.committed_offset, told.topics[0].name.0.as_str()), (42, "orders"));
        assert_eq!(partition.committed_leader_epoch, if version < 5 { -1 } else { 7 });
        assert_eq!((told.error_code, told.groups.len()), (if version < 2 { 0 } else { 24 }, 0));
    }
    for version in 0..4 {
        let Response::FindCoordinator(told) = said(found, version) else { panic!("no coordinator") };
        assert_eq!((told.port, told.coordinators.len()), (9_092, 0));
    }
}
