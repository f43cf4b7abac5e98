//! Reading a chunk: its own value first, which says what lies apart, then all of it.
//!
//! Nothing is allocated by a length that a value merely claims, and no byte is handed out whose checksum does not hold.
//! The bytes are drawn in `chunk.rs`.

use bytes::{BufMut, Bytes, BytesMut};
use tidemill_core::entry::Entry;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{LogIndex, Term};
use tidemill_core::limits;
use tidemill_protocol::ids::{Partition, TopicId, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader};

use super::apart::Piece;
use super::chunk::{
    BLANK, CRC_AT, CRC_END, Chunk, ENTRY, HEAD_BYTES, MEMBERSHIP, NOTHING_COMMITTED, VERSION, WHOLE, checksum,
};
use super::entry::{EncodedEntry, LogEntry, LogId, Payload};

/// What entries may claim to have together: a turn, or one entry that is larger.
const CHUNK_BYTES_MAX: usize = limits::ENTRY_BYTES_MAX + limits::TURN_BYTES_TARGET;

/// A chunk's own value, verified: of what lies apart it knows where.
#[derive(Debug)]
pub(super) struct Frame {
    head: Head,
    lengths: Vec<Listed>,
    /// What lies apart.
    pub(super) bodies: Vec<Apart>,
    pieces: Pieces,
    rest: Bytes,
}

/// Pieces in the order of the log, each with the number of its body.
type Pieces = Vec<(Piece, usize)>;

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
                match bodies.get(*body).and_then(Option::as_ref) {
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
fn read_apart(reader: &mut Reader, lengths: &[Listed]) -> Result<(Vec<Apart>, Pieces), Malformed> {
    let mut bodies = Vec::new();
    for _ in 0..reader.u32("number of bodies")? {
        let topic = TopicId(reader.array("topic")?);
        let at = TopicPartition { topic, partition: Partition(reader.u32("partition")?) };
        let taken = reader.u32("bytes in rows")? as usize;
        bodies.push(Apart { at, taken, crc: reader.u32("checksum of a body")? });
    }
    let mut pieces = Pieces::new();
    for _ in 0..reader.u32("number of pieces")? {
        let entry = reader.u32("entry of a piece")? as usize;
        let (begins, length) =
            (reader.u32("begin of a piece")? as usize, reader.u32("length of a piece")? as usize);
        let body = reader.u32("body of a piece")? as usize;
        let follows = pieces
            .last()
            .is_none_or(|(before, _)| (before.entry, before.begins + before.length) <= (entry, begins));
        let fits = lengths.get(entry).is_some_and(|(.., whole)| begins + length <= *whole);
        if !follows || !fits || body >= bodies.len() {
            return Err(reader.malformed("piece"));
        }
        pieces.push((Piece { entry, begins, length }, body));
    }
    Ok((bodies, pieces))
}
