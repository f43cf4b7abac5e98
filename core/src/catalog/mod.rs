//! The rules of the catalog: topics, where they lie, what is deployed.
//!
//! As in a shard, a decision makes an entry and `apply` carries it out. The catalog changes seldom, so its leader
//! decides one change at a time, against the applied tables, and waits for its commit before the next: it needs
//! no head. A command holds finished rows; `apply` puts them in their places.
//!
//! The catalog never looks into a shard, and a shard never into the catalog: what a shard must know reaches it
//! through its own log (see [`crate::shard::control`]).

mod cycles;
pub mod deploy;
pub mod lifecycle;
pub mod own_topics;
pub mod placement;
pub mod settings;
pub mod topics;
#[cfg(test)]
mod workbench;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidemill_protocol::ids::{Partition, TopicId};
use tidemill_protocol::primitive::Malformed;

use crate::effect::Effect;
use crate::entry::{Entry, EntryKind};
use crate::fault::Fault;
use crate::ids::{BrokerId, DeploymentId, Digest, Generation, ShardId};
use crate::manifest::Manifest;
use crate::seams::Timestamp;
use crate::tables::{self, Key, Row, Tables, View, end_of_prefix};
use crate::task::TaskSpec;
use crate::text;

pub use settings::TopicSettings;

/// Until there are tenants, everything belongs to this one.
pub const DEFAULT_TENANT: &str = "default";

/// The rules that `apply` follows, as a number, written when a cluster is formed. Nothing raises or compares it yet.
pub const FEATURE_LEVEL: u32 = 1;

/// What the cluster knows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRow {
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// The rules in force.
    pub feature_level: u32,
    /// How many shards it has.
    pub shards: u16,
    /// Its brokers.
    pub brokers: Vec<BrokerId>,
    /// The first producer id that is not given away, without [`ProducerId::WIDE_BIT`](tidemill_protocol::ids::ProducerId::WIDE_BIT).
    pub next_producer_id: i64,
    /// The id of the next deployment.
    pub next_deployment: DeploymentId,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRow {
    /// Its id.
    #[serde(with = "text")]
    pub id: TopicId,
    /// Its tenant.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// How many partitions it has, for its life.
    pub partitions: u32,
    /// Its affinity group.
    pub group: String,
    /// Its settings.
    pub settings: TopicSettings,
}

/// A topic that is no more, while some shard still holds some of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedTopic {
    /// Its id.
    #[serde(with = "text")]
    pub id: TopicId,
    /// The shard of each of its partitions.
    pub shards: Vec<ShardId>,
}

/// An affinity group: partition *i* of all its topics lies in one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffinityGroupRow {
    /// Its tenant.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// The shard of each partition number.
    pub shards: Vec<ShardId>,
    /// How many topics it has.
    pub topics: u32,
    /// Whether topics that name no group may join it.
    pub is_default: bool,
}

impl AffinityGroupRow {
    /// Where partition number `partition` lies.
    pub fn shard(&self, partition: Partition) -> Option<ShardId> {
        self.shards.get(partition.0 as usize).copied()
    }
}

/// A plugin set to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// Its tenant.
    pub tenant: String,
    /// The plugin's name.
    pub name: String,
    /// Its newest generation.
    pub generation: Generation,
    /// The component.
    pub digest: Digest,
    /// As it was deployed.
    pub manifest: Manifest,
    /// What its tasks are told.
    pub spec: TaskSpec,
    /// For each partition and each input, the first offset that its first generation was given, or the last one that
    /// began anew.
    pub starts: Vec<Vec<u64>>,
    /// When it was deployed.
    pub deployed_at: Timestamp,
    /// The version that was at work before this one: what a rollback goes back to.
    #[serde(default)]
    pub previous: Option<Box<Version>>,
}

/// What makes a version of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Its last generation.
    pub generation: Generation,
    /// The component.
    pub digest: Digest,
    /// As it was deployed.
    pub manifest: Manifest,
}

