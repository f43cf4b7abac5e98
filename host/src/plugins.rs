//! Setting plugins to run, and telling how they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tidemill_core::catalog::deploy::{self, Decision, Request};
use tidemill_core::catalog::{self, Deployment, TopicRow};
use tidemill_core::envelope::Envelope;
use tidemill_core::event_time::EventTimeRow;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{Cursor, Digest, ShardId, TaskId};
use tidemill_core::limits;
use tidemill_core::manifest::{Manifest, ManifestError, StartAt};
use tidemill_core::plugin::TimerKind;
use tidemill_core::rejection::Rejection;
use tidemill_core::rows::{TaskRow, TaskStatus};
use tidemill_core::seams::{Timestamp, World};
use tidemill_core::shard::behind::{self, Behind};
use tidemill_core::shard::letters;
use tidemill_core::tables::{self, Key, View};
use tidemill_core::task::TaskSpec;
use tidemill_core::timers;
use tidemill_protocol::ids::{Offset, Partition, TopicPartition};

use crate::bundles::BundleError;
use crate::catalog::{Catalog, Unchanged, reconcile};
use crate::components::{ComponentError, Components};
use crate::expiring::{self, Expiring};
use crate::metrics::Metrics;
use crate::offsets::{self, Moment};
use crate::reserve::Reserve;
use crate::shards::{Refused, Shard};
use crate::tasks::Tasks;
use crate::tasks::report::{LastFailure, Phase, Work};
use crate::tasks::stall::TaskProgress;
use crate::topics::random_id;

/// Plugins, from manifest to running tasks.
pub struct Plugins {
    /// Clock, chance, disk, network and threads.
    pub world: World,
    /// What is deployed.
    pub catalog: Arc<Catalog>,
    /// Where it runs.
    pub shards: Vec<Arc<Shard>>,
    /// What runs.
    pub components: Arc<Components>,
    /// How it runs.
    pub tasks: Arc<Tasks>,
    /// Whether there is room on the disk.
    pub reserve: Arc<Reserve>,
    /// The broker's metrics.
    pub metrics: Arc<Metrics>,
    /// From a decision of the catalog until the shards have it: one deployment is changed at a time.
    pub order: tokio::sync::Mutex<()>,
}

/// Why a plugin was not deployed. Nothing was changed, but by the last.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Its manifest cannot stand.
    #[error("the manifest: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Manifest(Vec<ManifestError>),
    /// Its component cannot run.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// Its files cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A start that is not there.
    #[error("subscribe.from of {topic}: {why}")]
    Start {
        /// The topic.
        topic: String,
        /// Why.
        why: String,
    },
    /// The catalog does not take it.
    #[error(transparent)]
    Unchanged(#[from] Unchanged),
    /// It is deployed, and a task does not run.
    #[error("it is deployed, and its task {partition} does not run: {why}")]
    Task {
        /// The task's partition number.
        partition: u32,
        /// Why.
        why: String,
    },
}

impl From<Fault> for DeployError {
    fn from(fault: Fault) -> Self {
        DeployError::Unchanged(fault.into())
    }
}

impl From<Rejection> for DeployError {
    fn from(rejection: Rejection) -> Self {
        DeployError::Unchanged(rejection.into())
    }
}

impl From<Refused> for DeployError {
    fn from(refused: Refused) -> Self {
        DeployError::Unchanged(refused.into())
    }
}

/// What became of a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployed {
    /// As the catalog has it.
    pub deployment: Deployment,
    /// Whether anything was changed.
    pub changed: bool,
}

/// How a task is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TaskState {
    /// The number of the partitions it reads.
    pub partition: u32,
    /// Where it runs.
    pub shard: ShardId,
    /// Its status, as it is kept.
    pub status: &'static str,
    /// What it is doing.
    pub phase: Phase,
    /// Why, where a phase has a reason.
    pub why: String,
    /// Its last committed step.
    pub step: u64,
    /// Failed attempts at the event it stands at.
    pub attempts: u32,
    /// What it has consumed of its shard's log.
    pub cursor: Cursor,
    /// Per input, the first offset that is not consumed.
    pub positions: BTreeMap<String, u64>,
    /// Records that it has not consumed.
    pub lag_records: u64,
    /// Records that were removed before it consumed them, while it stands below a log start: it is stopped or paused.
    pub removed_records: u64,
    /// Records that were removed before it consumed them, and that it passed over, since it last began anew.
    pub passed_over_records: u64,
    /// Inputs of which records will be removed soon that it has not consumed.
    pub expiring: Vec<Expiring>,
    /// Timers that are set; at most [`limits::TIMERS_COUNTED_MAX`] are counted.
    pub timers: usize,
    /// Its event-time watermark, in milliseconds since 1970; none before its first record.
    pub event_time_watermark_ms: Option<i64>,
    /// Whether it has records to consume and has not consumed any for long.
    pub stalled: Option<Stalled>,
    /// How it last failed.
    pub last_failure: Option<LastFailure>,
    /// How much it has done since this broker leads it.
    pub work: Work,
}

