//! Plugins that would read, through others, what they write themselves.
//!
//! A cycle of derived records is bounded by the hops that records carry, so it may be declared. One that leads through a
//! plugin's log may not: a line comes from no record, and counts no hops.

use std::collections::{BTreeMap, BTreeSet};

use super::deployments;
use super::own_topics::log_name;
use crate::fault::Fault;
use crate::manifest::{Cycle, Manifest};
use crate::rejection::Rejection;
use crate::tables::View;

/// All plugins of a tenant by name, one of them as it is to be.
type Manifests = BTreeMap<String, Manifest>;

/// Why a plugin cannot be deployed, if it would close a cycle that nobody declares, or nobody may.
///
/// # Errors
/// A [`Fault`] of the storage.
pub(super) fn refused(
    view: &dyn View,
    tenant: &str,
    manifest: &Manifest,
) -> Result<Option<Rejection>, Fault> {
    let mut manifests: Manifests = deployments(view)?
        .into_iter()
        .filter(|deployment| deployment.tenant == tenant)
        .map(|deployment| (deployment.name, deployment.manifest))
        .collect();
    manifests.insert(manifest.name.clone(), manifest.clone());
    let members: BTreeSet<&str> = reach(&manifests, &manifest.name)
        .into_iter()
        .filter(|name| reach(&manifests, name).contains(manifest.name.as_str()))
        .collect();
    let logs = members.iter().find(|name| members.iter().any(|other| reads_log(&manifests[*other], name)));
    if let Some(logs) = logs {
        return Ok(Some(Rejection::Invalid(format!(
            "it would close a cycle through the log of {logs}: a plugin may read the logs of others, and not what comes \
             of its own lines, since no count of hops bounds that"
        ))));
    }
    let is_declared = members.iter().any(|name| {
        let declares = |cycle: &Cycle| {
            members.iter().all(|member| member == name || cycle.through.iter().any(|other| other == member))
        };
        manifests[*name].cycle.iter().any(declares)
    });
    if members.is_empty() || is_declared {
        return Ok(None);
    }
    let names: Vec<_> = members.into_iter().collect();
    Ok(Some(Rejection::Invalid(format!(
        "it would close a cycle through {} that none of them declares: add [[cycle]] with through and max-hops to a \
         manifest on it",
        names.join(", ")
    ))))
}

/// The plugins that read what a plugin writes, its log too, and those that read what they write.
fn reach<'a>(manifests: &'a Manifests, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        let writes = &manifests[name].publish;
        for (next, reader) in manifests {
            let reads = reader.subscribe.iter().any(|read| writes.contains(&read.topic));
            if (reads || reads_log(reader, name)) && reached.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    reached
}

fn reads_log(reader: &Manifest, plugin: &str) -> bool {
    let log = log_name(plugin);
    reader.subscribe.iter().any(|read| read.topic == log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::workbench::{cluster, deploy, manifest, why};

    fn named(name: &str, input: &str, changes: &str) -> Manifest {
        Manifest { name: name.to_owned(), ..manifest(input, changes) }
    }

    #[test]
    fn a_cycle_of_records_may_be_declared_and_one_through_a_log_may_not() {
        let mut tables = cluster();
        deploy(&mut tables, named("first", "a", r#","publish":["b"]"#)).unwrap();
        let said = why(deploy(&mut tables, named("second", "b", r#","publish":["a"]"#)));
        assert!(said.contains("a cycle through first, second that none of them declares"), "{said}");
        let cycle = r#","cycle":[{"through":["first"],"max-hops":3}]"#;
        deploy(&mut tables, named("second", "b", &format!(r#","publish":["a"]{cycle}"#))).unwrap();

        deploy(&mut tables, named("alerts", "first.log", r#","publish":["c"]"#)).unwrap();
        for changes in [r#","publish":["a"]"#, &format!(r#","publish":["a"]{cycle}"#)] {
            let said = why(deploy(&mut tables, named("alerts", "first.log", changes)));
            assert!(said.contains("a cycle through the log of first"), "{said}");
        }
        let said = why(deploy(&mut tables, named("first", "first.log", "")));
        assert!(said.contains("a cycle through the log of first"), "{said}");
    }
}
