//! What comes over a connection: frames, requests, responses, record batches and what is compressed in them.

use bytes::Bytes;
use tidemill_protocol::api::{
    self, Envelope, RequestError, SPOKEN, correlation_id, decode_request, decode_response, encode_request,
    encode_response,
};
use tidemill_protocol::batch::{self, BatchBuilder, BatchHeader, BatchLimits, HEADER_BYTES};
use tidemill_protocol::codec::{Codec, InflateError};
use tidemill_protocol::frame::{self, FrameDecoder};
use tidemill_protocol::primitive::{Reader, Writer};

/// Small, so that what goes beyond it is met soon.
const FRAME_BYTES_MAX: usize = 64 * 1024;
const INFLATED_BYTES_MAX: usize = 1 << 20;

/// What a batch may be here.
pub const LIMITS: BatchLimits = BatchLimits {
    batch_bytes: 1 << 20,
    records: 10_000,
    headers: 64,
    inflated_bytes: INFLATED_BYTES_MAX,
    inflate_ratio: 200,
};

/// Frames: the same come out whatever pieces the bytes come in, and put together they are what went in.
pub fn frames(bytes: &[u8]) {
    let mut expected = None;
    for piece in [bytes.len().max(1), 1, 7] {
        let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX);
        let (mut found, mut refused) = (Vec::new(), None);
        for bytes in bytes.chunks(piece) {
            decoder.feed(bytes);
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => found.push(frame),
                    Ok(None) => break,
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
        }
        let whole: Vec<u8> =
            found.iter().flat_map(|frame| frame::encode(vec![frame.clone()])).flatten().collect();
        assert!(bytes.starts_with(&whole));
        if refused.is_none() {
            assert_eq!(whole.len() + decoder.pending(), bytes.len());
        }
        assert_eq!(*expected.get_or_insert((found.clone(), refused.clone())), (found, refused));
    }
}

/// Requests of every API and version. The first two bytes choose them where a fuzzer's head would not.
pub fn requests(bytes: &[u8]) {
    let frame = Bytes::copy_from_slice(bytes);
    request(frame.clone());
    if let Some((key, version)) = chosen(bytes) {
        let head = [&key.to_be_bytes()[..], &version.to_be_bytes()].concat();
        request([&head[..], &bytes[2..]].concat().into());
    }
}

fn request(frame: Bytes) {
    match decode_request(frame) {
        Ok((envelope, request)) => {
            let written = encode_request(&envelope, &request);
            let written = written.expect("what a version said, it can say");
            assert_eq!(decode_request(written), Ok((envelope, request)));
        }
        Err(RequestError::UnsupportedVersion(Envelope { key, version, .. })) => {
            assert!(!api::spoken(key).expect("the API is spoken").has(version));
        }
        Err(RequestError::UnknownApi { key }) => assert!(api::spoken(key).is_none()),
        Err(RequestError::Malformed(_)) => {}
    }
}

/// Responses, as our client reads them. The first two bytes choose API and version.
pub fn responses(bytes: &[u8]) {
    let Some((key, version)) = chosen(bytes) else { return };
    let frame = Bytes::copy_from_slice(&bytes[2..]);
    let Ok(response) = decode_response(key, version, frame.clone()) else { return };
    let id = correlation_id(&frame).expect("a response begins with it");
    // What came in a tag that this version has not, or in a field that is left out, is not written again.
    let written = encode_response(key, version, id, &response).expect("what a version said, it can say");
    let again = decode_response(key, version, written.clone()).expect("what is written is read");
    assert_eq!(encode_response(key, version, id, &again), Ok(written));
}

fn chosen(bytes: &[u8]) -> Option<(i16, i16)> {
    let [key, version, ..] = *bytes else { return None };
    let spoken = SPOKEN[usize::from(key) % SPOKEN.len()];
    let versions = (spoken.max - spoken.min + 1) as u8;
    Some((spoken.key, spoken.min + i16::from(version % versions)))
}

/// Record batches, as they are and with a head that holds.
pub fn batches(bytes: &[u8]) {
    batch(Bytes::copy_from_slice(bytes));
    let mut sealed = bytes.to_vec();
    sealed.resize(sealed.len().max(HEADER_BYTES), 0);
    let length = sealed.len() as u32 - 12;
    sealed[..8].fill(0);
    sealed[8..12].copy_from_slice(&length.to_be_bytes());
    sealed[16] = 2;
    let crc = crc32c::crc32c(&sealed[21..]);
    sealed[17..21].copy_from_slice(&crc.to_be_bytes());
    batch(sealed.into());
}

