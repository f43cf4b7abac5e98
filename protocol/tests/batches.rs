//! Batches against an independent witness (the record encoder of `kafka-protocol`), and against hostile bytes.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record as WitnessRecord, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType,
};
use proptest::prelude::*;
use tidemill_protocol::batch::{
    BatchBuilder, BatchError, BatchHeader, BatchLimits, decode, restamp_producer, split, stamp, verify,
};
use tidemill_protocol::codec::Codec;
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
        // Base offset and leader epoch are the broker's to stamp and lie outside the CRC; the magic and the length
        // are checked by themselves.
        let stamped = at < 8 || (12..16).contains(&at);
        prop_assert_eq!(verify(&altered, &LIMITS).is_ok(), stamped);
        prop_assert_eq!(decode(&altered, &LIMITS).is_ok(), stamped);
    }

    #[test]
    fn rubbish_behind_a_right_crc_never_panics(mut rubbish in proptest::collection::vec(any::<u8>(), 40..300)) {
        let mut batch = build(Codec::None, &sample()[..1])[..21].to_vec();
        batch.append(&mut rubbish);
        let length = (batch.len() - 12) as u32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = Bytes::from(batch);
        let _ = verify(&batch, &LIMITS);
        let _ = decode(&batch, &LIMITS);
    }
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

#[test]
fn every_reason_to_refuse_is_reached() {
    let good = build(Codec::None, &sample());
    let with = |at: usize, bytes: &[u8]| {
        let mut batch = good.to_vec();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        verify(&batch, &LIMITS).unwrap_err()
    };
    assert!(matches!(verify(&good[..40], &LIMITS), Err(BatchError::Short { claimed: 61, available: 40 })));
    assert!(matches!(with(8, &(-5i32).to_be_bytes()), BatchError::Short { .. }));
    let longer = [&good[..], b"x"].concat();
    assert_eq!(verify(&longer, &LIMITS), Err(BatchError::Trailing(1)));
    assert_eq!(with(16, &[1]), BatchError::Magic(1));
    assert!(matches!(with(23, &(-1i32).to_be_bytes()), BatchError::Negative { .. }));
    assert_eq!(with(21, &5i16.to_be_bytes()), BatchError::Codec(5));
    assert_eq!(with(21, &(1i16 << 4).to_be_bytes()), BatchError::Transactional);
    assert_eq!(with(21, &(1i16 << 5).to_be_bytes()), BatchError::Transactional);
    assert_eq!(with(21, &(1i16 << 3).to_be_bytes()), BatchError::LogAppendTime);
    assert!(matches!(with(23, &7i32.to_be_bytes()), BatchError::Count { records: 50, last_offset_delta: 7 }));
    assert_eq!(with(57, &0i32.to_be_bytes()), BatchError::Empty);
    assert_eq!(with(51, &(-1i16).to_be_bytes()), BatchError::Producer);
    let few = BatchLimits { records: 10, ..LIMITS };
    assert!(matches!(verify(&good, &few), Err(BatchError::TooMany { found: 50, limit: 10, .. })));
    let small = BatchLimits { batch_bytes: 100, ..LIMITS };
    assert!(matches!(verify(&good, &small), Err(BatchError::TooLarge { limit: 100, .. })));
    let no_headers = BatchLimits { headers: 0, ..LIMITS };
    assert!(matches!(decode(&good, &no_headers), Err(BatchError::TooMany { found: 1, limit: 0, .. })));
}

#[test]
fn a_bomb_is_refused_before_it_is_whole() {
    let zeros = vec![(0, None, Some(vec![0; 8 << 20]), vec![])];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bomb = build(codec, &zeros);
        assert!(matches!(decode(&bomb, &LIMITS), Err(BatchError::Inflate { .. })), "{codec}");
    }
}

#[test]
fn a_claimed_count_allocates_nothing() {
    let mut batch = build(Codec::None, &sample()[..1]).to_vec();
    batch[57..61].copy_from_slice(&9_999i32.to_be_bytes());
    batch[23..27].copy_from_slice(&9_998i32.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    let batch = Bytes::from(batch);
    assert!(BatchHeader::parse(&batch).is_ok());
    assert!(matches!(decode(&batch, &LIMITS), Err(BatchError::TooMany { found: 9_999, .. })));
}
