//! A segment: one database file with the chunks of some stretch of the log.
//!
//! ```text
//!   active ──full, or old──▶ rolled ──all in it is committed──▶ sealed
//!   written                  may still be cut                   read only, with its index inside
//! ```
//!
//! An active or rolled segment is indexed in memory, and its file is open for writing; a sealed one is opened when
//! somebody reads it. This file knows one database and its tables; which segments there are, and what state each is
//! in, is `line.rs`'s.
//!
//! Tables: `about` (version; `segment`, what it was made as; `cut`, the turn of the last truncation; `sealed`),
//! `chunks` ((first index u64, row u8) → bytes; rows in order are one chunk), `bodies` (what lies apart of chunks, see
//! `apart.rs`), and once sealed `spans` and `descents`.

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use redb::{ReadOnlyTable, ReadableTable, TableDefinition};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{LogIndex, Term};
use tidemill_core::limits;
use tidemill_core::seams::{Disk, Timestamp};
use tidemill_protocol::ids::TopicPartition;
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::apart::{self, BODIES, BodyKey};
use super::chunk::{Chunk, Draft};
use super::cut;
use super::descents::{Descent, DescentTable};
use super::directory::{Held, Listed};
use super::entry::{LogEntry, LogId};
use super::frame::{self, Apart, Frame};
use super::gone::{Gone, GoneOf};
use super::sealed;
use super::spans::{self, Span, SpanTable};
use crate::database::{Commit, DatabaseFile, Problem, Repair};
use crate::version::{self, ABOUT};

pub(super) type ChunkKey = (u64, u8);
pub(super) const CHUNKS: TableDefinition<'static, ChunkKey, &'static [u8]> = TableDefinition::new("chunks");
pub(super) const SPANS: SpanTable = TableDefinition::new("spans");
pub(super) const DESCENTS: DescentTable = TableDefinition::new("descents");
const SEGMENT_KEY: &str = "segment";
const CUT_KEY: &str = "cut";
const SEALED_KEY: &str = "sealed";

/// What a segment is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Birth {
    /// Its number, which its name bears; never used again.
    pub(super) number: u64,
    /// The line it belongs to.
    pub(super) line: u32,
    /// The index of its first entry.
    pub(super) first: LogIndex,
    /// The entry before that, if there ever was one.
    pub(super) previous: Option<LogId>,
    /// What was known to be committed then.
    pub(super) committed: Option<LogId>,
    /// The last turn before it.
    pub(super) turn: u64,
    /// When it was made.
    pub(super) made: Timestamp,
}

/// What a segment is when it is sealed: `last term u64 · last index u64 · last turn u64 · max timestamp i64 ·
/// rest u8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal {
    /// Its last entry.
    pub(super) last: LogId,
    /// Its last turn.
    pub(super) turn: u64,
    /// The latest timestamp of any record in it; `i64::MIN` without records.
    pub(super) max_timestamp_ms: i64,
    /// It was written anew, without what had been given back to the disk.
    pub(super) is_rest: bool,
}

/// Where segment `number` of a group lies.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("segment-{number:08}.redb"))
}

/// The number of the segment that lies at `path`, if one does.
pub(super) fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("segment-")?.strip_suffix(".redb")?.parse().ok()
}

/// A segment that is not sealed.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) birth: Birth,
    /// Closed once the segment is sealed, or the log is closed.
    pub(super) file: DatabaseFile,
}

impl Segment {
    /// Makes an empty segment, durably.
    pub(super) fn create(
        disk: &dyn Disk,
        folder: &Path,
        birth: Birth,
        zeros_ahead: u64,
    ) -> Result<Segment, Fault> {
        let segment = Segment::make(disk, folder, birth, zeros_ahead)?;
        segment.file.show(disk)?;
        Ok(segment)
    }

