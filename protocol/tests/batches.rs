//! Batches against an independent witness (the record encoder of `kafka-protocol`), and against hostile bytes.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record as WitnessRecord, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType,
};
use proptest::prelude::*;
use tidemill_protocol::batch::{
    BatchBuilder, BatchError, BatchHeader, BatchLimits, Unwritable, decode, restamp_producer, split, stamp,
    verify,
};
use tidemill_protocol::codec::{Codec, InflateError};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence};

const LIMITS: BatchLimits = BatchLimits {
    batch_bytes: 1 << 20,
    records: 10_000,
    headers: 64,
    inflated_bytes: 4 << 20,
    inflate_ratio: 200,
};

type Plain = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn build(codec: Codec, records: &[Plain]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for (timestamp, key, value, headers) in records {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        builder.push(*timestamp, key.as_deref(), value.as_deref(), &headers).unwrap();
    }
    builder.producer(ProducerId(9), ProducerEpoch(2), Sequence(100));
    builder.build().unwrap()
}

fn read(batch: &Bytes) -> Vec<Plain> {
    let plain = |record: tidemill_protocol::batch::Record| {
        let bytes = |part: Option<Bytes>| part.map(|part| part.to_vec());
        let headers = record.headers.into_iter().map(|header| (header.name, bytes(header.value))).collect();
        (record.timestamp_ms, bytes(record.key), bytes(record.value), headers)
    };
    decode(batch, &LIMITS).unwrap().into_iter().map(plain).collect()
}

fn records() -> impl Strategy<Value = Vec<Plain>> {
    let part = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    let header = ("[a-z]{1,12}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)));
    let record = (0..i64::MAX / 2, part(), part(), proptest::collection::vec(header, 0..4));
    proptest::collection::vec(record, 1..20)
}

fn sample() -> Vec<Plain> {
    let header = ("trace".to_owned(), None);
    (0..50).map(|n| (1_000 + n, Some(vec![n as u8; 9]), Some(vec![7; 90]), vec![header.clone()])).collect()
}

proptest! {
    #[test]
    fn what_is_built_is_read(records in records()) {
        for codec in Codec::ALL {
            let batch = build(codec, &records);
            let header = verify(&batch, &LIMITS).unwrap();
            prop_assert_eq!(header.record_count as usize, records.len());
            prop_assert_eq!(header.max_timestamp_ms, records.iter().map(|record| record.0).max().unwrap());
            prop_assert_eq!(read(&batch), records.clone());
            prop_assert_eq!(build(codec, &records), batch, "the same records give the same bytes");
        }
    }

    #[test]
    fn the_witness_reads_what_we_build(records in records()) {
        for codec in Codec::ALL {
            let mut batch = build(codec, &records);
            let set = RecordBatchDecoder::decode(&mut batch).unwrap();
            prop_assert_eq!(set.records.len(), records.len());
            for (witness, (timestamp, key, value, headers)) in set.records.iter().zip(&records) {
                prop_assert_eq!(witness.timestamp, *timestamp);
                prop_assert_eq!(witness.key.as_deref(), key.as_deref());
                prop_assert_eq!(witness.value.as_deref(), value.as_deref());
                prop_assert!(headers.iter().all(|(name, _)| witness.headers.contains_key(name.as_bytes())));
            }
        }
    }

    #[test]
    fn altered_bytes_never_pass_and_never_panic(at in 0usize..5_000, bit in 0u8..8) {
        let batch = build(Codec::None, &sample());
        let at = at % batch.len();
        let mut altered = batch.to_vec();
        altered[at] ^= 1 << bit;
        let altered = Bytes::from(altered);
        // Base offset (but for its sign) and leader epoch are the broker's to stamp and lie outside the CRC; the
        // magic and the length are checked by themselves.
        let stamped = (at < 8 && (at, bit) != (0, 7)) || (12..16).contains(&at);
        prop_assert_eq!(verify(&altered, &LIMITS).is_ok(), stamped);
        prop_assert_eq!(decode(&altered, &LIMITS).is_ok(), stamped);
    }

    #[test]
    fn altered_bytes_behind_a_right_crc_never_panic(
        codec in prop::sample::select(&Codec::ALL),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut batch = build(codec, &sample()).to_vec();
        for (at, value) in edits {
            let at = at.index(batch.len());
            batch[at] = value;
        }
        if let Some(cut) = cut {
            batch.truncate(61 + cut.index(batch.len() - 60));
        }
        hostile(batch);
    }

    #[test]
    fn altered_records_never_panic(
        codec in prop::sample::select(&Codec::ALL),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        count in 0..60i32,
    ) {
        let plain = build(Codec::None, &sample());
        let mut records = plain[61..].to_vec();
        for (at, value) in edits {
            let at = at.index(records.len());
            records[at] = value;
        }
        let mut batch = build(codec, &sample())[..61].to_vec();
        batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        batch.extend_from_slice(&codec.deflate(&records).unwrap());
        hostile(batch);
    }

    #[test]
    fn rubbish_never_panics(
        mut rubbish in proptest::collection::vec(any::<u8>(), 40..300),
        codec in prop::sample::select(&Codec::ALL),
    ) {
        let mut batch = build(codec, &sample()[..1])[..21].to_vec();
        batch.append(&mut rubbish);
        hostile(batch.clone());
        batch[21..61].copy_from_slice(&build(codec, &sample()[..1])[21..61]);
        hostile(batch);
    }
}

/// Reads bytes that may be anything, with a length and a CRC that are right.
fn hostile(mut batch: Vec<u8>) {
    batch[16] = 2;
    let length = (batch.len() - 12) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    with_right_crc(&mut batch);
    let batch = Bytes::from(batch);
    let decoded = decode(&batch, &LIMITS);
    if let Ok(header) = verify(&batch, &LIMITS) {
        let _ = (header.next_offset(), header.last_sequence());
        assert!(
            decoded.is_err() || decoded.is_ok_and(|records| records.len() == header.record_count as usize)
        );
    }
    let _ = split(batch);
}

fn with_right_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn we_read_what_the_witness_builds() {
    let record = |offset: i64| WitnessRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 4,
        producer_epoch: 1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: offset as i32,
        timestamp: 5_000 + offset,
        key: Some(Bytes::from(format!("key {offset}"))),
        value: (offset % 2 == 0).then(|| Bytes::from(format!("value {offset}"))),
        headers: Default::default(),
    };
    let records: Vec<_> = (0..30).map(record).collect();
    for compression in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let mut bytes = BytesMut::new();
        RecordBatchEncoder::encode(&mut bytes, &records, &RecordEncodeOptions { version: 2, compression })
            .unwrap();
        let batch = bytes.freeze();
        let header = verify(&batch, &LIMITS).unwrap();
        assert_eq!((header.producer_id, header.base_sequence), (ProducerId(4), Sequence(0)));
        let read = decode(&batch, &LIMITS).unwrap();
        assert_eq!(read.len(), 30);
        assert_eq!(read[7].offset, Offset(7));
        assert_eq!(read[7].timestamp_ms, 5_007);
        assert_eq!(read[7].value, None);
        assert_eq!(read[8].value.as_deref(), Some(&b"value 8"[..]), "{compression:?}");
    }
}

