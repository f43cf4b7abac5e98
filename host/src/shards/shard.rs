//! One shard, as this broker has it.

use std::sync::Arc;

use tidemill_core::entry::Entry;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{Cursor, LogIndex, ShardId};
use tidemill_core::rows::PartitionRow;
use tidemill_core::seams::World;
use tidemill_core::shard::control::{self, Control};
use tidemill_core::shard::letters::{self, Redrive};
use tidemill_core::shard::trim::{self, Trim, Verdict};
use tidemill_core::shard::{self, Deciding};
use tidemill_core::tables::View;
use tidemill_protocol::ids::{Offset, TopicPartition};
use tidemill_storage::group::{Group, Role};

use super::leader::{Commit, Leader, Refused};
use super::machine::ShardMachine;

/// A shard. Cheap to share.
pub struct Shard {
    /// Its number.
    pub id: ShardId,
    /// Its Raft group.
    pub group: Group,
    /// What entries are applied with.
    pub machine: Arc<ShardMachine>,
    world: World,
}

impl Shard {
    /// A shard over an open group; it begins to follow who leads.
    pub fn new(id: ShardId, group: Group, machine: Arc<ShardMachine>, world: World) -> Arc<Shard> {
        let shard = Arc::new(Shard { id, group, machine, world });
        let following = shard.clone();
        shard.world.spawner.task("shard leadership", Box::pin(async move { following.follow().await }));
        shard
    }

    /// Keeps [`ShardMachine::leader`] what Raft says.
    async fn follow(&self) {
        let mut leadership = self.group.leadership();
        loop {
            let now = *leadership.borrow_and_update();
            let leader = (now.role == Role::Leader).then(|| Arc::new(Leader::new(now.term)));
            let leads = leader.is_some();
            let before = std::mem::replace(&mut *self.machine.leader.lock(), leader);
            before.inspect(|before| before.ends());
            self.machine.runners.forget_steps();
            if leads {
                tracing::info!(shard = self.id.0, term = now.term.0, "leads");
                self.machine.tasks_changed.notify_one();
                self.machine.to_ship.iter().for_each(|notify| notify.notify_one());
            }
            if leadership.changed().await.is_err() {
                let last = self.machine.leader.lock().take();
                last.inspect(|last| last.ends());
                return;
            }
        }
    }

    /// The leader, while this broker is that.
    pub fn leader(&self) -> Option<Arc<Leader>> {
        self.machine.leader.lock().clone()
    }

    /// Waits until this broker leads the shard.
    pub async fn led(&self) {
        let mut leadership = self.group.leadership();
        while self.leader().is_none() {
            if leadership.borrow_and_update().role == Role::Leader {
                // Raft says so already; `follow` is about to.
                tokio::task::yield_now().await;
            } else if leadership.changed().await.is_err() {
                return;
            }
        }
    }

    /// Decides and proposes: see [`Leader::propose`].
    ///
    /// # Errors
    /// [`Refused`] when nothing was proposed.
    pub async fn propose<T>(
        &self,
        decide: impl FnOnce(&Deciding) -> Result<(T, Option<Entry>), Fault>,
    ) -> Result<(T, Commit), Refused> {
        let leader = self.leader().ok_or(Refused::NotLeader)?;
        leader.propose(&self.group, self.world.clock.now(), decide).await
    }

    /// Puts a command into the shard's log, and waits until it is applied.
    ///
    /// # Errors
    /// [`Refused`] when it is not, or nobody knows.
    pub async fn control(&self, command: &Control) -> Result<(), Refused> {
        let decide = |deciding: &Deciding| Ok(((), Some(control::decide(deciding, command)?)));
        let ((), commit) = self.propose(decide).await?;
        commit.applied().await.map(drop)
    }

    /// Moves log starts up, and waits until that is applied; each has its verdict.
    ///
    /// # Errors
    /// [`Refused`] when nothing moves, or nobody knows.
    pub async fn trim(&self, trims: &[Trim]) -> Result<Vec<Verdict>, Refused> {
        let (verdicts, commit) = self.propose(|deciding| trim::decide(deciding, trims)).await?;
        commit.applied().await?;
        Ok(verdicts)
    }

    /// Has dead letters given to their task again, and waits until it is to be; each has its verdict.
    ///
    /// # Errors
    /// [`Refused`] when nothing is to be, or nobody knows.
    pub async fn redrive(&self, redrive: &Redrive) -> Result<Vec<letters::Verdict>, Refused> {
        let (verdicts, commit) = self.propose(|deciding| letters::decide(deciding, redrive)).await?;
        commit.applied().await?;
        Ok(verdicts)
    }

    /// Looks at the head state; where this broker does not lead, at the applied one.
    pub fn look<T>(&self, look: impl FnOnce(&dyn View) -> T) -> T {
        let applied = self.group.tables();
        match self.leader() {
            Some(leader) => leader.look(&applied, look),
            None => look(&applied),
        }
    }

    /// A partition as readers may see it.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn partition(&self, at: TopicPartition) -> Result<Option<PartitionRow>, Fault> {
        shard::partition(&self.group.tables(), at)
    }

    /// The first index that is not applied.
    pub fn upto(&self) -> LogIndex {
        self.group.applied().map_or(LogIndex(0), |applied| LogIndex(applied.0 + 1))
    }

    /// The first index that is not in the log, nor about to be. On a leader, what lies below it and is not applied may be
    /// lost, and then so is its leadership.
    pub fn end(&self) -> LogIndex {
        self.group.log().foreseen_end()
    }

    /// Where a task has to begin to read the log to be given these offsets: at the first entry that holds one of
    /// them.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn cursor_at(&self, starts: &[(TopicPartition, Offset)]) -> Result<Cursor, Fault> {
        let mut index = self.upto();
        for (at, offset) in starts {
            if let Some(holds) = self.group.log().index_of(*at, *offset)? {
                index = index.min(holds);
            }
        }
        Ok(Cursor { index, skip: 0 })
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shard({})", self.id.0)
    }
}
