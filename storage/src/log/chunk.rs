//! A chunk: the entries of one turn as one value.
//!
//! ```text
//!  0         1       2          4       8        12        16     24            32          40          48
//! ┌─────────┬───────┬──────────┬───────┬────────┬─────────┬──────┬─────────────┬───────────┬───────────┬───
//! │ version │ flags │ reserved │ crc32c│ length │ entries │ turn │ first index │ committed │ committed │ …
//! │    u8   │   u8  │   u16    │  u32  │  u32   │  n u32  │ u64  │     u64     │ term u64  │ index u64 │
//! └─────────┴───────┴──────────┴───────┴────────┴─────────┴──────┴─────────────┴───────────┴───────────┴───
//!
//!  48                                 48 + 13 n
//! ┌────────────────────────────────────┬─────────┬─────────┬───
//! │ n × (term u64 · kind u8 · len u32) │ entry 1 │ entry 2 │ …
//! └────────────────────────────────────┴─────────┴─────────┴───
//! ```
//!
//! Integers are big-endian. The checksum covers all but itself. `length` is that of the whole chunk. A committed term of `u64::MAX` says that nothing is
//! known to be committed. Kinds: 0 blank (no bytes), 1 an entry of the group, 2 a membership of the upper half. Flags
//! and the reserved bytes are zero.
//!
//! In version 2 batches lie apart, in rows of their own (`apart.rs`). It goes on behind the list of entries, of which the
//! lengths are those of whole entries:
//!
//! ```text
//!   bodies b u32 · b × (topic 16 · partition u32 · bytes in rows u32 · crc32c of them u32)
//!   pieces p u32 · p × (entry u32 · begins u32 · length u32 · body u32)       a batch of an entry, in the order of both
//!   entry 1 without its pieces · entry 2 … · what is in no row of body 1 · of body 2 …
//! ```
//!
//! A body is its pieces one behind the other: what its rows hold, then the rest. One that is *gone* (`gone.rs`) is not
//! looked for, and its batches are missing in the entries. `frame.rs` reads it.

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_protocol::ids::TopicPartition;
use tidemill_protocol::primitive::Writer;

use super::apart::{self, Body, Piece};
use super::entry::{LogEntry, LogId, Payload};
use super::frame;

/// The newest version.
pub(super) const VERSION: u8 = 2;
/// All of it is one value.
pub(super) const WHOLE: u8 = 1;
pub(super) const HEAD_BYTES: usize = 48;
pub(super) const CRC_AT: usize = 4;
pub(super) const CRC_END: usize = 8;
const DIRECTORY_BYTES: usize = 13;
pub(super) const NOTHING_COMMITTED: u64 = u64::MAX;

pub(super) const BLANK: u8 = 0;
pub(super) const ENTRY: u8 = 1;
pub(super) const MEMBERSHIP: u8 = 2;

const BODY_HEAD_BYTES: usize = 28;
const PIECE_BYTES: usize = 16;

/// A chunk, read and verified.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The turn that wrote it.
    pub(super) turn: u64,
    /// What was known to be committed then.
    pub(super) committed: Option<LogId>,
    /// Its entries, in order, at least one.
    pub(super) entries: Vec<LogEntry>,
    /// How many bytes its entries have.
    pub(super) bytes: usize,
    /// What it takes on disk, if it was read from there.
    pub(super) disk_bytes: u64,
}

/// The bytes that `entry` adds to a chunk.
pub(super) fn bytes_of(entry: &LogEntry) -> usize {
    DIRECTORY_BYTES + entry.payload.bytes().len()
}

/// The bytes of a chunk before its entries are counted.
pub(super) const fn bytes_of_none() -> usize {
    HEAD_BYTES
}

/// A chunk about to be written: its head, then the entries' own bytes, which are not copied before they reach redb.
pub(super) struct Draft<'a> {
    head: Bytes,
    parts: Vec<&'a [u8]>,
    bodies: Vec<(Body, Vec<&'a [u8]>)>,
}

