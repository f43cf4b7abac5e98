//! `state.redb`: the tables as of their last checkpoint.
//!
//! One table `rows`, key → `crc32c u32 · value`, the checksum over `key · value`; and `about` with the version and
//! `checkpoint`: `1 u8 · term u64 · index u64` (or `0 u8`) `· standing`. Each checkpoint is one commit with two syncs,
//! which records redb's free pages too, so that the file opens fast after a crash. redb does not verify the pages it
//! reads; the checksum verifies the rows, and a file that is not too large is verified whole when it is opened.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadOnlyTable, ReadableTable, TableDefinition, WriteTransaction};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{LogIndex, Term};
use tidemill_core::limits;
use tidemill_core::seams::{Disk, OpenMode};
use tidemill_core::tables::{Changes, View};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::Checkpoint;
use crate::database::{self, Commit, DatabaseFile, Problem, guarded};
use crate::log::LogId;
use crate::version::{self, ABOUT};

const NAME: &str = "state.redb";
const ROWS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");
const CHECKPOINT_KEY: &str = "checkpoint";
const CRC_BYTES: usize = 4;

/// The file, to be written.
pub(super) struct StateFile {
    file: Arc<DatabaseFile>,
}

/// The tables as of one checkpoint, to be read for as long as it is held.
pub(super) struct Base {
    file: Arc<DatabaseFile>,
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    pub(super) checkpoint: Checkpoint,
}

impl StateFile {
    /// Opens the file, or makes an empty one.
    pub(super) fn open(disk: &dyn Disk, folder: &Path) -> Result<(StateFile, Arc<Base>, Checkpoint), Fault> {
        let path = folder.join(NAME);
        let failed = |error| Fault::disk(format!("opening {}", path.display()), error);
        crate::folder::make(disk, folder).map_err(failed)?;
        disk.remove(&database::hidden(&path)).map_err(failed)?;
        let state = if disk.list(folder).map_err(failed)?.contains(&path) {
            let length = disk.open(&path, OpenMode::Read).and_then(|file| file.len()).map_err(failed)?;
            let verify = length <= limits::VERIFIED_FILE_BYTES_MAX;
            let (file, _) = DatabaseFile::open(disk, &path, limits::STATE_CACHE_BYTES, verify)?;
            version::check(&file)?;
            StateFile { file: Arc::new(file) }
        } else {
            let state = StateFile::stage(disk, folder)?;
            state.write(&Changes::new(), &Checkpoint::default())?;
            state.file.show(disk)?;
            state
        };
        let base = state.base()?;
        let checkpoint = base.checkpoint.clone();
        Ok((state, base, checkpoint))
    }

    /// Opens a file to look at it, and verifies it whole.
    pub(super) fn look(disk: &dyn Disk, folder: &Path) -> Result<StateFile, Fault> {
        let (file, _) = DatabaseFile::open(disk, &folder.join(NAME), limits::STATE_CACHE_BYTES, true)?;
        version::check(&file)?;
        Ok(StateFile { file: Arc::new(file) })
    }

    /// Makes an empty file that is not in the state's place yet: see [`StateFile::show`].
    pub(super) fn stage(disk: &dyn Disk, folder: &Path) -> Result<StateFile, Fault> {
        let file = DatabaseFile::create(disk, &folder.join(NAME), limits::STATE_CACHE_BYTES)?;
        file.write(Commit::OneSync, |transaction| {
            version::stamp(transaction)?;
            transaction.open_table(ROWS)?;
            Ok(())
        })?;
        Ok(StateFile { file: Arc::new(file) })
    }

    /// Puts a staged file in the state's place, durably and at once.
    pub(super) fn show(&self, disk: &dyn Disk) -> Result<(), Fault> {
        self.file.show(disk)
    }

    /// Adds rows to a staged file.
    pub(super) fn add(&self, rows: &[(Bytes, Bytes)]) -> Result<(), Fault> {
        self.file.write(Commit::OneSync, |transaction| {
            let mut table = transaction.open_table(ROWS)?;
            for (key, value) in rows {
                table.insert(&key[..], &sealed(key, value)[..])?;
            }
            Ok(())
        })
    }

    /// Makes changes durable, and with them how far the tables are.
    pub(super) fn write(&self, changes: &Changes, checkpoint: &Checkpoint) -> Result<(), Fault> {
        self.file.write(Commit::QuickOpen, |transaction| write(transaction, changes, checkpoint))
    }

