//! Seeds of the corpus: what our own encoders write, so that a fuzzer begins behind the first refusals.

use bytes::Bytes;
use tidemill_core::entry::{Entry, EntryKind, PlacedBatch};
use tidemill_core::envelope::{Derivation, Envelope, Lineage, Origin};
use tidemill_core::ids::{
    BrokerId, Cursor, DeploymentId, Digest, Generation, GroupId, LogIndex, ShardId, StepNumber, TaskId, Term,
};
use tidemill_core::rows::{GroupOffsetRow, PartitionRow, ProducerRow, TaskRow};
use tidemill_core::seams::Timestamp;
use tidemill_core::tables::{Key, Row};
use tidemill_protocol::api::messages::{
    ApiVersionsRequest, CreateTopicsRequest, FetchRequest, MetadataRequest, OffsetCommitRequest,
    ProduceRequest,
};
use tidemill_protocol::api::{
    self, Envelope as Head, Request, Response, SPOKEN, encode_request, encode_response,
};
use tidemill_protocol::batch::BatchBuilder;
use tidemill_protocol::codec::Codec;
use tidemill_protocol::frame;
use tidemill_protocol::ids::{
    Offset, Partition, Position, ProducerEpoch, ProducerId, Sequence, TopicId, TopicPartition,
};
use tidemill_storage::log::{EncodedEntry, LogEntry, LogId, Payload, Vote};
use tidemill_storage::raft::message::answer::Answer;
use tidemill_storage::raft::message::ask::{Ask, Part};

const AT: TopicPartition = TopicPartition { topic: TopicId([7; 16]), partition: Partition(3) };
const TASK: TaskId = TaskId { deployment: DeploymentId(5), partition: Partition(3) };

fn batch(codec: Codec) -> Bytes {
    let mut batch = BatchBuilder::new(codec);
    batch
        .push(1_000, Some(b"key"), Some(b"value"), &[("name", Some(b"header")), ("null", None)])
        .expect("it fits");
    batch.push(2_000, None, None, &[]).expect("it fits");
    batch.producer(ProducerId(9), ProducerEpoch(1), Sequence(4));
    batch.build().expect("it has records")
}

fn envelope() -> Envelope {
    let position = |offset| Position { at: AT, offset: Offset(offset) };
    let line = Lineage { parent: position(1), root: position(0), hops: 2 };
    let derivation = Derivation {
        task: TASK,
        generation: Generation(1),
        digest: Digest([9; 32]),
        step: StepNumber(4),
        event_time_watermark_ms: Some(7),
        by_timer: false,
        lineage: vec![line, line],
    };
    Envelope { append_time: Timestamp(77), origin: Origin::Task(derivation) }
}

fn entry() -> Entry {
    let sealed = envelope().seal(AT, Offset(9), 77);
    let placed = |away| PlacedBatch { away, at: AT, envelope: sealed.clone(), batch: batch(Codec::None) };
    Entry {
        kind: EntryKind::Produce,
        append_time: Timestamp(77),
        meta: Bytes::from_static(b"meta"),
        batches: vec![placed(None), placed(Some(ShardId(4)))],
    }
}

fn requests() -> Vec<Request> {
    vec![
        Request::ApiVersions(ApiVersionsRequest::default()),
        Request::Metadata(MetadataRequest::default().with_topics(Some(vec![]))),
        Request::Produce(ProduceRequest::default()),
        Request::Fetch(FetchRequest::default()),
        Request::CreateTopics(CreateTopicsRequest::default()),
        Request::OffsetCommit(OffsetCommitRequest::default()),
    ]
}

