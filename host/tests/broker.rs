//! A broker without listeners, in the real world: requests in, answers out, over restarts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::join;
use tidemill_core::catalog::{self, TopicRow, TopicSettings};
use tidemill_core::ids::ShardId;
use tidemill_core::rows::PartitionRow;
use tidemill_core::seams::World;
use tidemill_host::addresses::Transport;
use tidemill_host::broker::{Broker, BrokerOptions, Tools};
use tidemill_host::metrics::Metrics;
use tidemill_host::requests::{Begun, Session};
use tidemill_host::topics::{self, TopicRequest};
use tidemill_host::world;
use tidemill_protocol::api::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use tidemill_protocol::api::messages::fetch_request::{FetchPartition, FetchTopic};
use tidemill_protocol::api::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidemill_protocol::api::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidemill_protocol::api::messages::produce_response::PartitionProduceResponse;
use tidemill_protocol::api::messages::{
    DeleteRecordsRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest,
    MetadataRequest, ProduceRequest, TopicName, TransactionalId,
};
use tidemill_protocol::api::{Envelope, Request, Response, StrBytes, decode_response, encode_request};
use tidemill_protocol::batch::{self, BatchBuilder, BatchLimits};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::ids::{Partition, ProducerEpoch, ProducerId, Sequence, TopicPartition};
use tidemill_runtime::{CodeOptions, InProcess, Runtime, RuntimeOptions};
use tidemill_storage::log::LogOptions;

fn real_world() -> World {
    let handle = tokio::runtime::Handle::current();
    world::real(world::RealDisk::with_direct_writes(), handle.clone(), handle)
}

async fn open(folder: &Path) -> Arc<Broker> {
    let runtime = Runtime::new(RuntimeOptions { instances: 64, code: CodeOptions::default() }).unwrap();
    let tools = Tools { runtime, compiler: Arc::new(InProcess { code: CodeOptions::default() }) };
    let options = BrokerOptions {
        folder: folder.to_owned(),
        shards: 3,
        reserve_bytes: 0,
        retention_interval: Duration::from_secs(300),
        log: LogOptions::default(),
    };
    let on_fault = Arc::new(|fault| panic!("{fault}"));
    Broker::open(options, real_world(), tools, Arc::new(Metrics::default()), on_fault).await.unwrap()
}

async fn ask(broker: &Broker, version: i16, request: Request) -> Response {
    let key = request.spoken().key;
    let envelope = Envelope { key, version, correlation_id: 1, client_id: None };
    let frame = encode_request(&envelope, &request).unwrap();
    let begun = broker.requests.begin(&Session::of(Transport::Quic), frame).await;
    let Begun::Answer(answer) = begun else { panic!("no answer") };
    let frame: Vec<u8> = answer.parts.await.unwrap().concat();
    decode_response(key, version, Bytes::from(frame)).unwrap()
}

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

fn records(sequence: i32, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::Lz4);
    for value in values {
        builder.push(7, None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.producer(ProducerId(3), ProducerEpoch(0), Sequence(sequence));
    builder.build().unwrap()
}

fn produce_request(partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name("orders")).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(9_000).with_topic_data(vec![topic])
}

/// What is said of the only partition.
fn answer_of<T>(response: Response, look: impl FnOnce(&PartitionProduceResponse) -> T) -> T {
    match response {
        Response::Produce(response) => look(&response.responses[0].partition_responses[0]),
        other => panic!("{other:?}"),
    }
}

async fn produce(broker: &Broker, partition: i32, records: Bytes) -> (i16, i64) {
    let response = ask(broker, 9, Request::Produce(produce_request(partition, records))).await;
    answer_of(response, |partition| (partition.error_code, partition.base_offset))
}

fn wanted(name: &str, partitions: u32) -> TopicRequest {
    TopicRequest {
        tenant: "default".into(),
        name: name.into(),
        partitions,
        affinity: None,
        settings: TopicSettings::default(),
    }
}

async fn create(broker: &Broker, name: &str, partitions: u32) {
    let wanted = wanted(name, partitions);
    topics::create(&broker.catalog, &broker.shards, &broker.world, &wanted).await.unwrap();
}

