//! Setting a plugin to run.
//!
//! A deployment is decided as a whole or refused as a whole, with the reason: its topics are there, what it reads
//! together lies together, no cycle arises that nobody declared. Where it starts is fixed here, in offsets, so
//! that no record falls between the deploying and the starting.

use tidemill_protocol::ids::TopicId;

use super::own_topics::output;
use super::{
    Command, Deployment, TopicRow, Version, cluster, cycles, deployment, lifecycle, own_topics, topic,
};
use crate::fault::Fault;
use crate::ids::{Digest, Generation};
use crate::manifest::Manifest;
use crate::rejection::Rejection;
use crate::seams::Timestamp;
use crate::tables::View;
use crate::task::{Input, TaskSpec};

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
    /// That of the topic of its log.
    pub log: TopicId,
}

impl Request {
    /// Whether this version is deployed already.
    fn is_version_of(&self, known: &Deployment) -> bool {
        known.digest == self.digest && known.manifest == self.manifest
    }
}

/// What a deployment comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It is this already.
    Unchanged(Box<Deployment>),
    /// It becomes this.
    Deploy(Box<Command>),
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
    let known = deployment(view, tenant, &manifest.name)?;
    if let Some(known) = &known {
        let is_told = known.spec.log.is_some() && lifecycle::knows_limits(view, known)?;
        if request.is_version_of(known) && is_told {
            return Ok(Ok(Decision::Unchanged(Box::new(known.clone()))));
        }
    }
    // What stands may stay, also by rules that came after it.
    let stands = known.as_ref().is_some_and(|known| request.is_version_of(known));
    if !stands && let Some(refused) = cycles::refused(view, tenant, manifest)? {
        return Ok(Err(refused));
    }
    if let Some(known) = &known {
        if !known.spec.inputs.iter().map(|input| input.topic).eq(reads.iter().map(|row| row.id)) {
            return Ok(Err(other_inputs(known, &reads)));
        }
        if let Err(unreadable) = lifecycle::check_state(known, manifest) {
            return Ok(Err(unreadable));
        }
    }
    if !stands && let Some(refused) = own_topics::refused(view, &manifest.name, &writes)? {
        return Ok(Err(refused));
    }
    let own = match own_topics::plan(view, request, &reads[0])? {
        Ok(own) => own,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let [dead_letter, log] = own.outputs;
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
        log: Some(log),
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
        previous: known.and_then(|known| {
            // The same version, which is told something anew, leaves what a rollback goes back to.
            if request.is_version_of(&known) {
                return known.previous;
            }
            let Deployment { generation, digest, manifest, .. } = known;
            Some(Box::new(Version { generation, digest, manifest }))
        }),
    };
    let groups = own.group.into_iter().collect();
    let command = Command::Deploy { deployment: Box::new(deployment), topics: own.new, groups };
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
