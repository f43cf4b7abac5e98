//! Room on the disk that producers and plugins may not take: so that it is never full for those who can empty it.
//!
//! ```text
//!   free ──▶ under the reserve: FULL                        producers are refused, tasks rest;
//!            over it again, and an eighth more: not full    fetching, trimming and deleting go on throughout
//! ```
//!
//! The disk is looked at every half second, and whenever a share of the reserve was written since. The reserve covers
//! what was accepted before and is still to be written, and what storage writes for itself: state, votes, new segments.
//!
//! Somebody else may fill the disk to its last byte. Against that lie two files of zeros in the data folder, the
//! *ballast*. When there is less room than one takes, a running broker removes the first; one that starts removes both,
//! before anything is opened, so that a start finds room even where the first's was taken, too. On a file system that
//! compresses zeros they weigh nothing; there the reserve alone counts.
//!
//! A disk that fails all the same ends the broker, as every fault does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemill_core::limits;
use tidemill_core::rejection::Rejection;
use tidemill_core::seams::{Disk, OpenMode, World};
use tokio::sync::watch;

use crate::metrics::Metrics;

/// How often the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The share of the reserve that may be written before it is looked at again.
const LOOK_SHARE: u64 = 16;
/// The share of the reserve that has to be free beyond it before it counts as free: so that it does not change its
/// mind with every batch.
const MORE_SHARE: u64 = 8;
/// The ballast of a running broker, and that of one that starts.
const BALLAST: [&str; 2] = ["ballast-running", "ballast-starting"];
/// Written at once.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// Whether there is room on the disk of a data folder.
#[derive(Debug)]
pub struct Reserve {
    world: World,
    folder: PathBuf,
    bytes: u64,
    written: AtomicU64,
    full: watch::Sender<bool>,
    metrics: Arc<Metrics>,
}

impl Reserve {
    /// Looks at the disk of a folder that exists. With `bytes` 0 nothing is kept, and it is never full.
    pub fn open(world: World, folder: &Path, bytes: u64, metrics: Arc<Metrics>) -> Arc<Reserve> {
        let full = watch::Sender::new(false);
        let folder = folder.to_owned();
        let reserve = Arc::new(Reserve { world, folder, bytes, written: AtomicU64::new(0), full, metrics });
        reserve.look(&BALLAST);
        reserve
    }

    /// Looks at the disk, for ever.
    pub async fn watch(self: Arc<Self>) {
        if self.bytes == 0 {
            return;
        }
        loop {
            self.world.clock.sleep(LOOK_EVERY).await;
            self.look(&BALLAST[..1]);
        }
    }

    /// So many bytes were written.
    pub fn wrote(&self, bytes: u64) {
        let written = self.written.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.bytes > 0 && written > self.bytes / LOOK_SHARE {
            self.look(&BALLAST[..1]);
        }
    }

    /// Ready once there is room.
    pub async fn room(&self) {
        // The sender is right here: it cannot be gone.
        let _ = self.full.subscribe().wait_for(|full| !full).await;
    }

    /// Whether something may be written that makes the data grow.
    ///
    /// # Errors
    /// [`Rejection::DiskFull`].
    pub fn check(&self) -> Result<(), Rejection> {
        if *self.full.borrow() { Err(Rejection::DiskFull { reserve: self.bytes }) } else { Ok(()) }
    }

    /// Looks at the disk, and drops this ballast if there is next to no room.
    fn look(&self, ballast: &[&str]) {
        if self.bytes == 0 {
            return;
        }
        self.written.store(0, Ordering::Relaxed);
        let Ok((free, _)) = self.world.disk.space(&self.folder) else { return };
        self.metrics.disk_free(free);
        let was_full = *self.full.borrow();
        let enough = if was_full { self.bytes + self.bytes / MORE_SHARE } else { self.bytes };
        let is_full = free < enough;
        if is_full != was_full {
            self.full.send_replace(is_full);
            self.metrics.disk_full(is_full);
            match is_full {
                true => tracing::error!(
                    free,
                    reserve = self.bytes,
                    "the disk is full: producers are refused, tasks rest"
                ),
                false => tracing::info!(free, "there is room on the disk again"),
            }
        }
        if let Err(error) = self.trim(free, ballast) {
            tracing::warn!(%error, "the ballast stays as it is");
        }
    }

    /// Makes all ballast while there is ample room, and drops this while there is next to none.
    fn trim(&self, free: u64, droppable: &[&str]) -> io::Result<()> {
        let disk = &*self.world.disk;
        if free < limits::BALLAST_BYTES {
            for path in droppable.iter().map(|name| self.folder.join(name)) {
                if disk.open(&path, OpenMode::Read).is_ok() {
                    disk.remove(&path)?;
                    tracing::warn!(free, ballast = %path.display(), "next to nothing is free on the disk: dropped");
                }
            }
        } else if free > self.bytes + self.bytes / MORE_SHARE + limits::BALLAST_BYTES * BALLAST.len() as u64 {
            BALLAST.iter().try_for_each(|name| lay(disk, &self.folder.join(name)))?;
        }
        Ok(())
    }
}

/// Makes a ballast, if it is not there whole.
fn lay(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) if file.len()? == limits::BALLAST_BYTES => return Ok(()),
        _ => disk.open(path, OpenMode::CreateOrWrite)?,
    };
    let mut at = 0;
    while at < limits::BALLAST_BYTES {
        file.write_at(at, &ZEROS)?;
        at += ZEROS.len() as u64;
    }
    Ok(())
}