impl<'a> Draft<'a> {
    /// The chunk of `entries`, of which there is at least one.
    pub(super) fn new(entries: &'a [LogEntry], turn: u64, committed: Option<LogId>) -> Draft<'a> {
        let bytes_of_piece =
            |piece: &Piece| &entries[piece.entry].payload.bytes()[piece.begins..piece.begins + piece.length];
        let bodies: Vec<_> = apart::bodies(entries)
            .into_iter()
            .map(|body| {
                let pieces = body.pieces.iter().map(bytes_of_piece).collect::<Vec<_>>();
                (body, pieces)
            })
            .collect();
        let mut pieces: Vec<(Piece, usize)> = Vec::new();
        for (number, (body, _)) in bodies.iter().enumerate() {
            pieces.extend(body.pieces.iter().map(|piece| (*piece, number)));
        }
        pieces.sort_by_key(|(piece, _)| (piece.entry, piece.begins));
        let mut parts = without(entries, &pieces);
        parts.extend(bodies.iter().flat_map(|(body, pieces)| behind(pieces, body.taken())));
        let apart_bytes = match bodies.len() {
            0 => 0,
            some => 8 + some * BODY_HEAD_BYTES + pieces.len() * PIECE_BYTES,
        };
        let head_bytes = HEAD_BYTES + entries.len() * DIRECTORY_BYTES + apart_bytes;
        let length = head_bytes + parts.iter().map(|part| part.len()).sum::<usize>();

        let mut head = Writer::with_capacity(head_bytes);
        let version = if bodies.is_empty() { WHOLE } else { VERSION };
        head.u8(version).u8(0).u16(0).u32(0).u32(length as u32).u32(entries.len() as u32);
        head.u64(turn).u64(entries[0].id.index.0);
        head.u64(committed.map_or(NOTHING_COMMITTED, |id| id.term.0))
            .u64(committed.map_or(0, |id| id.index.0));
        for entry in entries {
            let kind = match entry.payload {
                Payload::Blank => BLANK,
                Payload::Entry(_) => ENTRY,
                Payload::Membership(_) => MEMBERSHIP,
            };
            head.u64(entry.id.term.0).u8(kind).u32(entry.payload.bytes().len() as u32);
        }
        if !bodies.is_empty() {
            head.u32(bodies.len() as u32);
            for (body, pieces) in &bodies {
                let crc = upto(pieces, body.taken()).fold(0, crc32c::crc32c_append);
                head.raw(&body.at.topic.0).u32(body.at.partition.0).u32(body.taken() as u32).u32(crc);
            }
            head.u32(pieces.len() as u32);
            for (piece, body) in &pieces {
                head.u32(piece.entry as u32).u32(piece.begins as u32).u32(piece.length as u32);
                head.u32(*body as u32);
            }
        }
        let crc = checksum(head.as_slice());
        let crc = parts.iter().fold(crc, |crc, part| crc32c::crc32c_append(crc, part));
        head.patch(CRC_AT, &crc.to_be_bytes());
        Draft { head: head.finish(), parts, bodies }
    }

    /// The bytes of the chunk's own value.
    pub(super) fn len(&self) -> usize {
        self.head.len() + self.parts.iter().map(|part| part.len()).sum::<usize>()
    }

    /// Its parts, in order: put together they are that value.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.head[..]).chain(self.parts.iter().copied())
    }

    /// What lies apart: for each partition the lengths of its rows, and the parts that fill them.
    pub(super) fn bodies(
        &self,
    ) -> impl Iterator<Item = (TopicPartition, &[usize], impl Iterator<Item = &[u8]>)> {
        self.bodies.iter().map(|(body, pieces)| (body.at, &body.rows[..], upto(pieces, body.taken())))
    }

    /// The chunk, as whoever reads it from a file gets it.
    pub(super) fn read(&self) -> Result<Chunk, Fault> {
        let value: Vec<u8> = self.parts().flatten().copied().collect();
        let bodies =
            self.bodies().map(|(_, _, parts)| Some(parts.flatten().copied().collect::<Vec<u8>>().into()));
        let (bodies, place) = (bodies.collect::<Vec<_>>(), || "a draft".to_owned());
        frame::parse(value.into(), place)?.chunk(&bodies, |_| false, place)
    }
}

