//! The primitives of every format of ours: big-endian integers, LEB128 varints, length-prefixed bytes.
//!
//! [`Reader`] never allocates by a length that it reads: what it returns are slices of what it was given.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes that do not say what they should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what} at byte {at}")]
pub struct Malformed {
    /// What was to be read.
    pub what: &'static str,
    /// Where, counted from the start of what the reader was given.
    pub at: usize,
}

/// Reads primitives from the front of a buffer.
#[derive(Debug, Clone)]
pub struct Reader {
    buffer: Bytes,
    at: usize,
}

impl Reader {
    /// A reader at the start of `buffer`.
    pub fn new(buffer: Bytes) -> Self {
        Reader { buffer, at: 0 }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.buffer.len() - self.at
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The error for the place where the reader stands.
    pub fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }

    /// The next `length` bytes, shared, not copied.
    ///
    /// # Errors
    /// [`Malformed`] when fewer are left.
    pub fn bytes(&mut self, length: usize, what: &'static str) -> Result<Bytes, Malformed> {
        if length > self.remaining() {
            return Err(self.malformed(what));
        }
        let slice = self.buffer.slice(self.at..self.at + length);
        self.at += length;
        Ok(slice)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`Malformed`] when fewer are left.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let end = self.at.checked_add(N).filter(|end| *end <= self.buffer.len());
        let end = end.ok_or(Malformed { what, at: self.at })?;
        let mut array = [0; N];
        array.copy_from_slice(&self.buffer[self.at..end]);
        self.at = end;
        Ok(array)
    }

    /// An unsigned byte. Errors as [`Reader::bytes`].
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array(what)?))
    }

    /// Two bytes, big-endian. Errors as [`Reader::bytes`].
    pub fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    /// Four bytes, big-endian. Errors as [`Reader::bytes`].
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    /// Eight bytes, big-endian. Errors as [`Reader::bytes`].
    pub fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    /// Eight bytes, big-endian, two's complement. Errors as [`Reader::bytes`].
    pub fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    /// An unsigned LEB128 varint of at most ten bytes.
    ///
    /// # Errors
    /// [`Malformed`] when it is cut short, longer than ten bytes or over 64 bits.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let start = self.at;
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed { what, at: start })
    }

    /// A signed varint, zigzag as in Kafka's records and Protocol Buffers. Errors as [`Reader::varint`].
    pub fn zigzag(&mut self, what: &'static str) -> Result<i64, Malformed> {
        let raw = self.varint(what)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// Bytes behind a four-byte length. Errors as [`Reader::bytes`].
    pub fn blob(&mut self, what: &'static str) -> Result<Bytes, Malformed> {
        let length = self.u32(what)?;
        self.bytes(length as usize, what)
    }

    /// UTF-8 text behind a four-byte length.
    ///
    /// # Errors
    /// [`Malformed`] when it is cut short or not UTF-8.
    pub fn text(&mut self, what: &'static str) -> Result<String, Malformed> {
        let at = self.at;
        let bytes = self.blob(what)?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| Malformed { what, at })
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`Malformed`] when something is.
    pub fn finish(&self, what: &'static str) -> Result<(), Malformed> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.malformed(what)) }
    }
}

/// Writes primitives; the counterpart of [`Reader`].
#[derive(Debug)]
pub struct Writer {
    buffer: BytesMut,
}

/// What a writer has room for at first: most rows fit.
const ROOM_BYTES: usize = 64;

impl Default for Writer {
    fn default() -> Self {
        Writer::new()
    }
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Writer::with_capacity(ROOM_BYTES)
    }

    /// A writer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Writer { buffer: BytesMut::with_capacity(capacity) }
    }

    /// Makes room for so many bytes more.
    pub fn reserve(&mut self, bytes: usize) {
        self.buffer.reserve(bytes);
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.buffer.put_slice(bytes);
        self
    }

    /// An unsigned byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.buffer.put_u8(value);
        self
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.buffer.put_u16(value);
        self
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.buffer.put_u32(value);
        self
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.buffer.put_u64(value);
        self
    }

    /// Eight bytes, big-endian, two's complement.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.buffer.put_i64(value);
        self
    }

    /// An unsigned LEB128 varint.
    pub fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.buffer.put_u8((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
        self
    }

    /// A signed varint, zigzag.
    pub fn zigzag(&mut self, value: i64) -> &mut Self {
        self.varint(((value << 1) ^ (value >> 63)) as u64)
    }

    /// Bytes behind a four-byte length.
    ///
    /// # Panics
    /// When they are 4 GiB or longer: every format's own limit is far below.
    pub fn blob(&mut self, bytes: &[u8]) -> &mut Self {
        let length = u32::try_from(bytes.len()).expect("a blob is shorter than 4 GiB");
        self.u32(length).raw(bytes)
    }

    /// UTF-8 text behind a four-byte length. Panics as [`Writer::blob`].
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.blob(text.as_bytes())
    }

    /// Overwrites what stands at `at`, for a length or checksum known only afterwards.
    ///
    /// # Panics
    /// When the place was not written yet.
    pub fn patch(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// What was written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer
    }

    /// What was written. Small values are kept for long: they get no more room than they need.
    pub fn finish(self) -> Bytes {
        if self.buffer.len() <= ROOM_BYTES {
            Bytes::copy_from_slice(&self.buffer)
        } else {
            self.buffer.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::new();
        writer.u8(1).u16(2).u32(3).u64(4).i64(-5).blob(b"six").text("seven");
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            writer.varint(value);
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            writer.zigzag(value);
        }
        let mut reader = Reader::new(writer.finish());
        assert_eq!(reader.u8("").unwrap(), 1);
        assert_eq!(reader.u16("").unwrap(), 2);
        assert_eq!(reader.u32("").unwrap(), 3);
        assert_eq!(reader.u64("").unwrap(), 4);
        assert_eq!(reader.i64("").unwrap(), -5);
        assert_eq!(&reader.blob("").unwrap()[..], b"six");
        assert_eq!(reader.text("").unwrap(), "seven");
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            assert_eq!(reader.varint("").unwrap(), value);
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(reader.zigzag("").unwrap(), value);
        }
        reader.finish("end").unwrap();
    }

    #[test]
    fn a_claimed_length_allocates_nothing_and_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1]));
        assert_eq!(reader.blob("value"), Err(Malformed { what: "value", at: 4 }));
    }

    #[test]
    fn an_overlong_varint_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0xff; 11]));
        assert!(reader.varint("n").is_err());
        let mut reader =
            Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]));
        assert!(reader.varint("n").is_err(), "65 bits");
    }
}
