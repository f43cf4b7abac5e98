//! What a task was still to be given, when a log start passed it: written apart from the broker's own rules, on purpose.
//!
//! Followed entry by entry are the log start and the end of each partition, and the positions of each task. A position
//! moves with the task's steps, and otherwise only where an entry says so: when the task begins anew, or when a log start
//! has passed it. What the tables say, which come by the broker's rules, must be the same after each entry.

use std::collections::BTreeMap;

use tidemill_core::entry::{Entry, EntryKind};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{Generation, TaskId};
use tidemill_core::rows::{TaskRow, TaskStatus};
use tidemill_core::shard::control::{self, Control, NewTask};
use tidemill_core::shard::step;
use tidemill_core::tables::{self, Key, MemoryTables};
use tidemill_core::task::{BehindLogStart, TaskSpec};
use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::ids::{Partition, TopicId, TopicPartition};

/// A task, as it is followed.
struct Followed {
    generation: Generation,
    positions: Vec<(TopicId, u64)>,
    /// How often a log start has passed it, and how many records it passed over, since it last began anew.
    jumps: u32,
    passed_over: u64,
    /// Whether it may take steps, as far as log starts are concerned.
    is_stopped: bool,
}

/// Log starts, ends and positions of one shard.
#[derive(Default)]
pub(crate) struct LogStarts {
    /// Of each partition, the first offset that is there, and the first that is free.
    partitions: BTreeMap<TopicPartition, (u64, u64)>,
    specs: BTreeMap<u64, TaskSpec>,
    tasks: BTreeMap<TaskId, Followed>,
    /// Records that were passed over.
    pub(crate) passed_over: u64,
}

impl LogStarts {
    /// Follows an entry that the tables show already; says what is different there.
    pub(crate) fn follow(&mut self, entry: &Entry, tables: &MemoryTables) -> Option<String> {
        self.followed(entry, tables).unwrap_or_else(Some)
    }

    fn followed(&mut self, entry: &Entry, tables: &MemoryTables) -> Result<Option<String>, String> {
        let unreadable = |error: Fault| error.to_string();
        for placed in entry.resident() {
            let header = BatchHeader::parse(&placed.batch).map_err(|error| format!("a batch: {error}"))?;
            self.partitions.entry(placed.at).or_default().1 = header.next_offset().0;
        }
        match entry.kind {
            EntryKind::Step => {
                let meta = step::meta(entry).map_err(unreadable)?;
                let Some(followed) = self.tasks.get_mut(&meta.task) else {
                    return Ok(Some(format!("task {} takes a step, and was never started", meta.task)));
                };
                for ((_, position), next) in followed.positions.iter_mut().zip(&meta.positions) {
                    if next.0 < *position {
                        let (task, next) = (meta.task, next.0);
                        return Ok(Some(format!("a step of task {task} goes back to offset {next}")));
                    }
                    *position = next.0;
                }
                self.differs(meta.task, tables)
            }
            EntryKind::Control => {
                self.command(&control::command(entry).map_err(unreadable)?);
                let differ = self.tasks.keys().map(|task| self.differs(*task, tables));
                differ.filter_map(Result::transpose).next().transpose()
            }
            _ => Ok(None),
        }
    }