fn messages() -> Vec<Bytes> {
    let vote = Vote { term: Term(7), node: Some(BrokerId(2)), committed: true };
    let id = |index| LogId { term: Term(6), index: LogIndex(index) };
    let entries = vec![
        LogEntry { id: id(5), payload: Payload::Blank },
        LogEntry { id: id(6), payload: Payload::Entry(EncodedEntry::new(entry())) },
    ];
    let asks = [
        Ask::Append { vote, previous: Some(id(4)), committed: Some(id(3)), entries: entries.clone() },
        Ask::Vote { vote, last: Some(id(4)), transfer: false, pre: true },
        Ask::Transfer { vote, to: BrokerId(3), last: None },
        Ask::Snapshot(Part::Begin {
            vote,
            snapshot: id(9),
            standing: Bytes::from_static(b"\x01\0"),
            afresh: false,
        }),
        Ask::Snapshot(Part::Records { snapshot: id(9), entries }),
        Ask::Snapshot(Part::Rows {
            snapshot: id(9),
            after: Some(Bytes::from_static(b"a")),
            rows: vec![(Bytes::from_static(b"b"), Bytes::from_static(b"value"))],
        }),
        Ask::Snapshot(Part::End { vote, snapshot: id(9), first: Some(LogIndex(1)) }),
    ];
    let answers = [
        Answer::Appended(Some(id(4))),
        Answer::HigherVote(vote),
        Answer::Voted { vote, granted: true, last: Some(id(4)) },
        Answer::Have { records: Some((LogIndex(1), id(4))), after: None },
        Answer::Refused("not now".to_owned()),
    ];
    let asks = asks.iter().map(|ask| ask.encode(GroupId::Shard(ShardId(2))));
    asks.chain(answers.iter().map(Answer::encode)).collect()
}

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Bytes> {
    let texts = |all: &[&'static str]| all.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
    let deflated = |codec: Codec| {
        [&b""[..], b"a", &b"tide mill ".repeat(50)]
            .iter()
            .map(|text| codec.deflate(text).expect("it can be"))
            .collect()
    };
    let head = |spoken: &api::Spoken, version| Head {
        key: spoken.key,
        version,
        correlation_id: 7,
        client_id: Some("client".to_owned()),
    };
    match target {
        "frames" => {
            let frames = [Bytes::from_static(b"one"), Bytes::new(), batch(Codec::None)];
            vec![
                frames
                    .into_iter()
                    .flat_map(|frame| frame::encode(vec![frame]))
                    .collect::<Vec<_>>()
                    .concat()
                    .into(),
            ]
        }
        "requests" => requests()
            .iter()
            .flat_map(|request| {
                let spoken = request.spoken();
                let versions = [spoken.min, spoken.max];
                versions
                    .into_iter()
                    .filter_map(move |version| encode_request(&head(spoken, version), request).ok())
            })
            .collect(),
        "responses" => {
            let nth = SPOKEN.iter().position(|spoken| spoken.key == api::API_VERSIONS).unwrap_or(0);
            let answer = Response::ApiVersions(api::api_versions());
            let answer = encode_response(api::API_VERSIONS, 3, 7, &answer).expect("it can be said");
            vec![[&[nth as u8, 3], &answer[..]].concat().into()]
        }
        "batches" => Codec::ALL.into_iter().map(batch).collect(),
        "gzip" => deflated(Codec::Gzip),
        "snappy" => deflated(Codec::Snappy),
        "lz4" => deflated(Codec::Lz4),
        "zstd" => deflated(Codec::Zstd),
        "primitives" => vec![Bytes::from_static(b"\x00\x81\x01\x01\x05\x06\0\0\0\x01a\x07\0\0\0\x02ab")],
        "entries" => vec![entry().encode()],
        "envelopes" => vec![
            envelope().seal(AT, Offset(9), 77),
            Envelope { origin: Origin::Producer, ..envelope() }.seal(AT, Offset(9), 77),
        ],
        "keys" => [
            Key::Shard,
            Key::Partition(AT),
            Key::Recent(AT, ProducerId(9), 4),
            Key::State(TASK, Bytes::from_static(b"key")),
            Key::Pending(ShardId(1), TASK, StepNumber(4)),
            Key::GroupOffset(AT, "readers".to_owned()),
            Key::TopicName("default".to_owned(), "orders".to_owned()),
        ]
        .iter()
        .map(Key::encode)
        .collect(),
        "rows" => vec![
            PartitionRow { log_start: Offset(1), end: Offset(9), batch_bytes_max: 1_000 }.encode(),
            ProducerRow {
                epoch: ProducerEpoch(1),
                last_sequence: Sequence(4),
                batches: 3,
                append_time: Timestamp(7),
            }
            .encode(),
            TaskRow {
                cursor: Cursor { index: LogIndex(7), skip: 1 },
                positions: vec![(AT.topic, Offset(9))],
                reason: "it failed".to_owned(),
                ..TaskRow::default()
            }
            .encode(),
            GroupOffsetRow {
                offset: Offset(9),
                leader_epoch: 2,
                append_time: Timestamp(7),
                metadata: "m".to_owned(),
            }
            .encode(),
            TaskRow {
                positions: vec![(AT.topic, Offset(9))],
                jumps: 2,
                passed_over: 7,
                ..TaskRow::default()
            }
            .encode(),
        ],
        "messages" => messages(),
        "standings" => {
            vec![Bytes::from_static(b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0")]
        }
        "catalog" => texts(&[
            r#"{"id":"c","feature_level":1,"brokers":[1],"shards":8}"#,
            r#"{"id":"07070707-0707-0707-0707-070707070707","tenant":"default","name":"orders","partitions":4,"group":"default-4-0","settings":{}}"#,
        ]),
        "manifests" => texts(&[
            "name = 'a'\ncomponent = 'a.wasm'\npublish = ['b']\n[[subscribe]]\ntopic = 'orders'\nfrom = 'earliest'\n[limits]\ncpu-ms = 5\n[config]\na.b = 1\n[[cycle]]\nthrough = ['b']\nmax-hops = 3\n",
            r#"{"name":"a","component":"a.wasm","subscribe":[{"topic":"t","from":{"offset":7}}],"event-time":{"lateness-ms":5}}"#,
            "name = 'a'\ncomponent = 'a.wasm'\n[[subscribe]]\ntopic = 'orders'\nfrom = 'latest'\n[[bundle]]\npath = 'data'\nmount = '/data'\ndigest = '0000000000000000000000000000000000000000000000000000000000000000'\n",
        ]),
        "names" => texts(&[
            "orders.v1",
            "..",
            "30313233343536373839616263646566",
            "07070707-0707-0707-0707-070707070707",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ]),
        "topic-settings" => texts(&[
            "retention.ms=1000\ncleanup.policy=delete\nmax.message.bytes=5",
            "retention.bytes=-1\nretention.ms",
        ]),
        "settings" => texts(&[
            "data = 'a'\n[listen]\nquic = '127.0.0.1:1'\n[cluster]\nshards = 3\n",
            "listen.tcp=127.0.0.1:1\nCLUSTER__SHARDS=4\nstorage.segment-age=90s\nstorage.segment-bytes=2MiB\nadvertise.quic=[::1]:9",
        ]),
        "documents" => texts(&[
            r#"{"name":"orders","partitions":4,"affinity":"g","settings":{"retention-ms":1000}}"#,
            r#"{"partition":0,"before-offset":7}"#,
            r#"{"to":{"time":"2017-01-01T00:00:00Z"},"fresh-state":true}"#,
            r#"{"letters":[{"partition":0,"offset":7}],"reason":"r"}"#,
            r#"{"filter":"info"}"#,
        ]),
        #[cfg(feature = "broker")]
        "bundles" => {
            let files: [(&str, &[u8]); 2] = [("a/b.json", b"{}"), ("c", b"")];
            let long = "l".repeat(150);
            let archives = [&files[..], &files[..1], &[(&*long, b"a long name")]].map(|files| {
                let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), *bytes)).collect();
                Bytes::from(tidemill_runtime::bundle::archive::pack(&files).expect("it is a bundle"))
            });
            archives.to_vec()
        }
        "components" => vec![
            Bytes::from_static(b"\0asm\x0d\0\x01\0"),
            Bytes::from_static(b"\0asm\x01\0\0\0"),
            Bytes::from_static(b"\0asm\x0d\0\x01\0\x07\x05\x01\x40\0\0\x7f"),
        ],
        // Zeros lead far into what is numbers alone.
        "steps" | "chunks" | "spans" | "segments" | "promises" => {
            vec![Bytes::from_static(&[0; 16]), Bytes::from_static(&[0; 64]), Bytes::from_static(&[0; 128])]
        }
        _ => Vec::new(),
    }
}
