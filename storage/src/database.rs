//! redb over a file of the [`Disk`] seam: opening, reading and writing one database file.
//!
//! The only file that deals with redb's errors, and with its panics: a plain open of a damaged file "may panic", and so
//! may a read of one, because pages are not verified on the way. Every call goes through [`guarded`], which makes a
//! [`Fault`] of either, naming the file.
//!
//! The first error of a write or a sync poisons the file for good: redb forgives a failed write when it only makes
//! room in its cache, we do not. After a failed sync nobody knows what is on the disk.

use std::fmt::{self, Debug};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use redb::{
    Builder, Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction,
};
use tidemill_core::fault::Fault;
use tidemill_core::seams::{Disk, DiskFile, OpenMode};

use crate::zeros::Zeros;

/// How a commit becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// With one sync. A torn commit is found by its checksums at the next open, and the one before it is used.
    OneSync,
    /// With two syncs: a commit that was acknowledged is never given up for an older one.
    TwoSyncs,
    /// With two syncs, and so that the file opens fast after a crash.
    QuickOpen,
}

/// What opening a file for writing showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Repair {
    /// The last owner did not close the file.
    pub(crate) unclean: bool,
    /// The last commit was torn, and the one before it is used.
    pub(crate) fell_back: bool,
}

/// An error within a transaction: redb's, or one of our own.
#[derive(Debug)]
pub(crate) enum Problem {
    Redb(Box<redb::Error>),
    Fault(Fault),
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Problem {
        Problem::Fault(fault)
    }
}

macro_rules! problem_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Problem {
            fn from(error: $error) -> Problem {
                Problem::Redb(Box::new(error.into()))
            }
        }
    )*};
}

problem_from!(
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError
);

/// A database file, open until [`DatabaseFile::close`] or until it is dropped.
pub(crate) struct DatabaseFile {
    path: PathBuf,
    opened: RwLock<Option<Opened>>,
}

enum Opened {
    Writable(Database),
    ReadOnly(ReadOnlyDatabase),
}

impl DatabaseFile {
    /// Makes an empty database, out of sight under a name that ends in `.new`: see [`DatabaseFile::show`].
    pub(crate) fn create(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> Result<DatabaseFile, Fault> {
        DatabaseFile::create_with(disk, path, cache_bytes, 0)
    }

    /// As [`DatabaseFile::create`], for a file of small commits: so many bytes of zeros are written ahead of them, until
    /// it is closed.
    pub(crate) fn create_with(
        disk: &dyn Disk,
        path: &Path,
        cache_bytes: usize,
        zeros_ahead: u64,
    ) -> Result<DatabaseFile, Fault> {
        let hidden = hidden(path);
        let failed = |error: io::Error| Fault::disk(format!("making {}", path.display()), error);
        disk.remove(&hidden).map_err(failed)?;
        let file = disk.open(&hidden, OpenMode::CreateNew).map_err(failed)?;
        let backend = Backend { zeros: Mutex::new(Zeros::new(zeros_ahead)), ..Backend::new(file) };
        let database = guarded(path, || Ok(builder(cache_bytes).create_with_backend(backend)?))?;
        Ok(DatabaseFile::of(path, Opened::Writable(database)))
    }

    /// Gives a file that was just made its name, durably. What it holds must be durable before.
    pub(crate) fn show(&self, disk: &dyn Disk) -> Result<(), Fault> {
        show(disk, &self.path)
    }

    /// Opens a file to write it, repairing what a crash left. With `verify` every page is read and its checksum
    /// compared; without, that is done only after a crash, and not even then for [`Commit::QuickOpen`].
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        cache_bytes: usize,
        verify: bool,
    ) -> Result<(DatabaseFile, Repair), Fault> {
        let file = disk.open(path, OpenMode::Write).map_err(|error| opening(path, &error))?;
        refuse_empty(path, &*file)?;
        let unclean = was_left_open(&*file).map_err(|error| opening(path, &error))?;
        let fell_back = Arc::new(AtomicBool::new(false));
        let seen = fell_back.clone();
        let database = guarded(path, || {
            let mut builder = builder(cache_bytes);
            builder.set_check_integrity_on_open(verify);
            builder.set_repair_callback(move |repair| {
                // redb reports this much progress when, and only when, it has found the newest commit torn.
                if repair.progress() == FELL_BACK_PROGRESS {
                    seen.store(true, Ordering::Relaxed);
                }
            });
            Ok(builder.create_with_backend(Backend::new(file))?)
        })?;
        let repair = Repair { unclean, fell_back: fell_back.load(Ordering::Relaxed) };
        Ok((DatabaseFile::of(path, Opened::Writable(database)), repair))
    }

