//! The bundles that this broker keeps: by their digest, and unpacked for guests.
//!
//! ```text
//! bundles/<digest>.tar    as it was deployed
//! unpacked/<digest>/      its files; made again by every broker that opens the folder, before their first use
//! ```
//!
//! The archives are the truth: they are synced, copied by backups, and held against their digest whenever they are read.
//! What is unpacked is none of that, so nobody has to trust what a crash left of it. It lies on the disk of the operating
//! system, whatever disk the world has, since guests read it there; a broker without bundles makes nothing of it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_core::bundle::Grant;
use tidemill_core::ids::Digest;
use tidemill_core::limits;
use tidemill_core::seams::World;
use tidemill_runtime::bundle::{ArchiveError, UnpackError, archive};
use tidemill_runtime::{Bundle, Mounted};
use tidemill_storage::folder;
use tokio::sync::oneshot;

use crate::files::{self, digest};

/// Why a bundle cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BundleError {
    /// The bytes have another digest than was said.
    #[error("the bundle's SHA-256 is {found}, and {stated} was said")]
    Digest {
        /// Of the bytes.
        found: Digest,
        /// As said.
        stated: Digest,
    },
    /// No bundle may be so.
    #[error("the bundle: {0}")]
    Archive(#[from] ArchiveError),
    /// This broker does not have it.
    #[error("there is no bundle {0} here: upload it first")]
    Missing(Digest),
    /// The disk failed.
    #[error("the bundle's files: {0}")]
    Disk(Arc<io::Error>),
}

impl From<io::Error> for BundleError {
    fn from(error: io::Error) -> Self {
        BundleError::Disk(Arc::new(error))
    }
}

impl From<UnpackError> for BundleError {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Archive(error) => error.into(),
            UnpackError::Io { .. } => io::Error::other(error.to_string()).into(),
        }
    }
}

/// All bundles.
pub struct Bundles {
    world: World,
    folder: PathBuf,
    /// Those that are unpacked. Held while one is, so that nobody else makes the same folder.
    opened: Mutex<BTreeMap<Digest, Bundle>>,
    /// Held while one is written: two who bring the same would write one file.
    putting: Mutex<()>,
}

impl Bundles {
    /// Those in the data folder `folder`.
    ///
    /// # Errors
    /// As the disk's.
    pub fn open(world: World, folder: &Path) -> io::Result<Bundles> {
        folder::make(&*world.disk, &folder.join("bundles"))?;
        Ok(Bundles { world, folder: folder.to_owned(), opened: Mutex::default(), putting: Mutex::default() })
    }

    /// Keeps a bundle, durably.
    ///
    /// # Errors
    /// [`BundleError`] when it is not what was said, no bundle, or cannot be written.
    pub fn put(&self, stated: Digest, bytes: &[u8]) -> Result<(), BundleError> {
        let found = digest(bytes);
        if found != stated {
            return Err(BundleError::Digest { found, stated });
        }
        archive::read(bytes)?;
        let _putting = self.putting.lock();
        if self.get(stated)?.is_none() {
            files::replace(&*self.world.disk, &self.archive(stated), bytes)?;
        }
        Ok(())
    }

    /// A bundle's archive; `None` when it is not here, or its file is damaged.
    ///
    /// # Errors
    /// As the disk's.
    pub fn get(&self, wanted: Digest) -> io::Result<Option<Bytes>> {
        files::read_known(&*self.world.disk, &self.archive(wanted), wanted, limits::BUNDLE_BYTES_MAX)
    }

    /// Whether all that a deployment grants is here.
    ///
    /// # Errors
    /// [`BundleError`] when one is not.
    pub fn check(&self, grants: &[Grant]) -> Result<(), BundleError> {
        let is_here = |wanted: Digest| self.get(wanted)?.map(drop).ok_or(BundleError::Missing(wanted));
        grants.iter().try_for_each(|grant| is_here(grant.digest))
    }

    /// What a deployment grants, for its guests to read. One that is not unpacked is unpacked on a thread of its own: it may
    /// be large, and whoever else wants it waits.
    ///
    /// # Errors
    /// [`BundleError`] when one is not here.
    pub async fn mounted(self: &Arc<Self>, grants: &[Grant]) -> Result<Arc<[Mounted]>, BundleError> {
        if grants.is_empty() {
            return Ok(Arc::default());
        }
        let (done, mounted) = oneshot::channel();
        let (bundles, grants) = (self.clone(), grants.to_vec());
        let unpack = async move {
            let mounted = |Grant { mount, digest }: &Grant| {
                Ok(Mounted { at: mount.clone(), bundle: bundles.unpacked(*digest)? })
            };
            // Whoever asked may be gone.
            let _ = done.send(grants.iter().map(mounted).collect());
        };
        self.world.spawner.thread("bundles".to_owned(), Box::pin(unpack));
        mounted.await.unwrap_or_else(|_| Err(io::Error::other("it was not unpacked").into()))
    }

    fn unpacked(&self, wanted: Digest) -> Result<Bundle, BundleError> {
        let mut opened = self.opened.lock();
        if let Some(bundle) = opened.get(&wanted) {
            return Ok(bundle.clone());
        }
        // Those of versions that are no more are not kept open.
        opened.retain(|_, bundle| bundle.is_in_use());
        let archive = self.get(wanted)?.ok_or(BundleError::Missing(wanted))?;
        let bundle = Bundle::unpack(&archive, &self.folder.join("unpacked").join(wanted.to_string()))?;
        opened.insert(wanted, bundle.clone());
        Ok(bundle)
    }

    fn archive(&self, digest: Digest) -> PathBuf {
        self.folder.join("bundles").join(format!("{digest}.tar"))
    }
}

impl std::fmt::Debug for Bundles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bundles({})", self.folder.display())
    }
}
