//! A walk over bytes that claim to be a message, before anything is made of them.
//!
//! A generated decoder makes room for as many elements as an array says it has, before it reads the first: sixteen
//! bytes could claim gigabytes. So every message is walked by its [`Shape`] first. The walk allocates nothing, and
//! refuses what does not fit into the bytes that are there. It must see a message exactly as the decoder does, tagged
//! fields included, or a count could hide where it looks away: the test at the end makes messages out of every
//! shape and has the decoder read them.

use crate::primitive::Malformed;

/// The parts of a message, or of an element of an array, in the order of their bytes.
pub(super) type Shape = &'static [Part];

/// A part of a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// So many bytes.
    Fixed(usize),
    /// A string; null where the message allows it.
    Text,
    /// Bytes with a length; null where the message allows it.
    Blob,
    /// So many of these, one behind the other, each followed by its tagged fields in flexible versions.
    Array(Shape),
    /// So many plain elements of this size.
    Plain(usize),
    /// So many strings, one behind the other.
    Texts,
    /// One of these, followed by its tagged fields.
    Struct(Shape),
    /// Only in this version and later.
    Since(i16, &'static Part),
    /// Only in versions from the first to the second.
    Within(i16, i16, &'static Part),
    /// A tagged field that the decoder knows, from this version on. It reads such a field by its type, whatever
    /// length stands before it; these must agree.
    Tagged(u32, i16, &'static Part),
}

use Part::{Array, Blob, Fixed, Plain, Since, Struct, Tagged, Text, Texts, Within};

/// How a version writes what a shape names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// The version.
    pub version: i16,
    /// Whether lengths are varints and tagged fields follow.
    pub flexible: bool,
}

/// Walks `bytes` from `at` as a message of `shape` that holds at most `elements`, of arrays and tagged fields together.
/// Places in errors are counted from the start of `bytes`.
pub(super) fn walk(
    bytes: &[u8],
    at: usize,
    shape: Shape,
    form: Form,
    elements: usize,
) -> Result<(), Malformed> {
    let end = walk_to_end(bytes, at, shape, form, elements)?;
    if end == bytes.len() { Ok(()) } else { Err(Malformed { what: "bytes behind the message", at: end }) }
}

/// As [`walk`], but returns where the message ends; bytes may follow it.
pub(super) fn walk_to_end(
    bytes: &[u8],
    at: usize,
    shape: Shape,
    form: Form,
    elements: usize,
) -> Result<usize, Malformed> {
    let mut walker = Walker { bytes, at, form, elements, blobs: None };
    walker.fields(shape)?;
    Ok(walker.at)
}

/// Walks a request's head: API, version, correlation id, the client's name, and tagged fields. Returns where it ends.
pub(super) fn walk_request_head(bytes: &[u8], form: Form) -> Result<usize, Malformed> {
    // The client's name has a length of two bytes in every version.
    let mut walker =
        Walker { bytes, at: 0, form: Form { flexible: false, ..form }, elements: 64, blobs: None };
    walker.part(&Fixed(8))?;
    walker.part(&Text)?;
    if form.flexible {
        walker.tags(&[])?;
    }
    Ok(walker.at)
}

/// Walks tagged fields that begin at `at`. Returns where they end.
pub(super) fn walk_tags(bytes: &[u8], at: usize) -> Result<usize, Malformed> {
    let mut walker =
        Walker { bytes, at, form: Form { version: 0, flexible: true }, elements: 64, blobs: None };
    walker.tags(&[])?;
    Ok(walker.at)
}

/// Where the fields of bytes begin, with their lengths, in a message that begins at `at`.
pub(super) fn blobs(bytes: &[u8], at: usize, shape: Shape, form: Form) -> Result<Vec<usize>, Malformed> {
    let mut walker = Walker { bytes, at, form, elements: usize::MAX, blobs: Some(Vec::new()) };
    walker.fields(shape)?;
    Ok(walker.blobs.unwrap_or_default())
}

struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
    form: Form,
    /// How many elements there may be yet.
    elements: usize,
    /// Where fields of bytes were met, for who wants to know.
    blobs: Option<Vec<usize>>,
}