    /// The tables as they are durable now.
    pub(super) fn base(&self) -> Result<Arc<Base>, Fault> {
        let row = version::read_about(&self.file, CHECKPOINT_KEY)?;
        let name = || self.file.path().display().to_string();
        let row = row.ok_or_else(|| Fault::damaged(name(), "it does not say how far it is"))?;
        let checkpoint =
            read_checkpoint(row.into()).map_err(|malformed| Fault::damaged(name(), malformed))?;
        let rows = self.file.read(|transaction| Ok(transaction.open_table(ROWS)?))?;
        Ok(Arc::new(Base { file: self.file.clone(), rows, checkpoint }))
    }

    pub(super) fn close(&self) -> Result<(), Fault> {
        self.file.close()
    }
}

fn write(transaction: &WriteTransaction, changes: &Changes, checkpoint: &Checkpoint) -> Result<(), Problem> {
    let mut table = transaction.open_table(ROWS)?;
    for (key, value) in changes {
        match value {
            Some(value) => table.insert(&key[..], &sealed(key, value)[..])?,
            None => table.remove(&key[..])?,
        };
    }
    transaction.open_table(ABOUT)?.insert(CHECKPOINT_KEY, &write_checkpoint(checkpoint)[..])?;
    Ok(())
}

impl Base {
    fn open(&self, key: &[u8], row: &[u8]) -> Result<Bytes, Fault> {
        let value = row.get(CRC_BYTES..).unwrap_or_default();
        if row.get(..CRC_BYTES) != Some(&checksum(key, value).to_be_bytes()[..]) {
            let what =
                format!("a row of table {} in {}", key.first().unwrap_or(&0), self.file.path().display());
            return Err(Fault::damaged(what, "its checksum does not hold"));
        }
        Ok(Bytes::copy_from_slice(value))
    }

    /// What `look` makes of each key and its row, in the order of the keys: see [`View::scan`].
    fn each<T>(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        limit: usize,
        look: impl Fn(&[u8], &[u8]) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        if end.is_some_and(|end| end <= start) {
            return Ok(Vec::new());
        }
        guarded(self.file.path(), || {
            let mut found = Vec::new();
            let range = match end {
                Some(end) => ReadableTable::range::<&[u8]>(&self.rows, start..end)?,
                None => ReadableTable::range::<&[u8]>(&self.rows, start..)?,
            };
            for row in range.take(limit) {
                let (key, row) = row?;
                found.push(look(key.value(), row.value())?);
            }
            Ok(found)
        })
    }
}

impl View for Base {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        guarded(self.file.path(), || {
            let row = ReadableTable::get(&self.rows, key)?;
            Ok(row.map(|row| self.open(key, row.value())).transpose()?)
        })
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        self.each(start, end, limit, |key, row| Ok((Bytes::copy_from_slice(key), self.open(key, row)?)))
    }

    fn keys(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>, Fault> {
        self.each(start, end, limit, |key, _| Ok(Bytes::copy_from_slice(key)))
    }
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(CRC_BYTES + value.len());
    row.extend_from_slice(&checksum(key, value).to_be_bytes());
    row.extend_from_slice(value);
    row
}

/// What must hold of any bytes that are read as a checkpoint's head: see [`crate::log::hostile`].
pub fn hostile(bytes: &[u8]) {
    if let Ok(read) = read_checkpoint(Bytes::copy_from_slice(bytes)) {
        assert_eq!(read_checkpoint(write_checkpoint(&read)), Ok(read));
    }
}

fn write_checkpoint(checkpoint: &Checkpoint) -> Bytes {
    let mut writer = Writer::with_capacity(24 + checkpoint.standing.len());
    match checkpoint.applied {
        Some(id) => writer.u8(1).u64(id.term.0).u64(id.index.0),
        None => writer.u8(0),
    };
    writer.raw(&checkpoint.standing);
    writer.finish()
}

fn read_checkpoint(row: Bytes) -> Result<Checkpoint, Malformed> {
    let mut reader = Reader::new(row);
    let applied = match reader.u8("checkpoint")? {
        0 => None,
        _ => Some(LogId {
            term: Term(reader.u64("applied term")?),
            index: LogIndex(reader.u64("applied index")?),
        }),
    };
    let rest = reader.remaining();
    Ok(Checkpoint { applied, standing: reader.bytes(rest, "standing")? })
}
