//! A broker, wired together: the only place where all its parts meet.
//!
//! It has no listeners: [`server`](crate::server) adds those. A simulation runs a broker without them, in a world of
//! its own, and hands it requests directly.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select};
use parking_lot::Mutex;
use tidemill_core::catalog::{self, Deployment};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, GroupId, ShardId};
use tidemill_core::seams::{DiskLock, World};
use tidemill_runtime::{Compiler, Runtime};
use tidemill_storage::group::{Group, GroupOptions, Machine, MembershipError};
use tidemill_storage::log::{Ahead, LogOptions, OnFault, OnTurn, Recovery};
use tokio::sync::Notify;

use crate::addresses::Addresses;
use crate::backup::create::Original;
use crate::backup::job::Backups;
use crate::backup::restore::{self, Restored};
use crate::catalog::{Catalog, CatalogMachine, Unchanged, reconcile};
use crate::components::Components;
use crate::identity::{self, FolderError, Identity};
use crate::logs::writer::LogWriter;
use crate::metrics::Metrics;
use crate::plugins::Plugins;
use crate::reclaim;
use crate::requests::Requests;
use crate::reserve::Reserve;
use crate::retention;
use crate::shards::machine::ShardMachine;
use crate::shards::{Refused, Shard, shipping};
use crate::tasks::Tasks;

/// How often it is counted how far plugins are behind.
const LAG_EVERY: Duration = Duration::from_secs(5);
/// How long, at its end, it waits for plugins' log lines to be written.
const LOGS_GRACE: Duration = Duration::from_secs(2);

/// How a broker is opened.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Its data folder.
    pub folder: PathBuf,
    /// How many shards a new cluster has.
    pub shards: u16,
    /// Free bytes of the disk under which producers are refused and tasks rest; 0 for none.
    pub reserve_bytes: u64,
    /// How often it is looked for records that have expired.
    pub retention_interval: Duration,
    /// How logs are kept.
    pub log: LogOptions,
}

/// What a broker runs plugins with.
pub struct Tools {
    /// Where guests run.
    pub runtime: Runtime,
    /// What makes machine code of components.
    pub compiler: Arc<dyn Compiler>,
}

/// Why a broker cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its files.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Its cluster.
    #[error("the cluster cannot be formed: {0}")]
    Form(String),
    /// What the catalog wants cannot be put into the shards.
    #[error("the catalog cannot be carried out: {0}")]
    Reconcile(#[from] Refused),
    /// The folder of components.
    #[error("components: {0}")]
    Components(std::io::Error),
}

impl From<MembershipError> for OpenError {
    fn from(error: MembershipError) -> Self {
        OpenError::Form(error.to_string())
    }
}

impl From<Unchanged> for OpenError {
    fn from(error: Unchanged) -> Self {
        OpenError::Form(error.to_string())
    }
}

/// What a group lost, as its recovery told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossReport {
    /// The group.
    pub group: GroupId,
    /// What it found.
    pub recovery: Recovery,
}

/// A broker that is open.
pub struct Broker {
    /// Clock, chance, disk, network and threads.
    pub world: World,
    /// Who it is.
    pub identity: Identity,
    /// Requests of Kafka's protocol.
    pub requests: Arc<Requests>,
    /// Plugins.
    pub plugins: Arc<Plugins>,
    /// Its shards.
    pub shards: Vec<Arc<Shard>>,
    /// Its catalog.
    pub catalog: Arc<Catalog>,
    /// How clients reach it.
    pub addresses: Arc<Addresses>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether there is room on its disk.
    pub reserve: Arc<Reserve>,
    /// What was found lost when it was opened.
    pub losses: Vec<LossReport>,
    /// The backup that its folder came from, if it did.
    pub restored: Option<Restored>,
    /// Backups of it.
    pub backups: Arc<Backups>,
    /// Its data folder.
    pub folder: PathBuf,
    logs: Vec<Arc<LogWriter>>,
    lock: Mutex<Option<Box<dyn DiskLock>>>,
}