    /// Makes an empty segment, out of sight.
    pub(super) fn make(
        disk: &dyn Disk,
        folder: &Path,
        birth: Birth,
        zeros_ahead: u64,
    ) -> Result<Segment, Fault> {
        let path = path(folder, birth.number);
        let file = DatabaseFile::create_with(disk, &path, limits::SEGMENT_CACHE_BYTES, zeros_ahead)?;
        file.write(Commit::OneSync, |transaction| {
            version::stamp(transaction)?;
            transaction.open_table(ABOUT)?.insert(SEGMENT_KEY, &birth.encode()[..])?;
            transaction.open_table(CHUNKS)?;
            transaction.open_table(BODIES)?;
            Ok(())
        })?;
        Ok(Segment { birth, file })
    }

    /// Opens a segment that is not sealed, verifying every page.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<(Segment, Repair), Fault> {
        let (file, repair) = DatabaseFile::open(disk, path, limits::SEGMENT_CACHE_BYTES, true)?;
        version::check(&file)?;
        Ok((Segment { birth: read_birth(&file)?, file }, repair))
    }

    /// Opens a segment that was sealed and closed, to read it; `None` when it was not.
    pub(super) fn open_closed(disk: &dyn Disk, path: &Path) -> Result<Option<Segment>, Fault> {
        let Some(file) = DatabaseFile::open_closed(disk, path, limits::SEGMENT_CACHE_BYTES)? else {
            return Ok(None);
        };
        version::check(&file)?;
        Ok(Some(Segment { birth: read_birth(&file)?, file }))
    }

    /// Writes a turn, durably; returns the bytes that its chunk takes on disk.
    pub(super) fn write(
        &self,
        entries: &[LogEntry],
        turn: u64,
        committed: Option<LogId>,
    ) -> Result<u64, Fault> {
        let draft = Draft::new(entries, turn, committed);
        let first = entries[0].id.index.0;
        self.file.write(Commit::OneSync, |transaction| put_chunk(transaction, first, &draft))
    }

    /// Writes chunks as they were, durably.
    pub(super) fn write_again(&self, chunks: &[Chunk]) -> Result<(), Fault> {
        self.file.write(Commit::OneSync, |transaction| {
            for chunk in chunks {
                let draft = Draft::new(&chunk.entries, chunk.turn, chunk.committed);
                put_chunk(transaction, chunk.entries[0].id.index.0, &draft)?;
            }
            Ok(())
        })
    }

    /// Removes all entries above `last`, durably; `turn` is this one's.
    pub(super) fn cut(&self, last: LogIndex, turn: u64, committed: Option<LogId>) -> Result<(), Fault> {
        let kept = self.chunk_with(last)?.map(|mut chunk| {
            chunk.entries.retain(|entry| entry.id.index <= last);
            chunk
        });
        self.file.write(Commit::OneSync, |transaction| {
            let remove_from = |first: u64| -> Result<(), Problem> {
                transaction.open_table(CHUNKS)?.retain_in((first, 0).., |_, _| false)?;
                let bodies = apart::keys_from(LogIndex(first));
                transaction.open_table(BODIES)?.retain_in::<&BodyKey, _>(&bodies.., |_, _| false)?;
                Ok(())
            };
            remove_from(last.0 + 1)?;
            if let Some(chunk) = kept.filter(|chunk| !chunk.entries.is_empty()) {
                let first = chunk.entries[0].id.index.0;
                remove_from(first)?;
                put_chunk(transaction, first, &Draft::new(&chunk.entries, chunk.turn, committed))?;
            }
            transaction.open_table(ABOUT)?.insert(CUT_KEY, &turn.to_be_bytes()[..])?;
            Ok(())
        })
    }

    /// The turn of the last truncation, if there was one.
    pub(super) fn cut_turn(&self) -> Result<Option<u64>, Fault> {
        let row = version::read_about(&self.file, CUT_KEY)?;
        let turn = row.map(|row| row.try_into().map(u64::from_be_bytes));
        turn.transpose()
            .map_err(|_| Fault::damaged(self.file.path().display().to_string(), "its last cut is malformed"))
    }

    /// Whether a chunk begins at `index` or later.
    pub(super) fn has_chunk_from(&self, index: LogIndex) -> Result<bool, Fault> {
        self.file.read(|transaction| {
            let table: ReadOnlyTable<ChunkKey, &[u8]> = transaction.open_table(CHUNKS)?;
            Ok(ReadableTable::range(&table, (index.0, 0)..)?.next().transpose()?.is_some())
        })
    }

    /// The chunk that holds entry `index`; `None` when there is none.
    pub(super) fn chunk_with(&self, index: LogIndex) -> Result<Option<Chunk>, Fault> {
        chunk_with(&self.file, index, None)
    }

    /// Writes the index and the seal; the file is to be closed then. Rows must be in the order of their keys.
    pub(super) fn seal(
        &self,
        seal: Seal,
        index: &[(TopicPartition, Span)],
        descents: &[Descent],
    ) -> Result<(), Fault> {
        self.file.write(Commit::OneSync, |transaction| {
            let mut table = transaction.open_table(SPANS)?;
            for (at, span) in index {
                let key = spans::key(&[], *at, span.base);
                table.insert(&key[..], &span.encode(&key)[..])?;
            }
            let mut table = transaction.open_table(DESCENTS)?;
            for descent in descents {
                let (key, row) = descent.encode();
                table.insert(&key[..], &row[..])?;
            }
            transaction.open_table(ABOUT)?.insert(SEALED_KEY, &seal.encode()[..])?;
            Ok(())
        })
    }
}

