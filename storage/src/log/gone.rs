//! `gone.redb`: what of sealed segments was given back to the disk in place, and what is about to be.
//!
//! ```text
//!   a segment     ┌ chunk ┐┌ chunk ┐┌ chunk ┐┌ chunk ┐
//!   partition 1     ░░░      ░░░      ███      ███        gone below the third chunk
//!   partition 2     ███      ███      ███      ███
//! ```
//!
//! What dies of a partition dies from its beginning. So one index for each partition says it all: whatever of it lies in
//! chunks that begin before that entry is gone, and nobody looks for it (`segment.rs`, `spans.rs`). That is durable
//! before the first page is given back; and the pages are named beside it until they are, so that a start can do it
//! again (`punch.rs`). The file is made when it is first needed.
//!
//! One table, `gone`: number of the segment u64 → `crc32c u32 · line u32 · first index u64 · last term u64 · last index
//! u64 · left u64 · given back u64 · n u32 · n × (topic 16 · partition u32 · index u64) · pages of the file: m u32 · m × (offset u64 ·
//! length u64)`. What is said of another segment than the one that bears the number counts for nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{LogIndex, Term};
use tidemill_core::seams::Disk;
use tidemill_protocol::ids::{Partition, TopicId, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::directory::Listed;
use super::entry::LogId;
use super::spans::Span;
use crate::database::{Commit, DatabaseFile};
use crate::version;

/// The file's name.
pub(super) const NAME: &str = "gone.redb";
const TABLE: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("gone");
const CRC_BYTES: usize = 4;

/// What is gone of each segment, by number.
pub(super) type GoneOf = BTreeMap<u64, Gone>;

/// What is gone of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gone {
    line: u32,
    first: LogIndex,
    last: LogId,
    /// For each partition of which anything is, the entry below which all is.
    pub(super) below: BTreeMap<TopicPartition, LogIndex>,
    /// Bytes of batches that are gone and yet in the file.
    pub(super) left: u64,
    /// Bytes of the file that were given back.
    pub(super) given_back: u64,
    /// Pages that are to be given back; none once they are.
    pub(super) pages: Vec<Range<u64>>,
}

impl Gone {
    /// Nothing, of a sealed segment.
    pub(super) fn nothing(of: &Listed) -> Gone {
        let (below, pages) = (BTreeMap::new(), Vec::new());
        Gone { line: of.line, first: of.first, last: of.seal.last, below, left: 0, given_back: 0, pages }
    }

    /// The same once the pages are given back.
    pub(super) fn done(&self) -> Gone {
        Gone { pages: Vec::new(), ..self.clone() }
    }

    /// Whether it is said of this segment.
    pub(super) fn is_of(&self, listed: &Listed) -> bool {
        (self.line, self.first, self.last) == (listed.line, listed.first, listed.seal.last)
    }

    /// Whether the batches of a partition are gone that lie in the chunk which begins with this entry.
    pub(super) fn has(&self, at: TopicPartition, chunk: LogIndex) -> bool {
        self.below.get(&at).is_some_and(|below| chunk < *below)
    }

    /// A span of the segment's own index, as it is now.
    pub(super) fn now(&self, at: TopicPartition, span: Span) -> Span {
        if span.is_gone() || !self.has(at, LogIndex(span.place)) { span } else { Span::gone(&span, &span) }
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(48 + self.below.len() * 28 + self.pages.len() * 16);
        writer.u32(0).u32(self.line).u64(self.first.0).u64(self.last.term.0).u64(self.last.index.0);
        writer.u64(self.left).u64(self.given_back).u32(self.below.len() as u32);
        for (at, below) in &self.below {
            writer.raw(&at.topic.0).u32(at.partition.0).u64(below.0);
        }
        writer.u32(self.pages.len() as u32);
        for pages in &self.pages {
            writer.u64(pages.start).u64(pages.end - pages.start);
        }
        let crc = crc32c::crc32c(&writer.as_slice()[CRC_BYTES..]);
        writer.patch(0, &crc.to_be_bytes());
        writer.as_slice().to_vec()
    }

