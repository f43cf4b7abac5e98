//! Checking a batch at the door, without inflating it.

use super::BatchHeader;
use crate::codec::{Codec, InflateError};
use crate::error::ErrorCode;

/// Where the bytes begin that the CRC covers.
pub(super) const CRC_FROM: usize = 21;

/// What a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Bytes of the batch as it is.
    pub batch_bytes: usize,
    /// Records in it.
    pub records: usize,
    /// Headers of one record.
    pub headers: usize,
    /// Bytes of the records once inflated.
    pub inflated_bytes: usize,
    /// How many times its size it may inflate to, beyond the first mebibyte.
    pub inflate_ratio: usize,
}

/// Why bytes are no batch that may be stored or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than it claims.
    #[error("a batch claims {claimed} bytes, and there are {available}")]
    Short {
        /// What its length says, or the least a batch has.
        claimed: u64,
        /// What is there.
        available: usize,
    },
    /// More bytes than it claims.
    #[error("{0} bytes stand behind the batch")]
    Trailing(usize),
    /// An older or newer format.
    #[error("the batch has magic {0}, and only 2 is taken")]
    Magic(i8),
    /// A number that cannot be negative.
    #[error("the {what} is {value}")]
    Negative {
        /// Which.
        what: &'static str,
        /// Its value.
        value: i64,
    },
    /// Its bytes are not those that its producer wrote.
    #[error("the batch's CRC-32C is {found:08x}, and it says {stated:08x}")]
    Crc {
        /// What its bytes give.
        found: u32,
        /// What it says.
        stated: u32,
    },
    /// No records.
    #[error("the batch has no records")]
    Empty,
    /// Counts that contradict one another.
    #[error("the batch has {records} records, and its last offset delta is {last_offset_delta}")]
    Count {
        /// Its record count.
        records: u32,
        /// Its last offset delta.
        last_offset_delta: u32,
    },
    /// More than may be.
    #[error("the batch has {found} {what}, and the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// Larger than may be.
    #[error("the batch has {found} bytes, and the limit is {limit}")]
    TooLarge {
        /// Its size in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A codec that Kafka does not define.
    #[error("there is no compression codec {0}")]
    Codec(i16),
    /// Part of a transaction.
    #[error("the batch is part of a transaction, and transactions are not offered")]
    Transactional,
    /// A marker such as a transaction's coordinator writes.
    #[error("a control batch is the broker's to write")]
    Control,
    /// Its timestamps claim to be the broker's.
    #[error("LogAppendTime is not offered: append time stands in the envelope")]
    LogAppendTime,
    /// A producer id without epoch or sequence.
    #[error("the batch names a producer without an epoch or a sequence")]
    Producer,
    /// The compressed records cannot be inflated within bounds.
    #[error("{codec} records: {error}")]
    Inflate {
        /// The codec.
        codec: Codec,
        /// Why.
        error: InflateError,
    },
    /// A record that is none.
    #[error("record {index}: {what}")]
    Record {
        /// Its place in the batch.
        index: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl BatchError {
    /// What a client of Kafka's protocol is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::Short { .. } | BatchError::Trailing(_) | BatchError::Crc { .. } => {
                ErrorCode::CORRUPT_MESSAGE
            }
            BatchError::Magic(_) => ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
            BatchError::Codec(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            BatchError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            BatchError::LogAppendTime => ErrorCode::INVALID_TIMESTAMP,
            BatchError::Transactional => ErrorCode::INVALID_TXN_STATE,
            BatchError::Negative { .. }
            | BatchError::Control
            | BatchError::Empty
            | BatchError::Count { .. }
            | BatchError::TooMany { .. }
            | BatchError::Producer
            | BatchError::Inflate { .. }
            | BatchError::Record { .. } => ErrorCode::INVALID_RECORD,
        }
    }
}

/// Checks all of a batch that can be checked without inflating it, and returns its header.
///
/// # Errors
/// [`BatchError`] with the first thing that is wrong.
pub fn verify(batch: &[u8], limits: &BatchLimits) -> Result<BatchHeader, BatchError> {
    if batch.len() > limits.batch_bytes {
        return Err(BatchError::TooLarge { found: batch.len(), limit: limits.batch_bytes });
    }
    let header = BatchHeader::parse(batch)?;
    check_crc(batch, &header)?;
    header.codec()?;
    if header.is_transactional() {
        return Err(BatchError::Transactional);
    }
    if header.is_control() {
        return Err(BatchError::Control);
    }
    if header.is_log_append_time() {
        return Err(BatchError::LogAppendTime);
    }
    check_counts(&header, limits)?;
    if header.producer_id.is_some() && (header.producer_epoch.0 < 0 || header.base_sequence.0 < 0) {
        return Err(BatchError::Producer);
    }
    Ok(header)
}

/// Checks that the bytes are one batch, the whole of it, and those that its producer wrote.
pub(super) fn check_crc(batch: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    match batch.len() - header.batch_bytes as usize {
        0 => {}
        trailing => return Err(BatchError::Trailing(trailing)),
    }
    let found = crc32c::crc32c(&batch[CRC_FROM..]);
    if found == header.crc { Ok(()) } else { Err(BatchError::Crc { found, stated: header.crc }) }
}

/// Checks that a batch has records, not too many, and as many as it gives offsets.
pub(super) fn check_counts(header: &BatchHeader, limits: &BatchLimits) -> Result<(), BatchError> {
    let (records, last_offset_delta) = (header.record_count, header.last_offset_delta);
    if records == 0 {
        return Err(BatchError::Empty);
    }
    if u64::from(last_offset_delta) + 1 != u64::from(records) {
        return Err(BatchError::Count { records, last_offset_delta });
    }
    if records as usize > limits.records {
        return Err(BatchError::TooMany { what: "records", found: records as usize, limit: limits.records });
    }
    Ok(())
}
