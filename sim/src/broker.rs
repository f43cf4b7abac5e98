//! One broker's place in the simulation: its world, and the end of it.

use std::sync::Arc;

use tidemill_core::ids::BrokerId;
use tidemill_core::seams::{PeerService, World};

use crate::chance::SimChance;
use crate::clock::SimClock;
use crate::disk::SimDisk;
use crate::net::{Plug, SimNet};
use crate::spawner::SimSpawner;

/// A broker's place. When it is dropped, the broker ends as if it had been killed.
pub struct SimBroker {
    /// Who it is.
    pub id: BrokerId,
    /// Its disk, as long as this life lasts.
    pub disk: SimDisk,
    /// Its clock.
    pub clock: SimClock,
    /// Its tasks.
    pub spawner: SimSpawner,
    /// Its world.
    pub world: World,
    net: SimNet,
    plug: Plug,
}

impl SimBroker {
    /// A place with this disk.
    pub fn new(id: BrokerId, disk: SimDisk, clock: SimClock, chance: SimChance, net: &SimNet) -> SimBroker {
        let (spawner, plug) = (SimSpawner::new(), net.plug(id));
        let world = World {
            clock: Arc::new(clock.clone()),
            chance: Arc::new(chance),
            disk: Arc::new(disk.clone()),
            transport: Arc::new(plug.clone()),
            spawner: Arc::new(spawner.clone()),
        };
        SimBroker { id, disk, clock, spawner, world, net: net.clone(), plug }
    }

    /// Has the others' questions answered.
    pub fn serve(&self, service: Arc<dyn PeerService>) {
        self.net.serve(self.id, service, self.world.spawner.clone());
    }

    /// Ends the process at once, and returns the disk that it leaves: all that was written is there.
    ///
    /// Tasks that a library started past the spawner may go on for a moment; they reach neither disk nor network.
    pub fn kill(self) -> SimDisk {
        self.disk.after_process_end()
    }

    /// Cuts the power, and returns one of the disks that this could leave.
    pub fn cut_power(self, chance: &SimChance) -> SimDisk {
        self.disk.after_power_cut(chance)
    }
}

impl Drop for SimBroker {
    fn drop(&mut self) {
        self.disk.power_off();
        self.plug.pull();
        self.spawner.kill();
    }
}
