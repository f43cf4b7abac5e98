//! The compression codecs of record batches, inflating within bounds.
//!
//! Nothing is allocated by a length that compressed bytes claim: output grows as it is produced and stops at the
//! bound, or lies in a buffer no larger than the bound, of which only what is written to takes memory. What is cut
//! short, or has something behind its end, is damaged, also where a codec's library would let it pass.

use std::fmt;
use std::io::{Read, Write};

use bytes::Bytes;

/// How the records of a batch are compressed. The numbers are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip (RFC 1952).
    Gzip = 1,
    /// Snappy, raw or in the framing of snappy-java, as Kafka's clients write it.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// Zstandard (RFC 8878).
    Zstd = 4,
}

/// Compressed bytes that cannot be inflated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// They inflate to more than may be.
    #[error("they inflate to more than {0} bytes")]
    Beyond(usize),
    /// They are not what the codec writes.
    #[error("not what this codec writes: {0}")]
    Damaged(String),
}

/// A codec that failed to compress.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{codec} failed: {why}")]
pub struct DeflateError {
    /// The codec.
    pub codec: Codec,
    /// Why.
    pub why: String,
}

/// How snappy-java begins what it frames: a magic of eight bytes, then two version numbers.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\x00";
const XERIAL_HEAD_BYTES: usize = 16;
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

impl Codec {
    /// All of them.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec of a batch's attributes.
    pub fn from_number(number: i16) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| *codec as i16 == number)
    }

    /// What stands in a batch's attributes.
    pub fn number(self) -> i16 {
        self as i16
    }

    /// The codec by the name that Kafka's settings use.
    pub fn from_name(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.to_string() == name)
    }

    /// Compresses.
    ///
    /// # Errors
    /// [`DeflateError`] when the codec's library says so.
    pub fn deflate(self, bytes: &[u8]) -> Result<Bytes, DeflateError> {
        let failed = |why: String| DeflateError { codec: self, why };
        let compressed = match self {
            Codec::None => bytes.to_vec(),
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).map_err(|error| failed(error.to_string()))?;
                encoder.finish().map_err(|error| failed(error.to_string()))?
            }
            Codec::Snappy => deflate_xerial(bytes).map_err(|error| failed(error.to_string()))?,
            Codec::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(bytes).map_err(|error| failed(error.to_string()))?;
                encoder.finish().map_err(|error| failed(error.to_string()))?
            }
            Codec::Zstd => zstd::bulk::compress(bytes, 3).map_err(|error| failed(error.to_string()))?,
        };
        Ok(Bytes::from(compressed))
    }

    /// Inflates to at most `most` bytes.
    ///
    /// # Errors
    /// [`InflateError`] when there would be more, or when the bytes are not this codec's.
    pub fn inflate(self, bytes: &[u8], most: usize) -> Result<Bytes, InflateError> {
        match self {
            Codec::None if bytes.len() > most => Err(InflateError::Beyond(most)),
            Codec::None => Ok(Bytes::copy_from_slice(bytes)),
            Codec::Gzip => read_within(flate2::read::MultiGzDecoder::new(bytes), most),
            Codec::Snappy => inflate_snappy(bytes, most),
            Codec::Lz4 => inflate_lz4(bytes, most),
            Codec::Zstd => inflate_zstd(bytes, most),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        })
    }
}

fn damaged(error: impl fmt::Display) -> InflateError {
    InflateError::Damaged(error.to_string())
}

fn read_within(reader: impl Read, most: usize) -> Result<Bytes, InflateError> {
    let mut inflated = Vec::new();
    reader.take((most as u64).saturating_add(1)).read_to_end(&mut inflated).map_err(damaged)?;
    if inflated.len() > most { Err(InflateError::Beyond(most)) } else { Ok(Bytes::from(inflated)) }
}

fn inflate_snappy(bytes: &[u8], most: usize) -> Result<Bytes, InflateError> {
    let Some(framed) = bytes.strip_prefix(XERIAL_MAGIC) else {
        let mut inflated = Vec::new();
        inflate_snappy_block(bytes, most, &mut inflated)?;
        return Ok(Bytes::from(inflated));
    };
    let mut rest =
        framed.get(XERIAL_HEAD_BYTES - XERIAL_MAGIC.len()..).ok_or_else(|| damaged("a head cut short"))?;
    let mut inflated = Vec::new();
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("a length cut short"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, behind) = behind.split_at_checked(length).ok_or_else(|| damaged("a block cut short"))?;
        inflate_snappy_block(block, most, &mut inflated)?;
        rest = behind;
    }
    Ok(Bytes::from(inflated))
}

