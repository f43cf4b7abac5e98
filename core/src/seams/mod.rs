//! The five seams: everything that waits, draws lots, touches a disk, talks to a peer or starts a thread
//! takes what it needs from a [`World`] that it is handed.
//!
//! A broker process has the real world; a simulation has one in which time jumps, disks tear and networks
//! part, and in which a failing run can be run again from its seed. Here are only the contracts. Their
//! implementations live in the shell (`host`) and in `sim`, and pass one suite of behaviour.

mod chance;
mod clock;
mod disk;
mod spawner;
mod transport;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use chance::Chance;
pub use clock::{Clock, Timestamp};
pub use disk::{Disk, DiskFile, DiskLock, OpenMode};
pub use spawner::Spawner;
pub use transport::{PeerService, Transport, Unreachable};

/// A future that owns all it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// All that a broker may learn from or do to what lies outside it.
#[derive(Clone)]
pub struct World {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub chance: Arc<dyn Chance>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// The other brokers.
    pub transport: Arc<dyn Transport>,
    /// Tasks and threads.
    pub spawner: Arc<dyn Spawner>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}
