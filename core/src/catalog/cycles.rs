//! Plugins that would read, through others, what they write themselves.
//!
//! A cycle of derived records is bounded by the hops that records carry, so it may be declared. One that leads through a
//! plugin's log may not: a line comes from no record, and counts no hops. Nor may one that leads through dead letters
//! alone: a record that is given up goes there however far its chain is. With one topic between that a plugin publishes
//! to, the chain ends there.

use std::collections::{BTreeMap, BTreeSet};

use super::deployments;
use super::own_topics::{dead_letter_name, log_name};
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
    let members = cycle(&manifests, &manifest.name, &|reader: &Manifest, plugin: &str| {
        reads_records(reader, &manifests[plugin])
            || reads_letters(reader, plugin)
            || reads_log(reader, plugin)
    });
    let logs = members.iter().find(|name| members.iter().any(|other| reads_log(&manifests[*other], name)));
    if let Some(logs) = logs {
        return Ok(Some(Rejection::Invalid(format!(
            "it would close a cycle through the log of {logs}: a plugin may read the logs of others, and not what comes \
             of its own lines, since no count of hops bounds that"
        ))));
    }
    let letters = cycle(&manifests, &manifest.name, &reads_letters);
    if !letters.is_empty() {
        let names: Vec<_> = letters.into_iter().collect();
        return Ok(Some(Rejection::Invalid(format!(
            "it would close a cycle through the dead letters of {}: a plugin may read those of others, and not what comes \
             of its own through dead letters alone, since no count of hops bounds that",
            names.join(", ")
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

/// Whether one plugin reads something of another.
type Reads<'a> = &'a dyn Fn(&Manifest, &str) -> bool;

/// The plugins that lie on a cycle with this one, if it lies on any.
fn cycle<'a>(manifests: &'a Manifests, through: &str, reads: Reads<'_>) -> BTreeSet<&'a str> {
    let mut members = reach(manifests, through, reads);
    members.retain(|name| reach(manifests, name, reads).contains(through));
    members
}

/// The plugins that read something of a plugin, and those that read it of them.
fn reach<'a>(manifests: &'a Manifests, from: &str, reads: Reads<'_>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        for (next, reader) in manifests {
            if reads(reader, name) && reached.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    reached
}

fn reads_records(reader: &Manifest, writer: &Manifest) -> bool {
    reader.subscribe.iter().any(|read| writer.publish.contains(&read.topic))
}

fn reads_letters(reader: &Manifest, plugin: &str) -> bool {
    let letters = dead_letter_name(plugin);
    reader.subscribe.iter().any(|read| read.topic == letters)
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

    #[test]
    fn a_cycle_through_dead_letters_alone_may_not_be_and_one_that_hops_bound_may() {
        let mut tables = cluster();
        let reads = |name: &str, other: &str, changes: &str| {
            let mut manifest = named(name, "a", changes);
            let letters = serde_json::json!({ "topic": other, "from": "earliest" });
            manifest.subscribe.push(serde_json::from_value(letters).unwrap());
            manifest
        };
        deploy(&mut tables, named("first", "a", "")).unwrap();
        let said = why(deploy(&mut tables, reads("first", "first.dead-letter", "")));
        assert!(said.contains("a cycle through the dead letters of first:"), "{said}");

        // Two that would read each other's; one alone may read the other's.
        deploy(&mut tables, reads("second", "first.dead-letter", r#","publish":["b"]"#)).unwrap();
        let declared = r#","cycle":[{"through":["second"],"max-hops":3}]"#;
        for changes in ["", declared] {
            let said = why(deploy(&mut tables, reads("first", "second.dead-letter", changes)));
            assert!(said.contains("a cycle through the dead letters of first, second:"), "{said}");
        }

        // What is given up and published again has come a hop further: that may be declared, and must.
        deploy(&mut tables, named("third", "b", "")).unwrap();
        let again =
            |changes: &str| named("again", "third.dead-letter", &format!(r#","publish":["b"]{changes}"#));
        let said = why(deploy(&mut tables, again("")));
        assert!(said.contains("a cycle through again, third that none of them declares"), "{said}");
        deploy(&mut tables, again(r#","cycle":[{"through":["third"],"max-hops":3}]"#)).unwrap();
    }
}
