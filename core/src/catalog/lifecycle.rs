//! What becomes of a deployment once it is there: it is paused, goes on, begins anew, ends.
//!
//! Each of these but the end is a new generation, like an upgrade: the same one mechanism fences whatever is still at
//! work, reaches the shards by the same command of their logs, and is found again by whoever reconciles after a crash.
//! So a replay of a shard's log pauses and restarts a task where the broker did.
//!
//! Each tells the tasks anew what the topics take that they write to: whoever raises a limit has the plugin go on.
//!
//! A rollback is a deployment of the version before: see [`super::deploy`].

use super::deploy::Decision;
use super::{Command, Deployment, deployment, own_topics};
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
    next.spec = own_topics::renewed(view, &next.spec)?;
    (next.generation, next.spec.generation, next.deployed_at) = (generation, generation, now);
    let deployment = Box::new(next);
    let command = Command::Deploy { deployment, topics: Vec::new(), groups: Vec::new() };
    Ok(Ok(Decision::Deploy(Box::new(command))))
}

/// Whether a deployment's tasks are told what the topics that they write to take now.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn knows_limits(view: &dyn View, known: &Deployment) -> Result<bool, Fault> {
    Ok(own_topics::renewed(view, &known.spec)? == known.spec)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::topics;
    use crate::catalog::workbench::{NOW, TENANT, carry_out, cluster, deploy, finish, manifest, why};
    use crate::ids::{DeploymentId, Digest, Generation};
    use crate::tables::MemoryTables;

    fn order(tables: &mut MemoryTables, order: &Order) -> Result<Deployment, Rejection> {
        let decided = decide(tables, NOW, (TENANT, "it"), order).unwrap();
        finish(tables, decided, "it")
    }

    #[test]
    fn other_files_are_another_version_and_unknown_ones_are_refused() {
        let mut tables = cluster();
        let with = |digest: u8| {
            let digest = Digest([digest; 32]);
            manifest("a", &format!(r#","bundle":[{{"path":"data","mount":"/data","digest":"{digest}"}}]"#))
        };
        let first = deploy(&mut tables, with(7)).unwrap();
        assert_eq!((&*first.spec.bundles[0].mount, first.spec.bundles[0].digest), ("/data", Digest([7; 32])));
        assert_eq!(deploy(&mut tables, with(7)).unwrap(), first, "the same files change nothing");
        let second = deploy(&mut tables, with(8)).unwrap();
        assert_eq!((second.generation, second.digest), (Generation(2), first.digest));
        assert_eq!(second.spec.bundles[0].digest, Digest([8; 32]));
        let before = *second.previous.unwrap();
        assert_eq!(deploy(&mut tables, before.manifest).unwrap().spec.bundles, first.spec.bundles);
        let said = why(deploy(&mut tables, manifest("a", r#","bundle":[{"path":"data","mount":"/data"}]"#)));
        assert!(said.contains("bundle[0].digest"), "{said}");
    }

    #[test]
    fn a_version_that_cannot_read_what_is_kept_is_refused_by_both_names() {
        let mut tables = cluster();
        deploy(&mut tables, manifest("a", "")).unwrap();
        let before = tables.clone();
        let said =
            why(deploy(&mut tables, manifest("a", r#","state-version":3,"reads-state-versions":[2]"#)));
        assert!(said.contains("kept in version 1") && said.contains("reads version 2, 3"), "{said}");
        assert_eq!(tables, before, "nothing was changed");
        let both =
            deploy(&mut tables, manifest("a", r#","state-version":2,"reads-state-versions":[1]"#)).unwrap();
        assert_eq!(both.spec.state_versions, [1, 2]);
        assert_eq!(both.previous.as_ref().unwrap().manifest.state_version, 1);
        // Some of it may still be of version 1, and some of version 2.
        for changes in ["", r#","state-version":2"#, r#","state-version":3,"reads-state-versions":[2]"#] {
            assert!(
                why(deploy(&mut tables, manifest("a", changes))).contains("kept in version 1, 2"),
                "{changes}"
            );
        }
        let starts = vec![vec![4], vec![5]];
        let reset = order(&mut tables, &Order::Reset { starts, fresh_state: true }).unwrap();
        assert_eq!(reset.spec.state_versions, [2]);
        deploy(&mut tables, manifest("a", r#","state-version":3,"reads-state-versions":[2]"#)).unwrap();
    }

    #[test]
    fn inputs_stay_and_outputs_may_change() {
        let mut tables = cluster();
        deploy(&mut tables, manifest("a", r#","publish":["b"]"#)).unwrap();
        let said = why(deploy(&mut tables, manifest("c", r#","publish":["b"]"#)));
        assert!(said.contains("keeps its subscriptions: it reads a, and the new version c"), "{said}");
        let other = deploy(&mut tables, manifest("a", r#","publish":["c"]"#)).unwrap();
        assert_eq!((other.generation, other.spec.outputs[0].name.as_str()), (Generation(2), "c"));
        assert!(why(deploy(&mut tables, manifest("a", r#","publish":["d"]"#))).contains("no topic d"));
    }

    #[test]
    fn what_a_topic_takes_now_is_told_with_every_generation_and_is_worth_one() {
        let mut tables = cluster();
        let version = || manifest("a", r#","publish":["b"]"#);
        let first = deploy(&mut tables, version()).unwrap();
        let alter = |tables: &mut MemoryTables, topic: &str, bytes: &str| {
            let changes = [("max.message.bytes".to_owned(), Some(bytes.to_owned()))];
            let (_, command) = topics::alter(&*tables, TENANT, topic, &changes).unwrap().unwrap();
            carry_out(tables, &command.unwrap());
        };
        let told = |deployed: &Deployment| deployed.spec.outputs[0].batch_bytes_max;
        alter(&mut tables, "b", "2000000");
        let again = deploy(&mut tables, version()).unwrap();
        assert_eq!((told(&again), again.generation), (2_000_000, Generation(2)));
        assert_eq!(again.previous, None, "it is no other version");
        alter(&mut tables, "a", "2000000");
        assert_eq!(deploy(&mut tables, version()).unwrap(), again, "it is not told of what it only reads");
        let reset = Order::Reset { starts: first.starts, fresh_state: false };
        for (millions, next) in (3_u32..).zip([Order::Resume, Order::Pause, reset]) {
            let bytes = millions * 1_000_000;
            alter(&mut tables, "b", &bytes.to_string());
            assert_eq!(told(&order(&mut tables, &next).unwrap()), bytes);
        }
    }

    #[test]
    fn every_order_is_a_generation() {
        let mut tables = cluster();
        deploy(&mut tables, manifest("a", "")).unwrap();
        let paused = order(&mut tables, &Order::Pause).unwrap();
        assert!(paused.spec.paused && paused.spec.generation == Generation(2));
        assert_eq!(order(&mut tables, &Order::Pause).unwrap(), paused, "it is so already");
        let upgraded = deploy(&mut tables, manifest("a", r#","config":{"x":1}"#)).unwrap();
        assert!(upgraded.spec.paused, "a new version of a paused plugin is paused");
        let starts = vec![vec![4], vec![5]];
        let reset = order(&mut tables, &Order::Reset { starts: starts.clone(), fresh_state: false }).unwrap();
        assert_eq!(
            (reset.spec.restarted, reset.spec.emptied, &reset.starts),
            (Generation(4), Generation(0), &starts)
        );
        let resumed = order(&mut tables, &Order::Resume).unwrap();
        assert_eq!((resumed.spec.paused, resumed.generation), (false, Generation(5)));
        assert_eq!(
            (resumed.spec.restarted, resumed.starts),
            (Generation(4), starts),
            "known until all have it"
        );
        let (_, command) = delete(&tables, TENANT, "it").unwrap().unwrap();
        carry_out(&mut tables, &command);
        assert_eq!(deployment(&tables, TENANT, "it").unwrap(), None);
        assert!(why(order(&mut tables, &Order::Pause)).contains("no plugin it"));
        let again = deploy(&mut tables, manifest("c", "")).unwrap();
        assert_eq!((again.id, again.generation), (DeploymentId(2), Generation(1)), "another deployment");
    }
}
