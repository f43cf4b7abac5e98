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

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{LogIndex, Term};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::entry::{EncodedEntry, LogEntry, LogId, Payload};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 48;
const CRC_AT: usize = 4;
const CRC_END: usize = 8;
const DIRECTORY_BYTES: usize = 13;
const NOTHING_COMMITTED: u64 = u64::MAX;

const BLANK: u8 = 0;
const ENTRY: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// A chunk, read and verified.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The turn that wrote it.
    pub(super) turn: u64,
    /// What was known to be committed then.
    pub(super) committed: Option<LogId>,
    /// Its entries, in order, at least one.
    pub(super) entries: Vec<LogEntry>,
    /// How many bytes it has.
    pub(super) bytes: usize,
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
    entries: &'a [LogEntry],
}

impl<'a> Draft<'a> {
    /// The chunk of `entries`, of which there is at least one.
    pub(super) fn new(entries: &'a [LogEntry], turn: u64, committed: Option<LogId>) -> Draft<'a> {
        let length = HEAD_BYTES + entries.iter().map(bytes_of).sum::<usize>();
        let mut head = Writer::with_capacity(HEAD_BYTES + entries.len() * DIRECTORY_BYTES);
        head.u8(VERSION).u8(0).u16(0).u32(0).u32(length as u32).u32(entries.len() as u32);
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
        let crc = checksum(head.as_slice());
        let crc = entries.iter().fold(crc, |crc, entry| crc32c::crc32c_append(crc, entry.payload.bytes()));
        head.patch(CRC_AT, &crc.to_be_bytes());
        Draft { head: head.finish(), entries }
    }

    /// The bytes of the whole chunk.
    pub(super) fn len(&self) -> usize {
        self.head.len() + self.entries.iter().map(|entry| entry.payload.bytes().len()).sum::<usize>()
    }

    /// Its parts, in order: put together they are the chunk.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let entries = self.entries.iter().map(|entry| &entry.payload.bytes()[..]);
        std::iter::once(&self.head[..]).chain(entries)
    }
}

/// Reads a chunk; its entries share the memory of `bytes`.
///
/// # Errors
/// [`Fault::Newer`] for a version that this broker does not know, else [`Fault::Damaged`]; both name `place`.
pub(super) fn parse(bytes: Bytes, place: impl Fn() -> String) -> Result<Chunk, Fault> {
    let version = bytes.first().copied().unwrap_or_default();
    if bytes.len() < HEAD_BYTES || bytes[CRC_AT..CRC_END] != checksum(&bytes).to_be_bytes() {
        return Err(Fault::damaged(place(), "its checksum does not hold"));
    }
    if version > VERSION {
        return Err(Fault::Newer { what: place(), found: version.into(), known: VERSION.into() });
    }
    let (head, lengths) = read_head(&bytes).map_err(|malformed| Fault::damaged(place(), malformed))?;
    let mut at = HEAD_BYTES + lengths.len() * DIRECTORY_BYTES;
    let mut entries = Vec::with_capacity(lengths.len());
    for (place_in_chunk, (term, kind, length)) in lengths.into_iter().enumerate() {
        // That the lengths add up to the whole was checked with the head.
        let raw = bytes.slice(at..at + length);
        at += length;
        let payload = match kind {
            BLANK => Payload::Blank,
            ENTRY => Payload::Entry(EncodedEntry::parse(raw)?),
            MEMBERSHIP => Payload::Membership(raw),
            _ => return Err(Fault::damaged(place(), format!("an entry is of kind {kind}"))),
        };
        let index = LogIndex(head.first + place_in_chunk as u64);
        entries.push(LogEntry { id: LogId { term: Term(term), index }, payload });
    }
    Ok(Chunk { turn: head.turn, committed: head.committed, entries, bytes: bytes.len() })
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

struct Head {
    turn: u64,
    first: u64,
    committed: Option<LogId>,
}

/// Term, kind and length of an entry.
type Listed = (u64, u8, usize);

fn read_head(bytes: &Bytes) -> Result<(Head, Vec<Listed>), Malformed> {
    let mut reader = Reader::new(bytes.clone());
    if reader.u8("chunk version")? != VERSION {
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
    if lengths.is_empty() || total != reader.remaining() {
        return Err(reader.malformed("entry lengths"));
    }
    if first.checked_add(lengths.len() as u64).is_none() {
        return Err(reader.malformed("first index"));
    }
    Ok((Head { turn, first, committed }, lengths))
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
            let chunk = parse(bytes.into(), String::new).unwrap();
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
