//! What a broker would tell the tasks of a plugin: all in one shard, on topics of the default settings.

use std::collections::BTreeMap;

use tidemill_core::catalog::TopicSettings;
use tidemill_core::catalog::own_topics::dead_letter_name;
use tidemill_core::ids::{DeploymentId, Generation, ShardId};
use tidemill_core::task::{Input, Output, TaskSpec};
use tidemill_host::components::digest;
use tidemill_protocol::ids::TopicId;

use crate::commands::plugin::FromFiles;

/// The deployment of a trial.
pub const DEPLOYMENT: DeploymentId = DeploymentId(1);

/// What a broker would tell the tasks of this plugin, whose topics have so many partitions.
///
/// # Errors
/// When its configuration cannot be read.
pub fn spec(plugin: &FromFiles, partitions: u32) -> anyhow::Result<TaskSpec> {
    let manifest = &plugin.manifest;
    let mut topics: BTreeMap<String, TopicId> = BTreeMap::new();
    let mut topic = |name: &str| {
        let number = u8::try_from(topics.len()).unwrap_or(u8::MAX);
        *topics.entry(name.to_owned()).or_insert(TopicId([number; 16]))
    };
    let inputs = manifest.subscribe.iter().map(|subscription| &subscription.topic);
    let inputs = inputs.map(|name| Input { topic: topic(name), name: name.clone() }).collect();
    let mut output = |name: &str| Output {
        topic: topic(name),
        name: name.to_owned(),
        shards: vec![ShardId(0); partitions as usize],
        batch_bytes_max: TopicSettings::default().max_message_bytes(),
    };
    Ok(TaskSpec {
        deployment: DEPLOYMENT,
        name: manifest.name.clone(),
        generation: Generation(1),
        digest: digest(&plugin.component),
        inputs,
        outputs: manifest.publish.iter().map(|name| output(name)).collect(),
        dead_letter: output(&dead_letter_name(&manifest.name)),
        log: None,
        config: manifest.flat_config()?,
        limits: manifest.limits.clone(),
        failure: manifest.failure.clone(),
        hops_max: manifest.hops_max(),
        event_time: manifest.event_time,
        paused: false,
        state_versions: vec![manifest.state_version],
        restarted: Generation(0),
        emptied: Generation(0),
        bundles: manifest.grants()?,
    })
}