fn put_chunk(transaction: &redb::WriteTransaction, first: u64, draft: &Draft<'_>) -> Result<u64, Problem> {
    let mut taken = 0;
    let mut bodies = draft.bodies().peekable();
    if bodies.peek().is_some() {
        let mut table = transaction.open_table(BODIES)?;
        for (at, rows, parts) in bodies {
            let mut parts = Parts::new(parts);
            for (number, length) in rows.iter().enumerate() {
                taken += apart::body_page(*length) as u64;
                let key = apart::body_key(LogIndex(first), at, number);
                parts.fill(table.insert_reserve(&key, *length)?.as_mut());
            }
        }
    }
    let mut table = transaction.open_table(CHUNKS)?;
    let mut parts = Parts::new(draft.parts());
    for (number, length) in cut::rows(draft.len()).into_iter().enumerate() {
        taken += cut::page_for(length) as u64;
        parts.fill(table.insert_reserve((first, number as u8), length)?.as_mut());
    }
    Ok(taken)
}

/// Parts that fill rows.
struct Parts<'a, P> {
    parts: P,
    part: &'a [u8],
}

impl<'a, P: Iterator<Item = &'a [u8]>> Parts<'a, P> {
    fn new(parts: P) -> Parts<'a, P> {
        Parts { parts, part: &[] }
    }

    /// Fills a row with what comes next.
    fn fill(&mut self, row: &mut [u8]) {
        let mut row = row;
        while !row.is_empty() {
            if self.part.is_empty() {
                self.part = self.parts.next().expect("rows are as long as their parts");
                continue;
            }
            let fits = self.part.len().min(row.len());
            let (filled, rest) = std::mem::take(&mut row).split_at_mut(fits);
            filled.copy_from_slice(&self.part[..fits]);
            (row, self.part) = (rest, &self.part[fits..]);
        }
    }
}

