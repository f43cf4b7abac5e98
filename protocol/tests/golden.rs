//! Batches as librdkafka 2.0.2 wrote them, caught on their way to a broker: one record in each codec.
//!
//! (`kcat -P -K: -H trace=abc -H empty -z CODEC`, fed with one line.)

use bytes::Bytes;
use tidemill_protocol::batch::{BatchBuilder, BatchLimits, RecordHeader, decode, split, verify};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::ids::{Offset, ProducerId, Sequence};

const NONE: &str = "00000000000000000000007b0000000002f93f1b03000000000000000001a20967596b000001a20967596bffffffffff\
     ffffffffffffffffff000000019001000000066b65795c6f6620612074696465206d696c6c2c206f6620612074696465\
     206d696c6c2c206f6620612074696465206d696c6c040a7472616365066162630a656d70747901";
const GZIP: &str = "0000000000000000000000730000000002db753286000100000000000001a2096759d8000001a2096759d8ffffffffff\
     ffffffffffffffffff000000011f8b08000000000000039bc0c8c0c0c0969d5a19939fa690a850929992aa909b9993a3\
     a3809fcfc2555294989cca969894cc959a5b5052c90800c82d9c164a000000";
const SNAPPY: &str = "0000000000000000000000630000000002f25075bc000200000000000001a209675a3e000001a209675a3effffffffff\
     ffffffffffffffffff000000014a649001000000066b65795c6f6620612074696465206d696c6c2c2076100044040a74\
     72616365066162630a656d70747901";
const LZ4: &str = "000000000000000000000073000000000207830629000300000000000001a209675abe000001a209675abeffffffffff\
     ffffffffffffffffff0000000104224d1860408233000000ff0b9001000000066b65795c6f6620612074696465206d69\
     6c6c2c2010000bf003040a7472616365066162630a656d7074790100000000";
const ZSTD: &str = "00000000000000000000006d000000000277aeab4e000400000000000001a209675b25000001a209675b25ffffffffff\
     ffffffffffffffffff0000000128b52ffd00589d0100c4029001000000066b65795c6f6620612074696465206d696c6c\
     2c20040a7472616365066162630a656d7074790101008e38c7";

const VALUE: &str = "of a tide mill, of a tide mill, of a tide mill";

const LIMITS: BatchLimits =
    BatchLimits { batch_bytes: 1_000, records: 1, headers: 2, inflated_bytes: 1_000, inflate_ratio: 200 };

fn golden() -> [(Codec, Bytes); 5] {
    [
        (Codec::None, NONE),
        (Codec::Gzip, GZIP),
        (Codec::Snappy, SNAPPY),
        (Codec::Lz4, LZ4),
        (Codec::Zstd, ZSTD),
    ]
    .map(|(codec, hex)| (codec, bytes(hex)))
}

fn bytes(hex: &str) -> Bytes {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn batches_of_librdkafka_are_read() {
    for (codec, batch) in golden() {
        let header = verify(&batch, &LIMITS).unwrap();
        assert_eq!(header.codec(), Ok(codec));
        assert_eq!((header.producer_id, header.base_sequence), (ProducerId::NONE, Sequence::NONE));
        assert_eq!(header.last_sequence(), Sequence::NONE);
        assert_eq!(header.next_offset(), Offset(1));
        let records = decode(&batch, &LIMITS).unwrap();
        assert_eq!(records.len(), 1, "{codec}");
        assert_eq!(records[0].timestamp_ms, header.max_timestamp_ms);
        assert_eq!(records[0].key.as_deref(), Some(&b"key"[..]));
        assert_eq!(records[0].value.as_deref(), Some(VALUE.as_bytes()));
        let header = |name: &str, value| RecordHeader { name: name.to_owned(), value };
        assert_eq!(
            records[0].headers,
            [header("trace", Some(Bytes::from_static(b"abc"))), header("empty", None)]
        );
    }
}

#[test]
fn we_write_what_librdkafka_writes() {
    let theirs = bytes(NONE);
    let timestamp = verify(&theirs, &LIMITS).unwrap().base_timestamp_ms;
    let mut builder = BatchBuilder::new(Codec::None);
    let headers: [(&str, Option<&[u8]>); 2] = [("trace", Some(b"abc")), ("empty", None)];
    builder.push(timestamp, Some(b"key"), Some(VALUE.as_bytes()), &headers).unwrap();
    assert_eq!(builder.plain_bytes(), theirs.len());
    let ours = builder.build().unwrap();
    assert_eq!(ours[..12], theirs[..12]);
    assert_eq!(
        ours[12..16],
        (-1i32).to_be_bytes(),
        "the leader epoch is the broker's to say; librdkafka writes 0"
    );
    assert_eq!(ours[16..], theirs[16..], "to the last byte, the CRC included");
}

#[test]
fn they_follow_one_another() {
    let all = golden().map(|(_, batch)| batch);
    assert_eq!(split(Bytes::from(all.concat())), Ok(all.to_vec()));
    assert_eq!(split(Bytes::new()), Ok(Vec::new()));
}