    /// Opens a file to read it; `None` when it was left open, and must be opened for writing to repair it.
    ///
    /// A file whose repair was cut short says that it was closed, and lacks what redb leaves behind when it closes one:
    /// that is one to be repaired, too.
    pub(crate) fn open_closed(
        disk: &dyn Disk,
        path: &Path,
        cache_bytes: usize,
    ) -> Result<Option<DatabaseFile>, Fault> {
        let file = disk.open(path, OpenMode::Read).map_err(|error| opening(path, &error))?;
        refuse_empty(path, &*file)?;
        if was_left_open(&*file).map_err(|error| opening(path, &error))? {
            return Ok(None);
        }
        let database =
            guarded(path, || match builder(cache_bytes).open_read_only_with_backend(Backend::new(file)) {
                Err(redb::DatabaseError::RepairAborted) => Ok(None),
                database => Ok(Some(database?)),
            })?;
        Ok(database.map(|database| DatabaseFile::of(path, Opened::ReadOnly(database))))
    }

    /// Opens a file that was closed cleanly, to read it.
    pub(crate) fn open_sealed(
        disk: &dyn Disk,
        path: &Path,
        cache_bytes: usize,
    ) -> Result<DatabaseFile, Fault> {
        let file = disk.open(path, OpenMode::Read).map_err(|error| opening(path, &error))?;
        refuse_empty(path, &*file)?;
        let backend = Backend::new(file);
        let database = guarded(path, || Ok(builder(cache_bytes).open_read_only_with_backend(backend)?))?;
        Ok(DatabaseFile::of(path, Opened::ReadOnly(database)))
    }

    /// As [`DatabaseFile::open_sealed`]; `see` is shown each page as it is read from the file, and where it lies.
    pub(crate) fn open_watched(
        disk: &dyn Disk,
        path: &Path,
        cache_bytes: usize,
        see: See,
    ) -> Result<DatabaseFile, Fault> {
        let file = disk.open(path, OpenMode::Read).map_err(|error| opening(path, &error))?;
        refuse_empty(path, &*file)?;
        let backend = Backend { see: Some(see), ..Backend::new(file) };
        let database = guarded(path, || Ok(builder(cache_bytes).open_read_only_with_backend(backend)?))?;
        Ok(DatabaseFile::of(path, Opened::ReadOnly(database)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn of(path: &Path, opened: Opened) -> DatabaseFile {
        DatabaseFile { path: path.to_owned(), opened: RwLock::new(Some(opened)) }
    }

    /// Reads what is committed.
    pub(crate) fn read<T>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, Problem>,
    ) -> Result<T, Fault> {
        let transaction = self.begin_read()?;
        guarded(&self.path, || look(&transaction))
    }

    /// A view of what is committed now, for as long as it is held; to be used under [`guarded`].
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, Fault> {
        let opened = self.opened.read();
        guarded(&self.path, || match &*opened {
            Some(Opened::Writable(database)) => Ok(database.begin_read()?),
            Some(Opened::ReadOnly(database)) => Ok(database.begin_read()?),
            None => Err(self.closed().into()),
        })
    }

    /// Commits a change. After an error nothing more may be done with the file.
    pub(crate) fn write<T>(
        &self,
        commit: Commit,
        change: impl FnOnce(&WriteTransaction) -> Result<T, Problem>,
    ) -> Result<T, Fault> {
        let opened = self.opened.read();
        let database = match &*opened {
            Some(Opened::Writable(database)) => database,
            Some(Opened::ReadOnly(_)) => unreachable!("{} was opened to be read", self.path.display()),
            None => return Err(self.closed()),
        };
        guarded(&self.path, || {
            let mut transaction = database.begin_write()?;
            transaction.set_two_phase_commit(commit != Commit::OneSync);
            transaction.set_quick_repair(commit == Commit::QuickOpen);
            let result = change(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    /// Closes the file so that it opens at once next time. Closing it twice is no error.
    pub(crate) fn close(&self) -> Result<(), Fault> {
        self.close_and(|| Ok(()))
    }

    /// Closes the file, and does something more before anybody is told that it is closed.
    pub(crate) fn close_and(&self, then: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
        let mut opened = self.opened.write();
        guarded(&self.path, || match opened.take() {
            Some(Opened::Writable(database)) => Ok(database.close()?),
            Some(Opened::ReadOnly(database)) => Ok(database.close()?),
            None => Ok(()),
        })?;
        then()
    }

    /// Whether it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.opened.read().is_none()
    }

    fn closed(&self) -> Fault {
        Fault::disk(self.path.display().to_string(), "it is closed")
    }
}

impl Debug for DatabaseFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseFile({})", self.path.display())
    }
}

const FELL_BACK_PROGRESS: f64 = 0.3;
/// Where redb's header says whether the file was left open (`docs/design.md` of redb: the "god byte").
const STATE_BYTE_AT: u64 = 9;
const LEFT_OPEN_BIT: u8 = 2;

fn was_left_open(file: &dyn DiskFile) -> io::Result<bool> {
    let mut byte = [0];
    file.read_at(STATE_BYTE_AT, &mut byte)?;
    Ok(byte[0] & LEFT_OPEN_BIT != 0)
}

/// See [`DatabaseFile::show`], for a file that was closed since.
pub(crate) fn show(disk: &dyn Disk, path: &Path) -> Result<(), Fault> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let renamed = disk.rename(&hidden(path), path).and_then(|()| disk.sync_directory(folder));
    renamed.map_err(|error| Fault::disk(format!("naming {}", path.display()), error))
}

/// Where a file is made before it has its name. Whoever finds one of these may remove it.
pub(crate) fn hidden(path: &Path) -> PathBuf {
    path.with_extension("redb.new")
}

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    builder
}

fn opening(path: &Path, error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound => Fault::damaged(path.display().to_string(), "the file is missing"),
        io::ErrorKind::UnexpectedEof => Fault::damaged(path.display().to_string(), "the file is cut short"),
        _ => Fault::disk(format!("opening {}", path.display()), error),
    }
}

