//! The topics that a plugin has of its own: that of its dead letters, and that of its log.
//!
//! Both are made with its first deployment, in the affinity group of what it reads, so that what its tasks write there
//! lies in their own shards; and both are topics as others are, to be read, altered and trimmed. They stay when the plugin
//! is deleted, and one of its name that reads topics of the same group finds them again.

use tidemill_protocol::ids::{TopicId, TopicName};

use super::deploy::Request;
use super::topics::{self, NewTopic};
use super::{
    AffinityGroupRow, TopicRow, TopicSettings, deployments, put_topics, shards_of, topic, topic_by_id,
};
use crate::fault::Fault;
use crate::head::Head;
use crate::limits;
use crate::rejection::Rejection;
use crate::tables::View;
use crate::task::{Output, TaskSpec};

/// The topics of a plugin, and what is to be made for them.
#[derive(Debug)]
pub(super) struct OwnTopics {
    /// That of its dead letters, and that of its log.
    pub outputs: [Output; 2],
    /// Those that are not there yet.
    pub new: Vec<TopicRow>,
    /// The group that they join, as it is with them.
    pub group: Option<AffinityGroupRow>,
}

/// The name of a plugin's dead-letter topic.
pub fn dead_letter_name(plugin: &str) -> String {
    format!("{plugin}.dead-letter")
}

/// The name of the topic of a plugin's log.
pub fn log_name(plugin: &str) -> String {
    format!("{plugin}.log")
}