/// The bytes of entries between their pieces.
fn without<'a>(entries: &'a [LogEntry], pieces: &[(Piece, usize)]) -> Vec<&'a [u8]> {
    let (mut parts, mut pieces) = (Vec::new(), pieces.iter().peekable());
    for (number, entry) in entries.iter().enumerate() {
        let (bytes, mut from) = (&entry.payload.bytes()[..], 0);
        while let Some((piece, _)) = pieces.next_if(|(piece, _)| piece.entry == number) {
            parts.push(&bytes[from..piece.begins]);
            from = piece.begins + piece.length;
        }
        parts.push(&bytes[from..]);
    }
    parts
}

/// The first bytes of what these make together.
fn upto<'a>(pieces: &[&'a [u8]], bytes: usize) -> impl Iterator<Item = &'a [u8]> {
    let mut left = bytes;
    pieces.iter().map(move |piece| {
        let part = &piece[..piece.len().min(left)];
        left -= part.len();
        part
    })
}

/// What is behind them.
fn behind<'a>(pieces: &[&'a [u8]], bytes: usize) -> impl Iterator<Item = &'a [u8]> {
    let mut left = bytes;
    pieces.iter().map(move |piece| {
        let part = &piece[piece.len().min(left)..];
        left -= piece.len() - part.len();
        part
    })
}

/// Over all but the checksum's own bytes.
pub(super) fn checksum(chunk: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&chunk[..CRC_AT]), &chunk[CRC_END..])
}

/// Bytes as a chunk whose length and checksum hold, whatever else is wrong with it.
pub(super) fn resealed(bytes: &[u8]) -> Bytes {
    let mut chunk = bytes.to_vec();
    chunk.resize(chunk.len().max(HEAD_BYTES), 0);
    let length = (chunk.len() as u32).to_be_bytes();
    chunk[CRC_END..CRC_END + 4].copy_from_slice(&length);
    let crc = checksum(&chunk).to_be_bytes();
    chunk[CRC_AT..CRC_END].copy_from_slice(&crc);
    Bytes::from(chunk)
}

#[cfg(test)]
mod tests {
    use tidemill_core::entry::{Entry, EntryKind, PlacedBatch};
    use tidemill_core::fault::Fault;
    use tidemill_core::ids::{LogIndex, ShardId, Term};
    use tidemill_core::seams::Timestamp;
    use tidemill_protocol::ids::{Partition, TopicId};

    use super::*;
    use crate::log::entry::EncodedEntry;
    use crate::log::frame::parse;

    fn entries() -> Vec<LogEntry> {
        let id = |index| LogId { term: Term(3), index: LogIndex(index) };
        let meta = Bytes::from_static(b"what happened");
        let entry = Entry { kind: EntryKind::Control, append_time: Timestamp(5), meta, batches: vec![] };
        vec![
            LogEntry { id: id(40), payload: Payload::Blank },
            LogEntry { id: id(41), payload: Payload::Entry(EncodedEntry::new(entry)) },
            LogEntry { id: id(42), payload: Payload::Membership(Bytes::from_static(b"1, 2, 3")) },
        ]
    }

    fn written(draft: &Draft<'_>) -> Vec<u8> {
        draft.parts().flatten().copied().collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let (entries, committed) = (entries(), LogId { term: Term(2), index: LogIndex(39) });
        for committed in [None, Some(committed)] {
            let draft = Draft::new(&entries, 7, committed);
            let bytes = written(&draft);
            assert_eq!(bytes.len(), draft.len());
            assert_eq!(bytes.len(), bytes_of_none() + entries.iter().map(bytes_of).sum::<usize>());
            let chunk = draft.read().unwrap();
            assert_eq!((chunk.turn, chunk.committed), (7, committed));
            assert_eq!(chunk.entries, entries);
        }
    }

    fn at(partition: u32) -> TopicPartition {
        TopicPartition { topic: TopicId([7; 16]), partition: Partition(partition) }
    }

