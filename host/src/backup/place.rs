//! The folder with backups: what is in it, putting files there, and removing what belongs to none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_core::fault::Fault;
use tidemill_core::limits;
use tidemill_core::seams::{Disk, DiskLock, OpenMode};
use tidemill_storage::folder;

use super::manifest::{Manifest, is_digest};
use super::{BackupError, at};
use crate::files;

const NAME_BYTES_MAX: usize = 64;
const UNFINISHED: &str = "new";

/// A folder with backups.
#[derive(Clone)]
pub struct Place {
    pub(super) disk: Arc<dyn Disk>,
    folder: PathBuf,
}

/// What a file is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    pub(super) digest: String,
}

impl Place {
    /// The one in `folder`, which need not be there yet.
    pub fn new(disk: Arc<dyn Disk>, folder: impl Into<PathBuf>) -> Place {
        Place { disk, folder: folder.into() }
    }

    fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    fn files(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// Where the next files are made.
    pub(super) fn making(&self) -> PathBuf {
        self.folder.join("making")
    }

    /// Where a file with this digest lies.
    pub(super) fn file(&self, digest: &str) -> PathBuf {
        self.files().join(digest)
    }

    fn manifest_of(&self, name: &str) -> PathBuf {
        self.manifests().join(format!("{name}.json"))
    }

    /// The names of its backups, in order.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    pub fn names(&self) -> Result<Vec<String>, BackupError> {
        let folder = self.manifests();
        let paths = self.disk.list(&folder).map_err(at(&folder))?;
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned());
        Ok(paths.iter().filter_map(name).collect())
    }

    /// A backup.
    ///
    /// # Errors
    /// [`BackupError::Refused`] when there is none of this name; [`BackupError::Fault`] when its manifest is damaged or
    /// newer.
    pub fn manifest(&self, name: &str) -> Result<Manifest, BackupError> {
        check_name(name)?;
        let path = self.manifest_of(name);
        let bytes = files::read(&*self.disk, &path, limits::BACKUP_MANIFEST_BYTES_MAX).map_err(at(&path))?;
        let missing = || format!("there is no backup {name} in {}", self.folder.display());
        let bytes = bytes.ok_or_else(|| BackupError::Refused(missing()))?;
        let manifest = Manifest::decode(&bytes, &path.display().to_string())?;
        if manifest.name != name {
            let why = format!("it says that it is {}", manifest.name);
            return Err(Fault::damaged(path.display().to_string(), why).into());
        }
        Ok(manifest)
    }

    /// Makes the folder if it is not there, and keeps others from writing to it.
    pub(super) fn take(&self) -> Result<Box<dyn DiskLock>, BackupError> {
        for part in [self.manifests(), self.files(), self.making()] {
            folder::make(&*self.disk, &part).map_err(at(&part))?;
        }
        let path = self.folder.join("lock");
        self.disk.lock(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                BackupError::Refused(format!("somebody else writes to {} now", self.folder.display()))
            }
            _ => at(&path)(error),
        })
    }

    /// Removes what no backup consists of: what an earlier attempt left, and what only a deleted one had. Files stay while
    /// a manifest cannot be read: they may be its.
    pub(super) fn tidy(&self) -> Result<(), BackupError> {
        let mut wanted = BTreeSet::new();
        let mut knows_all = true;
        for name in self.names()? {
            match self.manifest(&name) {
                Ok(manifest) => wanted.extend(manifest.files.into_iter().map(|file| file.digest)),
                Err(BackupError::Io { path, error }) => return Err(BackupError::Io { path, error }),
                Err(error) => {
                    tracing::warn!(name, %error, "a backup cannot be read: nothing that may be its is removed");
                    knows_all = false;
                }
            }
        }
        let is_unfinished = |path: &Path| path.extension().is_some_and(|extension| extension == UNFINISHED);
        let is_nobodys = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            is_unfinished(path) || (knows_all && is_digest(name) && !wanted.contains(name))
        };
        self.remove(&self.making(), |_| true)?;
        self.remove(&self.manifests(), is_unfinished)?;
        self.remove(&self.files(), is_nobodys)
    }

    fn remove(&self, folder: &Path, which: impl Fn(&Path) -> bool) -> Result<(), BackupError> {
        let names = self.disk.list(folder).map_err(at(folder))?;
        let gone: Vec<_> = names.into_iter().filter(|path| which(path)).collect();
        gone.iter().try_for_each(|path| self.disk.remove(path).map_err(at(path)))?;
        if gone.is_empty() { Ok(()) } else { self.disk.sync_directory(folder).map_err(at(folder)) }
    }

    /// Whether a file is there, and as long as it should be. Whether it holds what it should is for
    /// [`verify`](super::verify) to say.
    pub(super) fn has(&self, sum: &Sum) -> bool {
        let opened = self.disk.open(&self.file(&sum.digest), OpenMode::Read);
        opened.and_then(|file| file.len()).is_ok_and(|bytes| bytes == sum.bytes)
    }

    /// Copies a file from elsewhere, durably but for its name: see [`Place::settle`].
    pub(super) fn copy_in(&self, from: &Path) -> Result<Sum, BackupError> {
        let beside = self.files().join(format!("copy.{UNFINISHED}"));
        let sum = copy(&*self.disk, from, &beside)?;
        self.name(&beside, &sum)?;
        Ok(sum)
    }

    /// Takes over a file that was made in [`Place::making`].
    pub(super) fn adopt(&self, made: &Path) -> Result<Sum, BackupError> {
        let file = self.disk.open(made, OpenMode::Write).map_err(at(made))?;
        file.sync_data().map_err(at(made))?;
        let sum = sum(&*self.disk, made)?;
        self.name(made, &sum)?;
        Ok(sum)
    }

    fn name(&self, made: &Path, sum: &Sum) -> Result<(), BackupError> {
        if self.has(sum) {
            return self.disk.remove(made).map_err(at(made));
        }
        self.disk.rename(made, &self.file(&sum.digest)).map_err(at(made))
    }

    /// Makes the names of files durable; then the manifest that needs them may be written.
    pub(super) fn settle(&self) -> Result<(), BackupError> {
        self.disk.sync_directory(&self.files()).map_err(at(&self.files()))
    }

    /// Puts a manifest there: from now on the backup exists. One that could not be read again is refused.
    pub(super) fn put(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let path = self.manifest_of(&manifest.name);
        let bytes = manifest.encode();
        let most = limits::BACKUP_MANIFEST_BYTES_MAX;
        if bytes.len() > most {
            let (files, length) = (manifest.files.len(), bytes.len());
            return Err(BackupError::Refused(format!(
                "the list of its {files} files has {length} bytes, and at most {most} are possible; larger segments \
                 (storage.segment-bytes) are fewer files"
            )));
        }
        files::replace(&*self.disk, &path, &bytes).map_err(at(&path))
    }

    /// Deletes a backup, and the files that no other one has. One whose manifest is damaged goes, too.
    ///
    /// # Errors
    /// [`BackupError`]; when the manifest is gone, so is the backup.
    pub fn delete(&self, name: &str) -> Result<(), BackupError> {
        check_name(name)?;
        if !self.names()?.iter().any(|other| other == name) {
            return Err(BackupError::Refused(format!(
                "there is no backup {name} in {}",
                self.folder.display()
            )));
        }
        let _lock = self.take()?;
        let (path, folder) = (self.manifest_of(name), self.manifests());
        self.disk.remove(&path).and_then(|()| self.disk.sync_directory(&folder)).map_err(at(&path))?;
        self.tidy()
    }
}