/// Finds or plans them for a plugin that reads this topic.
///
/// # Errors
/// The outer is a [`Fault`] of the storage; the inner says why one cannot be.
pub(super) fn plan(
    view: &dyn View,
    request: &Request,
    read: &TopicRow,
) -> Result<Result<OwnTopics, Rejection>, Fault> {
    let plugin = &request.manifest.name;
    let letters =
        TopicSettings { max_message_bytes: Some(limits::BATCH_BYTES_MAX as u32), ..TopicSettings::default() };
    let lines = TopicSettings {
        retention_ms: Some(limits::LOG_RETENTION_MS),
        retention_bytes: Some(limits::LOG_RETENTION_BYTES),
        ..TopicSettings::default()
    };
    let letters = (dead_letter_name(plugin), request.dead_letter, letters);
    let (letters, first) = match one(view, request, read, letters)? {
        Ok(found) => found,
        Err(rejection) => return Ok(Err(rejection)),
    };
    // The second is planned as if the first was there.
    let mut head = Head::default();
    if let Some(group) = &first {
        let (topics, groups) = (vec![letters.clone()], vec![group.clone()]);
        let made = head.draft(view, |tables| {
            put_topics(tables, topics, groups, &mut Vec::new());
            Ok(())
        });
        head.fold(made?);
    }
    let view = &head.over(view);
    let (lines, second) = match one(view, request, read, (log_name(plugin), request.log, lines))? {
        Ok(found) => found,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let outputs = [output(view, &letters)?, output(view, &lines)?];
    let is_new = [(letters, first.is_some()), (lines, second.is_some())];
    let new = is_new.into_iter().filter_map(|(row, is_new)| is_new.then_some(row)).collect();
    Ok(Ok(OwnTopics { outputs, new, group: second.or(first) }))
}

/// A topic that is there already, or a new one with its group.
fn one(
    view: &dyn View,
    request: &Request,
    read: &TopicRow,
    (name, id, settings): (String, TopicId, TopicSettings),
) -> Result<Result<(TopicRow, Option<AffinityGroupRow>), Rejection>, Fault> {
    if let Some(row) = topic(view, &request.tenant, &name)? {
        return Ok(if row.group == read.group {
            Ok((row, None))
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
        id,
        partitions: read.partitions,
        affinity: Some(read.group.clone()),
        settings,
    };
    Ok(topics::plan(view, &new)?.map(|(row, group)| (row, Some(group))))
}

/// Why a plugin may not publish to these topics, if one is another plugin's own: what lies there is taken for the word
/// of that one's tasks.
pub(super) fn refused(view: &dyn View, plugin: &str, writes: &[Output]) -> Result<Option<Rejection>, Fault> {
    for other in deployments(view)?.iter().filter(|other| other.name != plugin) {
        let is_own = |output: &&Output| other.spec.own_topics().any(|own| own.topic == output.topic);
        if let Some(output) = writes.iter().find(is_own) {
            let (topic, name) = (&output.name, &other.name);
            return Ok(Some(Rejection::Invalid(format!(
                "publish: topic {topic} is plugin {name}'s own, and only its tasks write there; name another"
            ))));
        }
    }
    Ok(None)
}

/// A topic as a task is told of it.
pub(super) fn output(view: &dyn View, row: &TopicRow) -> Result<Output, Fault> {
    Ok(Output {
        topic: row.id,
        name: row.name.clone(),
        shards: shards_of(view, row)?,
        batch_bytes_max: row.settings.max_message_bytes(),
    })
}

/// What tasks are told, with what the topics that they write to take now.
pub(super) fn renewed(view: &dyn View, spec: &TaskSpec) -> Result<TaskSpec, Fault> {
    let mut spec = spec.clone();
    for output in spec.outputs.iter_mut().chain([&mut spec.dead_letter]).chain(&mut spec.log) {
        if let Some(row) = topic_by_id(view, output.topic)? {
            output.batch_bytes_max = row.settings.max_message_bytes();
        }
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::workbench::{TENANT, carry_out, cluster, deploy, manifest, why};
    use crate::catalog::{group, topics as making};
    use crate::manifest::Manifest;

    #[test]
    fn both_are_made_once_beside_what_the_plugin_reads_and_belong_to_it() {
        let mut tables = cluster();
        let first = deploy(&mut tables, manifest("a", "")).unwrap();
        let log = topic(&tables, TENANT, "it.log").unwrap().unwrap();
        let letters = topic(&tables, TENANT, "it.dead-letter").unwrap().unwrap();
        assert_eq!((log.group.as_str(), log.partitions), ("g", 2));
        assert_eq!(first.spec.log.as_ref().map(|log| log.topic), Some(log.id));
        assert_eq!(first.spec.dead_letter.topic, letters.id);
        assert_eq!(group(&tables, TENANT, "g").unwrap().unwrap().topics, 5);
        let shown = log.settings.shown();
        let of = |name| shown.iter().find(|setting| setting.name == name).unwrap().value.as_str();
        assert_eq!((of("retention.ms"), of("retention.bytes")), ("86400000", "16777216"));
        let said = why(making::delete(&tables, TENANT, "it.log").unwrap());
        assert!(said.contains("plugin it writes to topic it.log"), "{said}");

        let second = deploy(&mut tables, manifest("a", r#","config":{"x":1}"#)).unwrap();
        assert_eq!(second.spec.log, first.spec.log);
        assert_eq!(group(&tables, TENANT, "g").unwrap().unwrap().topics, 5, "nothing is made twice");
    }

    #[test]
    fn nobody_else_publishes_there() {
        let mut tables = cluster();
        let forging = |name: &str, topic: &str| {
            let changes = format!(r#","publish":["b","{topic}"]"#);
            Manifest { name: name.into(), ..manifest("a", &changes) }
        };
        deploy(&mut tables, manifest("a", "")).unwrap();
        for topic in ["it.dead-letter", "it.log"] {
            let said = why(deploy(&mut tables, forging("other", topic)));
            assert!(said.starts_with(&format!("publish: topic {topic} is plugin it's own")), "{said}");
        }

        // One that did before stays as it is, and so does what is the same version.
        let (_, gone) = crate::catalog::lifecycle::delete(&tables, TENANT, "it").unwrap().unwrap();
        carry_out(&mut tables, &gone);
        let before = deploy(&mut tables, forging("other", "it.dead-letter")).unwrap();
        deploy(&mut tables, manifest("a", "")).unwrap();
        assert_eq!(deploy(&mut tables, forging("other", "it.dead-letter")).unwrap(), before);
    }

    #[test]
    fn a_topic_of_that_name_elsewhere_is_in_the_way() {
        let mut tables = cluster();
        let new = NewTopic {
            tenant: TENANT.into(),
            name: TopicName::new("it.log").unwrap(),
            id: TopicId([7; 16]),
            partitions: 1,
            affinity: Some("other".into()),
            settings: TopicSettings::default(),
        };
        let command = making::decide(&tables, &new).unwrap().unwrap();
        carry_out(&mut tables, &command);
        let said = why(deploy(&mut tables, manifest("a", "")));
        assert!(said.contains("topic it.log is of affinity group other, and its inputs are of g"), "{said}");
        assert_eq!(topic(&tables, TENANT, "it.dead-letter").unwrap(), None, "nothing was made");
    }
}
