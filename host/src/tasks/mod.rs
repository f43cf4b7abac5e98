//! The tasks of the shards that this broker leads.
//!
//! | file | holds |
//! |---|---|
//! | [`item`] | what a task is given: an event, or a due timer |
//! | [`inbox`] | the events that a task is to be given next, out of its shard's log |
//! | [`pump`] | the life of a task: read, run, commit, and what happens when that fails |
//! | [`alarm`] | which timers are due, and when the next is |
//! | [`redrives`] | the dead letters that a task is to be given again |
//! | [`handed`] | what a guest is given of its deployment, in each of its steps |
//! | [`pace`] | how many events a step is given |
//! | [`dead_letter`] | what becomes of a record that cannot be handled |
//! | [`report`] | what is known of a task beside its row: for people |
//! | [`stall`] | whether a task that has something to do gets on |

pub mod alarm;
pub mod dead_letter;
mod handed;
pub mod inbox;
pub mod item;
mod pace;
pub mod pump;
mod redrives;
pub mod report;
pub mod stall;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{DeploymentId, TaskId, Term};
use tidemill_core::limits;
use tidemill_core::rows::{TaskRow, TaskStatus};
use tidemill_core::seams::World;
use tidemill_core::tables::{self, Key, Row, View, end_of_prefix};
use tidemill_core::task::KnownSpec;
use tokio::sync::Semaphore;

use crate::components::Components;
use crate::logs::writer::LogWriter;
use crate::metrics::Metrics;
use crate::reserve::Reserve;
use crate::shards::Shard;
use crate::shards::ahead::Leash;
use pump::Pump;
use report::{Phase, Report, Reporter, Turn};

/// The pumps at work. Each belongs to one turn of a task, in one term of its shard's leader; what is not here any more ends.
type Running = BTreeMap<TaskId, ((Term, Turn), Leash)>;

/// All tasks of this broker.
#[derive(Debug)]
pub struct Tasks {
    world: World,
    components: Arc<Components>,
    metrics: Arc<Metrics>,
    reserve: Arc<Reserve>,
    reports: Mutex<BTreeMap<TaskId, Arc<Report>>>,
    /// By shard.
    logs: Vec<Arc<LogWriter>>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new(
        world: World,
        components: Arc<Components>,
        metrics: Arc<Metrics>,
        reserve: Arc<Reserve>,
        logs: Vec<Arc<LogWriter>>,
    ) -> Arc<Tasks> {
        Arc::new(Tasks { world, components, metrics, reserve, reports: Mutex::default(), logs })
    }

    /// Keeps the tasks of a shard running, for as long as this broker leads it; for ever.
    pub async fn supervise(self: Arc<Self>, shard: Arc<Shard>) {
        let mut running = Running::new();
        loop {
            if let Err(fault) = self.start_missing(&shard, &mut running) {
                tracing::error!(shard = shard.id.0, %fault, "its tasks cannot be read");
                return;
            }
            shard.machine.tasks_changed.notified().await;
        }
    }

    fn start_missing(&self, shard: &Arc<Shard>, running: &mut Running) -> Result<(), Fault> {
        let Some(leader) = shard.leader() else {
            running.clear();
            return Ok(());
        };
        let applied = shard.group.tables();
        let mut seen = BTreeSet::new();
        let start = Key::tasks();
        for (key, value) in applied.scan(&start, end_of_prefix(&start).as_deref(), usize::MAX)? {
            let Key::Task(task) = Key::decode(&key)? else { continue };
            let row = TaskRow::decode(&value)?;
            let turn = Turn { generation: row.generation, jumps: row.jumps };
            let identity = (leader.term(), turn);
            let report = self.report(task);
            seen.insert(task);
            if report.is_news(turn) && !row.reason.is_empty() {
                tracing::warn!(%task, passed_over = row.passed_over, why = row.reason, "a log start passed it");
            }
            let resting = match row.status {
                TaskStatus::Running => None,
                TaskStatus::Stopped => Some(Phase::Stopped),
                TaskStatus::Paused => Some(Phase::Paused),
            };
            if let Some(phase) = resting {
                report.enter(turn, phase, &row.reason);
                running.remove(&task);
            } else if running.get(&task).is_none_or(|(running, _)| *running != identity) {
                let Some(spec) = KnownSpec::read(&applied, task.deployment)? else {
                    if tables::read::<TaskRow>(&applied, &Key::Task(task))?.is_some() {
                        return Err(Fault::damaged(format!("task {task}"), "it has no spec"));
                    }
                    // It was removed since its row was found.
                    continue;
                };
                let places = [spec.places(task.partition), vec![spec.letters(task.partition)]].concat();
                let runner = shard.machine.runners.runner(&places);
                running.insert(task, (identity, runner.leash()));
                report.enter(turn, Phase::Starting, "");
                let report = Reporter { report, turn };
                let pump = Pump {
                    world: self.world.clone(),
                    shard: shard.clone(),
                    leader: leader.clone(),
                    components: self.components.clone(),
                    metrics: self.metrics.clone(),
                    reserve: self.reserve.clone(),
                    report,
                    log: self.logs[usize::from(shard.id.0)].clone(),
                    task,
                    jumps: row.jumps,
                    may_have_timers: AtomicBool::new(true),
                    runner,
                    spec: Arc::new(spec),
                    ahead: Arc::new(Semaphore::new(limits::STEPS_AHEAD_MAX)),
                };
                self.world.spawner.task("task", Box::pin(pump.run()));
            }
        }
        running.retain(|task, _| seen.contains(task));
        Ok(())
    }

    /// What is known of a task.
    pub fn report(&self, task: TaskId) -> Arc<Report> {
        self.reports.lock().entry(task).or_default().clone()
    }

    /// A deployment is no more, and nobody asks how its tasks are; who waits for them is told.
    pub fn forget(&self, deployment: DeploymentId) {
        self.reports.lock().retain(|task, report| {
            let stays = task.deployment != deployment;
            if !stays {
                report.ends("the plugin was deleted");
            }
            stays
        });
        self.logs.iter().for_each(|log| log.forget(deployment));
    }
}
