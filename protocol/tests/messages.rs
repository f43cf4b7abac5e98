//! Requests and responses: round trips in every version, and hostile frames.

use bytes::Bytes;
use proptest::prelude::*;
use tidemill_protocol::api::messages::{
    ApiVersionsRequest, CreateTopicsRequest, FetchRequest, InitProducerIdRequest, InitProducerIdResponse,
    ListOffsetsRequest, MetadataRequest, ProduceRequest, TopicName, TransactionalId,
    create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
    fetch_request::{FetchPartition, FetchTopic},
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    metadata_request::MetadataRequestTopic,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use tidemill_protocol::api::{
    Envelope, Request, RequestError, Response, SPOKEN, StrBytes, ask_window, asked_window, decode_request,
    decode_response, encode_request, encode_response, grant_window, granted_window,
};

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
    ]
}

fn frames() -> Vec<(Envelope, Request, Bytes)> {
    let mut frames = Vec::new();
    for request in requests() {
        let spoken = request.spoken();
        for version in spoken.min..=spoken.max {
            let client_id = Some("tester".to_owned());
            let envelope = Envelope { key: spoken.key, version, correlation_id: 17, client_id };
            if let Ok(frame) = encode_request(&envelope, &request) {
                frames.push((envelope, request.clone(), frame));
            }
        }
    }
    frames
}

#[test]
fn every_request_is_read_in_every_version() {
    let frames = frames();
    let versions: usize = SPOKEN.iter().map(|spoken| (spoken.max - spoken.min + 1) as usize).sum();
    assert_eq!(frames.len(), versions, "a version could not be written");
    for (envelope, request, frame) in frames {
        let (read_envelope, read) = decode_request(frame).unwrap();
        assert_eq!(read_envelope, envelope);
        assert_eq!(std::mem::discriminant(&read), std::mem::discriminant(&request), "{envelope:?}");
    }
}

#[test]
fn every_default_response_is_read_in_every_version() {
    use tidemill_protocol::api::messages as m;
    let responses = [
        Response::ApiVersions(m::ApiVersionsResponse::default()),
        Response::Metadata(m::MetadataResponse::default()),
        Response::Produce(m::ProduceResponse::default()),
        Response::Fetch(m::FetchResponse::default()),
        Response::ListOffsets(m::ListOffsetsResponse::default()),
        Response::CreateTopics(m::CreateTopicsResponse::default()),
        Response::InitProducerId(InitProducerIdResponse::default()),
    ];
    for (response, request) in responses.into_iter().zip(requests_in_response_order()) {
        let spoken = request.spoken();
        for version in spoken.min..=spoken.max {
            let frame = encode_response(spoken.key, version, 3, &response).unwrap();
            assert_eq!(frame[..4], 3i32.to_be_bytes());
            decode_response(spoken.key, version, frame).unwrap();
        }
    }
}

fn requests_in_response_order() -> Vec<Request> {
    requests()
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
    assert!(matches!(error, RequestError::Malformed(malformed) if malformed.what == "the count of an array"));
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
    fn rubbish_never_panics(key in 0i16..30, version in -1i16..15, rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let frame = [&key.to_be_bytes()[..], &version.to_be_bytes(), &rest].concat();
        let _ = decode_request(Bytes::from(frame));
        let _ = decode_response(key, version, Bytes::from(rest));
    }
}