impl Broker {
    /// Opens the broker of a data folder; a new folder becomes a cluster of one.
    ///
    /// # Errors
    /// [`OpenError`] when it cannot be opened; nothing is served then.
    pub async fn open(
        options: BrokerOptions,
        world: World,
        tools: Tools,
        metrics: Arc<Metrics>,
        on_fault: OnFault,
    ) -> Result<Arc<Broker>, OpenError> {
        let mut options = options;
        let (identity, lock) = identity::take(&world, &options.folder)?;
        let restored = restore::restored(&*world.disk, &options.folder)?;
        if let Some(Restored { backup, taken_at_ms, .. }) = &restored {
            tracing::info!(backup, taken_at_ms, "this data folder was restored from a backup");
        }
        let reserve = Reserve::open(world.clone(), &options.folder, options.reserve_bytes, metrics.clone());
        let (counting, room) = (metrics.clone(), reserve.clone());
        options.log.on_turn = OnTurn::new(move |bytes, took| {
            counting.committed(bytes, took);
            room.wrote(bytes);
        });
        world.spawner.task("reserve", Box::pin(reserve.clone().watch()));
        let me = identity.broker;
        let opening = Opening { options: &options, world: &world, me, on_fault: &on_fault };
        let mut losses = Vec::new();

        let machine = Arc::new(CatalogMachine::default());
        let group = opening.group(GroupId::Catalog, machine.clone(), Ahead::default(), &mut losses).await?;
        let catalog = Arc::new(Catalog::new(group, &machine, world.clone()));
        catalog.led().await;
        let cluster = catalog.form(&identity.cluster, me, options.shards).await?;

        let deleted = Arc::new(Notify::new());
        let mut shards = Vec::new();
        for number in 0..cluster.shards {
            let (changed, clock) = (Arc::new(Notify::new()), world.clock.clone());
            let machine = Arc::new(ShardMachine::new(cluster.shards, changed, deleted.clone(), clock));
            let (id, ahead) = (GroupId::Shard(ShardId(number)), Ahead::new(machine.runners.clone()));
            let group = opening.group(id, machine.clone(), ahead, &mut losses).await?;
            shards.push(Shard::new(ShardId(number), group, machine, world.clone()));
        }
        for shard in &shards {
            shard.led().await;
            metrics.leads(shard.id.0, true);
        }
        reconcile::all(&catalog, &shards).await?;

        let key = identity.artifact_key()?;
        let components = Components::open(world.clone(), &options.folder, tools.runtime, tools.compiler, key);
        let components = Arc::new(components.map_err(OpenError::Components)?);
        let writer = |shard: &Arc<Shard>| {
            LogWriter::new(world.clone(), shard.clone(), reserve.clone(), metrics.clone())
        };
        let logs: Vec<_> = shards.iter().map(writer).collect();
        for log in &logs {
            world.spawner.task("plugins' logs", Box::pin(log.clone().run()));
        }
        let tasks =
            Tasks::new(world.clone(), components.clone(), metrics.clone(), reserve.clone(), logs.clone());
        run_shards(&world, &shards, &tasks, &catalog, &metrics, &reserve);

        let addresses = Arc::new(Addresses::new(me, identity.cluster.clone()));
        let requests = Requests::new(
            world.clone(),
            catalog.clone(),
            shards.clone(),
            addresses.clone(),
            metrics.clone(),
            reserve.clone(),
        );
        let plugins = Arc::new(Plugins {
            world: world.clone(),
            catalog: catalog.clone(),
            shards: shards.clone(),
            components,
            tasks,
            metrics: metrics.clone(),
            reserve: reserve.clone(),
            order: tokio::sync::Mutex::default(),
        });
        let expiring =
            retention::run(world.clone(), catalog.clone(), shards.clone(), options.retention_interval);
        world.spawner.task("retention", Box::pin(expiring));
        let (every, measured) = (options.retention_interval, metrics.clone());
        let reclaiming = reclaim::run(world.clone(), shards.clone(), measured, deleted, every);
        world.spawner.thread("reclaim".to_owned(), Box::pin(reclaiming));
        world.spawner.task("lag", Box::pin(plugins.clone().watch_lag(LAG_EVERY)));
        let lock = Mutex::new(Some(lock));
        let backups = Backups::new(Original {
            world: world.clone(),
            folder: options.folder.clone(),
            identity: identity.clone(),
            catalog: catalog.clone(),
            shards: shards.clone(),
            reserve: reserve.clone(),
        });
        Ok(Arc::new(Broker {
            world,
            identity,
            requests,
            plugins,
            shards,
            catalog,
            addresses,
            metrics,
            reserve,
            losses,
            restored,
            backups,
            folder: options.folder,
            logs,
            lock,
        }))
    }

    /// All deployments.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn deployments(&self) -> Result<Vec<Deployment>, Fault> {
        catalog::deployments(&self.catalog.view())
    }

    /// Stops the broker: what is under way is finished, everything is durable, the files are closed.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub async fn shutdown(&self) -> Result<(), Fault> {
        // A group that cannot commit any more must not hold it up for what may be lost.
        let written = join_all(self.logs.iter().map(|log| log.write()));
        select(pin!(written), self.world.clock.sleep(LOGS_GRACE)).await;
        for shard in &self.shards {
            shard.group.shutdown().await?;
        }
        self.catalog.group().shutdown().await?;
        self.lock.lock().take();
        Ok(())
    }
}

struct Opening<'a> {
    options: &'a BrokerOptions,
    world: &'a World,
    me: BrokerId,
    on_fault: &'a OnFault,
}

impl Opening<'_> {
    async fn group(
        &self,
        group: GroupId,
        machine: Arc<dyn Machine>,
        ahead: Ahead,
        losses: &mut Vec<LossReport>,
    ) -> Result<Group, OpenError> {
        let folder = self.options.folder.join(group.to_string());
        let mut options = GroupOptions::new(folder, group, self.me);
        options.log = LogOptions { ahead, ..self.options.log.clone() };
        let (opened, recovery) = Group::open(options, self.world, machine, self.on_fault.clone()).await?;
        if recovery.torn {
            tracing::info!(%group, "a turn that nobody was told of was torn, and is dropped");
        }
        if recovery.amnesia.is_some() {
            tracing::error!(%group, loss = ?recovery.amnesia, "what was acknowledged is lost: serving what there is");
            losses.push(LossReport { group, recovery });
        }
        opened.form(&BTreeSet::from([self.me])).await?;
        Ok(opened)
    }
}

/// What runs for ever: the tasks of each shard, and what ships from each to each.
fn run_shards(
    world: &World,
    shards: &[Arc<Shard>],
    tasks: &Arc<Tasks>,
    catalog: &Arc<Catalog>,
    metrics: &Arc<Metrics>,
    reserve: &Arc<Reserve>,
) {
    for source in shards {
        world.spawner.task("tasks", Box::pin(tasks.clone().supervise(source.clone())));
        for target in shards.iter().filter(|target| target.id != source.id) {
            let ships = shipping::run(
                world.clone(),
                source.clone(),
                target.clone(),
                catalog.clone(),
                metrics.clone(),
                reserve.clone(),
            );
            world.spawner.task("shipping", Box::pin(ships));
        }
    }
}