impl<'a> Walker<'a> {
    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }

    fn skip(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let skipped = self.bytes[self.at..].get(..length).ok_or_else(|| self.malformed(what))?;
        self.at += length;
        Ok(skipped)
    }

    fn fields(&mut self, parts: Shape) -> Result<(), Malformed> {
        parts.iter().try_for_each(|part| self.part(part))?;
        if self.form.flexible { self.tags(parts) } else { Ok(()) }
    }

    fn part(&mut self, part: &Part) -> Result<(), Malformed> {
        match *part {
            Fixed(length) => self.skip(length, "a number").map(drop),
            Text => {
                let length = if self.form.flexible { self.compact()? } else { self.short()? };
                let (at, text) = (self.at, self.skip(length.unwrap_or(0), "a string")?);
                std::str::from_utf8(text).map(drop).map_err(|_| Malformed { what: "UTF-8", at })
            }
            Blob => {
                let at = self.at;
                self.blobs.iter_mut().for_each(|blobs| blobs.push(at));
                let length = self.length()?;
                self.skip(length.unwrap_or(0), "bytes").map(drop)
            }
            Array(parts) => {
                let count = self.length()?.unwrap_or(0);
                self.spend(count, "the count of an array")?;
                (0..count).try_for_each(|_| self.fields(parts))
            }
            Plain(size) => {
                let count = self.length()?.unwrap_or(0);
                self.spend(count, "the count of an array")?;
                self.skip(count.saturating_mul(size), "an array").map(drop)
            }
            Texts => {
                let count = self.length()?.unwrap_or(0);
                self.spend(count, "the count of an array")?;
                (0..count).try_for_each(|_| self.part(&Text))
            }
            Struct(parts) => self.fields(parts),
            Since(first, part) if self.form.version >= first => self.part(part),
            Within(first, last, part) if (first..=last).contains(&self.form.version) => self.part(part),
            Since(..) | Within(..) | Tagged(..) => Ok(()),
        }
    }

    /// Takes note of elements to come. There are never more than bytes left, for none is empty.
    fn spend(&mut self, count: usize, what: &'static str) -> Result<(), Malformed> {
        if count > self.bytes.len() - self.at {
            return Err(self.malformed(what));
        }
        self.elements =
            self.elements.checked_sub(count).ok_or_else(|| self.malformed("more elements than may be"))?;
        Ok(())
    }

    fn tags(&mut self, parts: Shape) -> Result<(), Malformed> {
        let count = self.varint()? as usize;
        self.spend(count, "the count of tagged fields")?;
        for _ in 0..count {
            let tag = self.varint()?;
            // Decoders keep a tag as a number with a sign, and could not write a negative one again.
            if i32::try_from(tag).is_err() {
                return Err(self.malformed("a tag"));
            }
            let length = self.varint()? as usize;
            let known = parts.iter().find_map(|part| match part {
                Tagged(known, first, field) if *known == tag && self.form.version >= *first => Some(*field),
                _ => None,
            });
            let start = self.at;
            match known {
                Some(field) => self.part(field)?,
                None => self.skip(length, "a tagged field").map(drop)?,
            }
            if self.at - start != length {
                return Err(self.malformed("the length of a tagged field"));
            }
        }
        Ok(())
    }

    /// The length of bytes or of an array.
    fn length(&mut self) -> Result<Option<usize>, Malformed> {
        if self.form.flexible { self.compact() } else { self.long() }
    }

    /// The length of flexible versions: one more than it is; 0 is null.
    fn compact(&mut self) -> Result<Option<usize>, Malformed> {
        Ok(self.varint()?.checked_sub(1).map(|length| length as usize))
    }

    fn short(&mut self) -> Result<Option<usize>, Malformed> {
        let length = self.number("a length")?;
        self.signed(i64::from(i16::from_be_bytes(length)))
    }

    fn long(&mut self) -> Result<Option<usize>, Malformed> {
        let length = self.number("a length")?;
        self.signed(i64::from(i32::from_be_bytes(length)))
    }

    fn signed(&self, length: i64) -> Result<Option<usize>, Malformed> {
        match length {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.malformed("a negative length")),
        }
    }

    fn number<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let mut number = [0; N];
        number.copy_from_slice(self.skip(N, what)?);
        Ok(number)
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value: u64 = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.number("a varint")?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| self.malformed("a varint"));
            }
        }
        Err(self.malformed("a varint"))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;
    use proptest::test_runner::{TestCaseError, TestRunner};

    use super::*;
    use crate::api::maker::make;
    use crate::api::{Request, Response, SPOKEN};

    #[test]
    fn decoders_see_messages_as_the_walk_does() {
        let choices = proptest::collection::vec(any::<u8>(), 1..200);
        let run = |choices: Vec<u8>| {
            for spoken in SPOKEN {
                for version in spoken.min..=spoken.max {
                    let refused =
                        |why: String| TestCaseError::fail(format!("{} {version}: {why}", spoken.name));
                    let form = Form::of(spoken, version);
                    let mut again = BytesMut::new();
                    let asked = make(Request::shape(spoken.key), form, &choices);
                    walk(&asked, 0, Request::shape(spoken.key), form, usize::MAX).unwrap();
                    let request = Request::decode(spoken.key, version, asked.clone());
                    request.map_err(|error| refused(error.to_string()))?.encode(version, &mut again).unwrap();
                    prop_assert_eq!(&again[..], &asked[..], "{} {}, request", spoken.name, version);

                    again.clear();
                    let told = make(Response::shape(spoken.key), form, &choices);
                    walk(&told, 0, Response::shape(spoken.key), form, usize::MAX).unwrap();
                    let response = Response::decode(spoken.key, version, told.clone());
                    response
                        .map_err(|error| refused(error.to_string()))?
                        .encode(version, &mut again)
                        .unwrap();
                    prop_assert_eq!(&again[..], &told[..], "{} {}, response", spoken.name, version);
                }
            }
            Ok(())
        };
        TestRunner::default().run(&choices, run).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        const NAMES: Shape = &[Array(&[Text]), Tagged(0, 1, &Array(&[Text]))];
        let old = Form { version: 0, flexible: false };
        let new = Form { version: 1, flexible: true };
        let refused = |bytes: &[u8], form| walk(bytes, 0, NAMES, form, 10).unwrap_err();
        assert_eq!(refused(&[0, 0, 0, 2, 0], old), Malformed { what: "the count of an array", at: 4 });
        assert_eq!(
            refused(&[0x7f, 0xff, 0xff, 0xff], old),
            Malformed { what: "the count of an array", at: 4 }
        );
        assert_eq!(refused(&[0xff, 0xff, 0xff, 0xfe], old).what, "a negative length");
        assert_eq!(refused(&[0, 0, 0, 1, 0, 9, 65], old), Malformed { what: "a string", at: 6 });
        assert_eq!(refused(&[0, 0, 0, 1, 0, 1, 0xff], old), Malformed { what: "UTF-8", at: 6 });
        assert_eq!(refused(&[0, 0, 0, 0, 0], old).what, "bytes behind the message");
        assert_eq!(refused(&[0xff, 0xff, 0xff, 0xff, 0x0f], new).what, "the count of an array");
        assert_eq!(refused(&[0xff, 0xff, 0xff, 0xff, 0x1f], new).what, "a varint");
        assert_eq!(refused(&[1, 5], new).what, "the count of tagged fields");
        assert_eq!(refused(&[1, 1, 7, 9, 0], new).what, "a tagged field");
        assert_eq!(refused(&[1, 1, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x0f], new).what, "the count of an array");
        assert_eq!(refused(&[1, 1, 0, 3, 1, 0, 0], new).what, "the length of a tagged field");
        let eleven = [&[0, 0, 0, 11][..], &[0; 22]].concat();
        assert_eq!(refused(&eleven, old), Malformed { what: "more elements than may be", at: 4 });
    }
}
