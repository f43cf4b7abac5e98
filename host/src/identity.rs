//! Who this broker is: `identity.json` in its data folder, and the lock beside it.
//!
//! The folder makes the broker: it keeps its id and the id of its cluster. A folder in use is locked, so that a
//! second broker on it is refused.

use std::io;
use std::path::Path;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tidemill_core::fault::Fault;
use tidemill_core::ids::BrokerId;
use tidemill_core::seams::{Disk, DiskLock, World};
use tidemill_storage::folder;

use crate::backup::restore;
use crate::files;

/// The file that says who a broker is.
pub const FILE: &str = "identity.json";
/// The file that is locked.
pub const LOCK: &str = "lock";
/// The newest layout of data folders that this broker knows.
pub const FOLDER_VERSION: u32 = 1;
const FILE_BYTES_MAX: usize = 64 * 1024;

/// Who a broker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Identity {
    /// The layout of the data folder.
    pub folder_version: u32,
    /// The broker's id in its cluster.
    pub broker: BrokerId,
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster: String,
    /// Drawn when the folder was made: another folder is another broker, whatever its id says.
    pub incarnation: String,
    /// Seals artifacts of the compiler that this broker made itself; 64 hexadecimal digits.
    pub artifact_key: String,
    /// See [`Identity::reset_key`]; 64 hexadecimal digits.
    pub reset_key: String,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another broker runs on it.
    #[error("the data folder {0} is in use by another broker")]
    InUse(String),
    /// A backup was to become it, and is not all there.
    #[error(
        "a restore into the data folder {0} was interrupted: run it again, or empty the folder; nothing was served from it"
    )]
    HalfRestored(String),
    /// It cannot be read or written.
    #[error("the data folder {folder}: {error}")]
    Io {
        /// The folder.
        folder: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// Something in it is not what was written.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Takes a data folder, and says who its broker is; a new folder makes a new broker of a new cluster.
///
/// # Errors
/// [`FolderError`] when it is in use, unreadable, or written by a newer version.
pub fn take(world: &World, folder: &Path) -> Result<(Identity, Box<dyn DiskLock>), FolderError> {
    let shown = || folder.display().to_string();
    let failed = |error| FolderError::Io { folder: shown(), error };
    // Its own name must be durable before anything in it is.
    folder::make(&*world.disk, folder).map_err(failed)?;
    let lock = lock(&*world.disk, folder)?;
    if restore::is_unfinished(&*world.disk, folder).map_err(failed)? {
        return Err(FolderError::HalfRestored(shown()));
    }
    let path = folder.join(FILE);
    let identity = match files::read(&*world.disk, &path, FILE_BYTES_MAX).map_err(failed)? {
        Some(bytes) => read(&bytes)?,
        None => {
            let identity = make(world);
            let bytes = serde_json::to_vec_pretty(&identity).expect("an identity is plain data");
            files::replace(&*world.disk, &path, &bytes).map_err(failed)?;
            identity
        }
    };
    Ok((identity, lock))
}

/// Keeps others from using a data folder.
///
/// # Errors
/// [`FolderError`] when somebody uses it.
pub fn lock(disk: &dyn Disk, folder: &Path) -> Result<Box<dyn DiskLock>, FolderError> {
    let shown = || folder.display().to_string();
    disk.lock(&folder.join(LOCK)).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => FolderError::InUse(shown()),
        _ => FolderError::Io { folder: shown(), error },
    })
}

fn read(bytes: &[u8]) -> Result<Identity, Fault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Version {
        folder_version: u32,
    }
    let damaged = |error: serde_json::Error| Fault::damaged(FILE, error);
    let found = serde_json::from_slice::<Version>(bytes).map_err(damaged)?.folder_version;
    if found > FOLDER_VERSION {
        return Err(Fault::Newer { what: "the data folder".into(), found, known: FOLDER_VERSION });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// Who a broker on a new folder is.
pub(crate) fn make(world: &World) -> Identity {
    Identity {
        folder_version: FOLDER_VERSION,
        broker: BrokerId(1),
        cluster: draw::<16>(world),
        incarnation: draw::<16>(world),
        artifact_key: draw::<32>(world),
        reset_key: draw::<32>(world),
    }
}

/// `N` random bytes in hexadecimal.
fn draw<const N: usize>(world: &World) -> String {
    let mut bytes = [0; N];
    world.chance.fill(&mut bytes);
    HEXLOWER.encode(&bytes)
}

fn key(text: &str) -> Result<[u8; 32], Fault> {
    let digest: Result<tidemill_core::ids::Digest, _> = text.parse();
    digest.map(|key| key.0).map_err(|_| Fault::damaged(FILE, "no key of 64 hexadecimal digits"))
}

impl Identity {
    /// The key that seals artifacts.
    ///
    /// # Errors
    /// A [`Fault`] when the file holds none.
    pub fn artifact_key(&self) -> Result<[u8; 32], Fault> {
        key(&self.artifact_key)
    }

    /// The key by which this broker tells clients of an earlier process of it that their connections are gone
    /// (stateless resets, RFC 9000 section 10.3).
    ///
    /// # Errors
    /// A [`Fault`] when the file holds none.
    pub fn reset_key(&self) -> Result<[u8; 32], Fault> {
        key(&self.reset_key)
    }
}
