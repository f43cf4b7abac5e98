//! Produce: what is in a request, and what is in its record batches.

use bytes::Bytes;
use tidemill_protocol::api::messages::ProduceRequest;
use tidemill_protocol::api::{Request, Response, StrBytes};
use tidemill_protocol::batch::{BatchBuilder, restamp_producer};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use xtask::kafka::Connection;

use crate::door::{Door, Row, produce};

const VERSION: i16 = 9;

/// A good batch of three records.
fn good() -> Vec<u8> {
    compressed(Codec::None)
}

fn compressed(codec: Codec) -> Vec<u8> {
    let mut batch = BatchBuilder::new(codec);
    for number in 0..3u8 {
        batch.push(1_000, Some(&[number]), Some(b"value"), &[("name", Some(b"header"))]).unwrap();
    }
    batch.build().unwrap().to_vec()
}

/// Makes the CRC what it should be.
fn sealed(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn crc32c(bytes: &[u8]) -> u32 {
    // Stamping a producer writes the CRC: that of the batch as it was.
    let mut batch = [&[0; 21][..], bytes].concat();
    let field = |from: usize, to: usize| batch[from..to].to_vec();
    let (id, epoch, sequence) = (field(43, 51), field(51, 53), field(53, 57));
    let id = ProducerId(i64::from_be_bytes(id.try_into().unwrap()));
    let epoch = ProducerEpoch(i16::from_be_bytes(epoch.try_into().unwrap()));
    let sequence = Sequence(i32::from_be_bytes(sequence.try_into().unwrap()));
    restamp_producer(&mut batch, id, epoch, sequence);
    u32::from_be_bytes(batch[17..21].try_into().unwrap())
}

/// A good batch with other bytes at a place, and with the CRC of what it is then.
fn with(at: usize, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut batch = good();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    Some(sealed(batch))
}

/// A good batch with other bytes at a place, and with the CRC that it had.
fn torn(at: usize, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut batch = good();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    Some(batch)
}

/// A batch of a producer.
fn of(id: i64, epoch: i16, sequence: i32) -> Option<Vec<u8>> {
    let mut batch = good();
    restamp_producer(&mut batch, ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
    Some(batch)
}

fn large(bytes: usize) -> Option<Vec<u8>> {
    let mut batch = BatchBuilder::new(Codec::None);
    batch.push(1_000, None, Some(&vec![7; bytes]), &[]).unwrap();
    Some(batch.build().unwrap().to_vec())
}

// Places in a batch.
const LENGTH: usize = 8;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const COUNT: usize = 57;

fn table() -> Vec<Row<Option<Vec<u8>>>> {
    let four = |value: i32| value.to_be_bytes();
    let two = |value: i16| value.to_be_bytes();
    vec![
        ("null", None, "INVALID_RECORD: there are no records"),
        ("no bytes", Some(vec![]), "INVALID_RECORD: there are no records"),
        ("one byte", Some(vec![0]), "CORRUPT_MESSAGE: a batch claims 61 bytes, and there are 1"),
        ("sixty bytes", Some(good()[..60].to_vec()), "CORRUPT_MESSAGE | there are 60"),
        ("a head alone", Some(good()[..61].to_vec()), "CORRUPT_MESSAGE: a batch claims"),
        (
            "the last byte missing",
            Some(good()[..good().len() - 1].to_vec()),
            "CORRUPT_MESSAGE: a batch claims",
        ),
        ("a byte too many", Some([good(), vec![0]].concat()), "CORRUPT_MESSAGE: 1 bytes stand behind"),
        ("two batches", Some([good(), good()].concat()), "RECORD_LIST_TOO_LARGE | one batch for each"),
        ("length 0", with(LENGTH, &four(0)), "CORRUPT_MESSAGE: a batch claims 12 bytes"),
        ("length 48", with(LENGTH, &four(48)), "CORRUPT_MESSAGE: a batch claims 60 bytes"),
        ("length -1", with(LENGTH, &four(-1)), "CORRUPT_MESSAGE: a batch claims 11 bytes"),
        ("the least length", with(LENGTH, &four(i32::MIN)), "CORRUPT_MESSAGE: a batch claims 0 bytes"),
        (
            "the largest length",
            with(LENGTH, &four(i32::MAX)),
            "CORRUPT_MESSAGE: a batch claims 2147483659 bytes",
        ),
        ("magic 0", with(MAGIC, &[0]), "UNSUPPORTED_FOR_MESSAGE_FORMAT: the batch has magic 0"),
        ("magic 1", with(MAGIC, &[1]), "UNSUPPORTED_FOR_MESSAGE_FORMAT: the batch has magic 1"),
        ("magic 3", with(MAGIC, &[3]), "UNSUPPORTED_FOR_MESSAGE_FORMAT: the batch has magic 3"),
        ("magic -1", with(MAGIC, &[255]), "UNSUPPORTED_FOR_MESSAGE_FORMAT: the batch has magic -1"),
        ("a CRC of 0", torn(CRC, &four(0)), "CORRUPT_MESSAGE: the batch's CRC-32C is | it says 00000000"),
        ("a bit of a record flipped", torn(70, &[0x55]), "CORRUPT_MESSAGE: the batch's CRC-32C is"),
        ("a bit of the head flipped", torn(30, &[0x55]), "CORRUPT_MESSAGE: the batch's CRC-32C is"),
        (
            "codec 5",
            with(ATTRIBUTES, &two(5)),
            "UNSUPPORTED_COMPRESSION_TYPE: there is no compression codec 5",
        ),
        (
            "codec 6",
            with(ATTRIBUTES, &two(6)),
            "UNSUPPORTED_COMPRESSION_TYPE: there is no compression codec 6",
        ),
        (
            "codec 7",
            with(ATTRIBUTES, &two(7)),
            "UNSUPPORTED_COMPRESSION_TYPE: there is no compression codec 7",
        ),
        ("LogAppendTime", with(ATTRIBUTES, &two(8)), "INVALID_TIMESTAMP: LogAppendTime is not offered"),
        (
            "transactional",
            with(ATTRIBUTES, &two(16)),
            "INVALID_TXN_STATE: the batch is part of a transaction",
        ),
        ("control", with(ATTRIBUTES, &two(32)), "INVALID_RECORD: a control batch is the broker's to write"),
        ("control and transactional", with(ATTRIBUTES, &two(48)), "INVALID_TXN_STATE"),
        (
            "last offset delta 1 of 3",
            with(LAST_OFFSET_DELTA, &four(1)),
            "INVALID_RECORD: the batch has 3 records, and its last offset delta is 1",
        ),
        (
            "last offset delta 3 of 3",
            with(LAST_OFFSET_DELTA, &four(3)),
            "INVALID_RECORD | last offset delta is 3",
        ),
        (
            "last offset delta -1",
            with(LAST_OFFSET_DELTA, &four(-1)),
            "INVALID_RECORD: the last offset delta is -1",
        ),
        (
            "the largest last offset delta",
            with(LAST_OFFSET_DELTA, &four(i32::MAX)),
            "INVALID_RECORD | 2147483647",
        ),
        ("no records by its count", with(COUNT, &four(0)), "INVALID_RECORD: the batch has no records"),
        ("-1 records", with(COUNT, &four(-1)), "INVALID_RECORD: the record count is -1"),
        ("2 records by its count", with(COUNT, &four(2)), "INVALID_RECORD: the batch has 2 records"),
        ("2 thousand million records", with(COUNT, &four(i32::MAX)), "INVALID_RECORD | 2147483647 records"),
        (
            "100,001 records",
            {
                let mut batch = good();
                batch[LAST_OFFSET_DELTA..27].copy_from_slice(&four(100_000));
                batch[COUNT..61].copy_from_slice(&four(100_001));
                Some(sealed(batch))
            },
            "INVALID_RECORD: the batch has 100001 records, and the limit is 100000",
        ),
        (
            "a producer without an epoch",
            of(7, -1, 0),
            "INVALID_RECORD: the batch names a producer without an epoch",
        ),
        ("a producer without a sequence", of(7, 0, -1), "INVALID_RECORD: the batch names a producer without"),
        ("a producer's epoch of -5", of(7, -5, 0), "INVALID_RECORD: the batch names a producer without"),
        ("a batch of 1.1 MiB", large(1_153_434), "MESSAGE_TOO_LARGE | max.message.bytes"),
        ("a batch of 9 MiB", large(9 << 20), "MESSAGE_TOO_LARGE: the batch has 9437"),
        // What may be, so that the table is known to be one that could fail.
        ("a good one", Some(good()), "NONE at 0"),
        ("a base offset of its own", torn(0, &9i64.to_be_bytes()), "NONE at 3"),
        ("a leader epoch of its own", torn(12, &four(77)), "NONE at 6"),
        ("a time long ago", with(35, &i64::MIN.to_be_bytes()), "NONE at 9"),
        ("a time far ahead", with(35, &i64::MAX.to_be_bytes()), "NONE at 12"),
        ("gzip", Some(compressed(Codec::Gzip)), "NONE at 15"),
        ("snappy", Some(compressed(Codec::Snappy)), "NONE at 18"),
        ("lz4", Some(compressed(Codec::Lz4)), "NONE at 21"),
        ("zstd", Some(compressed(Codec::Zstd)), "NONE at 24"),
        // Records are not looked into at this door; whoever reads them does so within bounds.
        ("records that say lz4 and are none", with(ATTRIBUTES, &two(3)), "NONE at 27"),
        (
            "a base offset below zero",
            torn(0, &(-1i64).to_be_bytes()),
            "INVALID_RECORD: the base offset is -1",
        ),
    ]
}

/// What the broker says of one partition of an answer.
fn told(answer: &Response, topic: usize, partition: usize) -> String {
    let Response::Produce(answer) = answer else { panic!("{answer:?}") };
    let part = &answer.responses[topic].partition_responses[partition];
    match (ErrorCode(part.error_code), &part.error_message) {
        (ErrorCode::NONE, _) => format!("NONE at {}", part.base_offset),
        (code, why) => format!("{code}: {}", why.as_deref().unwrap_or("")),
    }
}

fn ask(door: &Door, version: i16, request: Request) -> Response {
    Connection::to(door.tcp()).unwrap().ask(version, request).unwrap()
}

fn send(door: &Door, version: i16, partition: i32, batch: Option<Vec<u8>>) -> String {
    told(&ask(door, version, produce("orders", partition, batch.map(Bytes::from))), 0, 0)
}

#[test]
fn batches_that_are_none() {
    let door = Door::open(&[]);
    door.walk(table(), |batch| send(&door, VERSION, 0, batch));
    sequences(&door);
    whole_requests(&door);
    bombs(&door);
    // Whoever reads what a reader cannot read is told so, and nobody else.
    let consumed =
        door.broker.run(&["consume", "orders", "--partition", "0", "--offset", "0", "--limit", "27"]);
    assert_eq!(consumed.unwrap().lines().count(), 27);
    door.close(92);
}

/// What idempotence refuses: a sequence that does not follow, an epoch that is old.
fn sequences(door: &Door) {
    let rows = vec![
        (
            "a producer that begins in its middle",
            of(1_000, 0, 5),
            "UNKNOWN_PRODUCER_ID | sequence 5 is not 0",
        ),
        ("a producer's first", of(1_000, 0, 0), "NONE at 0"),
        ("the same again", of(1_000, 0, 0), "NONE at 0"),
        ("its next", of(1_000, 0, 3), "NONE at 3"),
        (
            "one is missing",
            of(1_000, 0, 9),
            "OUT_OF_ORDER_SEQUENCE_NUMBER | is 6, and the batch begins with 9",
        ),
        ("it overlaps", of(1_000, 0, 4), "OUT_OF_ORDER_SEQUENCE_NUMBER"),
        ("a new epoch that does not begin at 0", of(1_000, 1, 6), "OUT_OF_ORDER_SEQUENCE_NUMBER"),
        ("a new epoch", of(1_000, 1, 0), "NONE at 6"),
        ("the old epoch", of(1_000, 0, 6), "INVALID_PRODUCER_EPOCH | epoch is 1, and the batch has 0"),
        ("a sequence far ahead", of(1_000, 1, 1_000_000_000), "OUT_OF_ORDER_SEQUENCE_NUMBER"),
        ("a producer with the largest id", of(i64::MAX, 0, 0), "NONE at 9"),
        ("the largest epoch", of(1_000, i16::MAX, 0), "NONE at 12"),
        ("an epoch behind the largest", of(1_000, 2, 0), "INVALID_PRODUCER_EPOCH"),
    ];
    door.walk(rows, |batch| send(door, VERSION, 1, batch));
    for sequence in (3..21).step_by(3) {
        door.row("a producer goes on", &send(door, VERSION, 2, of(2_000, 0, sequence - 3)), "NONE");
    }
    let told = send(door, VERSION, 2, of(2_000, 0, 0));
    door.row(
        "a batch from beyond the window",
        &told,
        "DUPLICATE_SEQUENCE_NUMBER: sequence 0 was written before",
    );
}

/// What is wrong with a request as a whole, or with where its batches are to go.
fn whole_requests(door: &Door) {
    let request = |topic: &str, partition| match produce(topic, partition, Some(good().into())) {
        Request::Produce(request) => request,
        other => panic!("{other:?}"),
    };
    let text = |text: &str| Some(StrBytes::from_string(text.to_owned()).into());
    let twice = || {
        let mut request = request("orders", 3);
        let again = request.topic_data[0].partition_data[0].clone();
        request.topic_data[0].partition_data.push(again);
        request
    };
    // Words for each of them that repeated the name would take gigabytes.
    let many = |mut request: ProduceRequest| {
        let part = request.topic_data[0].partition_data[0].clone().with_records(None);
        request.topic_data[0].partition_data = vec![part; 20_000];
        request
    };
    let rows: Vec<Row<ProduceRequest>> = vec![
        ("acks 2", request("orders", 3).with_acks(2), "INVALID_REQUIRED_ACKS: acks 2: use 0, 1 or -1"),
        ("acks -2", request("orders", 3).with_acks(-2), "INVALID_REQUIRED_ACKS: acks -2"),
        ("the largest acks", request("orders", 3).with_acks(i16::MAX), "INVALID_REQUIRED_ACKS"),
        (
            "a transaction",
            request("orders", 3).with_transactional_id(text("t")),
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED | transactional.id",
        ),
        (
            "a transaction without a name",
            request("orders", 3).with_transactional_id(text("")),
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        ),
        (
            "a topic that is not there",
            request("nowhere", 0),
            "UNKNOWN_TOPIC_OR_PARTITION: there is no partition 0 of topic \"nowhere\"",
        ),
        ("a topic without a name", request("", 0), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("a topic with a path for a name", request("../orders", 0), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("a name with a zero byte", request("orders\0", 0), "UNKNOWN_TOPIC_OR_PARTITION"),
        ("a name of 30,000 bytes", request(&"n".repeat(30_000), 0), "UNKNOWN_TOPIC_OR_PARTITION"),
        (
            "many partitions of a name of 30,000 bytes",
            many(request(&"n".repeat(30_000), 0)),
            "UNKNOWN_TOPIC_OR_PARTITION: there is no partition 0 of a topic that cannot be",
        ),
        (
            "many partitions of a transaction with a name of 30,000 bytes",
            many(request("orders", 3).with_transactional_id(text(&"t".repeat(30_000)))),
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED: transactional.id: transactions are not offered",
        ),
        ("partition 4 of 4", request("orders", 4), "UNKNOWN_TOPIC_OR_PARTITION: there is no partition 4"),
        ("partition -1", request("orders", -1), "UNKNOWN_TOPIC_OR_PARTITION: there is no partition -1"),
        ("the least partition", request("orders", i32::MIN), "UNKNOWN_TOPIC_OR_PARTITION"),
    ];
    door.walk(rows, |request| told(&ask(door, VERSION, Request::Produce(request)), 0, 0));
    let answer = ask(door, VERSION, Request::Produce(twice()));
    door.row("a partition twice, the first", &told(&answer, 0, 0), "NONE at");
    door.row(
        "a partition twice, the second",
        &told(&answer, 0, 1),
        "INVALID_REQUEST: the request names a partition twice",
    );
    door.row(
        "zstd for those who do not know it",
        &send(door, 6, 3, Some(compressed(Codec::Zstd))),
        "UNSUPPORTED_COMPRESSION_TYPE",
    );
    for version in 3..=12 {
        let bad = send(door, version, 3, with(ATTRIBUTES, &[0, 7]));
        door.row(&format!("codec 7 in version {version}"), &bad, "UNSUPPORTED_COMPRESSION_TYPE");
    }
}

/// Batches that would inflate to far more than they are: they are stored as they came, and nobody inflates them beyond
/// the bound.
fn bombs(door: &Door) {
    let zeros = vec![0; 40 << 20];
    for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
        let mut batch = BatchBuilder::new(codec);
        batch.push(1_000, None, Some(&zeros), &[]).unwrap();
        let batch = batch.build().unwrap();
        let told = send(door, VERSION, 3, Some(batch.to_vec()));
        door.row(&format!("a bomb of {codec}"), &told, "NONE at");
    }
    // It looks for a time: the batch's records would say where, and are not inflated for it.
    let found = door
        .broker
        .command()
        .args(["consume", "orders", "--partition", "3", "--from-time", "1970-01-01T00:00:00Z"])
        .args(["--limit", "1"])
        .output()
        .unwrap();
    door.row("a time among bombs", &format!("{:?}", found.status.code()), "Some(0)");
}
