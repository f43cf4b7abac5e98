//! What a task is told: the part of the catalog that it can observe.
//!
//! It reaches the task through an entry of its shard's log, so that a replay of the log sees it at the same
//! place. Nothing of it is ever looked up elsewhere while a step runs.

use std::collections::BTreeMap;
use std::ops::Deref;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidemill_protocol::ids::{Partition, TopicId, TopicPartition};
use tidemill_protocol::partitioner::partition_for_key;
use tidemill_protocol::primitive::Malformed;

use crate::bundle::Grant;
use crate::event_time::EventTimeRules;
use crate::fault::Fault;
use crate::ids::{DeploymentId, Digest, Generation, ShardId};
use crate::limits;
use crate::plugin::GuestLimits;
use crate::tables::{Key, Row, View};
use crate::text;

/// A deployment's generation, as all its tasks see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The plugin's name.
    pub name: String,
    /// The generation that this is the spec of.
    pub generation: Generation,
    /// The component.
    pub digest: Digest,
    /// What it reads, in the order of the manifest.
    pub inputs: Vec<Input>,
    /// What it may publish to, in the order of the manifest.
    pub outputs: Vec<Output>,
    /// Where records go that it cannot handle.
    pub dead_letter: Output,
    /// Where what it writes to its log goes; none where it was deployed before there were such topics.
    #[serde(default)]
    pub log: Option<Output>,
    /// What the guest reads as its configuration.
    pub config: BTreeMap<String, String>,
    /// What an instance may use.
    pub limits: GuestLimits,
    /// What happens to a record that fails.
    pub failure: FailurePolicy,
    /// Hops from a chain's first record beyond which this task derives nothing.
    pub hops_max: u32,
    /// How event time moves.
    #[serde(default)]
    pub event_time: EventTimeRules,
    /// Whether its tasks take no steps.
    #[serde(default)]
    pub paused: bool,
    /// The versions in which state may lie in its tasks' tables, ascending: those of all generations since it was
    /// last empty.
    #[serde(default)]
    pub state_versions: Vec<u32>,
    /// The last generation that began anew at the offsets it was given; older tasks leave their place for it.
    #[serde(default)]
    pub restarted: Generation,
    /// The last generation that began with an empty state; what older ones kept is removed for it.
    #[serde(default)]
    pub emptied: Generation,
    /// The files that the guest may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bundles: Vec<Grant>,
}

/// A topic that a task reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The topic.
    #[serde(with = "text")]
    pub topic: TopicId,
    /// Its name within the tenant.
    pub name: String,
}

/// A topic that a task may write to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The topic.
    #[serde(with = "text")]
    pub topic: TopicId,
    /// Its name within the tenant.
    pub name: String,
    /// The shard of each of its partitions.
    pub shards: Vec<ShardId>,
    /// The topic's `max.message.bytes` when the generation was made.
    pub batch_bytes_max: u32,
}

impl Output {
    /// The partition of a record with this key; without one, that of the source, as far as it exists here.
    pub fn partition(&self, key: Option<&Bytes>, source: Partition) -> Partition {
        let partitions = self.shards.len() as u32;
        match key {
            Some(key) => Partition(partition_for_key(key, partitions)),
            None => Partition(source.0 % partitions),
        }
    }
}

/// What happens to a record that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FailurePolicy {
    /// How often it is tried.
    #[serde(default = "attempts_default")]
    pub attempts: u32,
    /// What then becomes of it.
    #[serde(default)]
    pub then: AfterAttempts,
    /// What a task does when records are removed before it consumed them.
    #[serde(default)]
    pub behind_log_start: BehindLogStart,
}

fn attempts_default() -> u32 {
    limits::ATTEMPTS_DEFAULT
}

impl Default for FailurePolicy {
    fn default() -> Self {
        FailurePolicy {
            attempts: attempts_default(),
            then: AfterAttempts::default(),
            behind_log_start: BehindLogStart::default(),
        }
    }
}

/// What becomes of a record that failed at every attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterAttempts {
    /// It goes to the dead-letter topic, whole, and the task goes on.
    #[default]
    DeadLetter,
    /// The task stops before it.
    Stop,
}

/// What a task does that a log start has passed: records were removed, by retention or by hand, before it consumed
/// them. Kafka's `auto.offset.reset` asks the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BehindLogStart {
    /// It stops, and says what is missing.
    #[default]
    Stop,
    /// It goes on with the first record that is there.
    Earliest,
    /// It goes on behind the last record that is there.
    Latest,
}

impl TaskSpec {
    /// The shard of the task on `partition`: that of its dead-letter partition, which is of its inputs'
    /// affinity group.
    pub fn home_of(&self, partition: Partition) -> ShardId {
        self.dead_letter.shards[partition.0 as usize]
    }

    /// The partitions that the task on `partition` reads, in the order of its inputs.
    pub fn places(&self, partition: Partition) -> Vec<TopicPartition> {
        self.inputs.iter().map(|input| TopicPartition { topic: input.topic, partition }).collect()
    }

    /// Where the dead letters of the task on `partition` lie.
    pub fn letters(&self, partition: Partition) -> TopicPartition {
        TopicPartition { topic: self.dead_letter.topic, partition }
    }

    /// The topics that the broker made for it: of its dead letters, of its log.
    pub fn own_topics(&self) -> impl Iterator<Item = &Output> {
        [&self.dead_letter].into_iter().chain(&self.log)
    }

    /// How many tasks the deployment has: as many as its inputs have partitions.
    pub fn tasks(&self) -> u32 {
        self.dead_letter.shards.len() as u32
    }
}

/// A spec, and the row that it was read from: while that row stands, nobody needs to read it again, which takes longer
/// than all the rest of deciding about a small step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSpec {
    row: Bytes,
    spec: TaskSpec,
}

impl KnownSpec {
    /// The spec of a deployment as the tables have it.
    ///
    /// # Errors
    /// A [`Fault`] of the storage, or one that names the damaged row.
    pub fn read(view: &(impl View + ?Sized), deployment: DeploymentId) -> Result<Option<KnownSpec>, Fault> {
        let key = Key::Spec(deployment);
        let Some(row) = view.get(&key.encode())? else { return Ok(None) };
        let damaged = |malformed| Fault::damaged(format!("{key:?}"), malformed);
        Ok(Some(KnownSpec { spec: TaskSpec::decode(&row).map_err(damaged)?, row }))
    }

    /// Whether the tables have it like this.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn stands(&self, view: &(impl View + ?Sized)) -> Result<bool, Fault> {
        Ok(view.get(&Key::Spec(self.spec.deployment).encode())?.is_some_and(|row| row == self.row))
    }
}

impl Deref for KnownSpec {
    type Target = TaskSpec;

    fn deref(&self) -> &TaskSpec {
        &self.spec
    }
}

impl Row for TaskSpec {
    fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("a spec is plain data"))
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        serde_json::from_slice(bytes).map_err(|error| Malformed { what: "task spec", at: error.column() })
    }
}
