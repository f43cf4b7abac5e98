//! `directory.redb`: which segments are sealed, and which of them hold which partition.
//!
//! With it a log of thousands of sealed segments opens without opening them, and a reader of old history finds its
//! segment with a few reads, in memory that does not grow with history. It is derived: what is missing is read from
//! the sealed segments again, and a damaged directory is made anew.
//!
//! Tables: `about`; `segments` (number u64 → `line u32 · first index u64 · seal`, see [`Seal`]); `spans` (as
//! `spans.rs` says, with the line, u32, as prefix); `descents` (`line u32 · topic 16 · partition u32 · number u64` → where
//! the covers of that segment lie, see `descents.rs`).

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition, TableError, WriteTransaction};
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;
use tidemill_core::seams::Disk;
use tidemill_protocol::ids::{Offset, Position, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::descents::Reach;
use super::segment::Seal;
use super::spans::{self, Span, SpanTable, Spans};
use crate::database::{Commit, DatabaseFile, Problem};
use crate::version;

pub(super) const NAME: &str = "directory.redb";
const SEGMENTS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("segments");
const SPANS: SpanTable = TableDefinition::new("spans");
const DESCENTS: SpanTable = TableDefinition::new("descents");

/// A sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) number: u64,
    pub(super) line: u32,
    pub(super) first: LogIndex,
    pub(super) seal: Seal,
}

/// A sealed segment, and what is listed of it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) listed: Listed,
    pub(super) spans: Vec<(TopicPartition, Span)>,
    pub(super) reaches: Vec<Reach>,
}

/// The file, open.
#[derive(Debug)]
pub(super) struct Directory {
    file: DatabaseFile,
}

impl Directory {
    /// Opens the directory, or makes an empty one where there is none, or a damaged one.
    pub(super) fn open(disk: &dyn Disk, folder: &Path) -> Result<Directory, Fault> {
        let path = folder.join(NAME);
        let failed = |error| Fault::disk(format!("opening {}", path.display()), error);
        if disk.list(folder).map_err(failed)?.contains(&path) {
            match Directory::open_there(disk, &path) {
                Err(Fault::Damaged { what, why }) => {
                    tracing::warn!(%what, %why, "the directory of segments is damaged, and made anew");
                    disk.remove(&path).and_then(|()| disk.sync_directory(folder)).map_err(failed)?;
                }
                result => return result,
            }
        }
        let file = version::made(disk, &path, Commit::OneSync, |transaction| {
            transaction.open_table(SEGMENTS)?;
            transaction.open_table(SPANS)?;
            transaction.open_table(DESCENTS)?;
            Ok(())
        })?;
        Ok(Directory { file })
    }

    fn open_there(disk: &dyn Disk, path: &Path) -> Result<Directory, Fault> {
        let length = disk.open(path, tidemill_core::seams::OpenMode::Read).and_then(|file| file.len());
        let verify = length.is_ok_and(|length| length <= limits::VERIFIED_FILE_BYTES_MAX);
        let (file, _) = DatabaseFile::open(disk, path, limits::SMALL_FILE_CACHE_BYTES, verify)?;
        version::check(&file)?;
        let directory = Directory { file };
        directory.listed()?;
        directory.must_know_descent()?;
        Ok(directory)
    }

    /// One that was made before there was an index of descent is as good as damaged.
    fn must_know_descent(&self) -> Result<(), Fault> {
        self.file.read(|transaction| match transaction.open_table(DESCENTS) {
            Err(TableError::TableDoesNotExist(_)) => {
                let what = self.file.path().display().to_string();
                Err(Fault::damaged(what, "it knows nothing of descent").into())
            }
            table => Ok(table.map(drop)?),
        })
    }

    /// All sealed segments it knows, in the order of their numbers.
    pub(super) fn listed(&self) -> Result<Vec<Listed>, Fault> {
        self.file.read(|transaction| {
            let mut listed = Vec::new();
            for row in ReadableTable::iter(&transaction.open_table(SEGMENTS)?)? {
                let (number, row) = row?;
                let read = Listed::decode(number.value(), Bytes::copy_from_slice(row.value()));
                listed.push(read.map_err(|malformed| self.damaged(malformed))?);
            }
            Ok(listed)
        })
    }

    /// Adds a sealed segment, or lists it anew.
    pub(super) fn add(&self, held: &Held) -> Result<(), Fault> {
        self.file.write(Commit::OneSync, |transaction| insert(transaction, held))
    }

    /// Takes a sealed segment out, and puts another in its place, if there is one.
    pub(super) fn exchange(&self, old: &Held, new: Option<&Held>) -> Result<(), Fault> {
        self.file.write(Commit::OneSync, |transaction| {
            remove(transaction, old)?;
            new.map_or(Ok(()), |new| insert(transaction, new))
        })
    }

