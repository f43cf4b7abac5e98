//! What a shard holds and runs: partitions and tasks, as the catalog wants them.
//!
//! The catalog decides; the reconciler of the shard's leader puts it into the shard's log with these commands,
//! which do nothing when what they ask for is so already. They are JSON: they are few, and they grow.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidemill_protocol::ids::{Offset, Partition, TopicId, TopicPartition};

use super::letters::{self, Redrive};
use super::trim::{self, Trim};
use super::{Deciding, behind};
use crate::effect::Effect;
use crate::entry::{Entry, EntryKind};
use crate::fault::Fault;
use crate::ids::{Cursor, DeploymentId, TaskId};
use crate::rows::{PartitionRow, TaskRow, TaskStatus};
use crate::tables::{self, Key, Tables, end_of_prefix};
use crate::task::{BehindLogStart, TaskSpec};
use crate::text;

/// A change of what the shard holds or runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Control {
    /// Hold these partitions, empty.
    CreatePartitions {
        /// The partitions.
        partitions: Vec<NewPartition>,
    },
    /// Take batches of other sizes than before into these partitions.
    AlterPartitions {
        /// Those of the partitions that are here.
        partitions: Vec<NewPartition>,
    },
    /// Hold these partitions no longer, nor anything that is known of them.
    DeletePartitions {
        /// The partitions.
        partitions: Vec<Deleted>,
    },
    /// Move the log starts of partitions up. Made by [`trim::decide`].
    Trim {
        /// Where to.
        partitions: Vec<Trim>,
        /// Whether tasks that they pass are treated by their manifests' choice: the broker kept for them what lies
        /// below, before there was one.
        #[serde(default)]
        passes_tasks: bool,
    },
    /// Treat tasks that are behind a log start as their manifest says, or as is said here. See [`behind`].
    PassTasks {
        /// The deployment.
        deployment: DeploymentId,
        /// What somebody chose for this once.
        choice: Option<BehindLogStart>,
    },
    /// Run these tasks of a generation, or have them paused. A task of an older generation goes on where it is, unless
    /// the spec says that a generation began anew since.
    StartTasks {
        /// The generation.
        spec: Box<TaskSpec>,
        /// Its tasks in this shard.
        tasks: Vec<NewTask>,
    },
    /// Nobody wants these dead letters any more. Those of which something has become already stay what they are.
    DiscardLetters {
        /// The dead-letter topic.
        #[serde(with = "text")]
        topic: TopicId,
        /// The partition.
        partition: u32,
        /// Their offsets.
        offsets: Vec<u64>,
    },
    /// Give these dead letters to their task again. Made by [`letters::decide`].
    RedriveLetters(Redrive),
    /// Have no task of this deployment any more, nor its state. What its steps derived stays, and what of it is on its
    /// way arrives.
    RemoveTasks {
        /// The deployment.
        deployment: DeploymentId,
    },
}

/// A partition to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPartition {
    /// The topic.
    #[serde(with = "text")]
    pub topic: TopicId,
    /// The partition's number.
    pub partition: u32,
    /// The topic's `max.message.bytes`.
    pub batch_bytes_max: u32,
}

/// A partition to hold no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The topic.
    #[serde(with = "text")]
    pub topic: TopicId,
    /// The partition's number.
    pub partition: u32,
}

/// A task to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTask {
    /// Its partition number.
    pub partition: u32,
    /// Where it begins to read the log: at or before the start of each input.
    pub cursor: Cursor,
    /// Per input, the first offset it is given.
    pub starts: Vec<u64>,
}

/// Makes the entry of a command.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn decide(deciding: &Deciding, control: &Control) -> Result<Entry, Fault> {
    let meta = serde_json::to_vec(control).expect("a command is plain data");
    let append_time = deciding.append_time()?;
    Ok(Entry { kind: EntryKind::Control, append_time, meta: Bytes::from(meta), batches: Vec::new() })
}

/// Reads the command of an entry.
///
/// # Errors
/// A [`Fault`] when it is damaged, or of a kind that a newer version wrote.
pub fn command(entry: &Entry) -> Result<Control, Fault> {
    serde_json::from_slice(&entry.meta).map_err(|error| Fault::damaged("a control entry", error))
}

