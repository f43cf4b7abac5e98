//! Making a batch: once, by whoever produces it.

use bytes::Bytes;

use super::HEADER_BYTES;
use super::header::array;
use super::verify::CRC_FROM;
use crate::codec::{Codec, DeflateError};
use crate::ids::{ProducerEpoch, ProducerId, Sequence};
use crate::primitive::Writer;

/// Something that no batch can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// Records of 2 GiB or more together: the length of a batch has 31 bits.
    #[error("records of {0} bytes together")]
    TooLarge(usize),
    /// No records.
    #[error("a batch without records")]
    Empty,
    /// The codec failed.
    #[error(transparent)]
    Deflate(#[from] DeflateError),
}

/// Gathers records and writes them as one batch. The same records give the same bytes.
#[derive(Debug)]
pub struct BatchBuilder {
    codec: Codec,
    records: Writer,
    count: u32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    producer: (ProducerId, ProducerEpoch, Sequence),
}

impl BatchBuilder {
    /// An empty batch, to be compressed with `codec`.
    pub fn new(codec: Codec) -> Self {
        BatchBuilder {
            codec,
            records: Writer::new(),
            count: 0,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer: (ProducerId::NONE, ProducerEpoch(-1), Sequence::NONE),
        }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`Unwritable::TooLarge`] when the batch would have 2 GiB or more; it is as it was before then.
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(), Unwritable> {
        if self.count == 0 {
            self.base_timestamp_ms = timestamp_ms;
            self.max_timestamp_ms = timestamp_ms;
        }
        let delta = timestamp_ms.wrapping_sub(self.base_timestamp_ms);
        let parts = headers
            .iter()
            .map(|(name, value)| nullable_bytes(Some(name.as_bytes())) + nullable_bytes(*value));
        let body = 1
            + zigzag_bytes(delta)
            + zigzag_bytes(i64::from(self.count))
            + nullable_bytes(key)
            + nullable_bytes(value)
            + zigzag_bytes(headers.len() as i64)
            + parts.sum::<usize>();
        let records = self.records.len() + zigzag_bytes(body as i64) + body;
        if records > i32::MAX as usize - HEADER_BYTES {
            return Err(Unwritable::TooLarge(records));
        }
        let writer = &mut self.records;
        writer.reserve(records - writer.len());
        writer.zigzag(body as i64).u8(0).zigzag(delta).zigzag(i64::from(self.count));
        nullable(writer, key);
        nullable(writer, value);
        writer.zigzag(headers.len() as i64);
        for (name, value) in headers {
            nullable(writer, Some(name.as_bytes()));
            nullable(writer, *value);
        }
        self.count += 1;
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        Ok(())
    }

    /// Names who produces it, for idempotence.
    pub fn producer(&mut self, id: ProducerId, epoch: ProducerEpoch, base: Sequence) -> &mut Self {
        self.producer = (id, epoch, base);
        self
    }

    /// How many records it has.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch if it were not compressed.
    pub fn plain_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// Bytes that a record adds, not compressed, at most.
    pub fn record_bytes_max(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> usize {
        let part = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len) + 5;
        let headers: usize = headers.iter().map(|(name, value)| name.len() + 5 + part(*value)).sum();
        5 + 1 + 10 + 5 + part(key) + part(value) + 5 + headers
    }

    /// Writes the batch: base offset 0, leader epoch -1, until a broker stamps it.
    ///
    /// # Errors
    /// [`Unwritable::Empty`] when there is nothing to write, [`Unwritable::Deflate`] when the codec fails.
    pub fn build(self) -> Result<Bytes, Unwritable> {
        if self.is_empty() {
            return Err(Unwritable::Empty);
        }
        let attributes = self.codec.number();
        let records = match self.codec {
            Codec::None => self.records.finish(),
            codec => codec.deflate(self.records.as_slice())?,
        };
        if records.len() > i32::MAX as usize - HEADER_BYTES {
            return Err(Unwritable::TooLarge(records.len()));
        }
        let (id, epoch, sequence) = self.producer;
        let mut writer = Writer::with_capacity(HEADER_BYTES + records.len());
        writer.u64(0).u32((HEADER_BYTES - 12 + records.len()) as u32).u32(u32::MAX).u8(2).u32(0);
        writer.u16(attributes as u16).u32(self.count - 1);
        writer.i64(self.base_timestamp_ms).i64(self.max_timestamp_ms);
        writer.i64(id.0).u16(epoch.0 as u16).u32(sequence.0 as u32).u32(self.count);
        writer.raw(&records);
        let crc = crc32c::crc32c(&writer.as_slice()[CRC_FROM..]);
        writer.patch(17, &crc.to_be_bytes());
        Ok(writer.finish())
    }
}

/// Gives a built batch another producer, epoch and sequence, and the CRC that follows from them.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn restamp_producer(batch: &mut [u8], id: ProducerId, epoch: ProducerEpoch, base: Sequence) {
    let _: [u8; HEADER_BYTES] = array(batch, 0);
    batch[43..51].copy_from_slice(&id.0.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.0.to_be_bytes());
    batch[53..57].copy_from_slice(&base.0.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn nullable(writer: &mut Writer, part: Option<&[u8]>) {
    match part {
        Some(bytes) => writer.zigzag(bytes.len() as i64).raw(bytes),
        None => writer.zigzag(-1),
    };
}

fn nullable_bytes(part: Option<&[u8]>) -> usize {
    part.map_or(1, |bytes| zigzag_bytes(bytes.len() as i64) + bytes.len())
}

fn zigzag_bytes(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (raw | 1).leading_zeros() as usize).div_ceil(7)
}
