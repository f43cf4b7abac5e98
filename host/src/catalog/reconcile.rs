//! Putting into the shards what the catalog wants: partitions and tasks.
//!
//! The catalog commits first, so a broker that dies in between finds the rest to do when it comes back. Commands
//! that a shard has carried out already do nothing, and what is there already is not asked for again.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_core::catalog::{self, Deployment, TopicRow};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{DeploymentId, Generation, ShardId, TaskId};
use tidemill_core::rows::TaskRow;
use tidemill_core::shard::control::{Control, Deleted, NewPartition, NewTask};
use tidemill_core::tables::{self, Key, View, end_of_prefix};
use tidemill_protocol::ids::{Offset, Partition, TopicPartition};

use super::Catalog;
use crate::shards::Refused;
use crate::shards::shard::Shard;
use std::sync::Arc;

/// Does everything that the catalog wants and the shards have not.
///
/// # Errors
/// [`Refused`] when a shard does not take it; what is not done is to be tried again.
pub async fn all(catalog: &Catalog, shards: &[Arc<Shard>]) -> Result<(), Refused> {
    let topics = catalog::topics(&catalog.view())?;
    create_partitions(catalog, shards, &topics).await?;
    for deployment in catalog::deployments(&catalog.view())? {
        start_tasks(shards, &deployment).await?;
    }
    delete_partitions(catalog, shards).await?;
    let known: BTreeSet<_> =
        catalog::deployments(&catalog.view())?.into_iter().map(|deployment| deployment.id).collect();
    for shard in shards {
        for deployment in deployments_in(shard)?.difference(&known) {
            shard.control(&Control::RemoveTasks { deployment: *deployment }).await?;
        }
    }
    Ok(())
}

/// Removes the tasks of a deployment that is no more, with their state.
///
/// # Errors
/// [`Refused`] when a shard does not take it.
pub async fn remove_tasks(shards: &[Arc<Shard>], deployment: DeploymentId) -> Result<(), Refused> {
    for shard in shards {
        if deployments_in(shard)?.contains(&deployment) {
            shard.control(&Control::RemoveTasks { deployment }).await?;
        }
    }
    Ok(())
}

/// The deployments that a shard has tasks of.
fn deployments_in(shard: &Shard) -> Result<BTreeSet<DeploymentId>, Fault> {
    let specs = Key::specs();
    let rows = shard.group.tables().scan(&specs, end_of_prefix(&specs).as_deref(), usize::MAX)?;
    let mut found = BTreeSet::new();
    for (key, _) in rows {
        if let Key::Spec(deployment) = Key::decode(&key)? {
            found.insert(deployment);
        }
    }
    Ok(found)
}

/// Makes the partitions of topics that their shards do not hold yet, and alters those that they hold otherwise.
///
/// # Errors
/// [`Refused`] when a shard does not take it.
pub async fn create_partitions(
    catalog: &Catalog,
    shards: &[Arc<Shard>],
    topics: &[TopicRow],
) -> Result<(), Refused> {
    let mut missing: BTreeMap<ShardId, Vec<NewPartition>> = BTreeMap::new();
    let mut other = missing.clone();
    for topic in topics {
        let places = catalog::shards_of(&catalog.view(), topic)?;
        for (partition, shard) in (0..).zip(places) {
            let at = TopicPartition { topic: topic.id, partition: Partition(partition) };
            let batch_bytes_max = topic.settings.max_message_bytes();
            let wanted = NewPartition { topic: topic.id, partition, batch_bytes_max };
            match find(shards, shard)?.partition(at)? {
                None => missing.entry(shard).or_default().push(wanted),
                Some(row) if row.batch_bytes_max != batch_bytes_max => {
                    other.entry(shard).or_default().push(wanted);
                }
                Some(_) => {}
            }
        }
    }
    let create =
        missing.into_iter().map(|(shard, partitions)| (shard, Control::CreatePartitions { partitions }));
    let alter = other.into_iter().map(|(shard, partitions)| (shard, Control::AlterPartitions { partitions }));
    command_all(shards, create.chain(alter)).await
}

/// Has the shards forget topics that are no more, and then the catalog.
///
/// # Errors
/// [`Refused`] when a shard or the catalog does not take it.
pub async fn delete_partitions(catalog: &Catalog, shards: &[Arc<Shard>]) -> Result<(), Refused> {
    let deleted = catalog::deleted_topics(&catalog.view())?;
    let mut held: BTreeMap<ShardId, Vec<Deleted>> = BTreeMap::new();
    for topic in &deleted {
        for (partition, shard) in (0..).zip(&topic.shards) {
            let at = TopicPartition { topic: topic.id, partition: Partition(partition) };
            if find(shards, *shard)?.partition(at)?.is_some() {
                held.entry(*shard).or_default().push(Deleted { topic: topic.id, partition });
            }
        }
    }
    let commands =
        held.into_iter().map(|(shard, partitions)| (shard, Control::DeletePartitions { partitions }));
    command_all(shards, commands).await?;
    catalog.forget(deleted).await
}

/// Starts the tasks of a deployment's newest generation that their shards do not run yet.
///
/// # Errors
/// [`Refused`] when a shard does not take it.
pub async fn start_tasks(shards: &[Arc<Shard>], deployment: &Deployment) -> Result<(), Refused> {
    let mut missing: BTreeMap<ShardId, Vec<NewTask>> = BTreeMap::new();
    let spec = &deployment.spec;
    for (partition, starts) in (0..).zip(&deployment.starts) {
        let id = spec.home_of(Partition(partition));
        let shard = find(shards, id)?;
        let task = TaskId { deployment: spec.deployment, partition: Partition(partition) };
        if generation(shard, task)? >= Some(spec.generation) {
            continue;
        }
        let place = |topic| TopicPartition { topic, partition: Partition(partition) };
        let inputs = spec.inputs.iter().map(|input| place(input.topic));
        let offsets: Vec<_> = inputs.zip(starts.iter().map(|start| Offset(*start))).collect();
        let cursor = shard.cursor_at(&offsets)?;
        missing.entry(id).or_default().push(NewTask { partition, cursor, starts: starts.clone() });
    }
    let command = |tasks| Control::StartTasks { spec: Box::new(spec.clone()), tasks };
    command_all(shards, missing.into_iter().map(|(shard, tasks)| (shard, command(tasks)))).await
}

fn generation(shard: &Shard, task: TaskId) -> Result<Option<Generation>, Fault> {
    let row = tables::read::<TaskRow>(&shard.group.tables(), &Key::Task(task))?;
    Ok(row.map(|row| row.generation))
}

async fn command_all(
    shards: &[Arc<Shard>],
    commands: impl Iterator<Item = (ShardId, Control)>,
) -> Result<(), Refused> {
    for (shard, command) in commands {
        find(shards, shard)?.control(&command).await?;
    }
    Ok(())
}

fn find(shards: &[Arc<Shard>], id: ShardId) -> Result<&Arc<Shard>, Fault> {
    shards
        .get(usize::from(id.0))
        .ok_or_else(|| Fault::damaged("the catalog", format!("it names shard {}", id.0)))
}
