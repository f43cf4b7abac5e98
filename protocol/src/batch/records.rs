//! Reading the records of a batch, inflating them if need be, within bounds.

use bytes::Bytes;

use super::verify::{check_counts, check_crc};
use super::{BatchError, BatchHeader, BatchLimits, HEADER_BYTES};
use crate::codec::Codec;
use crate::ids::Offset;
use crate::primitive::{Malformed, Reader};

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its name; names may repeat.
    pub name: String,
    /// Its value, or null.
    pub value: Option<Bytes>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset, by the base offset that its batch is stamped with.
    pub offset: Offset,
    /// Its own time, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key, or null.
    pub key: Option<Bytes>,
    /// Its value; null is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<RecordHeader>,
}

/// Bytes that any batch may inflate to, whatever the ratio.
const INFLATE_FLOOR_BYTES: usize = 1 << 20;
/// The fewest bytes of a record: length, attributes, two deltas, two lengths, header count.
const RECORD_BYTES_MIN: usize = 7;

/// Reads the records of a batch. Keys and values share the memory of the batch, or of its inflated records.
///
/// # Errors
/// [`BatchError`] with the first thing that is wrong, the CRC included.
pub fn decode(batch: &Bytes, limits: &BatchLimits) -> Result<Vec<Record>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    check_crc(batch, &header)?;
    check_counts(&header, limits)?;
    let stored = batch.slice(HEADER_BYTES..header.batch_bytes as usize);
    let records = match header.codec()? {
        Codec::None => stored,
        codec => {
            let by_ratio = stored.len().saturating_mul(limits.inflate_ratio).max(INFLATE_FLOOR_BYTES);
            let most = limits.inflated_bytes.min(by_ratio);
            codec.inflate(&stored, most).map_err(|error| BatchError::Inflate { codec, error })?
        }
    };
    let count = header.record_count as usize;
    let limit = records.len() / RECORD_BYTES_MIN;
    if count > limit {
        return Err(BatchError::TooMany { what: "records for its bytes", found: count, limit });
    }
    let mut reader = Reader::new(records);
    let mut decoded = Vec::with_capacity(count);
    for index in 0..count {
        let wrong = |malformed: Malformed| BatchError::Record { index, what: malformed.what };
        let length = reader.zigzag("length").map_err(wrong)?;
        let length = usize::try_from(length).map_err(|_| BatchError::Record { index, what: "length" })?;
        let mut record = Reader::new(reader.bytes(length, "length").map_err(wrong)?);
        decoded.push(read(&mut record, &header, index, limits)?);
    }
    match reader.remaining() {
        0 => Ok(decoded),
        trailing => Err(BatchError::Trailing(trailing)),
    }
}

fn read(
    record: &mut Reader,
    header: &BatchHeader,
    index: usize,
    limits: &BatchLimits,
) -> Result<Record, BatchError> {
    let wrong = |what| BatchError::Record { index, what };
    let malformed = |malformed: Malformed| wrong(malformed.what);
    record.u8("attributes").map_err(malformed)?;
    let timestamp_delta = record.zigzag("timestamp delta").map_err(malformed)?;
    let offset_delta = record.zigzag("offset delta").map_err(malformed)?;
    if offset_delta != index as i64 {
        return Err(wrong("its offset delta is not its place in the batch"));
    }
    let key = nullable(record, "key").map_err(malformed)?;
    let value = nullable(record, "value").map_err(malformed)?;
    let count = record.zigzag("header count").map_err(malformed)?;
    let count = usize::try_from(count).map_err(|_| wrong("header count"))?;
    if count > limits.headers {
        return Err(BatchError::TooMany { what: "headers of a record", found: count, limit: limits.headers });
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let name = nullable(record, "header name").map_err(malformed)?;
        let name = name.ok_or_else(|| wrong("a header without a name"))?;
        let name = std::str::from_utf8(&name).map_err(|_| wrong("a header's name is not UTF-8"))?;
        let value = nullable(record, "header value").map_err(malformed)?;
        headers.push(RecordHeader { name: name.to_owned(), value });
    }
    record.finish("bytes behind the record's headers").map_err(malformed)?;
    Ok(Record {
        offset: header.base_offset.plus(index as u64),
        // A delta is a difference modulo 2^64, in Kafka's clients too: every pair of timestamps has one.
        timestamp_ms: header.base_timestamp_ms.wrapping_add(timestamp_delta),
        key,
        value,
        headers,
    })
}

/// Bytes behind a varint length; -1 is null.
fn nullable(record: &mut Reader, what: &'static str) -> Result<Option<Bytes>, Malformed> {
    match record.zigzag(what)? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_| record.malformed(what))?;
            record.bytes(length, what).map(Some)
        }
    }
}