    fn decode(row: Bytes) -> Result<Gone, Malformed> {
        let crc = row.get(CRC_BYTES..).map(|rest| crc32c::crc32c(rest).to_be_bytes());
        if crc.is_none_or(|crc| crc != row[..CRC_BYTES]) {
            return Err(Malformed { what: "checksum of what is gone", at: 0 });
        }
        let mut reader = Reader::new(row);
        reader.u32("checksum")?;
        let (line, first) = (reader.u32("line")?, LogIndex(reader.u64("first index")?));
        let last = LogId { term: Term(reader.u64("last term")?), index: LogIndex(reader.u64("last index")?) };
        let (left, given_back) = (reader.u64("bytes left")?, reader.u64("bytes given back")?);
        let (mut below, mut pages) = (BTreeMap::new(), Vec::new());
        for _ in 0..reader.u32("number of partitions")? {
            let topic = TopicId(reader.array("topic")?);
            let at = TopicPartition { topic, partition: Partition(reader.u32("partition")?) };
            below.insert(at, LogIndex(reader.u64("index")?));
        }
        for _ in 0..reader.u32("number of pages")? {
            let (offset, length) = (reader.u64("offset of pages")?, reader.u64("length of pages")?);
            let end = offset.checked_add(length).ok_or_else(|| reader.malformed("length of pages"))?;
            pages.push(offset..end);
        }
        reader.finish("what is gone")?;
        Ok(Gone { line, first, last, below, left, given_back, pages })
    }
}

/// The file, if there is one.
#[derive(Debug)]
pub(super) struct GoneFile {
    file: Option<DatabaseFile>,
}

impl GoneFile {
    /// Opens the file, if it is there, and reads it.
    pub(super) fn open(disk: &dyn Disk, folder: &Path) -> Result<(GoneFile, GoneOf), Fault> {
        let Some((file, _)) = version::opened(disk, folder, NAME)? else {
            return Ok((GoneFile { file: None }, GoneOf::new()));
        };
        let path = file.path();
        let gone = file.read(|transaction| {
            let mut gone = GoneOf::new();
            for row in ReadableTable::iter(&transaction.open_table(TABLE)?)? {
                let (number, row) = row?;
                let read = Gone::decode(Bytes::copy_from_slice(row.value()));
                let read = read.map_err(|malformed| Fault::damaged(path.display().to_string(), malformed))?;
                gone.insert(number.value(), read);
            }
            Ok(gone)
        })?;
        Ok((GoneFile { file: Some(file) }, gone))
    }

    /// Says durably what is gone of a segment; returns the bytes that it takes to say so.
    pub(super) fn put(
        &mut self,
        disk: &dyn Disk,
        folder: &Path,
        number: u64,
        gone: &Gone,
    ) -> Result<u64, Fault> {
        let row = gone.encode();
        self.change(disk, folder, |table| {
            table.insert(number, &row[..])?;
            Ok(())
        })?;
        Ok(row.len() as u64)
    }

    /// Forgets segments that are no more.
    pub(super) fn forget(&mut self, disk: &dyn Disk, folder: &Path, numbers: &[u64]) -> Result<(), Fault> {
        if numbers.is_empty() {
            return Ok(());
        }
        self.change(disk, folder, |table| {
            numbers.iter().try_for_each(|number| table.remove(number).map(drop))?;
            Ok(())
        })
    }

    fn change(
        &mut self,
        disk: &dyn Disk,
        folder: &Path,
        change: impl FnOnce(&mut redb::Table<'_, u64, &'static [u8]>) -> Result<(), crate::database::Problem>,
    ) -> Result<(), Fault> {
        let there = match self.file.take() {
            None => version::opened(disk, folder, NAME)?.map(|(file, _)| file),
            open => open,
        };
        let file = match there {
            Some(file) => file,
            None => version::made(disk, &folder.join(NAME), Commit::TwoSyncs, |transaction| {
                transaction.open_table(TABLE)?;
                Ok(())
            })?,
        };
        let changed = file.write(Commit::TwoSyncs, |transaction| change(&mut transaction.open_table(TABLE)?));
        // One that could not be written is opened anew before it is asked again.
        self.file = changed.is_ok().then_some(file);
        changed
    }

    pub(super) fn close(&self) -> Result<(), Fault> {
        self.file.as_ref().map_or(Ok(()), DatabaseFile::close)
    }
}

/// What the `gone.redb` of a folder says, for whoever only looks.
pub(super) fn read(disk: &dyn Disk, folder: &Path) -> Result<GoneOf, Fault> {
    Ok(GoneFile::open(disk, folder)?.1)
}

/// Reads bytes as what is gone of a segment; what can be read is written and read alike.
pub(super) fn reread(row: &[u8]) {
    let mut row = row.to_vec();
    row.resize(row.len().max(CRC_BYTES), 0);
    let crc = crc32c::crc32c(&row[CRC_BYTES..]).to_be_bytes();
    row[..CRC_BYTES].copy_from_slice(&crc);
    if let Ok(gone) = Gone::decode(row.into()) {
        assert_eq!(Gone::decode(gone.encode().into()), Ok(gone));
    }
}