/// A task that does not get on.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stalled {
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Why.
    pub cause: String,
}

impl Plugins {
    /// Deploys a plugin whose component was uploaded; when it returns, every task runs. With `dry`, says what would
    /// become of it and changes nothing.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn deploy(
        &self,
        tenant: &str,
        manifest: Manifest,
        digest: Digest,
        dry: bool,
    ) -> Result<Deployed, DeployError> {
        let mut errors = manifest.check();
        let grants = manifest.grants().unwrap_or_else(|error| {
            errors.push(error);
            Vec::new()
        });
        if !errors.is_empty() {
            return Err(DeployError::Manifest(errors));
        }
        if !dry {
            self.reserve.check().map_err(Unchanged::from)?;
        }
        self.components.plugin(digest).await?;
        self.components.bundles.check(&grants)?;
        let starts = self.starts(tenant, &manifest).await?;
        let (dead_letter, log) = (random_id(&self.world), random_id(&self.world));
        let request = Request { tenant: tenant.to_owned(), manifest, digest, starts, dead_letter, log };
        if dry {
            let decision = deploy::decide(&self.catalog.view(), self.world.clock.now(), &request)??;
            return Ok(split(decision).0);
        }
        let deployed = self.carry_out(|view, now| deploy::decide(view, now, &request)).await?;
        if deployed.changed {
            let Deployment { name, generation, digest, .. } = &deployed.deployment;
            tracing::info!(plugin = name, generation = generation.0, %digest, "deployed");
        }
        Ok(deployed)
    }

    /// Decides, puts what was decided into the shards, and waits until every task runs or is paused.
    pub(crate) async fn carry_out(
        &self,
        decide: impl FnOnce(&dyn View, Timestamp) -> Result<Result<Decision, Rejection>, Fault>,
    ) -> Result<Deployed, DeployError> {
        let order = self.order.lock().await;
        let topics_order = self.catalog.topics_order.read().await;
        let (deployed, topics) = self
            .catalog
            .change(|view, now| {
                Ok(decide(view, now)?.map(|decision| {
                    let command = match &decision {
                        Decision::Deploy(command) => Some((**command).clone()),
                        Decision::Unchanged(_) => None,
                    };
                    (split(decision), command)
                }))
            })
            .await?;
        reconcile::create_partitions(&self.catalog, &self.shards, &topics).await?;
        drop(topics_order);
        reconcile::start_tasks(&self.shards, &deployed.deployment).await?;
        drop(order);
        self.wait(&deployed.deployment).await?;
        Ok(deployed)
    }

    /// Waits until every task runs or is paused.
    async fn wait(&self, deployment: &Deployment) -> Result<(), DeployError> {
        for partition in 0..deployment.spec.tasks() {
            let task = TaskId { deployment: deployment.id, partition: Partition(partition) };
            // First, so that it is told if the plugin is deleted from here on.
            let report = self.tasks.report(task);
            let known = catalog::deployment(&self.catalog.view(), &deployment.tenant, &deployment.name)?;
            if known.is_none_or(|known| known.id != deployment.id) {
                report.ends("the plugin was deleted");
            }
            let started = report.started(deployment.generation).await;
            started.map_err(|why| DeployError::Task { partition, why })?;
        }
        Ok(())
    }

    /// Where a first generation begins: for each partition and each input, an offset.
    pub(crate) async fn starts(
        &self,
        tenant: &str,
        manifest: &Manifest,
    ) -> Result<Vec<Vec<u64>>, DeployError> {
        let inputs = deploy::inputs(&self.catalog.view(), tenant, manifest)??;
        let partitions = inputs.first().map_or(0, |input| input.partitions);
        let mut starts = Vec::new();
        for partition in 0..partitions {
            let mut of_partition = Vec::new();
            for (input, subscription) in inputs.iter().zip(&manifest.subscribe) {
                of_partition.push(self.start(input, Partition(partition), &subscription.from).await?.0);
            }
            starts.push(of_partition);
        }
        Ok(starts)
    }

    async fn start(
        &self,
        topic: &TopicRow,
        partition: Partition,
        from: &StartAt,
    ) -> Result<Offset, DeployError> {
        let wrong = |why: String| DeployError::Start { topic: topic.name.clone(), why };
        let at = TopicPartition { topic: topic.id, partition };
        let home = catalog::shards_of(&self.catalog.view(), topic)?[partition.0 as usize];
        let shard = &self.shards[usize::from(home.0)];
        let end = || offsets::find(shard, at, Moment::Latest);
        let moment = match from {
            StartAt::Earliest => Moment::Earliest,
            StartAt::Latest => Moment::Latest,
            StartAt::Time(text) => {
                let time = humantime::parse_rfc3339_weak(text).map_err(|error| wrong(error.to_string()))?;
                let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
                Moment::Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            StartAt::Offset(offset) => {
                let end = end().await?.map_or(Offset(0), |end| end.offset);
                let start = offsets::find(shard, at, Moment::Earliest).await?;
                let start = start.map_or(Offset(0), |start| start.offset);
                if (start.0..=end.0).contains(offset) {
                    return Ok(Offset(*offset));
                }
                let place = partition.0;
                return Err(wrong(format!(
                    "offset {offset} of partition {place} is outside {}..{}",
                    start.0, end.0
                )));
            }
        };
        let found = match offsets::find(shard, at, moment).await? {
            Some(found) => Some(found),
            // No record is that late: those to come will be.
            None => end().await?,
        };
        Ok(found.map_or(Offset(0), |found| found.offset))
    }

    /// How the tasks of a deployment are.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn describe(&self, deployment: &Deployment) -> Result<Vec<TaskState>, Fault> {
        let spec = &deployment.spec;
        let mut states = Vec::new();
        for partition in 0..spec.tasks() {
            let task = TaskId { deployment: deployment.id, partition: Partition(partition) };
            let shard = &self.shards[usize::from(spec.home_of(task.partition).0)];
            let row = tables::read::<TaskRow>(&shard.group.tables(), &Key::Task(task))?.unwrap_or_default();
            let row = with_attempts(shard, spec, task, row)?;
            let clocks = tables::read::<EventTimeRow>(&shard.group.tables(), &Key::EventTime(task))?;
            let report = self.tasks.report(task);
            let (phase, why) = report.phase();
            let names = spec.inputs.iter().map(|input| input.name.clone());
            states.push(TaskState {
                partition,
                shard: shard.id,
                status: match row.status {
                    TaskStatus::Running => "running",
                    TaskStatus::Stopped => "stopped",
                    TaskStatus::Paused => "paused",
                },
                phase,
                why,
                step: row.step.0,
                attempts: row.attempts,
                cursor: row.cursor,
                positions: names.zip(row.positions.iter().map(|(_, next)| next.0)).collect(),
                lag_records: lag(shard, task, &row)?,
                removed_records: behind::of(&shard.group.tables(), task, &row)?
                    .iter()
                    .map(Behind::records)
                    .sum(),
                passed_over_records: row.passed_over,
                expiring: expiring::of(&self.catalog, shard, task, &row, self.world.clock.now())?,
                timers: timers(shard, task)?,
                event_time_watermark_ms: clocks.and_then(|clocks| clocks.watermark_ms),
                stalled: report.stalled().map(|(since, cause)| Stalled { since_ms: since.0, cause }),
                last_failure: report.last_failure(),
                work: report.work(),
            });
        }
        Ok(states)
    }

    /// What log starts have passed of a deployment's tasks, in words for each task that is behind.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub(crate) fn behind(&self, deployment: &Deployment) -> Result<Vec<String>, Fault> {
        let spec = &deployment.spec;
        let mut told = Vec::new();
        for partition in (0..spec.tasks()).map(Partition) {
            let task = TaskId { deployment: deployment.id, partition };
            let tables = self.shards[usize::from(spec.home_of(partition).0)].group.tables();
            let Some(row) = tables::read::<TaskRow>(&tables, &Key::Task(task))? else { continue };
            let behind = behind::of(&tables, task, &row)?;
            if !behind.is_empty() {
                told.push(format!("task {}: {}", partition.0, behind::told(spec, &behind)));
            }
        }
        Ok(told)
    }

    /// The tasks that have records to consume and consume none, in words.
    pub fn stalled(&self) -> Vec<String> {
        let mut stalled = Vec::new();
        for deployment in catalog::deployments(&self.catalog.view()).unwrap_or_default() {
            for partition in (0..deployment.spec.tasks()).map(Partition) {
                let report = self.tasks.report(TaskId { deployment: deployment.id, partition });
                if let Some((since, cause)) = report.stalled() {
                    let seconds = self.world.clock.now().since(since).as_secs();
                    let (name, task) = (&deployment.name, partition.0);
                    stalled.push(format!(
                        "task {task} of plugin {name} has been stalled for {seconds} s: {cause}"
                    ));
                }
            }
        }
        stalled
    }

    /// Counts, for ever, how far each plugin is behind.
    pub async fn watch_lag(self: Arc<Self>, every: Duration) {
        loop {
            self.world.clock.sleep(every).await;
            let Ok(deployments) = catalog::deployments(&self.catalog.view()) else { return };
            for deployment in deployments {
                if let Err(fault) = self.count_lag(&deployment) {
                    tracing::warn!(plugin = deployment.name, %fault, "its lag is not known");
                }
                tokio::task::yield_now().await;
            }
        }
    }

    fn count_lag(&self, deployment: &Deployment) -> Result<(), Fault> {
        let now = self.world.clock.now();
        let (mut records, mut stalled, mut passed_over, mut expiring) = (0, 0, 0, 0);
        let mut oldest = now;
        for partition in 0..deployment.spec.tasks() {
            let task = TaskId { deployment: deployment.id, partition: Partition(partition) };
            let shard = &self.shards[usize::from(deployment.spec.home_of(task.partition).0)];
            let Some(row) = tables::read::<TaskRow>(&shard.group.tables(), &Key::Task(task))? else {
                continue;
            };
            let row = with_attempts(shard, &deployment.spec, task, row)?;
            let behind = lag(shard, task, &row)?;
            records += behind;
            passed_over += row.passed_over;
            let soon = expiring::of(&self.catalog, shard, task, &row, now)?;
            expiring += u64::from(!soon.is_empty());
            let progress = TaskProgress::of(&row, behind);
            stalled += u64::from(self.tasks.report(task).watch(progress, now).is_some());
            for (topic, next) in &row.positions {
                let at = TopicPartition { topic: *topic, partition: task.partition };
                let waiting = shard.group.log().batches(at, *next, shard.upto(), 1);
                if let Some((_, placed)) = waiting.ok().and_then(|batches| batches.into_iter().next()) {
                    oldest = oldest.min(Envelope::parse(&placed.envelope)?.append_time);
                }
            }
        }
        let age = if records == 0 { Duration::ZERO } else { now.since(oldest) };
        self.metrics.lag(&deployment.name, records, age);
        self.metrics.stalled(&deployment.name, stalled);
        self.metrics.passed_over(&deployment.name, passed_over, expiring);
        Ok(())
    }
}

