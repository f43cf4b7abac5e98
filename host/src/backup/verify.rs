//! Reading a backup whole: every file against its digest, and every group as a start would read it.
//!
//! It needs no broker. A group is looked at in memory, through a disk on which the files of the backup seem to lie where
//! they will; so nothing of the backup is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_core::seams::{Disk, DiskFile, DiskLock, OpenMode};
use tidemill_storage::backup::{self, Checked};

use super::BackupError;
use super::manifest::Manifest;
use super::place::{Place, sum};

/// What was found.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What the backup says that it holds.
    pub manifest: Manifest,
    /// What each group holds, by the name of its folder.
    pub groups: BTreeMap<String, Checked>,
    /// What is wrong, for people. Nothing: the backup can be restored.
    pub damage: Vec<String>,
}

/// Verifies a backup. What is damaged is told, all of it, and is no error.
///
/// # Errors
/// [`BackupError`] when there is no such backup, or its manifest cannot be read.
pub fn verify(place: &Place, name: &str) -> Result<Verified, BackupError> {
    let manifest = place.manifest(name)?;
    let mut damage = Vec::new();
    let mut damaged = BTreeSet::new();
    for file in &manifest.files {
        let wrong = match sum(&*place.disk, &place.file(&file.digest)) {
            Ok(found) if found.bytes != file.bytes => {
                format!("it has {} bytes, and had {}", found.bytes, file.bytes)
            }
            Ok(found) if found.digest != file.digest => "it does not hold what was copied".to_owned(),
            Ok(_) => continue,
            Err(BackupError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                "it is missing".to_owned()
            }
            Err(error) => error.to_string(),
        };
        damage.push(format!("{} (files/{}): {wrong}", file.path, file.digest));
        damaged.insert(Path::new(&file.path).parent().unwrap_or(Path::new("")).to_owned());
    }
    let view: Arc<dyn Disk> = Arc::new(View::of(place, &manifest));
    let mut groups = BTreeMap::new();
    for cut in manifest.groups.iter().filter(|cut| !damaged.contains(Path::new(&cut.group))) {
        match backup::check(&view, Path::new(&cut.group)) {
            Ok(checked) => {
                let last = checked.last.map(|last| (last.term.0, last.index.0));
                if last != Some((cut.term, cut.index)) {
                    damage.push(format!("{}: its log ends with {last:?}", cut.group));
                }
                groups.insert(cut.group.clone(), checked);
            }
            Err(fault) => damage.push(format!("{}: {fault}", cut.group)),
        }
    }
    Ok(Verified { manifest, groups, damage })
}

/// A disk on which a backup's files lie where they will when it is restored. They can only be read.
struct View {
    disk: Arc<dyn Disk>,
    files: BTreeMap<PathBuf, PathBuf>,
}

impl View {
    fn of(place: &Place, manifest: &Manifest) -> View {
        let files = manifest.files.iter();
        View {
            disk: place.disk.clone(),
            files: files.map(|file| (PathBuf::from(&file.path), place.file(&file.digest))).collect(),
        }
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "a backup is only read"))
}

impl Disk for View {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        match (self.files.get(path), mode) {
            (Some(file), OpenMode::Read) => self.disk.open(file, mode),
            (Some(_), _) => refused(),
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.files.keys().filter(|path| path.parent() == Some(folder)).cloned().collect())
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

    fn space(&self, _: &Path) -> io::Result<(u64, u64)> {
        refused()
    }
}
