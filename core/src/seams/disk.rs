//! Files, from outside.
//!
//! What the contract promises is what a power cut leaves: bytes written before a [`DiskFile::sync_data`] that
//! returned are there afterwards; of later writes none, some or parts may be. Names follow
//! [`Disk::sync_directory`] in the same way.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

/// How [`Disk::open`] treats a file that is or is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist; opened for reading only.
    Read,
    /// It must exist.
    Write,
    /// It must not exist yet.
    CreateNew,
    /// Either.
    CreateOrWrite,
}

/// A place with files in folders.
pub trait Disk: Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// As the operating system's; [`io::ErrorKind::NotFound`] and [`io::ErrorKind::AlreadyExists`] by `mode`.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// The paths of what lies in a folder, `folder` in front of each name, sorted. A folder that does not exist holds
    /// nothing.
    ///
    /// # Errors
    /// As the operating system's.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// As the operating system's.
    fn create_folders(&self, folder: &Path) -> io::Result<()>;

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// As the operating system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Puts a file in another's place, atomically.
    ///
    /// # Errors
    /// As the operating system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// As the operating system's. Whoever gets one must stop trusting this disk.
    fn sync_directory(&self, folder: &Path) -> io::Result<()>;

    /// Takes a lock that ends with the returned value or with the process.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while another process (or another holder in this one) has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;

    /// Bytes that can still be written, and the size of the whole disk.
    ///
    /// # Errors
    /// As the operating system's.
    fn space(&self, folder: &Path) -> io::Result<(u64, u64)>;
}

/// An open file. All methods may be called from several threads at once.
pub trait DiskFile: Send + Sync + Debug {
    /// Its length in bytes.
    ///
    /// # Errors
    /// As the operating system's.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes. Errors as [`DiskFile::len`].
    ///
    /// # Errors
    /// As the operating system's.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before that.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, growing the file when needed.
    ///
    /// # Errors
    /// As the operating system's.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts or grows the file; what is new reads as zeros.
    ///
    /// # Errors
    /// As the operating system's.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Gives a range within the file back to the disk: it reads as zeros then, and the length stays. After a power cut
    /// before the next sync, any of it may be there still.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where the file system cannot do it; else as the operating system's.
    fn punch(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Returns once all that was written before is durable.
    ///
    /// # Errors
    /// After one nobody knows what the disk holds: the process must end without trying again.
    fn sync_data(&self) -> io::Result<()>;
}

/// Held while a data folder is in use.
pub trait DiskLock: Send + Sync + Debug {}
