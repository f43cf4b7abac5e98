//! The operating system's files.
#![allow(clippy::disallowed_methods, reason = "this is the disk that everybody else is handed")]

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use tidemill_core::seams::{Disk, DiskFile, DiskLock, OpenMode};

use super::direct::{Direct, Lent};

/// Files and folders as the operating system has them.
#[derive(Debug, Clone, Default)]
pub struct RealDisk {
    /// For large writes past the page cache, if there are to be any.
    lent: Option<Arc<Lent>>,
}

impl RealDisk {
    /// A disk whose large writes go past the page cache, where that can be.
    pub fn with_direct_writes() -> RealDisk {
        RealDisk { lent: Some(Arc::default()) }
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        // What a broker keeps is records and keys of others: nobody else on the machine is to read it.
        options.read(true).mode(0o600);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::Write => options.write(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
            OpenMode::CreateOrWrite => options.write(true).create(true),
        };
        Ok(Box::new(RealFile {
            file: options.open(path)?,
            direct: Direct::default(),
            lent: self.lent.clone(),
        }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        paths.sort();
        Ok(paths)
    }

    fn create_folders(&self, folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_directory(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock(file))),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn space(&self, folder: &Path) -> io::Result<(u64, u64)> {
        let disk = rustix::fs::statvfs(folder)?;
        Ok((disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize)))
    }
}

/// A path without links and without `..`, also of what is not there yet.
///
/// # Errors
/// As the operating system's; [`io::ErrorKind::InvalidInput`] for `..` behind what is there.
pub fn real_path(path: &Path) -> io::Result<PathBuf> {
    for there in path.ancestors() {
        let Ok(real) = fs::canonicalize(if there == Path::new("") { Path::new(".") } else { there }) else {
            continue;
        };
        let rest = path.strip_prefix(there).unwrap_or(Path::new(""));
        if rest.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        return Ok(real.join(rest));
    }
    Err(io::ErrorKind::NotFound.into())
}

#[derive(Debug)]
struct RealFile {
    file: File,
    direct: Direct,
    lent: Option<Arc<Lent>>,
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(lent) = &self.lent
            && self.direct.write(&self.file, lent, offset, bytes)?
        {
            return Ok(());
        }
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.file, flags, offset, length).map_err(|error| match error {
            Errno::OPNOTSUPP | Errno::NOSYS => io::ErrorKind::Unsupported.into(),
            error => error.into(),
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The lock ends when the file is closed, and so with the process at the latest.
#[derive(Debug)]
struct RealLock(#[expect(dead_code, reason = "held, not read")] File);

impl DiskLock for RealLock {}
