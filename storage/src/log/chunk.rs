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
//! looked for, and its batches are missing in the entries.

use bytes::{BufMut, Bytes, BytesMut};
use tidemill_core::entry::Entry;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{LogIndex, Term};
use tidemill_core::limits;
use tidemill_protocol::ids::{Partition, TopicId, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::apart::{self, Body, Piece};
use super::entry::{EncodedEntry, LogEntry, LogId, Payload};

/// The newest version.
const VERSION: u8 = 2;
/// All of it is one value.
const WHOLE: u8 = 1;
const HEAD_BYTES: usize = 48;
const CRC_AT: usize = 4;
const CRC_END: usize = 8;
const DIRECTORY_BYTES: usize = 13;
const NOTHING_COMMITTED: u64 = u64::MAX;

const BLANK: u8 = 0;
const ENTRY: u8 = 1;
const MEMBERSHIP: u8 = 2;

const BODY_HEAD_BYTES: usize = 28;
const PIECE_BYTES: usize = 16;
/// What entries may claim to have together: a turn, or one entry that is larger.
const CHUNK_BYTES_MAX: usize = limits::ENTRY_BYTES_MAX + limits::TURN_BYTES_TARGET;

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
        parse(value.into(), place)?.chunk(&bodies, |_| false, place)
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

/// A chunk's own value, verified: of what lies apart it knows where.
#[derive(Debug)]
pub(super) struct Frame {
    head: Head,
    lengths: Vec<Listed>,
    /// What lies apart.
    pub(super) bodies: Vec<Apart>,
    pieces: Vec<(Piece, usize)>,
    rest: Bytes,
}

/// A body, as a chunk names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Apart {
    pub(super) at: TopicPartition,
    /// The bytes of its rows.
    pub(super) taken: usize,
    crc: u32,
}

/// Reads a chunk's value.
///
/// # Errors
/// [`Fault::Newer`] for a version that this broker does not know, else [`Fault::Damaged`]; both name `place`.
pub(super) fn parse(bytes: Bytes, place: impl Fn() -> String) -> Result<Frame, Fault> {
    let version = bytes.first().copied().unwrap_or_default();
    if bytes.len() < HEAD_BYTES || bytes[CRC_AT..CRC_END] != checksum(&bytes).to_be_bytes() {
        return Err(Fault::damaged(place(), "its checksum does not hold"));
    }
    if version > VERSION {
        return Err(Fault::Newer { what: place(), found: version.into(), known: VERSION.into() });
    }
    read_frame(&bytes).map_err(|malformed| Fault::damaged(place(), malformed))
}

impl Frame {
    /// The index of its first entry.
    pub(super) fn first(&self) -> LogIndex {
        LogIndex(self.head.first)
    }

    /// The chunk: with what lies apart, each body in its place; `None` for one that is gone. Entries share memory.
    ///
    /// # Errors
    /// [`Fault::Damaged`], which names `place`.
    pub(super) fn chunk(
        self,
        bodies: &[Option<Bytes>],
        is_gone: impl Fn(TopicPartition) -> bool,
        place: impl Fn() -> String,
    ) -> Result<Chunk, Fault> {
        let damaged = |why: &str| Fault::damaged(place(), why);
        for (number, apart) in self.bodies.iter().enumerate() {
            let is_whole = match bodies.get(number).and_then(Option::as_ref) {
                Some(body) => body.len() == apart.taken && crc32c::crc32c(body) == apart.crc,
                None => is_gone(apart.at),
            };
            if !is_whole {
                return Err(damaged("the checksum of what lies apart in it does not hold"));
            }
        }
        let whole = if self.pieces.is_empty() { self.rest.clone() } else { self.whole(bodies) };
        let (mut at, mut entries) = (0, Vec::with_capacity(self.lengths.len()));
        for (place_in_chunk, (term, kind, length)) in self.lengths.into_iter().enumerate() {
            // That the lengths add up to the whole was checked with the head.
            let raw = whole.slice(at..at + length);
            at += length;
            let payload = match kind {
                BLANK => Payload::Blank,
                ENTRY => Payload::Entry(without_gone(EncodedEntry::parse(raw)?, &is_gone)),
                MEMBERSHIP => Payload::Membership(raw),
                _ => return Err(damaged(&format!("an entry is of kind {kind}"))),
            };
            let index = LogIndex(self.head.first + place_in_chunk as u64);
            entries.push(LogEntry { id: LogId { term: Term(term), index }, payload });
        }
        Ok(Chunk {
            turn: self.head.turn,
            committed: self.head.committed,
            entries,
            bytes: whole.len(),
            disk_bytes: 0,
        })
    }

    /// The bytes of all entries, put together again. For a body that is gone there are zeros, which nobody gets to see:
    /// its batches are taken out.
    fn whole(&self, bodies: &[Option<Bytes>]) -> Bytes {
        let total: usize = self.lengths.iter().map(|(.., length)| length).sum();
        let mut whole = BytesMut::with_capacity(total);
        let sizes = self.sizes();
        // Where the rest of each body lies, behind the entries.
        let mut rest_at = total - sizes.iter().sum::<usize>();
        let mut rests: Vec<&[u8]> = Vec::with_capacity(sizes.len());
        for (size, apart) in sizes.iter().zip(&self.bodies) {
            let length = size - apart.taken;
            rests.push(&self.rest[rest_at..rest_at + length]);
            rest_at += length;
        }
        let mut filled = vec![0; sizes.len()];
        let (mut pieces, mut from) = (self.pieces.iter().peekable(), 0);
        for (number, (.., length)) in self.lengths.iter().enumerate() {
            let mut within = 0;
            while let Some((piece, body)) = pieces.next_if(|(piece, _)| piece.entry == number) {
                let plain = piece.begins - within;
                whole.extend_from_slice(&self.rest[from..from + plain]);
                from += plain;
                within = piece.begins + piece.length;
                let (start, end) = (filled[*body], filled[*body] + piece.length);
                filled[*body] = end;
                let taken = self.bodies[*body].taken;
                let in_rows = start.min(taken)..end.min(taken);
                match &bodies[*body] {
                    Some(bytes) => whole.extend_from_slice(&bytes[in_rows]),
                    None => whole.put_bytes(0, in_rows.len()),
                }
                whole
                    .extend_from_slice(&rests[*body][start.saturating_sub(taken)..end.saturating_sub(taken)]);
            }
            let plain = length - within;
            whole.extend_from_slice(&self.rest[from..from + plain]);
            from += plain;
        }
        whole.freeze()
    }

