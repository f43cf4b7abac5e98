//! Frames, as on a TCP connection of Kafka: a length of four bytes, then that many.

use bytes::{Buf, Bytes, BytesMut};

/// A length that no frame may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {claimed} bytes, and the limit is {limit}")]
pub struct FrameError {
    /// What the length says.
    pub claimed: i64,
    /// The limit in bytes.
    pub limit: usize,
}

/// Puts frames together from what arrives. Memory follows what has arrived, never what a length claims.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    buffer: BytesMut,
}

const LENGTH_BYTES: usize = 4;
/// Room made ahead of what has arrived, at most.
const AHEAD_BYTES_MAX: usize = 1 << 20;

impl FrameDecoder {
    /// A decoder for frames of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        FrameDecoder { limit, buffer: BytesMut::new() }
    }

    /// Takes what arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, once it has arrived.
    ///
    /// # Errors
    /// [`FrameError`] for a length below zero or above the limit; the connection is of no more use then.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let claimed = i64::from(i32::from_be_bytes(*length));
        let length = usize::try_from(claimed).ok().filter(|length| *length <= self.limit);
        let length = length.ok_or(FrameError { claimed, limit: self.limit })?;
        let missing = (LENGTH_BYTES + length).saturating_sub(self.buffer.len());
        if missing > 0 {
            self.buffer.reserve(missing.min(AHEAD_BYTES_MAX));
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Bytes of a frame that has not arrived whole.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }
}

/// The length that goes before a frame made of `parts`.
///
/// # Panics
/// When they are 2 GiB or more together: responses are bounded far below.
pub fn length_prefix(parts: &[Bytes]) -> [u8; LENGTH_BYTES] {
    let length: usize = parts.iter().map(Bytes::len).sum();
    i32::try_from(length).expect("a frame is shorter than 2 GiB").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_in_any_pieces() {
        let frames = [Bytes::from_static(b""), Bytes::from_static(b"one"), Bytes::from(vec![7; 5_000])];
        let mut stream = Vec::new();
        for frame in &frames {
            stream.extend_from_slice(&length_prefix(std::slice::from_ref(frame)));
            stream.extend_from_slice(frame);
        }
        for piece in [1, 2, 3, 7, 1_000, stream.len()] {
            let mut decoder = FrameDecoder::new(5_000);
            let mut found = Vec::new();
            for bytes in stream.chunks(piece) {
                decoder.feed(bytes);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, frames, "in pieces of {piece}");
            assert_eq!(decoder.pending(), 0);
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_and_allocate_nothing() {
        for claimed in [-1, i32::MIN, 5_001, i32::MAX] {
            let mut decoder = FrameDecoder::new(5_000);
            decoder.feed(&claimed.to_be_bytes());
            let error = decoder.next_frame().unwrap_err();
            assert_eq!(error, FrameError { claimed: i64::from(claimed), limit: 5_000 });
        }
        let mut decoder = FrameDecoder::new(1 << 30);
        decoder.feed(&(1i32 << 30).to_be_bytes());
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.buffer.capacity() <= 2 * AHEAD_BYTES_MAX);
    }
}