/// LZ4's library takes a frame for finished wherever a block ends, and wherever one is empty; so where the frame ends
/// is looked at first, and afterwards whether all of it was read.
fn inflate_lz4(bytes: &[u8], most: usize) -> Result<Bytes, InflateError> {
    if lz4_frame_bytes(bytes) != Some(bytes.len()) {
        return Err(damaged("not one whole frame"));
    }
    let mut decoder = lz4_flex::frame::FrameDecoder::new(bytes);
    let inflated = read_within(&mut decoder, most)?;
    if decoder.get_ref().is_empty() { Ok(inflated) } else { Err(damaged("an empty block")) }
}

const LZ4_MAGIC: &[u8] = &0x184d_2204u32.to_le_bytes();
// Bits of the byte behind the magic: what stands in the frame beside its blocks.
const LZ4_BLOCK_CHECKSUM: u8 = 1 << 4;
const LZ4_CONTENT_SIZE: u8 = 1 << 3;
const LZ4_CONTENT_CHECKSUM: u8 = 1 << 2;
const LZ4_DICTIONARY: u8 = 1;

/// The length of the LZ4 frame at the front of `bytes`: a head, blocks behind their lengths, and a length of 0.
///
/// Source: "LZ4 Frame Format Description", version 1.6.
fn lz4_frame_bytes(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.strip_prefix(LZ4_MAGIC)?.first()?;
    let part = |bit, length| if flags & bit != 0 { length } else { 0 };
    // Magic, flags, block size; what the flags announce; a checksum of the head.
    let mut at = LZ4_MAGIC.len() + 2 + part(LZ4_CONTENT_SIZE, 8) + part(LZ4_DICTIONARY, 4) + 1;
    loop {
        let length = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
        at += 4;
        if length == 0 {
            at += part(LZ4_CONTENT_CHECKSUM, 4);
            return (at <= bytes.len()).then_some(at);
        }
        // The highest bit says that the block is not compressed.
        at = at.checked_add((length & 0x7fff_ffff) as usize + part(LZ4_BLOCK_CHECKSUM, 4))?;
    }
}

/// The most that a block of Zstandard inflates to, and the fewest bytes in which it can do so.
const ZSTD_BLOCK_BYTES_MAX: usize = 128 * 1024;
const ZSTD_BLOCK_BYTES_MIN: usize = 4;

/// At once, not as a stream: a stream needs a window as large as the frame claims, and Kafka's clients claim up to
/// 128 MiB at the highest levels, however small the batch.
fn inflate_zstd(bytes: &[u8], most: usize) -> Result<Bytes, InflateError> {
    use zstd::zstd_safe::{DCtx, get_error_name, zstd_sys::ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall};
    const TOO_SMALL: usize = (ZSTD_error_dstSize_tooSmall as usize).wrapping_neg();
    let by_blocks = (bytes.len() / ZSTD_BLOCK_BYTES_MIN + 1).saturating_mul(ZSTD_BLOCK_BYTES_MAX);
    let mut context = DCtx::try_create().ok_or_else(|| damaged("no memory for a decoder"))?;
    let mut inflated = Vec::new();
    inflated.try_reserve_exact(most.min(by_blocks)).map_err(damaged)?;
    match context.decompress(&mut inflated, bytes) {
        Ok(_) => {
            inflated.shrink_to_fit();
            Ok(Bytes::from(inflated))
        }
        Err(TOO_SMALL) => Err(InflateError::Beyond(most)),
        Err(code) => Err(damaged(get_error_name(code))),
    }
}

/// A raw block says its inflated length at its front; it is believed only as far as its bytes can bear it: no
/// element of Snappy's format yields more than 64 bytes, and the shortest that does so has three.
fn inflate_snappy_block(block: &[u8], most: usize, inflated: &mut Vec<u8>) -> Result<(), InflateError> {
    let claimed = snap::raw::decompress_len(block).map_err(damaged)?;
    if inflated.len().saturating_add(claimed) > most {
        return Err(InflateError::Beyond(most));
    }
    if claimed > block.len().saturating_mul(64) {
        return Err(damaged("it claims more than its bytes can hold"));
    }
    let start = inflated.len();
    inflated.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut inflated[start..]).map_err(damaged)?;
    inflated.truncate(start + written);
    Ok(())
}