    /// What the pieces of each body are together.
    fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.bodies.len()];
        self.pieces.iter().for_each(|(piece, body)| sizes[*body] += piece.length);
        sizes
    }
}

/// An entry without the batches of partitions that are gone.
fn without_gone(entry: EncodedEntry, is_gone: impl Fn(TopicPartition) -> bool) -> EncodedEntry {
    if !entry.resident().any(|placed| is_gone(placed.at)) {
        return entry;
    }
    let kept = entry.batches.iter().filter(|placed| placed.away.is_some() || !is_gone(placed.at));
    let (kind, append_time, meta) = (entry.kind, entry.append_time, entry.meta.clone());
    EncodedEntry::new(Entry { kind, append_time, meta, batches: kept.cloned().collect() })
}

/// Over all but the checksum's own bytes.
fn checksum(chunk: &[u8]) -> u32 {
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

#[derive(Debug)]
struct Head {
    turn: u64,
    first: u64,
    committed: Option<LogId>,
}

/// Term, kind and length of an entry.
type Listed = (u64, u8, usize);

fn read_frame(bytes: &Bytes) -> Result<Frame, Malformed> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.u8("chunk version")?;
    if version == 0 {
        return Err(Malformed { what: "chunk version", at: 0 });
    }
    reader.bytes(CRC_END - 1, "chunk head")?;
    if reader.u32("chunk length")? as usize != bytes.len() {
        return Err(Malformed { what: "chunk length", at: CRC_END });
    }
    let count = reader.u32("number of entries")?;
    let (turn, first) = (reader.u64("turn")?, reader.u64("first index")?);
    let (term, index) = (reader.u64("committed term")?, reader.u64("committed index")?);
    let committed = (term != NOTHING_COMMITTED).then_some(LogId { term: Term(term), index: LogIndex(index) });
    let mut lengths = Vec::new();
    let mut total = 0;
    for _ in 0..count {
        let (term, kind) = (reader.u64("entry term")?, reader.u8("entry kind")?);
        let length = reader.u32("entry length")? as usize;
        total += length;
        lengths.push((term, kind, length));
    }
    let (bodies, pieces) = match version {
        WHOLE => (Vec::new(), Vec::new()),
        _ => read_apart(&mut reader, &lengths)?,
    };
    let taken: usize = bodies.iter().map(|apart: &Apart| apart.taken).sum();
    if lengths.is_empty() || total != taken + reader.remaining() || (taken > 0 && total > CHUNK_BYTES_MAX) {
        return Err(reader.malformed("entry lengths"));
    }
    if first.checked_add(lengths.len() as u64).is_none() {
        return Err(reader.malformed("first index"));
    }
    let rest = reader.remaining();
    let rest = reader.bytes(rest, "entries")?;
    let frame = Frame { head: Head { turn, first, committed }, lengths, bodies, pieces, rest };
    if frame.sizes().iter().zip(&frame.bodies).any(|(size, apart)| *size < apart.taken) {
        return Err(Malformed { what: "bytes in rows", at: HEAD_BYTES });
    }
    Ok(frame)
}

/// The bodies and pieces of a chunk; the pieces of an entry follow one another within it.
fn read_apart(
    reader: &mut Reader,
    lengths: &[Listed],
) -> Result<(Vec<Apart>, Vec<(Piece, usize)>), Malformed> {
    let mut bodies = Vec::new();
    for _ in 0..reader.u32("number of bodies")? {
        let topic = TopicId(reader.array("topic")?);
        let at = TopicPartition { topic, partition: Partition(reader.u32("partition")?) };
        let taken = reader.u32("bytes in rows")? as usize;
        bodies.push(Apart { at, taken, crc: reader.u32("checksum of a body")? });
    }
    let mut pieces: Vec<(Piece, usize)> = Vec::new();
    for _ in 0..reader.u32("number of pieces")? {
        let entry = reader.u32("entry of a piece")? as usize;
        let (begins, length) =
            (reader.u32("begin of a piece")? as usize, reader.u32("length of a piece")? as usize);
        let body = reader.u32("body of a piece")? as usize;
        let follows = pieces.last().is_none_or(|(before, _)| {
            (before.entry, before.begins + before.length) <= (entry, begins) || before.entry < entry
        });
        let fits = lengths.get(entry).is_some_and(|(.., whole)| begins + length <= *whole);
        if !follows || !fits || body >= bodies.len() {
            return Err(reader.malformed("piece"));
        }
        pieces.push((Piece { entry, begins, length }, body));
    }
    Ok((bodies, pieces))
}

#[cfg(test)]
mod tests {
    use tidemill_core::entry::{Entry, EntryKind};
    use tidemill_core::seams::Timestamp;

    use super::*;

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
        assert!(matches!(parse(bytes.into(), String::new), Err(Fault::Newer { found: 2, known: 1, .. })));
    }
}