    /// What each segment of a line holds.
    pub(super) fn held(&self, line: u32) -> Result<BTreeMap<u64, Vec<(TopicPartition, Span)>>, Fault> {
        self.file.read(|transaction| {
            let prefix = line.to_be_bytes();
            let end = line.saturating_add(1).to_be_bytes();
            let mut held: BTreeMap<u64, Vec<(TopicPartition, Span)>> = BTreeMap::new();
            let table = transaction.open_table(SPANS)?;
            for row in ReadableTable::range::<&[u8]>(&table, &prefix[..]..&end[..])? {
                let (key, value) = row?;
                let read = spans::decode_row(&prefix, key.value(), value.value());
                let (at, span) = read.map_err(|malformed| self.damaged(malformed))?;
                held.entry(span.place).or_default().push((at, span));
            }
            Ok(held)
        })
    }

    /// Forgets the segments of all lines but these.
    pub(super) fn keep_lines(&self, kept: &[u32]) -> Result<(), Fault> {
        let mut gone: Vec<Listed> = self.listed()?;
        gone.retain(|listed| !kept.contains(&listed.line));
        if gone.is_empty() {
            return Ok(());
        }
        self.file.write(Commit::OneSync, |transaction| {
            let mut segments = transaction.open_table(SEGMENTS)?;
            for listed in &gone {
                segments.remove(listed.number)?;
            }
            let mut table = transaction.open_table(SPANS)?;
            let is_kept = |key: &[u8]| {
                let line = key.first_chunk::<4>().map(|line| u32::from_be_bytes(*line));
                line.is_some_and(|line| kept.contains(&line))
            };
            table.retain(|key, _| is_kept(key))?;
            transaction.open_table(DESCENTS)?.retain(|key, _| is_kept(key))?;
            Ok(())
        })
    }

    /// Looks at the spans of one partition in a line; their places are the numbers of segments.
    pub(super) fn spans<T>(
        &self,
        line: u32,
        at: TopicPartition,
        is_hole: &dyn Fn(LogIndex, LogIndex) -> bool,
        look: impl FnOnce(&Spans<'_>) -> Result<T, Problem>,
    ) -> Result<T, Fault> {
        self.file.read(|transaction| {
            let table = transaction.open_table(SPANS)?;
            look(&Spans { table: &table, prefix: &line.to_be_bytes(), at, base: None, gone: None, is_hole })
        })
    }

    /// The segments of a line that may hold descendants of a record, in the order of their numbers.
    pub(super) fn descendants(&self, line: u32, of: Position) -> Result<Vec<u64>, Fault> {
        self.file.read(|transaction| {
            let (low, high) = (descent_key(line, of.at, 0), descent_key(line, of.at, u64::MAX));
            let mut numbers = Vec::new();
            let table = transaction.open_table(DESCENTS)?;
            for row in ReadableTable::range::<&[u8]>(&table, &low[..]..=&high[..])? {
                let (key, value) = row?;
                let reach = Reach::decode(of.at, key.value(), value.value());
                if reach.map_err(|malformed| self.damaged(malformed))?.holds(of.offset) {
                    let number = key.value().last_chunk().map(|number| u64::from_be_bytes(*number));
                    numbers.extend(number);
                }
            }
            Ok(numbers)
        })
    }

    pub(super) fn close(&self) -> Result<(), Fault> {
        self.file.close()
    }

    fn damaged(&self, malformed: Malformed) -> Fault {
        Fault::damaged(self.file.path().display().to_string(), malformed)
    }
}

/// The key of a segment's row of a partition in the index of descent.
fn descent_key(line: u32, at: TopicPartition, number: u64) -> Vec<u8> {
    spans::key(&line.to_be_bytes(), at, Offset(number))
}

fn insert(transaction: &WriteTransaction, held: &Held) -> Result<(), Problem> {
    let Held { listed, spans, reaches } = held;
    transaction.open_table(SEGMENTS)?.insert(listed.number, &listed.encode()[..])?;
    let mut table = transaction.open_table(SPANS)?;
    let prefix = listed.line.to_be_bytes();
    for (at, span) in spans {
        let key = spans::key(&prefix, *at, span.base);
        table.insert(&key[..], &span.encode(&key)[..])?;
    }
    let mut table = transaction.open_table(DESCENTS)?;
    for reach in reaches {
        let key = descent_key(listed.line, reach.at, listed.number);
        table.insert(&key[..], &reach.encode(&key)[..])?;
    }
    Ok(())
}

fn remove(transaction: &WriteTransaction, held: &Held) -> Result<(), Problem> {
    let Held { listed, spans, reaches } = held;
    transaction.open_table(SEGMENTS)?.remove(listed.number)?;
    let mut table = transaction.open_table(SPANS)?;
    for (at, span) in spans {
        table.remove(&spans::key(&listed.line.to_be_bytes(), *at, span.base)[..])?;
    }
    let mut table = transaction.open_table(DESCENTS)?;
    for reach in reaches {
        table.remove(&descent_key(listed.line, reach.at, listed.number)[..])?;
    }
    Ok(())
}

impl Listed {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(44);
        writer.u32(self.line).u64(self.first.0).raw(&self.seal.encode());
        writer.finish()
    }

    pub(super) fn decode(number: u64, row: Bytes) -> Result<Listed, Malformed> {
        let mut reader = Reader::new(row);
        let (line, first) = (reader.u32("line")?, LogIndex(reader.u64("first index")?));
        let seal = Seal::read(&mut reader)?;
        reader.finish("segment")?;
        Ok(Listed { number, line, first, seal })
    }
}
