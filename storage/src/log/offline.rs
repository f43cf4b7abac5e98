//! Reading a log's files while nobody runs on them, or somebody does: for whoever looks, never for a broker.
//!
//! Not a byte of the folder is changed. redb repairs a file that a crash left open by writing to it, and even opening a
//! sound one for writing leaves a trace; so each file is copied into memory first ([`Copied`]), and what redb writes goes
//! there. That holds one segment in memory at a time.
//!
//! Beside a broker that runs, the newest segment is copied while it is written. A copy that does not verify is said to
//! be damaged, and may be fine a moment later.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{ReadOnlyTable, ReadableTable};
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::seams::{Disk, DiskFile, DiskLock, OpenMode, Timestamp};

use super::chunk::Chunk;
use super::directory::Listed;
use super::entry::{LogEntry, LogId};
use super::gone::{self, Gone};
use super::segment::{self, CHUNKS, ChunkKey, Segment};
use crate::database::Repair;

/// A segment, as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentAbout {
    /// Its number.
    pub number: u64,
    /// The line that it belongs to: all but the newest were replaced, or are being installed.
    pub line: u32,
    /// The index of its first entry.
    pub first: LogIndex,
    /// When it was made.
    pub made: Timestamp,
    /// Its last entry, if it is sealed.
    pub sealed: Option<LogId>,
    /// Its owner did not close it: a broker runs on it, or one was killed.
    pub left_open: bool,
    /// The last turn in it was torn, and is left out; a broker would drop it, too.
    pub torn: bool,
    /// How long the file is.
    pub file_bytes: u64,
}

/// The entries of one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The turn's number.
    pub number: u64,
    /// What was known to be committed when it was written.
    pub committed: Option<LogId>,
    /// Its entries, in order.
    pub entries: Vec<LogEntry>,
    /// The bytes of its entries.
    pub bytes: usize,
}

/// A segment's file, read into memory.
pub struct OfflineSegment {
    about: SegmentAbout,
    segment: Segment,
    gone: Option<Gone>,
}

/// The numbers of the segments in a group's folder, in order.
///
/// # Errors
/// As the disk's.
pub fn segments(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> =
        disk.list(folder)?.iter().filter_map(|path| segment::number_of(path)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

impl OfflineSegment {
    /// Reads a segment of a group's folder.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read, or is damaged or newer than this program.
    pub fn read(disk: Arc<dyn Disk>, folder: &Path, number: u64) -> Result<OfflineSegment, Fault> {
        let path = segment::path(folder, number);
        let failed = |error| Fault::disk(format!("reading {}", path.display()), error);
        let file_bytes = disk.open(&path, OpenMode::Read).and_then(|file| file.len()).map_err(failed)?;
        let copied = Copied(disk);
        let gone = gone::read(&copied, folder)?.remove(&number);
        // redb would miss the pages that were given back; whatever is read has checksums of its own.
        let closed = gone.as_ref().map(|_| Segment::open_closed(&copied, &path)).transpose()?.flatten();
        let (segment, repair) = match closed {
            Some(segment) => (segment, Repair::default()),
            None => Segment::open(&copied, &path)?,
        };
        let seal = segment::read_seal(&segment.file)?;
        let sealed = seal.map(|seal| seal.last);
        let birth = segment.birth;
        let gone = gone.filter(|gone| {
            seal.is_some_and(|seal| {
                gone.is_of(&Listed { number, line: birth.line, first: birth.first, seal })
            })
        });
        let about = SegmentAbout {
            number,
            line: birth.line,
            first: birth.first,
            made: birth.made,
            sealed,
            left_open: repair.unclean,
            torn: repair.fell_back,
            file_bytes,
        };
        Ok(OfflineSegment { about, segment, gone })
    }

    /// What it is.
    pub fn about(&self) -> &SegmentAbout {
        &self.about
    }

    /// Its turns, in order. A damaged one is an error of its own, behind which the others go on.
    ///
    /// # Errors
    /// [`Fault`] when not even the list of turns can be read.
    pub fn turns(&self) -> Result<impl Iterator<Item = Result<Turn, Fault>> + '_, Fault> {
        let firsts: Vec<u64> = self.segment.file.read(|transaction| {
            let table: ReadOnlyTable<ChunkKey, &[u8]> = transaction.open_table(CHUNKS)?;
            let mut firsts = Vec::new();
            for row in ReadableTable::range(&table, (0, 0)..)? {
                firsts.push(row?.0.value().0);
            }
            firsts.dedup();
            Ok(firsts)
        })?;
        Ok(firsts.into_iter().map(|first| {
            let chunk = segment::chunk_with(&self.segment.file, LogIndex(first), self.gone.as_ref())?;
            let missing = || Fault::damaged(format!("the chunk at entry {first}"), "it holds no entry");
            let Chunk { turn, committed, entries, bytes, .. } = chunk.ok_or_else(missing)?;
            Ok(Turn { number: turn, committed, entries, bytes })
        }))
    }
}

/// A disk whose files are copied into memory when they are opened. Everything that would change it is refused.
pub(crate) struct Copied(pub(crate) Arc<dyn Disk>);

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "it is only read here"))
}

impl Disk for Copied {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if !matches!(mode, OpenMode::Read | OpenMode::Write) {
            return refused();
        }
        let file = self.0.open(path, OpenMode::Read)?;
        let length = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; length];
        file.read_at(0, &mut bytes)?;
        Ok(Box::new(Copy(Mutex::new(bytes))))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.list(folder)
    }

    fn create_folders(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn DiskLock>> {
        refused()
    }

    fn space(&self, folder: &Path) -> io::Result<(u64, u64)> {
        self.0.space(folder)
    }
}

/// A file in memory.
struct Copy(Mutex<Vec<u8>>);

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a copy in memory")
    }
}

impl Copy {
    /// The range of so many bytes from an offset on.
    fn range(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start.checked_add(length).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(start..end)
    }
}

impl DiskFile for Copy {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let range = Copy::range(offset, buffer.len())?;
        buffer.copy_from_slice(self.0.lock().get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let range = Copy::range(offset, bytes.len())?;
        let mut all = self.0.lock();
        if all.len() < range.end {
            all.resize(range.end, 0);
        }
        all[range].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.0.lock().resize(length, 0);
        Ok(())
    }

    fn punch(&self, _: u64, _: u64) -> io::Result<()> {
        refused()
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
