//! What will be removed soon before a task has consumed it: so that people are warned while there is time.
//!
//! A log start waits for no task. By time, it comes when the oldest record that a task has not consumed is as old as its
//! topic says; by size, when what the task has not consumed takes as much as its topic keeps. What a trim by hand will do,
//! nobody knows before.

use std::time::Duration;

use serde::Serialize;
use tidemill_core::catalog::{self, TopicRow};
use tidemill_core::fault::Fault;
use tidemill_core::ids::TaskId;
use tidemill_core::limits;
use tidemill_core::rows::TaskRow;
use tidemill_core::seams::Timestamp;
use tidemill_protocol::ids::{Offset, TopicPartition};

use crate::catalog::Catalog;
use crate::retention;
use crate::shards::Shard;

/// An input of a task of which records expire soon that it has not consumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Expiring {
    /// The topic.
    pub topic: String,
    /// The first offset that is not consumed.
    pub position: u64,
    /// The first offset that is there.
    pub log_start: u64,
    /// When that record may be removed, in milliseconds since 1970; none where the size decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// In words.
    pub why: String,
}

/// The inputs of a task of which records expire soon.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn of(
    catalog: &Catalog,
    shard: &Shard,
    task: TaskId,
    row: &TaskRow,
    now: Timestamp,
) -> Result<Vec<Expiring>, Fault> {
    let mut expiring = Vec::new();
    for (topic, position) in &row.positions {
        let at = TopicPartition { topic: *topic, partition: task.partition };
        let Some(left) = shard.partition(at)? else { continue };
        let Some(topic) = catalog::topic_by_id(&catalog.view(), *topic)? else { continue };
        // What lies below the log start is gone already, and the task is told so otherwise.
        if !(left.log_start..left.end).contains(position) {
            continue;
        }
        let by_time = by_time(shard, &topic, at, *position, now)?;
        let found = match by_time {
            Some((expires, why)) => Some((Some(expires.0), why)),
            None => by_size(shard, &topic, at, *position)?.map(|why| (None, why)),
        };
        expiring.extend(found.map(|(at_ms, why)| Expiring {
            topic: topic.name,
            position: position.0,
            log_start: left.log_start.0,
            at_ms,
            why,
        }));
    }
    Ok(expiring)
}

/// When the oldest record that is not consumed expires, if that is soon.
fn by_time(
    shard: &Shard,
    topic: &TopicRow,
    at: TopicPartition,
    position: Offset,
    now: Timestamp,
) -> Result<Option<(Timestamp, String)>, Fault> {
    let Some(kept_ms) = topic.settings.retention_ms() else { return Ok(None) };
    // Damage is told by those who read the records for their own sake.
    let Ok(Some((_, appended))) = retention::batch_at(shard, at, position) else { return Ok(None) };
    let expires = Timestamp(appended.0.saturating_add(kept_ms));
    let left = expires.since(now);
    let soon = Duration::from_millis(kept_ms / limits::EXPIRING_SHARE).min(limits::EXPIRING_SOON);
    let left_s = humantime::format_duration(Duration::from_secs(left.as_secs()));
    let why = format!("its record {} of {} expires in {left_s} (retention.ms)", position.0, topic.name);
    Ok((left <= soon).then_some((expires, why)))
}

/// Why records of a partition are removed soon, if so much of it is not consumed.
fn by_size(
    shard: &Shard,
    topic: &TopicRow,
    at: TopicPartition,
    position: Offset,
) -> Result<Option<String>, Fault> {
    let Some(kept) = topic.settings.retention_bytes() else { return Ok(None) };
    let most = kept - kept / limits::EXPIRING_SHARE;
    let is_near = shard.group.log().newest(at, most)?.is_some_and(|newest| position < newest);
    let why = || {
        let topic = &topic.name;
        format!(
            "more than {most} bytes of {topic} lie behind its record {}, and {kept} are kept (retention.bytes)",
            position.0
        )
    };
    Ok(is_near.then(why))
}