async fn fetch(broker: &Broker, partition: i32, offset: i64) -> (i16, i64, Vec<String>) {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name("orders")).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]);
    let Response::Fetch(response) = ask(broker, 11, Request::Fetch(request)).await else {
        panic!("no fetch")
    };
    let data = &response.responses[0].partitions[0];
    let limits = BatchLimits {
        batch_bytes: 1 << 20,
        records: 1_000,
        headers: 10,
        inflated_bytes: 1 << 20,
        inflate_ratio: 100,
    };
    let mut values = Vec::new();
    for batch in batch::split(data.records.clone().unwrap_or_default()).unwrap() {
        for record in batch::decode(&batch, &limits).unwrap() {
            values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
    }
    (data.error_code, data.high_watermark, values)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path()).await;
    create(&broker, "orders", 4).await;
    assert_eq!(produce(&broker, 2, records(0, &["a", "b"])).await, (0, 0));
    assert_eq!(produce(&broker, 2, records(2, &["c"])).await, (0, 2));
    assert_eq!(produce(&broker, 2, records(2, &["c"])).await, (0, 2), "sent again");
    assert_eq!(produce(&broker, 9, records(0, &["x"])).await.0, 3, "no such partition");
    let all = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
    assert_eq!(fetch(&broker, 2, 0).await, (0, 3, all.clone()));
    broker.shutdown().await.unwrap();
    drop(broker);

    let broker = open(folder.path()).await;
    assert_eq!(fetch(&broker, 2, 0).await, (0, 3, all));
    assert_eq!(produce(&broker, 2, records(2, &["c"])).await, (0, 2), "sent again after the restart");
    assert_eq!(produce(&broker, 2, records(3, &["d"])).await, (0, 3));
    assert_eq!(fetch(&broker, 2, 4).await, (0, 4, vec![]));
    assert_eq!(fetch(&broker, 2, 5).await.0, 1, "beyond the end");
    broker.shutdown().await.unwrap();
}

async fn delete_records(broker: &Broker, partition: i32, offset: i64) -> (i16, i64) {
    let wanted = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
    let topic = DeleteRecordsTopic::default().with_name(name("orders")).with_partitions(vec![wanted]);
    let request = DeleteRecordsRequest::default().with_timeout_ms(9_000).with_topics(vec![topic]);
    match ask(broker, 2, Request::DeleteRecords(request)).await {
        Response::DeleteRecords(answer) => {
            let partition = &answer.topics[0].partitions[0];
            (partition.error_code, partition.low_watermark)
        }
        other => panic!("{other:?}"),
    }
}

async fn offset_at(broker: &Broker, partition: i32, timestamp_ms: i64) -> i64 {
    let wanted = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp_ms);
    let topic = ListOffsetsTopic::default().with_name(name("orders")).with_partitions(vec![wanted]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    match ask(broker, 6, Request::ListOffsets(request)).await {
        Response::ListOffsets(answer) => answer.topics[0].partitions[0].offset,
        other => panic!("{other:?}"),
    }
}

