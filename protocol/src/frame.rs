//! Frames, as on a TCP connection of Kafka: a length of four bytes, big-endian, then that many.
//!
//! Each frame that arrives gets memory of its own, so that a record batch kept for long keeps its own request alive
//! and nothing of its neighbours. That memory follows what has arrived, never what a length claims, and each
//! byte is copied once. Frames that leave are made of parts, so that record data are not copied at all.

use std::collections::VecDeque;

use bytes::Bytes;

/// A length that no frame may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {claimed} bytes, and the limit is {limit}")]
pub struct FrameError {
    /// What the length says.
    pub claimed: i64,
    /// The limit in bytes.
    pub limit: usize,
}

const LENGTH_BYTES: usize = 4;
/// Room made ahead of what has arrived of a frame, until twice as much has arrived.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// Puts frames together from what arrives, in pieces of any size.
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    /// The length of the frame that is arriving, as far as it is there.
    length: Vec<u8>,
    /// What is there of the frame behind its length.
    body: Vec<u8>,
    /// Whole frames that nobody has taken yet: no more than one call of [`FrameDecoder::feed`] brought.
    whole: VecDeque<Bytes>,
    refused: Option<FrameError>,
}

impl FrameDecoder {
    /// A decoder for frames of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        FrameDecoder { limit, length: Vec::new(), body: Vec::new(), whole: VecDeque::new(), refused: None }
    }

    /// Takes what arrived. Take out what is whole, with [`FrameDecoder::next_frame`], before the next call.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.refused.is_none() {
            let missing = LENGTH_BYTES - self.length.len();
            let (length, behind) = bytes.split_at(missing.min(bytes.len()));
            self.length.extend_from_slice(length);
            bytes = match self.wanted() {
                Ok(Some(wanted)) => self.feed_body(wanted, behind),
                Ok(None) => behind,
                Err(error) => {
                    self.refused = Some(error);
                    return;
                }
            };
        }
    }

    /// The next whole frame, in the order of their arrival.
    ///
    /// # Errors
    /// [`FrameError`] for a length below zero or above the limit; what follows it on the connection means nothing.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        match (self.whole.pop_front(), &self.refused) {
            (None, Some(error)) => Err(error.clone()),
            (frame, _) => Ok(frame),
        }
    }

    /// Bytes of a frame that has not arrived whole, its length included.
    pub fn pending(&self) -> usize {
        self.length.len() + self.body.len()
    }

    /// The length of the frame that is arriving, once it is known.
    fn wanted(&self) -> Result<Option<usize>, FrameError> {
        let Some(length) = self.length.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let claimed = i64::from(i32::from_be_bytes(*length));
        match usize::try_from(claimed) {
            Ok(length) if length <= self.limit => Ok(Some(length)),
            _ => Err(FrameError { claimed, limit: self.limit }),
        }
    }

    /// Adds to a frame of `wanted` bytes, and returns what belongs to the next.
    fn feed_body<'a>(&mut self, wanted: usize, bytes: &'a [u8]) -> &'a [u8] {
        let (arrived, behind) = bytes.split_at(bytes.len().min(wanted - self.body.len()));
        let needed = self.body.len() + arrived.len();
        if needed > self.body.capacity() {
            // In the end the memory is as large as the frame, to the byte.
            let room = needed.max(2 * self.body.len()).max(AHEAD_BYTES_MAX).min(wanted);
            self.body.reserve_exact(room - self.body.len());
        }
        self.body.extend_from_slice(arrived);
        if self.body.len() == wanted {
            self.length.clear();
            self.whole.push_back(Bytes::from(std::mem::take(&mut self.body)));
        }
        behind
    }
}

/// A frame made of `parts`: its length, and then they, as they are.
///
/// # Panics
/// When they are 2 GiB or more together: responses are bounded far below.
pub fn encode(mut parts: Vec<Bytes>) -> Vec<Bytes> {
    let length = length_prefix(&parts);
    parts.insert(0, Bytes::copy_from_slice(&length));
    parts
}

/// The length that goes before a frame made of `parts`. Panics as [`encode`].
pub fn length_prefix(parts: &[Bytes]) -> [u8; LENGTH_BYTES] {
    let length: usize = parts.iter().map(Bytes::len).sum();
    i32::try_from(length).expect("a frame is shorter than 2 GiB").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(decoder: &mut FrameDecoder) -> Vec<Bytes> {
        std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
    }

    #[test]
    fn frames_arrive_in_any_pieces() {
        let frames = [Bytes::from_static(b""), Bytes::from_static(b"one"), Bytes::from(vec![7; 200_000])];
        let stream = frames.iter().flat_map(|frame| encode(vec![frame.clone()])).collect::<Vec<_>>().concat();
        for piece in [1, 2, 3, 5, 7, 1_000, 70_000, stream.len()] {
            let mut decoder = FrameDecoder::new(200_000);
            let mut found = Vec::new();
            for bytes in stream.chunks(piece) {
                decoder.feed(bytes);
                found.append(&mut take_all(&mut decoder));
            }
            assert_eq!(found, frames, "in pieces of {piece}");
            assert_eq!(decoder.pending(), 0);
        }
    }

    #[test]
    fn a_frame_is_its_parts() {
        let (head, records) = (Bytes::from_static(b"head"), Bytes::from(vec![1; 1_000]));
        let frame = encode(vec![head, records.clone()]);
        assert_eq!(frame[0][..], 1_004i32.to_be_bytes());
        assert_eq!(frame[2].as_ptr(), records.as_ptr(), "record data are not copied");
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_behind_what_is_good() {
        for claimed in [-1, i32::MIN, 5_001, i32::MAX] {
            let mut decoder = FrameDecoder::new(5_000);
            decoder.feed(
                &[&encode(vec![Bytes::from_static(b"good")]).concat()[..], &claimed.to_be_bytes()].concat(),
            );
            assert_eq!(decoder.next_frame(), Ok(Some(Bytes::from_static(b"good"))));
            let refused = Err(FrameError { claimed: i64::from(claimed), limit: 5_000 });
            assert_eq!(decoder.next_frame(), refused);
            decoder.feed(&[0; 100]);
            assert_eq!(decoder.next_frame(), refused, "and for good");
        }
    }

    #[test]
    fn memory_follows_what_has_arrived() {
        let mut decoder = FrameDecoder::new(1 << 30);
        decoder.feed(&(1i32 << 30).to_be_bytes());
        let mut arrived = 0;
        for piece in [1, 1_000, 100_000, 1_000_000] {
            decoder.feed(&vec![0; piece]);
            arrived += piece;
            assert_eq!(decoder.next_frame(), Ok(None));
            assert!(decoder.body.capacity() <= AHEAD_BYTES_MAX.max(2 * arrived));
        }
        let mut decoder = FrameDecoder::new(1 << 20);
        decoder.feed(&[0, 1, 0x80, 0]);
        decoder.feed(&[5; 70_000]);
        decoder.feed(&[5; 98_304 - 70_000 - 1]);
        assert_eq!(decoder.body.capacity(), 98_304, "none is left over in the end");
    }
}
