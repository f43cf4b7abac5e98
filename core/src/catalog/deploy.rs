//! Setting a plugin to run.
//!
//! A deployment is decided as a whole or refused as a whole, with the reason: its topics are there, what it reads
//! together lies together, no cycle arises that nobody declared. Where it starts is fixed here, in offsets, so
//! that no record falls between the deploying and the starting.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_protocol::ids::{TopicId, TopicName};

use super::topics::{self, NewTopic};
use super::{
    Command, Deployment, GroupRow, TopicRow, TopicSettings, Version, cluster, deployment, deployments,
    lifecycle, shards_of, topic,
};
use crate::fault::Fault;
use crate::ids::{Digest, Generation};
use crate::limits;
use crate::manifest::Manifest;
use crate::rejection::Rejection;
use crate::seams::Timestamp;
use crate::tables::View;
use crate::task::{Input, Output, TaskSpec};

/// What is to be deployed.
#[derive(Debug, Clone)]
pub struct Request {
    /// The tenant.
    pub tenant: String,
    /// The plugin's manifest, its own rules checked.
    pub manifest: Manifest,
    /// The component.
    pub digest: Digest,
    /// For each partition and each input, the first offset to be given.
    pub starts: Vec<Vec<u64>>,
    /// The id of the dead-letter topic, should it have to be made.
    pub dead_letter: TopicId,
}

/// What a deployment comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It is this already.
    Unchanged(Box<Deployment>),
    /// It becomes this.
    Deploy(Box<Command>),
}

/// The name of a plugin's dead-letter topic.
pub fn dead_letter_name(plugin: &str) -> String {
    format!("{plugin}.dead-letter")
}

/// The topics that a plugin reads, in the order of its manifest.
///
/// # Errors
/// The outer is a [`Fault`] of the storage; the inner says which topic is missing, or which do not lie together.
pub fn inputs(
    view: &dyn View,
    tenant: &str,
    manifest: &Manifest,
) -> Result<Result<Vec<TopicRow>, Rejection>, Fault> {
    let mut rows: Vec<TopicRow> = Vec::new();
    for subscription in &manifest.subscribe {
        match topic(view, tenant, &subscription.topic)? {
            Some(row) => rows.push(row),
            None => return Ok(Err(Rejection::Missing(format!("topic {}", subscription.topic)))),
        }
    }
    for pair in rows.windows(2) {
        let [one, other] = pair else { continue };
        if one.group != other.group {
            return Ok(Err(Rejection::Invalid(format!(
                "topics read together must have the same partition count and affinity group: {} has {} partitions \
                 in group {}, {} has {} in group {}",
                one.name, one.partitions, one.group, other.name, other.partitions, other.group
            ))));
        }
    }
    Ok(Ok(rows))
}

