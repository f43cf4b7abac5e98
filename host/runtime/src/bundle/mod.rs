//! The files of a deployment: packed, held to what they must be, and open for guests.
//!
//! ```text
//!   a folder ── gather ──▶ files ── pack ──▶ archive, known by its SHA-256 ── unpack ──▶ Bundle: a folder of ours
//!   of the author's                                                                     that guests read
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`archive`] | files as one sequence of bytes, and which sequences are such |
//! | [`gather`](mod@gather) | the files of a folder |
//! | [`unpack`] | a folder made of an archive |
//!
//! Folders are only ever entered through cap-std, which lets no path and no symbolic link lead out of them. There are
//! none of the latter: neither are they gathered, nor taken from an archive.

pub mod archive;
mod gather;
mod unpack;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::Dir;

pub use self::archive::ArchiveError;
pub use self::gather::{GatherError, gather};
pub use self::unpack::UnpackError;

/// Where a bundle is for the guests of a task.
#[derive(Debug, Clone)]
pub struct Mounted {
    /// The path, as guests know it.
    pub at: String,
    /// What is there.
    pub bundle: Bundle,
}

/// Files that guests may read, in a folder of their own. Cheap to clone; whoever made the folder keeps it.
#[derive(Clone)]
pub struct Bundle(Arc<Opened>);

struct Opened {
    folder: PathBuf,
    dir: Dir,
    nodes: BTreeMap<Place, Node>,
    /// Where each path leads; that of the folder itself is empty.
    paths: BTreeMap<String, Place>,
}

/// What the operating system knows a file by: its device and its number there.
type Place = (u64, u64);

/// A file or a folder of a bundle: what a guest is told of it, instead of what the operating system knows. That differs
/// from broker to broker, and from one unpacking to the next.
pub(crate) struct Node {
    /// Its number among all that the bundle holds, in the order of their paths.
    pub(crate) number: u64,
    /// The bytes of a file; none of a folder.
    pub(crate) size: Option<u64>,
    /// What a folder holds, in the order of names.
    pub(crate) holds: Arc<[Held]>,
}

/// An entry of a folder.
pub(crate) struct Held {
    pub(crate) name: String,
    pub(crate) is_folder: bool,
}

impl Bundle {
    /// Makes a folder of an archive, in place of whatever lies there, and opens it. The folder is not synced: it can be
    /// made again at any time.
    ///
    /// # Errors
    /// [`UnpackError`].
    pub fn unpack(archive: &[u8], folder: &Path) -> Result<Bundle, UnpackError> {
        unpack::unpack(archive, folder)
    }

    /// Whether somebody else has it, too.
    pub fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// At most `most` bytes of a file of `size`, from an offset on, wherever that is; fewer only at its end.
    pub(crate) fn read(&self, path: &str, size: u64, offset: u64, most: u64) -> io::Result<Vec<u8>> {
        // The operating system takes no offset so far behind the end as a guest may name.
        let left = size.saturating_sub(offset).min(most);
        let mut bytes = vec![0; usize::try_from(left).map_err(io::Error::other)?];
        if !bytes.is_empty() {
            self.0.dir.open(path)?.into_std().read_exact_at(&mut bytes, offset)?;
        }
        Ok(bytes)
    }

    /// What lies at a path.
    pub(crate) fn find(&self, path: &str) -> Option<&Node> {
        self.node(*self.0.paths.get(path)?)
    }

    /// What an open file or folder is in this bundle.
    pub(crate) fn node(&self, place: Place) -> Option<&Node> {
        self.0.nodes.get(&place)
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bundle({})", self.0.folder.display())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests have files")]
mod tests;
