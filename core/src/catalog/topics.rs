//! Making, altering and deleting topics.

use tidemill_protocol::ids::{TopicId, TopicName};

use super::{
    AffinityGroupRow, Command, DeletedTopic, Json, TopicRow, TopicSettings, cluster, deployments, group,
    groups, loads, placement, topic,
};
use crate::effect::Effect;
use crate::fault::Fault;
use crate::limits;
use crate::rejection::Rejection;
use crate::tables::{self, Key, Tables, View};

/// A topic to make.
#[derive(Debug, Clone)]
pub struct NewTopic {
    /// Its tenant.
    pub tenant: String,
    /// Its name.
    pub name: TopicName,
    /// Its id, drawn at random by whoever asks.
    pub id: TopicId,
    /// How many partitions it is to have, for its life.
    pub partitions: u32,
    /// The affinity group to join or open; the tenant's open default group of its partition count when none.
    pub affinity: Option<String>,
    /// Its settings.
    pub settings: TopicSettings,
}

/// Decides about one topic.
///
/// # Errors
/// The outer is a [`Fault`] of the storage; the inner says why there will be no such topic.
pub fn decide(view: &dyn View, new: &NewTopic) -> Result<Result<Command, Rejection>, Fault> {
    Ok(match plan(view, new)? {
        Ok((topic, group)) => Ok(Command::CreateTopics { topics: vec![topic], groups: vec![group] }),
        Err(rejection) => Err(rejection),
    })
}

/// Decides about other settings of a topic: its row with them, and the command, if they are others.
///
/// # Errors
/// The outer is a [`Fault`] of the storage; the inner says why they stay as they are.
pub fn alter(
    view: &dyn View,
    tenant: &str,
    name: &str,
    changes: &[(String, Option<String>)],
) -> Result<Result<(TopicRow, Option<Command>), Rejection>, Fault> {
    let Some(known) = topic(view, tenant, name)? else {
        return Ok(Err(Rejection::Missing(format!("topic {name}"))));
    };
    let mut row = known.clone();
    for (setting, value) in changes {
        if let Err(rejection) = row.settings.set(setting, value.as_deref()) {
            return Ok(Err(rejection));
        }
    }
    let command = (row != known).then(|| Command::AlterTopic { topic: row.clone() });
    Ok(Ok((row, command)))
}

/// Decides to delete a topic: its row, and the command. One that a plugin reads or writes stays.
///
/// # Errors
/// The outer is a [`Fault`] of the storage; the inner says why it stays.
pub fn delete(
    view: &dyn View,
    tenant: &str,
    name: &str,
) -> Result<Result<(TopicRow, Command), Rejection>, Fault> {
    let Some(row) = topic(view, tenant, name)? else {
        return Ok(Err(Rejection::Missing(format!("topic {name}"))));
    };
    for deployment in deployments(view)? {
        let spec = &deployment.spec;
        let reads = spec.inputs.iter().any(|input| input.topic == row.id);
        let writes = spec.outputs.iter().chain(spec.own_topics()).any(|output| output.topic == row.id);
        if reads || writes {
            let (plugin, does) = (&deployment.name, if reads { "reads" } else { "writes to" });
            let why = format!(
                "plugin {plugin} {does} topic {name}: delete the plugin first (plugin delete {plugin})"
            );
            return Ok(Err(Rejection::InUse(why)));
        }
    }
    let group = group(view, tenant, &row.group)?
        .ok_or_else(|| Fault::damaged("the catalog", format!("topic {name} has no group")))?;
    let group = AffinityGroupRow { topics: group.topics.saturating_sub(1), ..group };
    Ok(Ok((row.clone(), Command::DeleteTopic { topic: row, group })))
}

/// Carries [`Command::DeleteTopic`] out.
pub(super) fn apply_deletion(
    tables: &mut dyn Tables,
    topic: TopicRow,
    group: AffinityGroupRow,
    effects: &mut Vec<Effect>,
) {
    tables.delete(Key::TopicName(topic.tenant.clone(), topic.name).encode());
    tables.delete(Key::Topic(topic.id).encode());
    let deleted = DeletedTopic { id: topic.id, shards: group.shards.clone() };
    tables::write(tables, &Key::DeletedTopic(topic.id), &Json(deleted));
    let key = Key::AffinityGroup(topic.tenant, topic.group);
    // A default group stays, so that its number is not given to another one.
    if group.topics == 0 && !group.is_default {
        tables.delete(key.encode());
    } else {
        tables::write(tables, &key, &Json(group));
    }
    effects.push(Effect::TopicChanged { topic: topic.id });
}

