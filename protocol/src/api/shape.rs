//! The shapes of the messages we read, and a walk over bytes that claims to be one.
//!
//! The generated decoder makes room for as many elements as an array says it has before it reads the first. So
//! every message is walked first: an array whose elements could not fit into the bytes behind its count is
//! refused, and nothing is allocated.

use crate::primitive::Malformed;

/// A part of a message, in the order of its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// So many bytes.
    Fixed(usize),
    /// A string; null where the message allows it.
    Text,
    /// Bytes with a length; null where the message allows it.
    Blob,
    /// So many of these, one behind the other, each followed by its tagged fields in flexible versions.
    Array(&'static [Part]),
    /// So many plain elements of this size.
    Plain(usize),
    /// Only in this version and later.
    Since(i16, &'static Part),
    /// Only in versions from the first to the second.
    Within(i16, i16, &'static Part),
}

use Part::{Array, Blob, Fixed, Plain, Since, Text, Within};

const I8: Part = Fixed(1);
const I16: Part = Fixed(2);
const I32: Part = Fixed(4);
const I64: Part = Fixed(8);
const UUID: Part = Fixed(16);

pub(super) const API_VERSIONS_REQUEST: &[Part] = &[Since(3, &Text), Since(3, &Text)];
pub(super) const API_VERSIONS_RESPONSE: &[Part] = &[I16, Array(&[I16, I16, I16]), Since(1, &I32)];
pub(super) const METADATA_REQUEST: &[Part] =
    &[Array(&[Since(10, &UUID), Text]), Since(4, &I8), Within(8, 10, &I8), Since(8, &I8)];
pub(super) const METADATA_RESPONSE: &[Part] = &[
    Since(3, &I32),
    Array(&[I32, Text, I32, Since(1, &Text)]),
    Since(2, &Text),
    Since(1, &I32),
    Array(&[
        I16,
        Text,
        Since(10, &UUID),
        Since(1, &I8),
        Array(&[I16, I32, I32, Since(7, &I32), Plain(4), Plain(4), Since(5, &Plain(4))]),
        Since(8, &I32),
    ]),
    Within(8, 10, &I32),
];
pub(super) const PRODUCE_REQUEST: &[Part] = &[Text, I16, I32, Array(&[Text, Array(&[I32, Blob])])];
pub(super) const PRODUCE_RESPONSE: &[Part] = &[
    Array(&[
        Text,
        Array(&[I32, I16, I64, I64, Since(5, &I64), Since(8, &Array(&[I32, Text])), Since(8, &Text)]),
    ]),
    I32,
];
pub(super) const FETCH_REQUEST: &[Part] = &[
    I32,
    I32,
    I32,
    I32,
    I8,
    Since(7, &I32),
    Since(7, &I32),
    Array(&[Text, Array(&[I32, Since(9, &I32), I64, Since(12, &I32), Since(5, &I64), I32])]),
    Since(7, &Array(&[Text, Plain(4)])),
    Since(11, &Text),
];
pub(super) const FETCH_RESPONSE: &[Part] = &[
    I32,
    Since(7, &I16),
    Since(7, &I32),
    Array(&[Text, Array(&[I32, I16, I64, I64, Since(5, &I64), Array(&[I64, I64]), Since(11, &I32), Blob])]),
];
pub(super) const LIST_OFFSETS_REQUEST: &[Part] =
    &[I32, Since(2, &I8), Array(&[Text, Array(&[I32, Since(4, &I32), I64])])];
pub(super) const LIST_OFFSETS_RESPONSE: &[Part] =
    &[Since(2, &I32), Array(&[Text, Array(&[I32, I16, I64, I64, Since(4, &I32)])])];
pub(super) const CREATE_TOPICS_REQUEST: &[Part] =
    &[Array(&[Text, I32, I16, Array(&[I32, Plain(4)]), Array(&[Text, Text])]), I32, I8];
pub(super) const CREATE_TOPICS_RESPONSE: &[Part] = &[
    I32,
    Array(&[
        Text,
        Since(7, &UUID),
        I16,
        Text,
        Since(5, &I32),
        Since(5, &I16),
        Since(5, &Array(&[Text, Text, I8, I8, I8])),
    ]),
];
pub(super) const INIT_PRODUCER_ID_REQUEST: &[Part] = &[Text, I32, Since(3, &I64), Since(3, &I16)];
pub(super) const INIT_PRODUCER_ID_RESPONSE: &[Part] = &[I32, I16, I64, I16];

/// Walks `bytes` as a message of `shape`.
pub(super) fn walk(bytes: &[u8], shape: &[Part], version: i16, flexible: bool) -> Result<(), Malformed> {
    let mut walker = Walker { bytes, at: 0, version, flexible };
    walker.fields(shape)?;
    match bytes.len() - walker.at {
        0 => Ok(()),
        _ => Err(walker.malformed("bytes behind the message")),
    }
}

struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
    version: i16,
    flexible: bool,
}

impl Walker<'_> {
    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }

    fn skip(&mut self, length: usize, what: &'static str) -> Result<(), Malformed> {
        if length > self.bytes.len() - self.at {
            return Err(self.malformed(what));
        }
        self.at += length;
        Ok(())
    }

    fn fields(&mut self, parts: &[Part]) -> Result<(), Malformed> {
        parts.iter().try_for_each(|part| self.part(part))?;
        if self.flexible { self.tags() } else { Ok(()) }
    }

    fn part(&mut self, part: &Part) -> Result<(), Malformed> {
        match *part {
            Fixed(length) => self.skip(length, "a number"),
            Text => {
                let length = if self.flexible { self.compact()? } else { self.short()? };
                self.skip(length.unwrap_or(0), "a string")
            }
            Blob => {
                let length = if self.flexible { self.compact()? } else { self.long()? };
                self.skip(length.unwrap_or(0), "bytes")
            }
            Array(parts) => {
                for _ in 0..self.count()? {
                    self.fields(parts)?;
                }
                Ok(())
            }
            Plain(size) => {
                let length = self.count()?.saturating_mul(size);
                self.skip(length, "an array")
            }
            Since(first, part) if self.version >= first => self.part(part),
            Within(first, last, part) if (first..=last).contains(&self.version) => self.part(part),
            Since(..) | Within(..) => Ok(()),
        }
    }

    /// The number of elements of an array: never more than there are bytes left, for none is empty.
    fn count(&mut self) -> Result<usize, Malformed> {
        let count = if self.flexible { self.compact()? } else { self.long()? }.unwrap_or(0);
        if count > self.bytes.len() - self.at {
            Err(self.malformed("the count of an array"))
        } else {
            Ok(count)
        }
    }

    fn tags(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()? as usize;
            self.skip(length, "a tagged field")?;
        }
        Ok(())
    }

    /// The length of flexible versions: one more than it is; 0 is null.
    fn compact(&mut self) -> Result<Option<usize>, Malformed> {
        Ok(self.varint()?.checked_sub(1).map(|length| length as usize))
    }

    fn short(&mut self) -> Result<Option<usize>, Malformed> {
        let start = self.at;
        self.skip(2, "a length")?;
        let length = i16::from_be_bytes([self.bytes[start], self.bytes[start + 1]]);
        self.length(i64::from(length))
    }

    fn long(&mut self) -> Result<Option<usize>, Malformed> {
        let start = self.at;
        self.skip(4, "a length")?;
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.bytes[start..start + 4]);
        self.length(i64::from(i32::from_be_bytes(bytes)))
    }

    fn length(&self, length: i64) -> Result<Option<usize>, Malformed> {
        match length {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.malformed("a negative length")),
        }
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value: u64 = 0;
        for shift in (0..35).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(|| self.malformed("a varint"))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| self.malformed("a varint"));
            }
        }
        Err(self.malformed("a varint"))
    }
}

/// Walks a request's header: API, version, correlation id, the client's name, and tagged fields.
pub(super) fn walk_header(bytes: &[u8], flexible: bool) -> Result<(), Malformed> {
    let mut walker = Walker { bytes, at: 0, version: 0, flexible: false };
    walker.part(&I64)?;
    walker.part(&Text)?;
    if flexible { walker.tags() } else { Ok(()) }
}

/// The length of the tagged fields at the front of `bytes`.
pub(super) fn tags_bytes(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut walker = Walker { bytes, at: 0, version: 0, flexible: true };
    walker.tags()?;
    Ok(walker.at)
}