#[test]
fn a_stamp_leaves_the_crc_alone() {
    let mut batch = BytesMut::from(&build(Codec::Lz4, &sample())[..]);
    stamp(&mut batch, Offset(77), 5);
    let batch = batch.freeze();
    let header = verify(&batch, &LIMITS).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch), (Offset(77), 5));
    assert_eq!(header.next_offset(), Offset(127));
    assert_eq!(decode(&batch, &LIMITS).unwrap()[3].offset, Offset(80));
}

#[test]
fn a_batch_can_change_its_producer() {
    let mut batch = BytesMut::from(&build(Codec::Zstd, &sample())[..]);
    restamp_producer(&mut batch, ProducerId(9), ProducerEpoch(3), Sequence(0));
    let header = verify(&batch, &LIMITS).unwrap();
    assert_eq!((header.producer_epoch, header.base_sequence), (ProducerEpoch(3), Sequence(0)));
    assert_eq!(header.last_sequence(), Sequence(49));
}

#[test]
fn batches_one_behind_the_other_are_told_apart() {
    let (one, two) = (build(Codec::None, &sample()[..3]), build(Codec::Gzip, &sample()));
    let mut both = BytesMut::from(&one[..]);
    both.extend_from_slice(&two);
    assert_eq!(split(both.clone().freeze()), Ok(vec![one, two]));
    both.truncate(both.len() - 1);
    assert!(matches!(split(both.freeze()), Err(BatchError::Short { .. })));
}

/// `batch` with other bytes at a place, and a CRC that is right.
fn altered(batch: &[u8], at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = batch.to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    with_right_crc(&mut batch);
    Bytes::from(batch)
}

