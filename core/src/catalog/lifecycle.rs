//! What becomes of a deployment once it is there: it is paused, goes on, begins anew, ends.
//!
//! Each of these but the end is a new generation, like an upgrade: the same one mechanism fences whatever is still at
//! work, reaches the shards by the same command of their logs, and is found again by whoever reconciles after a crash.
//! So a replay of a shard's log pauses and restarts a task where the broker did.
//!
//! A rollback is a deployment of the version before: see [`super::deploy`].

use super::deploy::Decision;
use super::{Command, Deployment, deployment};
use crate::fault::Fault;
use crate::manifest::Manifest;
use crate::rejection::Rejection;
use crate::seams::Timestamp;
use crate::tables::View;

/// What is to become of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Its tasks take no steps until they are told to.
    Pause,
    /// Its tasks take steps: those that were paused, and those that their failure policy stopped.
    Resume,
    /// Its tasks begin anew.
    Reset {
        /// For each partition and each input, the first offset to be given.
        starts: Vec<Vec<u64>>,
        /// Whether they forget what they kept: state, timers and clocks.
        fresh_state: bool,
    },
}

/// Decides about an order to a deployment that is there.
///
/// # Errors
/// The outer is a [`Fault`] of the storage; the inner says why it is refused.
pub fn decide(
    view: &dyn View,
    now: Timestamp,
    (tenant, name): (&str, &str),
    order: &Order,
) -> Result<Result<Decision, Rejection>, Fault> {
    let Some(mut next) = deployment(view, tenant, name)? else { return Ok(Err(missing(name))) };
    let generation = next.generation.next();
    match order {
        Order::Pause if next.spec.paused => return Ok(Ok(Decision::Unchanged(Box::new(next)))),
        Order::Pause => next.spec.paused = true,
        Order::Resume => next.spec.paused = false,
        Order::Reset { starts, fresh_state } => {
            next.starts.clone_from(starts);
            next.spec.restarted = generation;
            if *fresh_state {
                next.spec.emptied = generation;
                next.spec.state_versions = vec![next.manifest.state_version];
            }
        }
    }
    (next.generation, next.spec.generation, next.deployed_at) = (generation, generation, now);
    let deployment = Box::new(next);
    let command = Command::Deploy { deployment, topics: Vec::new(), groups: Vec::new() };
    Ok(Ok(Decision::Deploy(command)))
}

/// Decides to end a deployment: what was deployed, and the command.
///
/// # Errors
/// The outer is a [`Fault`] of the storage; the inner says why it is refused.
pub fn delete(
    view: &dyn View,
    tenant: &str,
    name: &str,
) -> Result<Result<(Deployment, Command), Rejection>, Fault> {
    let Some(known) = deployment(view, tenant, name)? else { return Ok(Err(missing(name))) };
    let command = Command::Undeploy { tenant: tenant.to_owned(), name: name.to_owned(), id: known.id };
    Ok(Ok((known, command)))
}

/// Refuses a version that cannot read what generations before it may have kept.
///
/// # Errors
/// A [`Rejection`] that names what is kept and what is read.
pub fn check_state(known: &Deployment, manifest: &Manifest) -> Result<(), Rejection> {
    let kept = &known.spec.state_versions;
    if kept.iter().all(|version| manifest.reads_state(*version)) {
        return Ok(());
    }
    let mut reads = manifest.reads_state_versions.clone();
    add_version(&mut reads, manifest.state_version);
    let list = |versions: &[u32]| versions.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    Err(Rejection::Invalid(format!(
        "the state of {} is kept in version {}, and this component reads version {}: deploy one that reads it and says \
         so (reads-state-versions), or give the state up first (plugin reset --fresh-state)",
        known.name,
        list(kept),
        list(&reads),
    )))
}

/// Notes a version of state, in order and once.
pub(super) fn add_version(versions: &mut Vec<u32>, version: u32) {
    versions.push(version);
    versions.sort_unstable();
    versions.dedup();
}

fn missing(name: &str) -> Rejection {
    Rejection::Missing(format!("plugin {name}"))
}