fn batch(bytes: Bytes) {
    let verified = batch::verify(&bytes, &LIMITS);
    if let Ok(header) = BatchHeader::parse(&bytes) {
        assert!(header.batch_bytes as usize <= bytes.len());
        let _ = (header.codec(), header.last_sequence(), header.next_offset());
    }
    if let Ok(batches) = batch::split(bytes.clone()) {
        assert_eq!(batches.concat(), bytes);
    }
    let Ok(records) = batch::decode(&bytes, &LIMITS) else { return };
    let header = BatchHeader::parse(&bytes).expect("it was read");
    assert_eq!(records.len(), header.record_count as usize);
    if let Ok(verified) = verified {
        assert_eq!(verified, header);
    }
    let mut builder = BatchBuilder::new(Codec::None);
    for record in &records {
        let headers: Vec<_> =
            record.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref())).collect();
        let pushed =
            builder.push(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers);
        pushed.expect("it fitted before");
    }
    let again = batch::decode(
        &builder.build().expect("it has records"),
        &BatchLimits { batch_bytes: usize::MAX, inflated_bytes: usize::MAX, ..LIMITS },
    );
    let again = again.expect("what is written is read");
    for (one, other) in records.iter().zip(&again) {
        assert_eq!(
            (&one.key, &one.value, &one.headers, one.timestamp_ms),
            (&other.key, &other.value, &other.headers, other.timestamp_ms)
        );
    }
    assert_eq!(records.len(), again.len());
}

fn inflate(codec: Codec, bytes: &[u8]) {
    let first = codec.inflate(bytes, INFLATED_BYTES_MAX);
    match &first {
        Ok(inflated) => {
            assert!(inflated.len() <= INFLATED_BYTES_MAX);
            // A bound that is met is no reason; one that is a byte lower is.
            assert_eq!(codec.inflate(bytes, inflated.len()), first);
            if let Some(less) = inflated.len().checked_sub(1) {
                assert!(codec.inflate(bytes, less).is_err());
            }
            let deflated = codec.deflate(inflated).expect("bytes can be compressed");
            assert_eq!(codec.inflate(&deflated, inflated.len()).as_ref(), Ok(inflated));
        }
        Err(InflateError::Beyond(most)) => assert_eq!(*most, INFLATED_BYTES_MAX),
        Err(InflateError::Damaged(_)) => {}
    }
}

/// gzip.
pub fn gzip(bytes: &[u8]) {
    inflate(Codec::Gzip, bytes);
}

/// Snappy, raw and framed.
pub fn snappy(bytes: &[u8]) {
    inflate(Codec::Snappy, bytes);
}

/// LZ4.
pub fn lz4(bytes: &[u8]) {
    inflate(Codec::Lz4, bytes);
}

/// Zstandard.
pub fn zstd(bytes: &[u8]) {
    inflate(Codec::Zstd, bytes);
}

/// The primitives of every format of ours.
pub fn primitives(bytes: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
    while let Ok(what) = reader.u8("what") {
        let at = reader.position();
        let mut writer = Writer::new();
        let is_read = match what % 8 {
            0 => reader.varint("varint").map(|value| writer.varint(value)).is_ok(),
            1 => reader.zigzag("zigzag").map(|value| writer.zigzag(value)).is_ok(),
            2 => reader.u64("u64").map(|value| writer.u64(value)).is_ok(),
            3 => reader.i64("i64").map(|value| writer.i64(value)).is_ok(),
            4 => reader.u32("u32").map(|value| writer.u32(value)).is_ok(),
            5 => reader.u16("u16").map(|value| writer.u16(value)).is_ok(),
            6 => reader.blob("blob").map(|value| writer.blob(&value)).is_ok(),
            _ => reader.text("text").map(|value| writer.text(&value)).is_ok(),
        };
        assert!(reader.position() <= bytes.len());
        if !is_read {
            break;
        }
        // A varint may be longer than it need be; all else is written in one way.
        let (read, written) = (&bytes[at..reader.position()], writer.finish());
        if what % 8 > 1 {
            assert_eq!(read, &written[..]);
        } else {
            assert!(written.len() <= read.len());
        }
    }
}