/// Decides about a deployment.
///
/// # Errors
/// The outer is a [`Fault`] of the storage; the inner says why it is refused.
pub fn decide(
    view: &dyn View,
    now: Timestamp,
    request: &Request,
) -> Result<Result<Decision, Rejection>, Fault> {
    let Request { tenant, manifest, .. } = request;
    let reads = match inputs(view, tenant, manifest)? {
        Ok(reads) => reads,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let mut writes = Vec::new();
    for name in &manifest.publish {
        match topic(view, tenant, name)? {
            Some(row) => writes.push(output(view, &row)?),
            None => return Ok(Err(Rejection::Missing(format!("topic {name}")))),
        }
    }
    if let Some(undeclared) = undeclared_cycle(view, tenant, manifest)? {
        return Ok(Err(undeclared));
    }
    let known = deployment(view, tenant, &manifest.name)?;
    if let Some(known) = &known {
        if known.digest == request.digest && known.manifest == *manifest {
            return Ok(Ok(Decision::Unchanged(Box::new(known.clone()))));
        }
        if !known.spec.inputs.iter().map(|input| input.topic).eq(reads.iter().map(|row| row.id)) {
            return Ok(Err(other_inputs(known, &reads)));
        }
        if let Err(unreadable) = lifecycle::check_state(known, manifest) {
            return Ok(Err(unreadable));
        }
    }
    let (dead_letter, new) = match dead_letter(view, request, &reads[0])? {
        Ok(found) => found,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let config = match manifest.flat_config() {
        Ok(config) => config,
        Err(error) => return Ok(Err(Rejection::Invalid(error.to_string()))),
    };
    let bundles = match manifest.grants() {
        Ok(bundles) => bundles,
        Err(error) => return Ok(Err(Rejection::Invalid(error.to_string()))),
    };
    let (id, generation, starts) = match &known {
        Some(known) => (known.id, known.generation.next(), known.starts.clone()),
        None => {
            let cluster = cluster(view)?.ok_or_else(super::unformed)?;
            (cluster.next_deployment, Generation(1), request.starts.clone())
        }
    };
    let before = known.as_ref().map(|known| &known.spec);
    let mut state_versions = before.map(|spec| spec.state_versions.clone()).unwrap_or_default();
    lifecycle::add_version(&mut state_versions, manifest.state_version);
    let spec = TaskSpec {
        deployment: id,
        name: manifest.name.clone(),
        generation,
        digest: request.digest,
        inputs: reads.iter().map(|row| Input { topic: row.id, name: row.name.clone() }).collect(),
        outputs: writes,
        dead_letter,
        config,
        limits: manifest.limits.clone(),
        failure: manifest.failure.clone(),
        hops_max: manifest.hops_max(),
        event_time: manifest.event_time,
        paused: before.is_some_and(|spec| spec.paused),
        state_versions,
        restarted: before.map_or(Generation(0), |spec| spec.restarted),
        emptied: before.map_or(Generation(0), |spec| spec.emptied),
        bundles,
    };
    let deployment = Deployment {
        id,
        tenant: tenant.clone(),
        name: manifest.name.clone(),
        generation,
        digest: request.digest,
        manifest: manifest.clone(),
        spec,
        starts,
        deployed_at: now,
        previous: known.map(|known| {
            Box::new(Version { generation: known.generation, digest: known.digest, manifest: known.manifest })
        }),
    };
    let (topics, groups) = new.into_iter().unzip();
    let command = Command::Deploy { deployment: Box::new(deployment), topics, groups };
    Ok(Ok(Decision::Deploy(Box::new(command))))
}

/// A task's place in its inputs is kept by topic, in their order: so they stay what they are.
fn other_inputs(known: &Deployment, reads: &[TopicRow]) -> Rejection {
    let had: Vec<_> = known.spec.inputs.iter().map(|input| input.name.as_str()).collect();
    let has: Vec<_> = reads.iter().map(|row| row.name.as_str()).collect();
    let again = if had == has { ", and one of them was deleted and made anew" } else { "" };
    Rejection::Invalid(format!(
        "a deployed plugin keeps its subscriptions: {} reads {}, and the new version {}{again}; deploy it under another \
         name, or delete it first",
        known.name,
        had.join(", "),
        has.join(", "),
    ))
}

fn output(view: &dyn View, row: &TopicRow) -> Result<Output, Fault> {
    Ok(Output {
        topic: row.id,
        name: row.name.clone(),
        shards: shards_of(view, row)?,
        batch_bytes_max: row.settings.max_message_bytes(),
    })
}

type NewTopicRows = Option<(TopicRow, GroupRow)>;

/// The plugin's dead-letter topic, in the affinity group of what it reads: there already, or to be made.
fn dead_letter(
    view: &dyn View,
    request: &Request,
    read: &TopicRow,
) -> Result<Result<(Output, NewTopicRows), Rejection>, Fault> {
    let name = dead_letter_name(&request.manifest.name);
    if let Some(row) = topic(view, &request.tenant, &name)? {
        return Ok(if row.group == read.group {
            Ok((output(view, &row)?, None))
        } else {
            let (own, inputs) = (&row.group, &read.group);
            Err(Rejection::Invalid(format!(
                "topic {name} is of affinity group {own}, and its inputs are of {inputs}"
            )))
        });
    }
    let name = match TopicName::new(name) {
        Ok(name) => name,
        Err(error) => return Ok(Err(Rejection::Invalid(error.to_string()))),
    };
    let new = NewTopic {
        tenant: request.tenant.clone(),
        name,
        id: request.dead_letter,
        partitions: read.partitions,
        affinity: Some(read.group.clone()),
        settings: TopicSettings {
            max_message_bytes: Some(limits::BATCH_BYTES_MAX as u32),
            ..TopicSettings::default()
        },
    };
    let (row, group) = match topics::plan(view, &new)? {
        Ok(rows) => rows,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let output = Output {
        topic: row.id,
        name: row.name.clone(),
        shards: group.shards.clone(),
        batch_bytes_max: row.settings.max_message_bytes(),
    };
    Ok(Ok((output, Some((row, group)))))
}

/// A cycle that the plugin would close and that no plugin on it declares.
fn undeclared_cycle(view: &dyn View, tenant: &str, manifest: &Manifest) -> Result<Option<Rejection>, Fault> {
    let mut manifests: BTreeMap<String, Manifest> = deployments(view)?
        .into_iter()
        .filter(|deployment| deployment.tenant == tenant)
        .map(|deployment| (deployment.name, deployment.manifest))
        .collect();
    manifests.insert(manifest.name.clone(), manifest.clone());

    let reach = |from: &str| -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(name) = open.pop() {
            for (next, reader) in &manifests {
                let writes = &manifests[name].publish;
                let reads = reader.subscribe.iter().any(|read| writes.contains(&read.topic));
                if reads && reached.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        reached
    };
    let members: BTreeSet<&str> = reach(&manifest.name)
        .into_iter()
        .filter(|name| reach(name).contains(manifest.name.as_str()))
        .collect();
    if members.is_empty() {
        return Ok(None);
    }
    let is_declared = members.iter().any(|name| {
        let declares = |cycle: &crate::manifest::Cycle| {
            members.iter().all(|member| member == name || cycle.through.iter().any(|other| other == member))
        };
        manifests[*name].cycle.iter().any(declares)
    });
    let names: Vec<_> = members.into_iter().collect();
    Ok((!is_declared).then(|| {
        Rejection::Invalid(format!(
            "it would close a cycle through {} that none of them declares: add [[cycle]] with through and max-hops \
             to a manifest on it",
            names.join(", ")
        ))
    }))
}