/// A name that is one of a file.
pub(super) fn check_name(name: &str) -> Result<(), BackupError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with('.') || !name.bytes().all(is_plain)
    {
        let why = "letters, digits, `-`, `_` and `.`, not at the beginning";
        return Err(BackupError::Refused(format!(
            "{name:?} is no name for a backup: 1 to {NAME_BYTES_MAX} {why}"
        )));
    }
    Ok(())
}

/// What a hole in a file may begin and end with, in bytes: a page of the segments.
const HOLE: usize = 4096;

/// Copies a file to where none is, durably but for its name. Where it has zeros, the copy has holes: what was given back of a
/// segment takes no room in its copies either.
pub(super) fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<Sum, BackupError> {
    disk.remove(to).map_err(at(to))?;
    let target = disk.open(to, OpenMode::CreateNew).map_err(at(to))?;
    let mut offset = 0;
    let sum = read(disk, from, |piece| {
        let (start, pages) = (offset, piece.chunks(HOLE).collect::<Vec<_>>());
        for alike in pages.chunk_by(|one, next| is_zero(one) == is_zero(next)) {
            let bytes: usize = alike.iter().map(|page| page.len()).sum();
            let begins = (offset - start) as usize;
            if !is_zero(alike[0]) {
                target.write_at(offset, &piece[begins..begins + bytes]).map_err(at(to))?;
            }
            offset += bytes as u64;
        }
        Ok(())
    })?;
    target.set_len(offset).map_err(at(to))?;
    target.sync_data().map_err(at(to))?;
    Ok(sum)
}

fn is_zero(page: &[u8]) -> bool {
    page.iter().all(|byte| *byte == 0)
}

/// Reads a file.
pub(super) fn sum(disk: &dyn Disk, path: &Path) -> Result<Sum, BackupError> {
    read(disk, path, |_| Ok(()))
}

fn read(
    disk: &dyn Disk,
    path: &Path,
    mut take: impl FnMut(&[u8]) -> Result<(), BackupError>,
) -> Result<Sum, BackupError> {
    let file = disk.open(path, OpenMode::Read).map_err(at(path))?;
    let bytes = file.len().map_err(at(path))?;
    let mut hash = blake3::Hasher::new();
    let mut buffer = vec![0; limits::BACKUP_PIECE_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let length = buffer.len().min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
        let piece = &mut buffer[..length];
        file.read_at(offset, piece).map_err(at(path))?;
        hash.update(piece);
        take(piece)?;
        offset += length as u64;
    }
    Ok(Sum { bytes, digest: hash.finalize().to_string() })
}