/// The row of a task, with the failed attempts also at a dead letter that it is given again: while that fails, the task
/// does not get on either.
fn with_attempts(shard: &Shard, spec: &TaskSpec, task: TaskId, row: TaskRow) -> Result<TaskRow, Fault> {
    let waits = letters::first_waiting(&shard.group.tables(), spec.letters(task.partition))?;
    let attempts = row.attempts.max(waits.map_or(0, |(_, waits)| waits.attempts));
    Ok(TaskRow { attempts, ..row })
}

/// Records that a task has not consumed.
fn lag(shard: &Shard, task: TaskId, row: &TaskRow) -> Result<u64, Fault> {
    let mut records = 0;
    for (topic, next) in &row.positions {
        let at = TopicPartition { topic: *topic, partition: task.partition };
        let end = shard.partition(at)?.map_or(*next, |partition| partition.end);
        records += end.0.saturating_sub(next.0);
    }
    Ok(records)
}

/// Timers of a task that are set, as far as they are counted.
fn timers(shard: &Shard, task: TaskId) -> Result<usize, Fault> {
    let mut set = 0;
    for kind in [TimerKind::AppendTime, TimerKind::EventTime] {
        set += timers::earliest(&shard.group.tables(), task, kind, limits::TIMERS_COUNTED_MAX - set)?.len();
    }
    Ok(set)
}

fn split(decision: Decision) -> (Deployed, Vec<TopicRow>) {
    match decision {
        Decision::Unchanged(deployment) => (Deployed { deployment: *deployment, changed: false }, Vec::new()),
        Decision::Deploy(command) => match *command {
            catalog::Command::Deploy { deployment, topics, .. } => {
                (Deployed { deployment: *deployment, changed: true }, topics)
            }
            other => unreachable!("a deployment was decided, not {other:?}"),
        },
    }
}