/// The rows of a new topic and of its group.
pub(super) fn plan(
    view: &dyn View,
    new: &NewTopic,
) -> Result<Result<(TopicRow, AffinityGroupRow), Rejection>, Fault> {
    let reject = |rejection| Ok(Err(rejection));
    if topic(view, &new.tenant, new.name.as_str())?.is_some() {
        return reject(Rejection::Exists(format!("topic {}", new.name)));
    }
    if !(1..=limits::TOPIC_PARTITIONS_MAX).contains(&new.partitions) {
        let most = limits::TOPIC_PARTITIONS_MAX;
        return reject(Rejection::Partitions { partitions: new.partitions, most });
    }
    // Their groups count them: reading every topic for each new one would take ten thousand of them a minute.
    let own = groups(view)?.into_iter().filter(|group| group.tenant == new.tenant);
    if own.map(|group| group.topics as usize).sum::<usize>() >= limits::TENANT_TOPICS_MAX {
        return reject(Rejection::Limit(format!(
            "a tenant has at most {} topics",
            limits::TENANT_TOPICS_MAX
        )));
    }
    if let Err(rejection) = new.settings.check() {
        return reject(rejection);
    }
    let mut joined = match &new.affinity {
        Some(name) => match group(view, &new.tenant, name)? {
            Some(known) => known,
            None => match refused_group(name) {
                Some(rejection) => return reject(rejection),
                None => open_group(view, new, name.clone(), false)?,
            },
        },
        None => default_group(view, new)?,
    };
    if joined.shards.len() != new.partitions as usize {
        let (name, has) = (&joined.name, joined.shards.len());
        let why = format!(
            "affinity group {name} has {has} partitions, and the topic would have {}",
            new.partitions
        );
        return reject(Rejection::Invalid(why));
    }
    joined.topics += 1;
    let row = TopicRow {
        id: new.id,
        tenant: new.tenant.clone(),
        name: new.name.as_str().to_owned(),
        partitions: new.partitions,
        group: joined.name.clone(),
        settings: new.settings.clone(),
    };
    Ok(Ok((row, joined)))
}

/// How the names of default groups begin.
const DEFAULT_GROUP: &str = "default-";

/// Why nobody may open a group of this name. The default groups' names are the catalog's own: another of such a name
/// would be in the place of one that is to come.
fn refused_group(name: &str) -> Option<Rejection> {
    if let Err(error) = TopicName::new(name) {
        return Some(Rejection::Affinity(format!("{name:?} is no name for a group: {error}")));
    }
    name.starts_with(DEFAULT_GROUP).then(|| {
        Rejection::Affinity(format!(
            "there is no group {name}, and {DEFAULT_GROUP:?} begins the names of default groups only"
        ))
    })
}

/// The tenant's open default group of the topic's partition count, or the next one.
fn default_group(view: &dyn View, new: &NewTopic) -> Result<AffinityGroupRow, Fault> {
    let mut defaults = 0;
    for group in groups(view)? {
        let fits = group.tenant == new.tenant && group.shards.len() == new.partitions as usize;
        if fits && group.is_default {
            if group.topics < limits::AFFINITY_GROUP_TOPICS_MAX {
                return Ok(group);
            }
            defaults += 1;
        }
    }
    open_group(view, new, format!("{DEFAULT_GROUP}{}-{defaults}", new.partitions), true)
}

fn open_group(
    view: &dyn View,
    new: &NewTopic,
    name: String,
    is_default: bool,
) -> Result<AffinityGroupRow, Fault> {
    let cluster = cluster(view)?.ok_or_else(super::unformed)?;
    let mut loads = loads(view, cluster.shards)?;
    let shards = placement::place(&mut loads, new.partitions);
    Ok(AffinityGroupRow { tenant: new.tenant.clone(), name, shards, topics: 0, is_default })
}