/// redb would make a new database of an empty file.
fn refuse_empty(path: &Path, file: &dyn DiskFile) -> Result<(), Fault> {
    match file.is_empty() {
        Ok(false) => Ok(()),
        Ok(true) => Err(Fault::damaged(path.display().to_string(), "the file is empty")),
        Err(error) => Err(opening(path, &error)),
    }
}

/// Runs what calls redb; errors and panics become faults that name the file.
pub(crate) fn guarded<T>(path: &Path, run: impl FnOnce() -> Result<T, Problem>) -> Result<T, Fault> {
    let name = || path.display().to_string();
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Problem::Fault(fault))) => Err(fault),
        Ok(Err(Problem::Redb(error))) => Err(fault_of(name(), &error)),
        Err(panic) => Err(Fault::damaged(name(), format!("its library gave up: {}", message(&*panic)))),
    }
}

fn fault_of(file: String, error: &redb::Error) -> Fault {
    match error {
        redb::Error::Io(io) if io.kind() == io::ErrorKind::UnexpectedEof => {
            Fault::damaged(file, "it points behind its end")
        }
        redb::Error::Io(io) if io.kind() == io::ErrorKind::InvalidData => Fault::damaged(file, error),
        redb::Error::Io(_)
        | redb::Error::PreviousIo
        | redb::Error::DatabaseClosed
        | redb::Error::LockPoisoned(_) => Fault::disk(file, error),
        _ => Fault::damaged(file, error),
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// Is shown what is read, and where that lies.
pub(crate) type See = Box<dyn Fn(u64, &[u8]) + Send + Sync>;

/// A [`DiskFile`] as redb wants it.
struct Backend {
    file: Box<dyn DiskFile>,
    see: Option<See>,
    zeros: Mutex<Zeros>,
    poison: Mutex<Option<String>>,
}

impl Backend {
    fn new(file: Box<dyn DiskFile>) -> Backend {
        Backend { file, see: None, zeros: Mutex::new(Zeros::new(0)), poison: Mutex::new(None) }
    }

    fn checked<T>(&self, poisons: bool, run: impl FnOnce(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        if let Some(why) = &*self.poison.lock() {
            return Err(io::Error::other(format!("an earlier operation failed: {why}")));
        }
        let result = run(&*self.file);
        if let (Err(error), true) = (&result, poisons) {
            *self.poison.lock() = Some(error.to_string());
        }
        result
    }
}

impl Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.checked(false, |file| file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.checked(false, |file| file.read_at(offset, out))?;
        if let Some(see) = &self.see {
            see(offset, out);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.checked(true, |file| {
            file.set_len(length)?;
            self.zeros.lock().resized(length);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.checked(true, |file| file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.checked(true, |file| {
            let zeros = self.zeros.lock().before_write(offset, data.len() as u64);
            if let Some(zeros) = zeros {
                zeros.write(file)?;
            }
            file.write_at(offset, data)
        })
    }
}