pub(super) fn apply(tables: &mut dyn Tables, entry: &Entry, effects: &mut Vec<Effect>) -> Result<(), Fault> {
    match command(entry)? {
        Control::CreatePartitions { partitions } => {
            partitions.iter().try_for_each(|new| create_partition(tables, new))
        }
        Control::AlterPartitions { partitions } => {
            partitions.iter().try_for_each(|altered| alter_partition(tables, altered))
        }
        Control::DeletePartitions { partitions } => {
            effects.push(Effect::Deleted);
            partitions.iter().try_for_each(|deleted| delete_partition(tables, *deleted))
        }
        Control::Trim { partitions, passes_tasks } => {
            effects.push(Effect::Deleted);
            trim::apply(tables, &partitions, passes_tasks, effects)
        }
        Control::PassTasks { deployment, choice } => behind::treat_all(tables, deployment, choice, effects),
        Control::StartTasks { spec, tasks } => {
            let known = tables::read::<TaskSpec>(tables, &Key::Spec(spec.deployment))?;
            if known.is_none_or(|known| known.generation < spec.generation) {
                tables::write(tables, &Key::Spec(spec.deployment), &*spec);
            }
            tasks.iter().try_for_each(|new| start_task(tables, &spec, new, effects))
        }
        Control::DiscardLetters { topic, partition, offsets } => {
            let at = TopicPartition { topic, partition: Partition(partition) };
            offsets
                .into_iter()
                .try_for_each(|offset| letters::discard(tables, at, Offset(offset), entry.append_time))
        }
        Control::RedriveLetters(redrive) => letters::apply(tables, &redrive, effects),
        Control::RemoveTasks { deployment } => remove_tasks(tables, deployment, effects),
    }
}

fn create_partition(tables: &mut dyn Tables, new: &NewPartition) -> Result<(), Fault> {
    let at = TopicPartition { topic: new.topic, partition: Partition(new.partition) };
    let key = Key::Partition(at);
    if tables::read::<PartitionRow>(tables, &key)?.is_none() {
        let row = PartitionRow { batch_bytes_max: new.batch_bytes_max, ..PartitionRow::default() };
        tables::write(tables, &key, &row);
    }
    Ok(())
}

fn alter_partition(tables: &mut dyn Tables, altered: &NewPartition) -> Result<(), Fault> {
    let key =
        Key::Partition(TopicPartition { topic: altered.topic, partition: Partition(altered.partition) });
    if let Some(row) = tables::read::<PartitionRow>(tables, &key)? {
        tables::write(tables, &key, &PartitionRow { batch_bytes_max: altered.batch_bytes_max, ..row });
    }
    Ok(())
}

fn delete_partition(tables: &mut dyn Tables, deleted: Deleted) -> Result<(), Fault> {
    let at = TopicPartition { topic: deleted.topic, partition: Partition(deleted.partition) };
    Key::partition_prefixes(at).iter().try_for_each(|prefix| delete_all(tables, prefix))?;
    tables.delete(Key::Partition(at).encode());
    Ok(())
}

fn start_task(
    tables: &mut dyn Tables,
    spec: &TaskSpec,
    new: &NewTask,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    let task = TaskId { deployment: spec.deployment, partition: Partition(new.partition) };
    let key = Key::Task(task);
    let known = tables::read::<TaskRow>(tables, &key)?;
    if known.as_ref().is_some_and(|row| row.generation >= spec.generation) {
        return Ok(());
    }
    let positions = spec.inputs.iter().zip(&new.starts).map(|(input, start)| (input.topic, Offset(*start)));
    let fresh = TaskRow { cursor: new.cursor, positions: positions.collect(), ..TaskRow::default() };
    let before = known.as_ref().map(|row| row.generation);
    if before.is_some_and(|before| before < spec.emptied) {
        Key::memory_prefixes(task).iter().try_for_each(|prefix| delete_all(tables, prefix))?;
    }
    // Its steps are counted on, whatever else is new: what it sends elsewhere names the step before it.
    let mut row = match known {
        Some(row) if row.generation < spec.restarted => TaskRow { step: row.step, ..fresh },
        Some(row) => row,
        None => fresh,
    };
    row.generation = spec.generation;
    row.status = if spec.paused { TaskStatus::Paused } else { TaskStatus::Running };
    (row.attempts, row.reason) = (0, String::new());
    tables::write(tables, &key, &row);
    letters::begin(tables, spec, task.partition)?;
    effects.push(Effect::TaskStarted { task });
    Ok(())
}

fn remove_tasks(
    tables: &mut dyn Tables,
    deployment: DeploymentId,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    let spec = tables::read::<TaskSpec>(tables, &Key::Spec(deployment))?;
    let prefix = Key::tasks_prefix(deployment);
    for (key, _) in tables.scan(&prefix, end_of_prefix(&prefix).as_deref(), usize::MAX)? {
        let Key::Task(task) = Key::decode(&key)? else { continue };
        Key::memory_prefixes(task).iter().try_for_each(|prefix| delete_all(tables, prefix))?;
        delete_all(tables, &Key::outbound_prefix(task))?;
        if let Some(spec) = &spec {
            let letters = TopicPartition { topic: spec.dead_letter.topic, partition: task.partition };
            delete_all(tables, &Key::redrives_prefix(letters))?;
        }
        tables.delete(key);
        effects.push(Effect::TaskStopped { task });
    }
    tables.delete(Key::Spec(deployment).encode());
    Ok(())
}

fn delete_all(tables: &mut dyn Tables, prefix: &Bytes) -> Result<(), Fault> {
    tables::delete_within(tables, prefix, end_of_prefix(prefix).as_deref())
}
