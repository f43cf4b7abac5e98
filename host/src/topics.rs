//! Making, altering and deleting topics, whoever asks: a request of Kafka's protocol, or the admin API.

use std::sync::Arc;

use tidemill_core::catalog::topics::{self, NewTopic, decide};
use tidemill_core::catalog::{Command, TopicRow, TopicSettings};
use tidemill_core::rejection::Rejection;
use tidemill_core::seams::World;
use tidemill_protocol::ids::{TopicId, TopicName};

use crate::catalog::{Catalog, Unchanged, reconcile};
use crate::shards::Shard;

/// A topic that somebody wants.
#[derive(Debug, Clone)]
pub struct TopicRequest {
    /// Its tenant.
    pub tenant: String,
    /// Its name, not checked yet.
    pub name: String,
    /// How many partitions.
    pub partitions: u32,
    /// Its affinity group, if not a default one.
    pub affinity: Option<String>,
    /// Its settings.
    pub settings: TopicSettings,
}

/// Makes a topic, and its partitions; when it returns they take records.
///
/// # Errors
/// [`Unchanged`] when it is not made, or nobody knows.
pub async fn create(
    catalog: &Catalog,
    shards: &[Arc<Shard>],
    world: &World,
    wanted: &TopicRequest,
) -> Result<TopicRow, Unchanged> {
    let new = new_topic(world, wanted)?;
    let _order = catalog.topics_order.read().await;
    let row = catalog
        .change(|view, _| Ok(decide(view, &new)?.map(|command| (row_of(&command), Some(command)))))
        .await?;
    reconcile::create_partitions(catalog, shards, std::slice::from_ref(&row)).await?;
    tracing::info!(topic = row.name, partitions = row.partitions, group = row.group, "created");
    Ok(row)
}

/// What [`create`] would make, without making it.
///
/// # Errors
/// [`Unchanged`] when it would not be made.
pub fn check(catalog: &Catalog, world: &World, wanted: &TopicRequest) -> Result<TopicRow, Unchanged> {
    let new = new_topic(world, wanted)?;
    Ok(decide(&catalog.view(), &new)?.map(|command| row_of(&command))?)
}

/// Sets or unsets settings of a topic; when it returns they are in force. With `dry`, changes nothing.
///
/// # Errors
/// [`Unchanged`] when they stay as they are, or nobody knows.
pub async fn alter(
    catalog: &Catalog,
    shards: &[Arc<Shard>],
    (tenant, name): (&str, &str),
    changes: &[(String, Option<String>)],
    dry: bool,
) -> Result<TopicRow, Unchanged> {
    if dry {
        return Ok(topics::alter(&catalog.view(), tenant, name, changes)??.0);
    }
    let _order = catalog.topics_order.write().await;
    let row = catalog.change(|view, _| topics::alter(view, tenant, name, changes)).await?;
    reconcile::create_partitions(catalog, shards, std::slice::from_ref(&row)).await?;
    tracing::info!(topic = name, ?changes, "altered");
    Ok(row)
}

/// Deletes a topic; when it returns, nothing of it can be read or written.
///
/// # Errors
/// [`Unchanged`] when it stays, or nobody knows.
pub async fn delete(
    catalog: &Catalog,
    shards: &[Arc<Shard>],
    tenant: &str,
    name: &str,
) -> Result<TopicRow, Unchanged> {
    let _order = catalog.topics_order.write().await;
    let row = catalog
        .change(|view, _| Ok(topics::delete(view, tenant, name)?.map(|(row, command)| (row, Some(command)))))
        .await?;
    reconcile::delete_partitions(catalog, shards).await?;
    tracing::info!(topic = name, "deleted");
    Ok(row)
}

fn new_topic(world: &World, wanted: &TopicRequest) -> Result<NewTopic, Rejection> {
    let name = TopicName::new(wanted.name.as_str()).map_err(Rejection::Name)?;
    Ok(NewTopic {
        tenant: wanted.tenant.clone(),
        name,
        id: random_id(world),
        partitions: wanted.partitions,
        affinity: wanted.affinity.clone(),
        settings: wanted.settings.clone(),
    })
}

/// An id that no other topic has.
pub fn random_id(world: &World) -> TopicId {
    let mut id = [0; 16];
    world.chance.fill(&mut id);
    TopicId(id)
}

fn row_of(command: &Command) -> TopicRow {
    match command {
        Command::CreateTopics { topics, .. } if topics.len() == 1 => topics[0].clone(),
        other => unreachable!("one topic was decided, not {other:?}"),
    }
}
