//! Making a data folder of a backup.
//!
//! ```text
//!   restoring.json ▸ all files, each held against its digest ▸ restored.json ▸ identity.json ▸ restoring.json goes
//! ```
//!
//! A folder with `restoring.json` in it is refused by a broker; the same restore done again begins anew there. What
//! comes of it is the same broker of the same cluster, with the same authority: clients, their certificates and their
//! producers go on. But it is another folder: what makes a folder (incarnation, the keys of machine code and of resets) is
//! drawn anew, so that a later backup of it is never taken for one of the original.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidemill_core::fault::Fault;
use tidemill_core::seams::{Disk, World};
use tidemill_storage::folder;

use super::manifest::Manifest;
use super::place::{Place, copy};
use super::{BackupError, at};
use crate::files;
use crate::identity::{self, Identity};

const UNFINISHED: &str = "restoring.json";
const RESTORED: &str = "restored.json";
const FILE_BYTES_MAX: usize = 64 * 1024;

/// What a restored folder says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Restored {
    /// The backup.
    pub backup: String,
    /// When that was taken, in milliseconds since 1970.
    pub taken_at_ms: u64,
    /// When it was restored, in milliseconds since 1970.
    pub restored_at_ms: u64,
    /// The incarnation of the folder that was copied.
    pub origin: String,
}

/// What a restore that is not finished says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Unfinished {
    backup: String,
    taken_at_ms: u64,
    origin: String,
}

/// Whether a restore into this folder was begun and not finished.
///
/// # Errors
/// As the disk's.
pub fn is_unfinished(disk: &dyn Disk, folder: &Path) -> std::io::Result<bool> {
    Ok(disk.list(folder)?.contains(&folder.join(UNFINISHED)))
}

/// What a folder came from, if it was restored.
///
/// # Errors
/// [`Fault`] when that cannot be read.
pub fn restored(disk: &dyn Disk, folder: &Path) -> Result<Option<Restored>, Fault> {
    let path = folder.join(RESTORED);
    let bytes = files::read(disk, &path, FILE_BYTES_MAX)
        .map_err(|error| Fault::disk(format!("reading {}", path.display()), error))?;
    let read = bytes.map(|bytes| serde_json::from_slice(&bytes));
    read.transpose().map_err(|error| Fault::damaged(RESTORED, error))
}

/// Makes a data folder of a backup. `to` must be empty, or hold what the same restore left when it was interrupted.
///
/// # Errors
/// [`BackupError`]: `to` is untouched, or a folder that no broker starts on.
pub fn restore(world: &World, from: &Place, name: &str, to: &Path) -> Result<Manifest, BackupError> {
    let disk = &*world.disk;
    let manifest = from.manifest(name)?;
    if manifest.folder_version > identity::FOLDER_VERSION {
        let (found, known) = (manifest.folder_version, identity::FOLDER_VERSION);
        return Err(Fault::Newer { what: format!("the backup {name}"), found, known }.into());
    }
    let wanted = Unfinished {
        backup: manifest.name.clone(),
        taken_at_ms: manifest.taken_at_ms,
        origin: manifest.incarnation.clone(),
    };
    check_empty(disk, to, &wanted)?;
    folder::make(disk, to).map_err(at(to))?;
    let _lock = identity::lock(disk, to).map_err(|error| BackupError::Refused(error.to_string()))?;
    // Somebody may have been faster.
    check_empty(disk, to, &wanted)?;
    let put = |name: &str, bytes: &[u8]| {
        let path = to.join(name);
        files::replace(disk, &path, bytes).map_err(at(&path))
    };
    put(UNFINISHED, &json(&wanted))?;

    let mut folders: Vec<PathBuf> = Vec::new();
    for file in &manifest.files {
        let path = to.join(&file.path);
        let folder = path.parent().unwrap_or(to).to_owned();
        if !folders.contains(&folder) {
            folder::make(disk, &folder).map_err(at(&folder))?;
            folders.push(folder);
        }
        let copied =
            copy(disk, &from.file(&file.digest), &path).map_err(|error| missing(error, &file.path))?;
        if (copied.bytes, &copied.digest) != (file.bytes, &file.digest) {
            let what = format!("{} of the backup {name}", file.path);
            return Err(Fault::damaged(what, "it does not hold what was copied").into());
        }
    }
    folders.iter().try_for_each(|folder| disk.sync_directory(folder).map_err(at(folder)))?;
    let restored = Restored {
        backup: manifest.name.clone(),
        taken_at_ms: manifest.taken_at_ms,
        restored_at_ms: world.clock.now().0,
        origin: manifest.incarnation.clone(),
    };
    put(RESTORED, &json(&restored))?;
    let identity =
        Identity { broker: manifest.broker, cluster: manifest.cluster.clone(), ..identity::make(world) };
    put(identity::FILE, &json(&identity))?;
    let path = to.join(UNFINISHED);
    disk.remove(&path).and_then(|()| disk.sync_directory(to)).map_err(at(&path))?;
    Ok(manifest)
}

fn missing(error: BackupError, path: &str) -> BackupError {
    match error {
        BackupError::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
            Fault::damaged(path, "the backup lacks this file").into()
        }
        error => error,
    }
}

/// Refuses a folder in which something lies, unless the same restore was interrupted there.
fn check_empty(disk: &dyn Disk, to: &Path, wanted: &Unfinished) -> Result<(), BackupError> {
    let names = disk.list(to).map_err(at(to))?;
    let path = to.join(UNFINISHED);
    if let Some(bytes) = files::read(disk, &path, FILE_BYTES_MAX).map_err(at(&path))? {
        if serde_json::from_slice::<Unfinished>(&bytes).is_ok_and(|begun| begun == *wanted) {
            return Ok(());
        }
        let why = "another backup began to be restored there: name an empty folder";
        return Err(BackupError::Refused(format!("{}: {why}", to.display())));
    }
    // What a lock, or a marker that never got its name, left of an attempt is nothing.
    let hidden = to.join(format!("{UNFINISHED}.new"));
    match names.iter().find(|name| **name != to.join(identity::LOCK) && **name != hidden) {
        None => Ok(()),
        Some(other) => Err(BackupError::Refused(format!(
            "{} is not empty ({} is there): name an empty folder",
            to.display(),
            other.display()
        ))),
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("this is plain data")
}
