//! Tasks that a log start has passed: what they were to read next is not there any more.
//!
//! ```text
//!                 position        log start                    end
//!   ─ ─ ─ ─ ─ ─ ─ ─ ─┬─ ─ ─ ─ ─ ─ ─ ─ ─┬──────────────────────┬
//!        removed     │     removed     │        there         │
//!                  stop             earliest               latest
//! ```
//!
//! A log start waits for nobody. The entry that moves it also treats each task whose place it passes, as the task's
//! manifest says: so a replay of the log does it at the same place, between the same steps. Where its cursor stands is
//! left alone, because positions alone say what it is still to be given. Steps that were begun before are fenced by how
//! often that has happened, which is in the task's row; a step that was decided before stays, and lies before it.
//!
//! Nothing of it is silent: the row says how many records were passed over, and why the task stopped.

use std::collections::BTreeSet;

use tidemill_protocol::ids::{Offset, TopicPartition};

use super::partition;
use crate::effect::Effect;
use crate::fault::Fault;
use crate::ids::{DeploymentId, TaskId};
use crate::rows::{PartitionRow, TaskRow, TaskStatus};
use crate::tables::{self, Key, Row, Tables, View, end_of_prefix};
use crate::task::{BehindLogStart, TaskSpec};

/// An input of a task whose log start lies above the task's place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// Its number among the task's inputs.
    pub input: usize,
    /// The partition.
    pub at: TopicPartition,
    /// The first offset that the task has not consumed.
    pub position: Offset,
    /// What is left of the partition.
    pub left: PartitionRow,
}

impl Behind {
    /// Records that were removed before the task consumed them.
    pub fn records(&self) -> u64 {
        self.left.log_start.0 - self.position.0
    }

    /// Where the task goes on, if it does.
    fn beyond(&self, choice: BehindLogStart) -> Offset {
        match choice {
            BehindLogStart::Stop => self.position,
            BehindLogStart::Earliest => self.left.log_start,
            BehindLogStart::Latest => self.left.end,
        }
    }
}

/// The inputs of a task that it is behind in.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn of(view: &(impl View + ?Sized), task: TaskId, row: &TaskRow) -> Result<Vec<Behind>, Fault> {
    let mut found = Vec::new();
    for (input, (topic, position)) in row.positions.iter().enumerate() {
        let at = TopicPartition { topic: *topic, partition: task.partition };
        match partition(view, at)? {
            Some(left) if *position < left.log_start => {
                found.push(Behind { input, at, position: *position, left });
            }
            _ => {}
        }
    }
    Ok(found)
}

/// What people are told of a task that stopped, or is to stop, because it is behind.
pub fn told(spec: &TaskSpec, behind: &[Behind]) -> String {
    let name = &spec.name;
    format!(
        "{}; its manifest says to stop then (failure.behind-log-start); to go on, `tidemill plugin resume {name} --behind \
         earliest` passes over what was removed, `--behind latest` over all there is, and `tidemill plugin reset {name}` \
         begins anew",
        removed(spec, behind)
    )
}

fn removed(spec: &TaskSpec, behind: &[Behind]) -> String {
    let one = |behind: &Behind| {
        let topic = spec.inputs.get(behind.input).map_or("", |input| input.name.as_str());
        format!(
            "the log start of {topic}/{} is {}, and it stands at {}: {} records were removed before it consumed them",
            behind.at.partition.0,
            behind.left.log_start.0,
            behind.position.0,
            behind.records()
        )
    };
    behind.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Log starts of these partitions have moved: whoever reads them there and is behind now is treated by its manifest.
pub(super) fn passed(
    tables: &mut dyn Tables,
    moved: &BTreeSet<TopicPartition>,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    let tasks = Key::tasks();
    for (key, row) in tables.scan(&tasks, end_of_prefix(&tasks).as_deref(), usize::MAX)? {
        let Key::Task(task) = Key::decode(&key)? else { continue };
        let row = TaskRow::decode(&row)?;
        let reads = |topic| moved.contains(&TopicPartition { topic, partition: task.partition });
        if row.positions.iter().any(|(topic, _)| reads(*topic)) {
            treat(tables, task, row, None, effects)?;
        }
    }
    Ok(())
}

/// Treats the tasks of a deployment that are behind as its manifest says, or as is said here.
pub(super) fn treat_all(
    tables: &mut dyn Tables,
    deployment: DeploymentId,
    choice: Option<BehindLogStart>,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    let prefix = Key::tasks_prefix(deployment);
    for (key, row) in tables.scan(&prefix, end_of_prefix(&prefix).as_deref(), usize::MAX)? {
        if let Key::Task(task) = Key::decode(&key)? {
            treat(tables, task, TaskRow::decode(&row)?, choice, effects)?;
        }
    }
    Ok(())
}

fn treat(
    tables: &mut dyn Tables,
    task: TaskId,
    mut row: TaskRow,
    choice: Option<BehindLogStart>,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    let behind = of(tables, task, &row)?;
    if behind.is_empty() {
        return Ok(());
    }
    // Reading what a task is told takes longer than all the rest, and few are behind.
    let spec = tables::read::<TaskSpec>(tables, &Key::Spec(task.deployment))?;
    let spec = spec.ok_or_else(|| Fault::damaged("a task", "it has no spec"))?;
    let choice = choice.unwrap_or(spec.failure.behind_log_start);
    // Whatever it has read ahead is void; and what it failed at may be gone.
    row.jumps += 1;
    row.attempts = 0;
    match choice {
        BehindLogStart::Stop => {
            // One that is paused stays so, and one that had stopped: this is why it cannot simply go on.
            if row.status == TaskStatus::Running {
                row.status = TaskStatus::Stopped;
            }
            row.reason = told(&spec, &behind);
            effects.push(Effect::TaskStopped { task });
        }
        BehindLogStart::Earliest | BehindLogStart::Latest => {
            for one in &behind {
                let beyond = one.beyond(choice);
                row.passed_over += beyond.0 - one.position.0;
                row.positions[one.input].1 = beyond;
            }
            row.reason = removed(&spec, &behind);
            effects.push(Effect::TaskStarted { task });
        }
    }
    tables::write(tables, &Key::Task(task), &row);
    Ok(())
}