/// A change of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// The first entry of a cluster.
    Form {
        /// What it knows of itself from the start.
        cluster: ClusterRow,
    },
    /// Topics, and the groups that they join or open.
    CreateTopics {
        /// The topics.
        topics: Vec<TopicRow>,
        /// Their groups, as they are with them.
        groups: Vec<AffinityGroupRow>,
    },
    /// A topic is no more. Its shards are still to hear of it.
    DeleteTopic {
        /// The topic.
        topic: TopicRow,
        /// Its group, as it is without it.
        group: AffinityGroupRow,
    },
    /// A topic has other settings.
    AlterTopic {
        /// The topic, as it is with them.
        topic: TopicRow,
    },
    /// No shard holds anything of these topics any more.
    ForgetTopics {
        /// The topics.
        topics: Vec<DeletedTopic>,
    },
    /// A generation of a deployment, with the topics that it needs and that were not there.
    Deploy {
        /// The deployment.
        deployment: Box<Deployment>,
        /// New topics.
        topics: Vec<TopicRow>,
        /// Their groups, as they are with them.
        groups: Vec<AffinityGroupRow>,
    },
    /// A deployment is no more. Its topics stay.
    Undeploy {
        /// Its tenant.
        tenant: String,
        /// The plugin's name.
        name: String,
        /// Which deployment of that name.
        id: DeploymentId,
    },
    /// Producer ids below this one are given away.
    ReserveProducerIds {
        /// The first that is not.
        next: i64,
    },
}

/// Makes the entry of a command.
pub fn entry(command: &Command, now: Timestamp) -> Entry {
    let meta = Bytes::from(serde_json::to_vec(command).expect("a command is plain data"));
    Entry { kind: EntryKind::Catalog, append_time: now, meta, batches: Vec::new() }
}

/// Applies one committed entry.
///
/// # Errors
/// A [`Fault`] of the storage, or of an entry that this version cannot read.
pub fn apply(tables: &mut dyn Tables, entry: &Entry, effects: &mut Vec<Effect>) -> Result<(), Fault> {
    if entry.kind != EntryKind::Catalog {
        return Err(Fault::damaged("the catalog's log", "it holds an entry of a shard"));
    }
    let command = serde_json::from_slice(&entry.meta);
    match command.map_err(|error| Fault::damaged("an entry of the catalog", error))? {
        Command::Form { cluster } => tables::write(tables, &Key::Cluster, &Json(cluster)),
        Command::CreateTopics { topics, groups } => put_topics(tables, topics, groups, effects),
        Command::DeleteTopic { topic, group } => topics::apply_deletion(tables, topic, group, effects),
        Command::AlterTopic { topic } => {
            if topic_by_id(tables, topic.id)?.is_some() {
                put_topics(tables, vec![topic], Vec::new(), effects);
            }
        }
        Command::ForgetTopics { topics } => {
            topics.iter().for_each(|topic| tables.delete(Key::DeletedTopic(topic.id).encode()));
        }
        Command::Deploy { deployment, topics, groups } => {
            put_topics(tables, topics, groups, effects);
            let mut cluster = cluster(tables)?.ok_or_else(unformed)?;
            let next = DeploymentId(deployment.id.0 + 1);
            cluster.next_deployment = cluster.next_deployment.max(next);
            tables::write(tables, &Key::Cluster, &Json(cluster));
            let key = Key::Deployment(deployment.tenant.clone(), deployment.name.clone());
            tables::write(tables, &key, &Json(*deployment));
        }
        Command::Undeploy { tenant, name, id } => {
            if deployment(tables, &tenant, &name)?.is_some_and(|known| known.id == id) {
                tables.delete(Key::Deployment(tenant, name).encode());
            }
        }
        Command::ReserveProducerIds { next } => {
            let mut cluster = cluster(tables)?.ok_or_else(unformed)?;
            cluster.next_producer_id = next;
            tables::write(tables, &Key::Cluster, &Json(cluster));
        }
    }
    Ok(())
}

fn unformed() -> Fault {
    Fault::damaged("the catalog's log", "it does not begin with the forming of the cluster")
}

fn put_topics(
    tables: &mut dyn Tables,
    topics: Vec<TopicRow>,
    groups: Vec<AffinityGroupRow>,
    effects: &mut Vec<Effect>,
) {
    for group in groups {
        let key = Key::AffinityGroup(group.tenant.clone(), group.name.clone());
        tables::write(tables, &key, &Json(group));
    }
    for topic in topics {
        let name = Key::TopicName(topic.tenant.clone(), topic.name.clone());
        tables.put(name.encode(), Bytes::copy_from_slice(&topic.id.0));
        let topic_id = topic.id;
        tables::write(tables, &Key::Topic(topic_id), &Json(topic));
        effects.push(Effect::TopicChanged { topic: topic_id });
    }
}

/// The cluster, once it is formed.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn cluster(view: &(impl View + ?Sized)) -> Result<Option<ClusterRow>, Fault> {
    Ok(tables::read::<Json<ClusterRow>>(view, &Key::Cluster)?.map(|row| row.0))
}