/// The chunk of `file` that holds entry `index`; `None` when there is none. `gone` is what of a sealed segment is.
pub(super) fn chunk_with(
    file: &DatabaseFile,
    index: LogIndex,
    gone: Option<&Gone>,
) -> Result<Option<Chunk>, Fault> {
    let is_gone = |at, first| gone.is_some_and(|gone| gone.has(at, first));
    let read = file.read(|transaction| {
        let Some((first, frame, mut disk_bytes)) = frame_with(file, transaction, index)? else {
            return Ok(None);
        };
        let mut bodies = Vec::new();
        if !frame.bodies.is_empty() {
            let table = transaction.open_table(BODIES)?;
            for apart in &frame.bodies {
                if is_gone(apart.at, frame.first()) {
                    bodies.push(None);
                    continue;
                }
                let body = body(file, &table, frame.first(), apart)?;
                disk_bytes += body.disk_bytes;
                bodies.push(Some(body.bytes));
            }
        }
        Ok(Some((first, frame, bodies, disk_bytes)))
    })?;
    let Some((first, frame, bodies, disk_bytes)) = read else { return Ok(None) };
    let mut chunk = frame.chunk(&bodies, |at| is_gone(at, LogIndex(first)), || place(file.path(), first))?;
    chunk.disk_bytes = disk_bytes;
    Ok(chunk.entries.last().is_some_and(|last| index <= last.id.index).then_some(chunk))
}

/// The value of the chunk that begins with entry `index`, or before it; and what that takes on disk.
pub(super) fn frame_with(
    file: &DatabaseFile,
    transaction: &redb::ReadTransaction,
    index: LogIndex,
) -> Result<Option<(u64, Frame, u64)>, Problem> {
    let table: ReadOnlyTable<ChunkKey, &[u8]> = transaction.open_table(CHUNKS)?;
    let found = ReadableTable::range(&table, ..=(index.0, u8::MAX))?.next_back().transpose()?;
    let Some((key, _)) = found else { return Ok(None) };
    let (first, rows) = key.value();
    let mut guards = Vec::new();
    for (number, row) in ReadableTable::range(&table, (first, 0)..=(first, rows))?.enumerate() {
        let (key, value) = row?;
        if usize::from(key.value().1) != number {
            let what = place(file.path(), first);
            return Err(Fault::damaged(what, format!("row {number} of it is missing")).into());
        }
        guards.push(value);
    }
    let mut raw = BytesMut::with_capacity(guards.iter().map(|row| row.value().len()).sum());
    guards.iter().for_each(|row| raw.extend_from_slice(row.value()));
    let disk_bytes = guards.iter().map(|row| cut::page_for(row.value().len()) as u64).sum();
    let frame = frame::parse(raw.freeze(), || place(file.path(), first))?;
    if frame.first().0 != first {
        return Err(Fault::damaged(place(file.path(), first), "it belongs elsewhere").into());
    }
    Ok(Some((first, frame, disk_bytes)))
}

/// A body that was read.
pub(super) struct Body {
    bytes: Bytes,
    /// How many rows it has, and the pages of those.
    pub(super) rows: usize,
    pub(super) disk_bytes: u64,
}

/// What lies apart of a chunk, from its rows. No row is looked for that is not there: on the way to it might lie a page
/// that was given back.
pub(super) fn body(
    file: &DatabaseFile,
    table: &ReadOnlyTable<&'static BodyKey, &'static [u8]>,
    first: LogIndex,
    apart: &Apart,
) -> Result<Body, Problem> {
    let (mut body, mut disk_bytes, mut number) = (BytesMut::with_capacity(apart.taken), 0, 0);
    while body.len() < apart.taken {
        let row = ReadableTable::get(table, &apart::body_key(first, apart.at, number))?;
        let Some(row) = row.filter(|row| !row.value().is_empty()) else {
            let why = format!("row {number} of what lies apart in it is missing");
            return Err(Fault::damaged(place(file.path(), first.0), why).into());
        };
        body.extend_from_slice(row.value());
        disk_bytes += apart::body_page(row.value().len()) as u64;
        number += 1;
    }
    Ok(Body { bytes: body.freeze(), rows: number, disk_bytes })
}

fn place(path: &Path, first: u64) -> String {
    format!("the chunk at entry {first} of {}", path.display())
}

