//! The header of a batch: reading it, stamping it, and telling batches apart.

use bytes::Bytes;

use super::BatchError;
use crate::codec::Codec;
use crate::ids::{Offset, ProducerEpoch, ProducerId, Sequence};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes that the length field does not count: base offset and the length itself.
const BEFORE_LENGTH_BYTES: usize = 12;
/// The format of batches since Kafka 0.11; older ones are laid out otherwise.
const MAGIC: i8 = 2;
const TIMESTAMP_TYPE_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const CODEC_MASK: i16 = 0b111;

/// The fields before a batch's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// Bytes of the whole batch.
    pub batch_bytes: u32,
    /// The leader's epoch when it was appended; -1 before.
    pub leader_epoch: i32,
    /// The format: always 2.
    pub magic: i8,
    /// CRC-32C of everything behind it.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: i16,
    /// The offset of the last record, less that of the first.
    pub last_offset_delta: u32,
    /// What the records' timestamps are relative to, in milliseconds since 1970.
    pub base_timestamp_ms: i64,
    /// The latest timestamp of the records, in milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// Who made it.
    pub producer_id: ProducerId,
    /// Which incarnation of that producer.
    pub producer_epoch: ProducerEpoch,
    /// The producer's number of the first record.
    pub base_sequence: Sequence,
    /// How many records there are.
    pub record_count: u32,
}

impl Default for BatchHeader {
    fn default() -> Self {
        BatchHeader {
            base_offset: Offset(0),
            batch_bytes: HEADER_BYTES as u32,
            leader_epoch: -1,
            magic: MAGIC,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            base_sequence: Sequence::NONE,
            record_count: 0,
        }
    }
}

impl BatchHeader {
    /// Reads the header at the start of `batch`. Only structure is looked at: see [`super::verify()`].
    ///
    /// # Errors
    /// [`BatchError`] when `batch` is shorter than a header or than it says, no batch of magic 2, or has a negative
    /// offset or count. So no offset computed from a header can overflow.
    pub fn parse(batch: &[u8]) -> Result<BatchHeader, BatchError> {
        let available = batch.len();
        if available < HEADER_BYTES {
            return Err(BatchError::Short { claimed: HEADER_BYTES as u64, available });
        }
        let length = i32::from_be_bytes(array(batch, 8));
        let claimed = i64::from(length) + BEFORE_LENGTH_BYTES as i64;
        if claimed < HEADER_BYTES as i64 || claimed > available as i64 {
            return Err(BatchError::Short { claimed: claimed.max(0) as u64, available });
        }
        let magic = i8::from_be_bytes(array(batch, 16));
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let count = |at, what| {
            let value = i32::from_be_bytes(array(batch, at));
            u32::try_from(value).map_err(|_| BatchError::Negative { what, value: i64::from(value) })
        };
        let base_offset = i64::from_be_bytes(array(batch, 0));
        let base_offset = u64::try_from(base_offset)
            .map_err(|_| BatchError::Negative { what: "base offset", value: base_offset })?;
        Ok(BatchHeader {
            base_offset: Offset(base_offset),
            batch_bytes: claimed as u32,
            leader_epoch: i32::from_be_bytes(array(batch, 12)),
            magic,
            crc: u32::from_be_bytes(array(batch, 17)),
            attributes: i16::from_be_bytes(array(batch, 21)),
            last_offset_delta: count(23, "last offset delta")?,
            base_timestamp_ms: i64::from_be_bytes(array(batch, 27)),
            max_timestamp_ms: i64::from_be_bytes(array(batch, 35)),
            producer_id: ProducerId(i64::from_be_bytes(array(batch, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(array(batch, 51))),
            base_sequence: Sequence(i32::from_be_bytes(array(batch, 53))),
            record_count: count(57, "record count")?,
        })
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// [`BatchError::Codec`] for a codec that Kafka does not define.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let number = self.attributes & CODEC_MASK;
        Codec::from_number(number).ok_or(BatchError::Codec(number))
    }

    /// Whether it is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether it is a marker of a coordinator and holds no records of a user.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether its timestamps claim to be a broker's.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & TIMESTAMP_TYPE_BIT != 0
    }

    /// The producer's number of the last record.
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence == Sequence::NONE {
            return Sequence::NONE;
        }
        self.base_sequence.plus(self.record_count.saturating_sub(1))
    }

    /// The offset behind the last record.
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.record_count))
    }
}

/// Writes the two fields that are the broker's.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: i32) {
    batch[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Tells apart the batches that stand one behind the other in a produce request or a fetch response; none where
/// there are no bytes. Each shares the memory of `records`.
///
/// # Errors
/// [`BatchError`] when anything but whole batches is there.
pub fn split(records: Bytes) -> Result<Vec<Bytes>, BatchError> {
    let mut batches = Vec::new();
    let mut rest = records;
    while !rest.is_empty() {
        let header = BatchHeader::parse(&rest)?;
        batches.push(rest.split_to(header.batch_bytes as usize));
    }
    Ok(batches)
}

/// The bytes at a place that is known to exist.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