/// A topic by its name.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn topic(view: &(impl View + ?Sized), tenant: &str, name: &str) -> Result<Option<TopicRow>, Fault> {
    let key = Key::TopicName(tenant.to_owned(), name.to_owned());
    let Some(id) = view.get(&key.encode())? else { return Ok(None) };
    let id = <[u8; 16]>::try_from(&id[..]).map_err(|_| Fault::damaged("a topic's name", "no topic id"))?;
    topic_by_id(view, TopicId(id))
}

/// A topic by its id.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn topic_by_id(view: &(impl View + ?Sized), id: TopicId) -> Result<Option<TopicRow>, Fault> {
    Ok(tables::read::<Json<TopicRow>>(view, &Key::Topic(id))?.map(|row| row.0))
}

/// An affinity group.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn group(
    view: &(impl View + ?Sized),
    tenant: &str,
    name: &str,
) -> Result<Option<AffinityGroupRow>, Fault> {
    let key = Key::AffinityGroup(tenant.to_owned(), name.to_owned());
    Ok(tables::read::<Json<AffinityGroupRow>>(view, &key)?.map(|row| row.0))
}

/// A deployment by the plugin's name.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn deployment(
    view: &(impl View + ?Sized),
    tenant: &str,
    name: &str,
) -> Result<Option<Deployment>, Fault> {
    let key = Key::Deployment(tenant.to_owned(), name.to_owned());
    Ok(tables::read::<Json<Deployment>>(view, &key)?.map(|row| row.0))
}

/// All topics of all tenants, by id.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn topics(view: &(impl View + ?Sized)) -> Result<Vec<TopicRow>, Fault> {
    all(view, 33)
}

/// Topics that are no more, of which some shard may still hold something.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn deleted_topics(view: &(impl View + ?Sized)) -> Result<Vec<DeletedTopic>, Fault> {
    all(view, 37)
}

/// All affinity groups, by tenant and name.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn groups(view: &(impl View + ?Sized)) -> Result<Vec<AffinityGroupRow>, Fault> {
    all(view, 35)
}

/// All deployments, by tenant and name.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn deployments(view: &(impl View + ?Sized)) -> Result<Vec<Deployment>, Fault> {
    all(view, 36)
}

fn all<T: DeserializeOwned + Serialize>(view: &(impl View + ?Sized), table: u8) -> Result<Vec<T>, Fault> {
    let start = Key::table(table);
    let rows = view.scan(&start, end_of_prefix(&start).as_deref(), usize::MAX)?;
    let read = |(key, value): (Bytes, Bytes)| {
        Json::<T>::decode(&value).map(|row| row.0).map_err(|error| Fault::damaged(format!("{key:?}"), error))
    };
    rows.into_iter().map(read).collect()
}

/// A row that is JSON.
struct Json<T>(T);

impl<T: Serialize + DeserializeOwned> Row for Json<T> {
    fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(&self.0).expect("a row is plain data"))
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        serde_json::from_slice(bytes)
            .map(Json)
            .map_err(|error| Malformed { what: "a row", at: error.column() })
    }
}

/// The shards of each partition of a topic.
///
/// # Errors
/// A [`Fault`] when its group is not there.
pub fn shards_of(view: &(impl View + ?Sized), topic: &TopicRow) -> Result<Vec<ShardId>, Fault> {
    let row = group(view, &topic.tenant, &topic.group)?;
    let row = row.ok_or_else(|| Fault::damaged("the catalog", format!("no group {:?}", topic.group)))?;
    Ok(row.shards)
}

/// How many partitions of topics lie in each shard; those with none are left out.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn partitions_of_shards(view: &(impl View + ?Sized)) -> Result<BTreeMap<ShardId, usize>, Fault> {
    let mut partitions = BTreeMap::new();
    for group in groups(view)? {
        for shard in group.shards {
            *partitions.entry(shard).or_default() += group.topics as usize;
        }
    }
    Ok(partitions)
}

/// How many partitions of groups each shard holds: what placement balances.
///
/// # Errors
/// A [`Fault`] of the storage.
fn loads(view: &(impl View + ?Sized), shards: u16) -> Result<BTreeMap<ShardId, usize>, Fault> {
    let mut loads: BTreeMap<ShardId, usize> = (0..shards).map(|shard| (ShardId(shard), 0)).collect();
    for shard in groups(view)?.iter().flat_map(|group| &group.shards) {
        *loads.entry(*shard).or_default() += 1;
    }
    Ok(loads)
}