    fn command(&mut self, command: &Control) {
        match command {
            Control::Trim { partitions, passes_tasks } => {
                for trim in partitions {
                    if let Some((start, end)) = self.partitions.get_mut(&trim.at()) {
                        *start = trim.before.min(*end).max(*start);
                    }
                }
                let reads = |task: &TaskId, followed: &Followed| {
                    let has = |at: TopicPartition| {
                        at.partition == task.partition
                            && followed.positions.iter().any(|(topic, _)| *topic == at.topic)
                    };
                    *passes_tasks && partitions.iter().any(|trim| has(trim.at()))
                };
                let read = self.tasks.iter().filter(|(task, followed)| reads(task, followed));
                let read: Vec<TaskId> = read.map(|(task, _)| *task).collect();
                read.into_iter().for_each(|task| self.treat(task, None));
            }
            Control::PassTasks { deployment, choice } => {
                let own = self.tasks.keys().filter(|task| task.deployment == *deployment);
                let own: Vec<TaskId> = own.copied().collect();
                own.into_iter().for_each(|task| self.treat(task, *choice));
            }
            Control::StartTasks { spec, tasks } => tasks.iter().for_each(|new| self.start(spec, new)),
            Control::RemoveTasks { deployment } => {
                self.specs.remove(&deployment.0);
                self.tasks.retain(|task, _| task.deployment != *deployment);
            }
            Control::DeletePartitions { partitions } => {
                for gone in partitions {
                    let at = TopicPartition { topic: gone.topic, partition: Partition(gone.partition) };
                    self.partitions.remove(&at);
                }
            }
            Control::CreatePartitions { .. }
            | Control::AlterPartitions { .. }
            | Control::DiscardLetters { .. }
            | Control::RedriveLetters(_) => {}
        }
    }

    fn start(&mut self, spec: &TaskSpec, new: &NewTask) {
        let id = TaskId { deployment: spec.deployment, partition: Partition(new.partition) };
        if self.tasks.get(&id).is_some_and(|followed| followed.generation >= spec.generation) {
            return;
        }
        self.specs.insert(spec.deployment.0, spec.clone());
        let fresh = || spec.inputs.iter().map(|input| input.topic).zip(new.starts.iter().copied()).collect();
        let followed = self.tasks.entry(id).or_insert_with(|| Followed {
            generation: Generation(0),
            positions: fresh(),
            jumps: 0,
            passed_over: 0,
            is_stopped: false,
        });
        if followed.generation < spec.restarted {
            followed.positions = fresh();
            (followed.jumps, followed.passed_over) = (0, 0);
        }
        (followed.generation, followed.is_stopped) = (spec.generation, false);
    }

    /// The task stops, or goes on at the log start or at the end, if a log start has passed it.
    fn treat(&mut self, task: TaskId, choice: Option<BehindLogStart>) {
        let Some(spec) = self.specs.get(&task.deployment.0) else { return };
        let Some(followed) = self.tasks.get_mut(&task) else { return };
        let mut is_behind = false;
        for (topic, position) in &mut followed.positions {
            let at = TopicPartition { topic: *topic, partition: task.partition };
            let Some((start, end)) = self.partitions.get(&at).filter(|(start, _)| start > position) else {
                continue;
            };
            is_behind = true;
            let to = match choice.unwrap_or(spec.failure.behind_log_start) {
                BehindLogStart::Stop => {
                    followed.is_stopped = true;
                    continue;
                }
                BehindLogStart::Earliest => *start,
                BehindLogStart::Latest => *end,
            };
            self.passed_over += to - *position;
            followed.passed_over += to - *position;
            *position = to;
        }
        followed.jumps += u32::from(is_behind);
    }

    /// What the tables say otherwise of a task.
    fn differs(&self, task: TaskId, tables: &MemoryTables) -> Result<Option<String>, String> {
        let Some(followed) = self.tasks.get(&task) else { return Ok(None) };
        let row = tables::read::<TaskRow>(tables, &Key::Task(task)).map_err(|error| error.to_string())?;
        let Some(row) = row else { return Ok(Some(format!("task {task} is gone"))) };
        let positions: Vec<_> = row.positions.iter().map(|(topic, next)| (*topic, next.0)).collect();
        if positions != followed.positions {
            let followed = &followed.positions;
            return Ok(Some(format!(
                "task {task} stands at {positions:?}, and its entries lead to {followed:?}"
            )));
        }
        let (said, known) = ((row.jumps, row.passed_over), (followed.jumps, followed.passed_over));
        if said != known {
            return Ok(Some(format!(
                "task {task} says jumps and records passed over {said:?}, and it was {known:?}"
            )));
        }
        if followed.is_stopped && row.status == TaskStatus::Running {
            return Ok(Some(format!("task {task} goes on, and a log start had passed it")));
        }
        Ok(None)
    }
}