fn deflate_xerial(bytes: &[u8]) -> Result<Vec<u8>, snap::Error> {
    let mut framed = Vec::with_capacity(XERIAL_HEAD_BYTES + bytes.len() / 2);
    framed.extend_from_slice(XERIAL_MAGIC);
    framed.extend_from_slice(&1u32.to_be_bytes());
    framed.extend_from_slice(&1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block)?;
        framed.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        framed.extend_from_slice(&compressed);
    }
    Ok(framed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_gives_back_what_it_took() {
        let text = "tide mill ".repeat(20_000);
        for codec in Codec::ALL {
            let compressed = codec.deflate(text.as_bytes()).unwrap();
            assert_eq!(codec.inflate(&compressed, text.len()).unwrap(), text.as_bytes(), "{codec}");
            assert_eq!(Codec::from_name(&codec.to_string()), Some(codec));
        }
    }

    #[test]
    fn raw_snappy_is_read_too() {
        let raw = snap::raw::Encoder::new().compress_vec(b"as librdkafka writes it").unwrap();
        assert_eq!(&Codec::Snappy.inflate(&raw, 100).unwrap()[..], b"as librdkafka writes it");
    }

    #[test]
    fn a_bomb_ends_at_the_bound() {
        let zeros = vec![0; 64 << 20];
        for codec in Codec::ALL {
            let bomb = codec.deflate(&zeros).unwrap();
            assert_eq!(codec.inflate(&bomb, 1 << 20), Err(InflateError::Beyond(1 << 20)), "{codec}");
        }
    }

    #[test]
    fn rubbish_is_refused() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            assert!(codec.inflate(b"\xffthis is none of it, whatever it is", 1000).is_err(), "{codec}");
        }
        let claim = [0xff, 0xff, 0xff, 0x7f, 0x00];
        assert!(
            Codec::Snappy.inflate(&claim, usize::MAX).is_err(),
            "a claimed length of 256 MiB in five bytes"
        );
    }

    #[test]
    fn every_cut_is_noticed() {
        let text = b"some text that is long enough to be cut ".repeat(5_000);
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let whole = codec.deflate(&text).unwrap();
            for length in 0..whole.len() {
                // A cut between two blocks of snappy-java's framing leaves fewer blocks, which the records in them
                // would notice; elsewhere a cut is damage.
                if let Ok(inflated) = codec.inflate(&whole[..length], text.len()) {
                    let block = codec == Codec::Snappy && inflated.len() % XERIAL_BLOCK_BYTES == 0;
                    let nothing = length == 0 && inflated.is_empty();
                    assert!(block || nothing, "{codec}, {length} of {} bytes", whole.len());
                }
            }
        }
    }

    #[test]
    fn bytes_behind_the_end_are_noticed() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let more = [&codec.deflate(b"some text").unwrap()[..], b"and more"].concat();
            assert!(codec.inflate(&more, 10_000).is_err(), "{codec}");
        }
    }

    #[test]
    fn an_empty_block_hides_nothing() {
        let whole = Codec::Lz4.deflate(b"some text").unwrap();
        // Behind a head of seven bytes, as none of the optional parts is there.
        let with_empty = [&whole[..7], &0x8000_0000u32.to_le_bytes(), &whole[7..]].concat();
        assert_eq!(Codec::Lz4.inflate(&with_empty, 100), Err(damaged("an empty block")));
    }

    #[test]
    fn gzip_members_may_follow_one_another() {
        let both = [Codec::Gzip.deflate(b"one, ").unwrap(), Codec::Gzip.deflate(b"two").unwrap()].concat();
        assert_eq!(&Codec::Gzip.inflate(&both, 8).unwrap()[..], b"one, two");
        assert_eq!(Codec::Gzip.inflate(&both, 7), Err(InflateError::Beyond(7)));
    }

    #[test]
    fn a_large_window_needs_no_memory() {
        use zstd::stream::write::Encoder;
        // The head of a stream says nothing of its length, and a window as the highest level has it: 128 MiB.
        let mut encoder = Encoder::new(Vec::new(), 22).unwrap();
        encoder.write_all(b"a small batch").unwrap();
        encoder.flush().unwrap();
        let frame = encoder.finish().unwrap();
        assert_eq!(frame[5] >> 3, 27 - 10, "the window's logarithm, less 10");
        assert_eq!(&Codec::Zstd.inflate(&frame, 13).unwrap()[..], b"a small batch");
        assert_eq!(Codec::Zstd.inflate(&frame, 12), Err(InflateError::Beyond(12)));
        assert_eq!(&Codec::Zstd.inflate(&frame, usize::MAX).unwrap()[..], b"a small batch");
    }

    #[test]
    fn what_java_cannot_read_is_not_written() {
        // Kafka's Java clients take LZ4 frames of independent blocks only (bit 5), and snappy-java's framing.
        let frame = Codec::Lz4.deflate(&b"some text ".repeat(50_000)).unwrap();
        assert_eq!(frame[4] & (1 << 5), 1 << 5);
        let framed = Codec::Snappy.deflate(b"some text").unwrap();
        assert_eq!(framed[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    }
}