/// A batch of records of these timestamps, in milliseconds since 1970.
fn records_at(sequence: i32, timestamps: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for timestamp in timestamps {
        builder.push(*timestamp, None, Some(timestamp.to_string().as_bytes()), &[]).unwrap();
    }
    builder.producer(ProducerId(3), ProducerEpoch(0), Sequence(sequence));
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_are_not_there_any_more() {
    const EARLIEST: i64 = -2;
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path()).await;
    create(&broker, "orders", 4).await;
    // The one of 90 comes early: whoever asks for 60 finds it, until it is deleted.
    for (sequence, times) in [(0, &[10, 90][..]), (2, &[20, 30]), (4, &[40, 60]), (6, &[50])] {
        assert_eq!(produce(&broker, 1, records_at(sequence, times)).await.0, 0);
    }
    assert_eq!((offset_at(&broker, 1, 60).await, offset_at(&broker, 1, EARLIEST).await), (1, 0));
    assert_eq!(delete_records(&broker, 1, 8).await, (1, -1), "beyond the end");
    assert_eq!(delete_records(&broker, 1, -2).await, (1, -1));
    assert_eq!(delete_records(&broker, 9, 0).await, (3, -1));
    assert_eq!(delete_records(&broker, 1, 3).await, (0, 3));
    assert_eq!(delete_records(&broker, 1, 2).await, (0, 3), "it is further already");

    let check = async |broker: &Broker| {
        assert_eq!(fetch(broker, 1, 2).await.0, 1, "below the log start");
        assert_eq!(offset_at(broker, 1, EARLIEST).await, 3);
        // From the batch in which the log starts, the record before the start is not meant.
        assert_eq!((offset_at(broker, 1, 0).await, offset_at(broker, 1, 30).await), (3, 3));
        assert_eq!((offset_at(broker, 1, 31).await, offset_at(broker, 1, 45).await), (4, 5));
        assert_eq!((offset_at(broker, 1, 60).await, offset_at(broker, 1, 61).await), (5, -1));
        let (code, high_watermark, values) = fetch(broker, 1, 3).await;
        assert_eq!((code, high_watermark), (0, 7));
        assert!(values.ends_with(&["30", "40", "60", "50"].map(str::to_owned)), "{values:?}");
    };
    check(&broker).await;
    broker.shutdown().await.unwrap();
    drop(broker);

    let broker = open(folder.path()).await;
    check(&broker).await;
    assert_eq!(delete_records(&broker, 1, -1).await, (0, 7), "all that is committed");
    assert_eq!(offset_at(&broker, 1, 0).await, -1);
    assert_eq!(fetch(&broker, 1, 7).await, (0, 7, vec![]));
    assert_eq!(produce(&broker, 1, records_at(7, &[70])).await, (0, 7));
    assert_eq!((offset_at(&broker, 1, 0).await, offset_at(&broker, 1, EARLIEST).await), (7, 7));
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_for_many_offsets_lets_others_run_in_between() {
    const TIMES: usize = 1_000;
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path()).await;
    create(&broker, "orders", 4).await;
    assert_eq!(produce(&broker, 1, records_at(0, &[10, 90])).await.0, 0);
    let wanted = ListOffsetsPartition::default().with_partition_index(1).with_timestamp(60);
    let topic = ListOffsetsTopic::default().with_name(name("orders")).with_partitions(vec![wanted; TIMES]);
    let request = Request::ListOffsets(ListOffsetsRequest::default().with_topics(vec![topic]));
    let envelope = Envelope { key: 2, version: 6, correlation_id: 1, client_id: None };
    let frame = encode_request(&envelope, &request).unwrap();
    let begun = broker.requests.begin(&Session::of(Transport::Tcp), frame).await;
    let Begun::Answer(mut answer) = begun else { panic!("no answer") };
    let mut turns = 0;
    let parts = loop {
        match answer.parts.as_mut().now_or_never() {
            Some(parts) => break parts,
            None => turns += 1,
        }
    };
    assert!(turns >= TIMES, "{turns} turns");
    let response = decode_response(2, 6, Bytes::from(parts.unwrap().concat())).unwrap();
    let Response::ListOffsets(response) = response else { panic!("{response:?}") };
    assert!(response.topics[0].partitions.iter().all(|partition| partition.offset == 1));
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_refused_and_nothing_of_them_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path()).await;
    create(&broker, "orders", 4).await;
    let id = TransactionalId(StrBytes::from_static_str("t"));
    let init = InitProducerIdRequest::default().with_transactional_id(Some(id.clone()));
    match ask(&broker, 4, Request::InitProducerId(init)).await {
        Response::InitProducerId(refused) => {
            assert_eq!((refused.error_code, refused.producer_id.0), (53, -1))
        }
        other => panic!("{other:?}"),
    }
    let request = produce_request(2, records(0, &["a"])).with_transactional_id(Some(id));
    let (code, message) = answer_of(ask(&broker, 9, Request::Produce(request)).await, |partition| {
        (partition.error_code, partition.error_message.clone())
    });
    assert_eq!(code, 53);
    assert!(message.unwrap().contains("transactions are not offered"));
    assert_eq!(fetch(&broker, 2, 0).await, (0, 0, vec![]));
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_no_answer_leaves_the_room_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path()).await;
    create(&broker, "orders", 4).await;
    let room = broker.requests.room.clone();
    let free = room.available_permits();
    let envelope = Envelope { key: 0, version: 9, correlation_id: 1, client_id: None };
    let mut begun = Vec::new();
    for number in 0..10 {
        let request = Request::Produce(produce_request(number % 4, records(number / 4, &["a"])));
        let frame = encode_request(&envelope, &request).unwrap();
        begun.push(broker.requests.begin(&Session::of(Transport::Quic), frame).await);
    }
    for _ in 0..1_000 {
        if room.available_permits() == free {
            break;
        }
        broker.world.clock.sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(room.available_permits(), free, "nobody asked for an answer");
    assert_eq!(fetch(&broker, 0, 0).await.1, 3);
    drop(begun);
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_made_when_its_turn_comes() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path()).await;
    let moves = |port: u16| broker.addresses.advertise(Transport::Quic, None, ([127, 0, 0, 1], port).into());
    let session = Session::of(Transport::Quic);
    let requests = [
        (
            4,
            Request::FindCoordinator(
                FindCoordinatorRequest::default().with_coordinator_keys(vec![StrBytes::from_static_str("g")]),
            ),
        ),
        (9, Request::Metadata(MetadataRequest::default().with_topics(Some(vec![])))),
    ];
    for (version, request) in requests {
        moves(1_000);
        let key = request.spoken().key;
        let envelope = Envelope { key, version, correlation_id: 1, client_id: None };
        let frame = encode_request(&envelope, &request).unwrap();
        let Begun::Answer(answer) = broker.requests.begin(&session, frame).await else { panic!("no answer") };
        moves(2_000);
        let frame: Vec<u8> = answer.parts.await.unwrap().concat();
        let port = match decode_response(key, version, Bytes::from(frame)).unwrap() {
            Response::FindCoordinator(answer) => answer.coordinators[0].port,
            Response::Metadata(answer) => answer.brokers[0].port,
            other => panic!("{other:?}"),
        };
        assert_eq!(port, 2_000, "{}", request.spoken().name);
    }
    broker.shutdown().await.unwrap();
}