/// What a segment was made as.
pub(super) fn read_birth(file: &DatabaseFile) -> Result<Birth, Fault> {
    let name = || file.path().display().to_string();
    let birth = version::read_about(file, SEGMENT_KEY)?;
    let birth = birth.ok_or_else(|| Fault::damaged(name(), "it does not say which segment it is"))?;
    let birth = Birth::decode(birth).map_err(|malformed| Fault::damaged(name(), malformed))?;
    if number_of(file.path()) != Some(birth.number) {
        return Err(Fault::damaged(name(), format!("it says that it is segment {}", birth.number)));
    }
    Ok(birth)
}

/// What the directory should hold of a segment that was sealed and closed; `None` when this one was not.
pub(super) fn read_sealed(disk: &dyn Disk, path: &Path, gone: &GoneOf) -> Result<Option<Held>, Fault> {
    let Some(file) = DatabaseFile::open_closed(disk, path, limits::SEALED_CACHE_BYTES)? else {
        return Ok(None);
    };
    version::check(&file)?;
    let Birth { number, line, first, .. } = read_birth(&file)?;
    let Some(seal) = read_seal(&file)? else { return Ok(None) };
    Ok(Some(sealed::held(&file, Listed { number, line, first, seal }, gone.get(&number))?))
}

/// The seal of a sealed segment.
pub(super) fn read_seal(file: &DatabaseFile) -> Result<Option<Seal>, Fault> {
    let seal = version::read_about(file, SEALED_KEY)?.map(Seal::decode).transpose();
    seal.map_err(|malformed| Fault::damaged(file.path().display().to_string(), malformed))
}

impl Birth {
    /// `number u64 · line u32 · first index u64 · turn u64 · made u64 · previous · committed`, the last two each
    /// `1 u8 · term u64 · index u64`, or `0 u8`.
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(72);
        writer.u64(self.number).u32(self.line).u64(self.first.0).u64(self.turn).u64(self.made.0);
        for id in [self.previous, self.committed] {
            match id {
                Some(id) => writer.u8(1).u64(id.term.0).u64(id.index.0),
                None => writer.u8(0),
            };
        }
        writer.finish()
    }

    pub(super) fn decode(row: Vec<u8>) -> Result<Birth, Malformed> {
        let mut reader = Reader::new(Bytes::from(row));
        let (number, line) = (reader.u64("number")?, reader.u32("line")?);
        let first = LogIndex(reader.u64("first index")?);
        let (turn, made) = (reader.u64("turn")?, Timestamp(reader.u64("made")?));
        let mut id = || -> Result<Option<LogId>, Malformed> {
            if reader.u8("log id")? == 0 {
                return Ok(None);
            }
            Ok(Some(LogId { term: Term(reader.u64("term")?), index: LogIndex(reader.u64("index")?) }))
        };
        let (previous, committed) = (id()?, id()?);
        reader.finish("segment")?;
        Ok(Birth { number, line, first, previous, committed, turn, made })
    }
}

impl Seal {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(32);
        writer.u64(self.last.term.0).u64(self.last.index.0).u64(self.turn).i64(self.max_timestamp_ms);
        writer.u8(self.is_rest.into());
        writer.finish()
    }

    pub(super) fn decode(row: Vec<u8>) -> Result<Seal, Malformed> {
        let mut reader = Reader::new(Bytes::from(row));
        let seal = Seal::read(&mut reader)?;
        reader.finish("seal")?;
        Ok(seal)
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Seal, Malformed> {
        let last = LogId { term: Term(reader.u64("last term")?), index: LogIndex(reader.u64("last index")?) };
        let (turn, max_timestamp_ms) = (reader.u64("last turn")?, reader.i64("latest timestamp")?);
        Ok(Seal { last, turn, max_timestamp_ms, is_rest: reader.u8("rest")? == 1 })
    }
}
