//! The compression codecs of record batches, inflating within bounds.
//!
//! Nothing is allocated by a length that compressed bytes claim: output grows as it is produced, and stops at
//! the bound.

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
            Codec::Lz4 => read_within(lz4_flex::frame::FrameDecoder::new(bytes), most),
            Codec::Zstd => {
                read_within(zstd::stream::read::Decoder::with_buffer(bytes).map_err(damaged)?, most)
            }
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
    reader.take(most as u64 + 1).read_to_end(&mut inflated).map_err(damaged)?;
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

/// A raw block says its inflated length at its front; it is believed only as far as its bytes can bear it: no
/// element of Snappy's format yields more than 64 bytes, and the shortest has two.
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
    fn rubbish_and_cuts_are_refused() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            assert!(codec.inflate(b"\xffthis is none of it, whatever it is", 1000).is_err(), "{codec}");
            let whole = codec.deflate(&b"some text that is long enough to be cut ".repeat(50)).unwrap();
            assert!(codec.inflate(&whole[..whole.len() - 9], 10_000).is_err(), "{codec}, cut");
        }
        let claim = [0xff, 0xff, 0xff, 0x7f, 0x00];
        assert!(
            Codec::Snappy.inflate(&claim, usize::MAX).is_err(),
            "a claimed length of 256 MiB in five bytes"
        );
    }
}