/// What the shards have of each partition of a topic.
fn partitions(broker: &Broker, topic: &TopicRow) -> Vec<Option<PartitionRow>> {
    let places = catalog::shards_of(&broker.catalog.view(), topic).unwrap();
    let look = |(partition, shard): (u32, ShardId)| {
        let at = TopicPartition { topic: topic.id, partition: Partition(partition) };
        broker.shards[usize::from(shard.0)].partition(at).unwrap()
    };
    (0..).zip(places).map(look).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_changes_at_once_the_shards_have_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path()).await;
    create(&broker, "orders", 6).await;
    let alter = async |value: Option<&str>| {
        let changes = [("max.message.bytes".to_owned(), value.map(str::to_owned))];
        let of = ("default", "orders");
        topics::alter(&broker.catalog, &broker.shards, of, &changes, false).await.unwrap();
    };
    for round in 0..10 {
        join(alter(Some("2000")), alter(None)).await;
        let topic = catalog::topic(&broker.catalog.view(), "default", "orders").unwrap().unwrap();
        let wanted = topic.settings.max_message_bytes();
        for row in partitions(&broker, &topic) {
            assert_eq!(row.unwrap().batch_bytes_max, wanted, "round {round}");
        }
    }
    for round in 0..10 {
        let wanted = wanted("short-lived", 6);
        let created = topics::create(&broker.catalog, &broker.shards, &broker.world, &wanted);
        let deleted = topics::delete(&broker.catalog, &broker.shards, "default", "short-lived");
        let (created, deleted) = join(created, deleted).await;
        let topic = created.unwrap();
        assert_eq!(deleted.unwrap().id, topic.id);
        assert!(partitions(&broker, &topic).iter().all(Option::is_none), "round {round}");
    }
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_broker_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path()).await;
    let runtime = Runtime::new(RuntimeOptions { instances: 64, code: CodeOptions::default() }).unwrap();
    let tools = Tools { runtime, compiler: Arc::new(InProcess { code: CodeOptions::default() }) };
    let options = BrokerOptions {
        folder: folder.path().to_owned(),
        shards: 1,
        reserve_bytes: 0,
        retention_interval: Duration::from_secs(300),
        log: LogOptions::default(),
    };
    let second =
        Broker::open(options, real_world(), tools, Arc::default(), Arc::new(|fault| panic!("{fault}"))).await;
    assert!(second.err().unwrap().to_string().contains("in use by another broker"));
    broker.shutdown().await.unwrap();
}