#[test]
fn every_reason_to_refuse_a_header_is_reached() {
    let good = build(Codec::None, &sample());
    let with = |at: usize, bytes: &[u8]| {
        let batch = altered(&good, at, bytes);
        let error = verify(&batch, &LIMITS).unwrap_err();
        (error.code(), error)
    };
    let short = BatchError::Short { claimed: 61, available: 40 };
    assert_eq!(verify(&good[..40], &LIMITS), Err(short.clone()));
    assert_eq!(short.code(), ErrorCode::CORRUPT_MESSAGE);
    let claimed = i64::from(i32::MAX) as u64 + 12;
    let short = BatchError::Short { claimed, available: good.len() };
    assert_eq!(with(8, &i32::MAX.to_be_bytes()), (ErrorCode::CORRUPT_MESSAGE, short));
    assert!(matches!(with(8, &(-5i32).to_be_bytes()), (_, BatchError::Short { claimed: 7, .. })));
    assert!(matches!(with(8, &i32::MIN.to_be_bytes()), (_, BatchError::Short { claimed: 0, .. })));
    let longer = [&good[..], b"x"].concat();
    assert_eq!(verify(&longer, &LIMITS), Err(BatchError::Trailing(1)));
    assert_eq!(decode(&Bytes::from(longer), &LIMITS), Err(BatchError::Trailing(1)));
    assert_eq!(with(16, &[1]), (ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT, BatchError::Magic(1)));

    let negative = |what, value| (ErrorCode::INVALID_RECORD, BatchError::Negative { what, value });
    assert_eq!(with(0, &i64::MIN.to_be_bytes()), negative("base offset", i64::MIN));
    assert_eq!(with(23, &(-1i32).to_be_bytes()), negative("last offset delta", -1));
    assert_eq!(with(57, &(-2i32).to_be_bytes()), negative("record count", -2));

    let mut rotten = good.to_vec();
    rotten[100] ^= 1;
    assert!(
        matches!(verify(&rotten, &LIMITS), Err(error @ BatchError::Crc { .. }) if error.code().is_retriable())
    );

    assert_eq!(
        with(21, &5i16.to_be_bytes()),
        (ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, BatchError::Codec(5))
    );
    assert_eq!(
        with(21, &(1i16 << 4).to_be_bytes()),
        (ErrorCode::INVALID_TXN_STATE, BatchError::Transactional)
    );
    assert_eq!(with(21, &(1i16 << 5).to_be_bytes()), (ErrorCode::INVALID_RECORD, BatchError::Control));
    assert_eq!(
        with(21, &(1i16 << 3).to_be_bytes()),
        (ErrorCode::INVALID_TIMESTAMP, BatchError::LogAppendTime)
    );
    let count = BatchError::Count { records: 50, last_offset_delta: 7 };
    assert_eq!(with(23, &7i32.to_be_bytes()), (ErrorCode::INVALID_RECORD, count));
    assert_eq!(with(57, &0i32.to_be_bytes()), (ErrorCode::INVALID_RECORD, BatchError::Empty));
    assert_eq!(with(51, &(-1i16).to_be_bytes()), (ErrorCode::INVALID_RECORD, BatchError::Producer));
    assert_eq!(with(53, &(-1i32).to_be_bytes()), (ErrorCode::INVALID_RECORD, BatchError::Producer));

    let few = BatchLimits { records: 10, ..LIMITS };
    assert!(matches!(verify(&good, &few), Err(BatchError::TooMany { found: 50, limit: 10, .. })));
    assert!(matches!(decode(&good, &few), Err(BatchError::TooMany { found: 50, limit: 10, .. })));
    let small = BatchLimits { batch_bytes: 100, ..LIMITS };
    let large = verify(&good, &small).unwrap_err();
    assert_eq!(large, BatchError::TooLarge { found: good.len(), limit: 100 });
    assert_eq!(large.code(), ErrorCode::MESSAGE_TOO_LARGE);
}

