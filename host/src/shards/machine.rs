//! What Raft applies a group's entries with, and who is told afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tidemill_core::effect::Effect;
use tidemill_core::entry::Entry;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{LogIndex, ShardId, Term};
use tidemill_core::seams::Clock;
use tidemill_core::shard;
use tidemill_core::tables::Tables;
use tidemill_storage::group::Machine;
use tokio::sync::Notify;

use super::ahead::Runners;
use super::leader::Leader;
use super::waiters::Waiters;

/// A shard's machine.
#[derive(Debug)]
pub struct ShardMachine {
    /// Who waits for committed records.
    pub waiters: Arc<Waiters>,
    /// The tasks, which do not wait for that.
    pub runners: Arc<Runners>,
    /// Told when a step left something for another shard: one for each of them.
    pub to_ship: Vec<Notify>,
    /// Told when tasks started or stopped.
    pub tasks_changed: Arc<Notify>,
    /// Told when records were deleted.
    pub deleted: Arc<Notify>,
    /// The leader, while this broker is that.
    pub leader: Mutex<Option<Arc<Leader>>>,
    /// Entries applied whose effects were not performed yet.
    applied: AtomicU64,
}

impl ShardMachine {
    /// The machine of one of `shards` shards.
    pub fn new(
        shards: u16,
        tasks_changed: Arc<Notify>,
        deleted: Arc<Notify>,
        clock: Arc<dyn Clock>,
    ) -> ShardMachine {
        ShardMachine {
            waiters: Arc::default(),
            runners: Arc::new(Runners::new(clock)),
            to_ship: (0..shards).map(|_| Notify::new()).collect(),
            tasks_changed,
            deleted,
            leader: Mutex::new(None),
            applied: AtomicU64::new(0),
        }
    }

    /// Wakes what ships to a shard.
    pub fn ship_to(&self, to: ShardId) {
        if let Some(notify) = self.to_ship.get(usize::from(to.0)) {
            notify.notify_one();
        }
    }
}

impl Machine for ShardMachine {
    fn apply(
        &self,
        tables: &mut dyn Tables,
        index: LogIndex,
        entry: &Entry,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        shard::apply(tables, index, entry, effects)?;
        self.applied.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The one place where effects of a shard are performed.
    fn perform(&self, term: Term, effects: Vec<Effect>) {
        // While this broker leads, it alone proposes, and entries are applied in the order of its proposals: how
        // many were applied says which. Those of another term are none of its own.
        let applied = self.applied.swap(0, Ordering::Relaxed);
        let leader = self.leader.lock().clone().filter(|leader| leader.term() == term);
        leader.inspect(|leader| leader.settle(applied));
        for effect in effects {
            match effect {
                Effect::Appended { at } => self.waiters.wake(at),
                Effect::ToShip { to } => self.ship_to(to),
                Effect::TaskStarted { .. } | Effect::TaskStopped { .. } => self.tasks_changed.notify_one(),
                Effect::Redriven { at } => self.runners.letters_wait(at),
                Effect::Deleted => self.deleted.notify_one(),
                Effect::TopicChanged { .. } => unreachable!("a shard's log holds nothing of the catalog"),
            }
        }
    }
}