    /// Entries with batches of three partitions, of which the last is small, and one that waits to be shipped.
    fn mixed() -> Vec<LogEntry> {
        let placed = |away: Option<u16>, partition, length: usize, byte| PlacedBatch {
            away: away.map(ShardId),
            at: at(partition),
            envelope: Bytes::from(vec![byte; 9]),
            batch: (0..length).map(|at| (at as u8) ^ byte).collect::<Vec<u8>>().into(),
        };
        let entry = |index, batches| {
            let (append_time, meta) = (Timestamp(index), Bytes::from_static(b"meta"));
            let entry = Entry { kind: EntryKind::Produce, append_time, meta, batches };
            let id = LogId { term: Term(3), index: LogIndex(index) };
            LogEntry { id, payload: Payload::Entry(EncodedEntry::new(entry)) }
        };
        vec![
            entry(40, vec![placed(None, 2, 5_000, 1), placed(None, 1, 20_000, 2)]),
            entry(41, vec![placed(Some(5), 1, 30_000, 3)]),
            entry(42, vec![]),
            entry(43, vec![placed(None, 3, 100, 4), placed(None, 2, 8_500, 5), placed(None, 1, 9_000, 6)]),
        ]
    }

    type Bodies = Vec<Option<Vec<u8>>>;

    fn read(draft: &Draft<'_>, change: impl Fn(&mut Bodies), gone: &[u32]) -> Result<Chunk, Fault> {
        let mut bodies = draft.bodies().map(|(.., parts)| Some(parts.flatten().copied().collect())).collect();
        change(&mut bodies);
        let bodies: Vec<_> = bodies.into_iter().map(|body| body.map(Bytes::from)).collect();
        let is_gone = |at: TopicPartition| gone.contains(&at.partition.0);
        parse(written(draft).into(), String::new)?.chunk(&bodies, is_gone, || "here".to_owned())
    }

    #[test]
    fn what_lies_apart_is_put_together_again() {
        let entries = mixed();
        let draft = Draft::new(&entries, 7, None);
        crate::log::hostile::chunk(&written(&draft));
        let apart: Vec<_> = draft.bodies().map(|(at, rows, _)| (at, rows.iter().sum::<usize>())).collect();
        assert!(
            matches!(apart[..], [(one, 26_000..=29_000), (two, 12_000..=13_500)] if (one, two) == (at(1), at(2)))
        );
        assert!(draft.len() < 36_000, "{}", draft.len());
        assert_eq!(read(&draft, |_| {}, &[]).unwrap().entries, entries);
        assert_eq!(draft.read().unwrap().entries, entries);
    }

    #[test]
    fn what_is_gone_is_missing_and_nothing_else_is() {
        let entries = mixed();
        let draft = Draft::new(&entries, 7, None);
        let chunk = read(&draft, |bodies| bodies[0] = None, &[1]).unwrap();
        for (found, whole) in chunk.entries.iter().zip(&entries) {
            let (Payload::Entry(found), Payload::Entry(whole)) = (&found.payload, &whole.payload) else {
                unreachable!("all are entries")
            };
            let left = whole.batches.iter().filter(|placed| placed.away.is_some() || placed.at != at(1));
            assert_eq!(found.batches, left.cloned().collect::<Vec<_>>());
        }
        let is_refused = |change: fn(&mut Bodies)| {
            let read = read(&draft, change, &[]);
            matches!(read, Err(Fault::Damaged { what, .. }) if what == "here")
        };
        assert!(is_refused(|bodies| bodies[0] = None), "what is not gone must be there");
        assert!(is_refused(|bodies| bodies.truncate(1)));
        assert!(is_refused(|bodies| bodies.swap(0, 1)));
        assert!(is_refused(|bodies| bodies[1].as_mut().unwrap()[77] ^= 4));
        assert!(is_refused(|bodies| bodies[1].as_mut().unwrap().fill(0)));
    }

    #[test]
    fn any_changed_bit_and_any_cut_is_found() {
        let entries = entries();
        let bytes = written(&Draft::new(&entries, 7, None));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let result = parse(changed.into(), || "here".to_owned());
                assert!(
                    matches!(&result, Err(Fault::Damaged { what, .. }) if what == "here"),
                    "{at}: {result:?}"
                );
            }
            assert!(parse(Bytes::copy_from_slice(&bytes[..at]), String::new).is_err());
        }
    }

    #[test]
    fn a_newer_chunk_is_told_from_a_damaged_one() {
        let entries = entries();
        let mut bytes = written(&Draft::new(&entries, 7, None));
        bytes[0] = VERSION + 1;
        let crc = checksum(&bytes);
        bytes[CRC_AT..CRC_END].copy_from_slice(&crc.to_be_bytes());
        assert!(matches!(parse(bytes.into(), String::new), Err(Fault::Newer { found: 3, known: 2, .. })));
    }
}