#[test]
fn every_reason_to_refuse_a_record_is_reached() {
    let record = |body: &[u8]| {
        let mut batch = build(Codec::None, &[(5, None, None, vec![])])[..61].to_vec();
        batch.push((body.len() * 2) as u8);
        batch.extend_from_slice(body);
        let length = (batch.len() - 12) as u32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        with_right_crc(&mut batch);
        decode(&Bytes::from(batch), &LIMITS)
    };
    // Attributes, timestamp delta, offset delta, key, value, headers; -1 is null.
    const NULL: u8 = 1;
    assert!(record(&[0, 0, 0, NULL, NULL, 0]).is_ok());
    assert!(record(&[0, 0, 0, 2, 7, 2, 8, 2, 2, b'n', 0]).is_ok());
    let refused = |body: &[u8]| match record(body) {
        Err(error @ BatchError::Record { index: 0, what }) if error.code() == ErrorCode::INVALID_RECORD => {
            what
        }
        other => panic!("{body:?}: {other:?}"),
    };
    assert_eq!(refused(&[0, 0, 2, NULL, NULL, 0]), "its offset delta is not its place in the batch");
    assert_eq!(refused(&[0, 0, 0, 3, NULL, 0]), "key");
    assert_eq!(refused(&[0, 0, 0, 8, NULL, 0]), "key");
    assert_eq!(refused(&[0, 0, 0, NULL, 20, 0]), "value");
    assert_eq!(refused(&[0, 0, 0, NULL, NULL, 1]), "header count");
    assert_eq!(refused(&[0, 0, 0, NULL, NULL, 2]), "header name");
    assert_eq!(refused(&[0, 0, 0, NULL, NULL, 2, NULL, 0]), "a header without a name");
    assert_eq!(refused(&[0, 0, 0, NULL, NULL, 2, 2, 0xff, 0]), "a header's name is not UTF-8");
    assert_eq!(refused(&[0, 0, 0, NULL, NULL, 2, 2, b'n', 20]), "header value");
    assert_eq!(refused(&[0, 0, 0, NULL, NULL, 0, 0]), "bytes behind the record's headers");
    assert_eq!(refused(&[0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]), "timestamp delta");
    assert!(matches!(
        record(&[0, 0, 0, NULL, NULL, 0x84, 1]),
        Err(BatchError::TooMany { found: 66, limit: 64, .. })
    ));

    let two = build(Codec::None, &sample()[..2]);
    let fewer = altered(&altered(&two, 57, &1i32.to_be_bytes()), 23, &0i32.to_be_bytes());
    assert!(matches!(decode(&fewer, &LIMITS), Err(BatchError::Trailing(_))));
    let more = altered(&altered(&two, 57, &3i32.to_be_bytes()), 23, &2i32.to_be_bytes());
    assert_eq!(decode(&more, &LIMITS), Err(BatchError::Record { index: 2, what: "length" }));
    let longer = altered(&two, 61, &[0xfe, 0xff, 0x7f]);
    assert_eq!(decode(&longer, &LIMITS), Err(BatchError::Record { index: 0, what: "length" }));
    let backwards = altered(&two, 61, &[0x01]);
    assert_eq!(decode(&backwards, &LIMITS), Err(BatchError::Record { index: 0, what: "length" }));
}

#[test]
fn what_cannot_be_written_is_refused() {
    assert_eq!(BatchBuilder::new(Codec::Lz4).build(), Err(Unwritable::Empty));
}

#[test]
fn a_bomb_is_refused_before_it_is_whole() {
    let zeros = vec![(0, None, Some(vec![0; 8 << 20]), vec![])];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bomb = build(codec, &zeros);
        let error = decode(&bomb, &LIMITS).unwrap_err();
        let (limit, by_ratio) = (LIMITS.inflated_bytes, (bomb.len() - 61) * LIMITS.inflate_ratio);
        let beyond = InflateError::Beyond(limit.min(by_ratio.max(1 << 20)));
        assert_eq!(error, BatchError::Inflate { codec, error: beyond }, "{codec}");
        assert_eq!(error.code(), ErrorCode::INVALID_RECORD);
        let generous = BatchLimits { inflated_bytes: 9 << 20, inflate_ratio: usize::MAX, ..LIMITS };
        assert_eq!(decode(&bomb, &generous).unwrap()[0].value.as_ref().map(Bytes::len), Some(8 << 20));
    }
}

#[test]
fn a_claimed_count_allocates_nothing() {
    let one = build(Codec::None, &sample()[..1]);
    let batch = altered(&altered(&one, 57, &9_999i32.to_be_bytes()), 23, &9_998i32.to_be_bytes());
    assert!(verify(&batch, &LIMITS).is_ok(), "the records are not looked at");
    assert!(matches!(decode(&batch, &LIMITS), Err(BatchError::TooMany { found: 9_999, .. })));
}

#[test]
fn records_share_the_memory_of_their_batch() {
    let batch = build(Codec::None, &sample());
    let inside = batch.as_ptr_range();
    for record in decode(&batch, &LIMITS).unwrap() {
        assert!(inside.contains(&record.value.unwrap().as_ptr()));
    }
}

#[test]
fn timestamps_may_be_as_far_apart_as_can_be() {
    let records = [(i64::MIN, None, None, vec![]), (i64::MAX, None, None, vec![]), (-1, None, None, vec![])];
    let batch = build(Codec::None, &records);
    assert_eq!(read(&batch), records);
    assert_eq!(BatchHeader::parse(&batch).unwrap().max_timestamp_ms, i64::MAX);
}
