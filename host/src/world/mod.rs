//! The real world: the system's clock, its random numbers, its files, its threads.
//!
//! These are the only files of the broker in which those may be named; see `clippy.toml`.

mod chance;
mod clock;
mod direct;
mod disk;
mod peers;
mod spawner;

use std::sync::Arc;

use tidemill_core::seams::World;
use tokio::runtime::Handle;

pub use disk::{RealDisk, real_path};

/// The real world, for a broker whose files lie on `disk`, whose tasks run on `tasks` and whose guests run on `guests`.
pub fn real(disk: RealDisk, tasks: Handle, guests: Handle) -> World {
    World {
        clock: Arc::new(clock::SystemClock::start()),
        chance: Arc::new(chance::SystemChance),
        disk: Arc::new(disk),
        transport: Arc::new(peers::NoPeers),
        spawner: Arc::new(spawner::Threads::new(tasks, guests)),
    }
}
