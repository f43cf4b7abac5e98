//! Messages of any shape, for tests: what a shape allows, and nothing that cannot be written again as it was read.

use bytes::{BufMut, Bytes, BytesMut};

use super::shape::Part::{Array, Blob, Fixed, Plain, Since, Struct, Tagged, Text, Texts, Within};
use super::shape::{Form, Part, Shape};

struct Maker<'a> {
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    form: Form,
    into: BytesMut,
}

impl Maker<'_> {
    fn choose(&mut self, below: usize) -> usize {
        usize::from(*self.choices.next().unwrap()) % below
    }

    fn fields(&mut self, parts: Shape) {
        parts.iter().for_each(|part| self.part(part, 0));
        if !self.form.flexible {
            return;
        }
        let version = self.form.version;
        let mut chosen: Vec<_> = parts
            .iter()
            .filter_map(|part| match part {
                Tagged(tag, first, field) if version >= *first => Some((*tag, *field)),
                _ => None,
            })
            .collect();
        chosen.retain(|_| self.choose(2) == 0);
        let unknown = self.choose(4) == 0;
        self.into.put_u8(chosen.len() as u8 + u8::from(unknown));
        for (tag, field) in chosen {
            let mut inner = Maker { choices: self.choices.clone(), form: self.form, into: BytesMut::new() };
            // A tagged field that is as it would be without it is not written again.
            inner.part(field, 1);
            self.choices = inner.choices;
            assert!(inner.into.len() < 128, "a length of one byte");
            self.into.put_u8(tag as u8);
            self.into.put_u8(inner.into.len() as u8);
            self.into.put_slice(&inner.into);
        }
        if unknown {
            self.into.put_slice(&[99, 3, 1, 2, 3]);
        }
    }

    fn part(&mut self, part: &Part, least: usize) {
        match *part {
            // It may be a boolean, of which only two can be written again.
            Fixed(1) => {
                let value = self.choose(2).max(least);
                self.into.put_u8(value as u8);
            }
            Fixed(length) => (0..length).for_each(|_| {
                let value = self.choose(100) + 1;
                self.into.put_u8(value as u8);
            }),
            Text => {
                let length = self.choose(5);
                if self.form.flexible {
                    self.into.put_u8(length as u8 + 1)
                } else {
                    self.into.put_u16(length as u16)
                }
                self.into.put_slice(&b"texts"[..length]);
            }
            Blob => {
                let length = self.choose(200);
                self.length(length);
                self.into.put_bytes(7, length);
            }
            Array(parts) => {
                let count = self.choose(3).max(least);
                self.length(count);
                (0..count).for_each(|_| self.fields(parts));
            }
            Plain(size) => {
                let count = self.choose(4);
                self.length(count);
                self.into.put_bytes(3, count * size);
            }
            Texts => {
                let count = self.choose(3).max(least);
                self.length(count);
                (0..count).for_each(|_| self.part(&Text, 0));
            }
            Struct(parts) => self.fields(parts),
            Since(first, part) if self.form.version >= first => self.part(part, least),
            Within(first, last, part) if (first..=last).contains(&self.form.version) => {
                self.part(part, least)
            }
            Since(..) | Within(..) | Tagged(..) => {}
        }
    }

    fn length(&mut self, length: usize) {
        match (self.form.flexible, length + 1) {
            (false, _) => self.into.put_u32(length as u32),
            (true, compact @ 0..128) => self.into.put_u8(compact as u8),
            (true, compact) => self.into.put_slice(&[compact as u8 | 0x80, (compact >> 7) as u8]),
        }
    }
}

/// A message of a shape, with as many elements and such numbers as `choices` says.
pub(super) fn make(shape: Shape, form: Form, choices: &[u8]) -> Bytes {
    let mut maker = Maker { choices: choices.iter().cycle(), form, into: BytesMut::new() };
    maker.fields(shape);
    maker.into.freeze()
}
