//! Tracing a record: the records that it descends from, and those that descend from it, over all shards.
//!
//! ```text
//!   root ◀── … ◀── parent ◀── the record ──▶ children ──▶ their children ──▶ …
//!        envelopes say so                    the logs' indexes of descent lead there
//! ```
//!
//! A record has one parent and its envelope names it, and the root of its chain: where retention took what lies between,
//! both ends are shown and the gap is counted. Descendants may lie in any shard, so each is asked for each record
//! ([`GroupLog::descendants`](tidemill_storage::log::GroupLog::descendants)); nearest first, until the bounds say no. Only
//! what is committed is seen. What retention took is *expired*: nothing is said of it but its place.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use tidemill_core::catalog;
use tidemill_core::descent;
use tidemill_core::envelope::{Derivation, Envelope, Lineage, Origin};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{DeploymentId, LogIndex, ShardId};
use tidemill_core::limits;
use tidemill_core::seams::Timestamp;
use tidemill_core::tables::View;
use tidemill_protocol::ids::{Position, TopicId};
use tidemill_storage::log::Payload;

use crate::shards::Shard;

/// How much is traced.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Records, ancestors and the record itself included.
    pub records: usize,
    /// Generations of ancestors, and of descendants.
    pub depth: u32,
}

/// A tree of records.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trace {
    /// The number in `records` of the record that was asked for.
    pub asked: usize,
    /// Ancestors from the root on, the record, and its descendants, the nearest first.
    pub records: Vec<Traced>,
    /// Whether all ancestors and descendants were looked for; if not, the bounds forbade it.
    pub is_complete: bool,
}

/// A record of a trace.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Traced {
    /// The topic's name; its id, where there is no such topic any more.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// The number in the trace of the record that it descends from; none for the first.
    pub parent: Option<usize>,
    /// How many records lie between that one and this: what they were is not known, for retention took them, or the
    /// bounds forbade to look.
    pub unknown_between: u32,
    /// Whether it can be read.
    pub fate: Fate,
    /// When it was taken in, in milliseconds since 1970.
    pub append_time_ms: Option<u64>,
    /// Who derived it: nobody, if a program outside produced it; not known, if it is expired.
    pub by: Option<By>,
    /// Whether it lies in the dead-letter topic of a plugin.
    pub is_dead_letter: bool,
    /// Whether some of its children were not looked for, or left out.
    pub is_cut: bool,
}

/// Whether a record can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It can.
    Retained,
    /// Retention took it, somebody trimmed or deleted it, or it was lost.
    Expired,
}

/// The step that derived a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct By {
    /// The plugin; none when it is deleted.
    pub plugin: Option<String>,
    /// Its deployment's number.
    pub deployment: u64,
    /// The task, by its partition.
    pub task: u32,
    /// The generation that ran.
    pub generation: u32,
    /// The step.
    pub step: u64,
    /// The component's digest.
    pub digest: String,
    /// Whether a timer caused it: then the parent is the record that last set the timer, and the state from which this
    /// one was derived came from others also.
    pub timer: bool,
}

/// What is known of a place.
enum Seen {
    /// No record was ever there.
    Nowhere,
    Expired,
    There {
        append_time: Timestamp,
        by: Option<(Derivation, Lineage)>,
    },
}

/// A topic, and where its partitions lie.
struct Home {
    name: String,
    shards: Vec<ShardId>,
}

/// A trace at work.
struct Tracer<'a, V: View> {
    catalog: &'a V,
    shards: &'a [Arc<Shard>],
    homes: BTreeMap<TopicId, Option<Home>>,
    plugins: BTreeMap<DeploymentId, String>,
    dead_letters: Vec<TopicId>,
    entries_left: usize,
}

/// Traces a record; nothing if there is none yet at that place.
///
/// # Errors
/// A [`Fault`] of the storage.
pub async fn trace<V: View>(
    catalog: &V,
    shards: &[Arc<Shard>],
    asked: Position,
    bounds: Bounds,
) -> Result<Option<Trace>, Fault> {
    let deployments = catalog::deployments(catalog)?;
    let mut tracer = Tracer {
        catalog,
        shards,
        homes: BTreeMap::new(),
        dead_letters: deployments.iter().map(|deployment| deployment.spec.dead_letter.topic).collect(),
        plugins: deployments.into_iter().map(|deployment| (deployment.id, deployment.name)).collect(),
        entries_left: limits::TRACE_ENTRIES_MAX,
    };
    let seen = tracer.seen(asked)?;
    if matches!(seen, Seen::Nowhere) {
        return Ok(None);
    }
    let mut trace = tracer.ancestors(asked, &seen, bounds)?;
    trace.asked = trace.records.len() - 1;
    let mut queue = VecDeque::from([(trace.asked, asked, 0)]);
    while let Some((number, position, depth)) = queue.pop_front() {
        let room = bounds.records.saturating_sub(trace.records.len());
        // Where nothing more may be shown it is only looked whether there is anything.
        let wanted = if depth < bounds.depth { room } else { 0 };
        let (children, is_cut) = tracer.children(position, wanted)?;
        trace.records[number].is_cut = is_cut;
        trace.is_complete &= !is_cut;
        for (child, traced) in children {
            queue.push_back((trace.records.len(), child, depth + 1));
            trace.records.push(Traced { parent: Some(number), ..traced });
        }
        tokio::task::yield_now().await;
    }
    Ok(Some(trace))
}

impl<V: View> Tracer<'_, V> {
    /// The record, and before it all that it descends from.
    fn ancestors(&mut self, asked: Position, seen: &Seen, bounds: Bounds) -> Result<Trace, Fault> {
        let mut nearest_first = vec![self.traced(asked, seen)?];
        let mut is_complete = true;
        let mut line = seen.line();
        while let Some(Lineage { parent, root, hops }) = line {
            let depth = nearest_first.len();
            let is_too_far = depth > bounds.depth as usize || depth + 1 >= bounds.records;
            if is_too_far && parent != root {
                is_complete = false;
            } else {
                let seen = self.seen(parent)?;
                nearest_first.push(self.traced(parent, &seen)?);
                line = seen.line();
                if line.is_some() || parent == root {
                    continue;
                }
            }
            // What lies between is not known, but where it all began is.
            let between = if is_too_far { hops - 1 } else { hops.saturating_sub(2) };
            if let Some(last) = nearest_first.last_mut() {
                last.unknown_between = between;
            }
            let seen = self.seen(root)?;
            nearest_first.push(self.traced(root, &seen)?);
            break;
        }
        let mut records: Vec<Traced> = nearest_first.into_iter().rev().collect();
        for (number, record) in records.iter_mut().enumerate() {
            record.parent = number.checked_sub(1);
        }
        Ok(Trace { asked: 0, records, is_complete })
    }

    /// At most so many children of a record, in the order in which they were taken in; and whether there may be more.
    /// Which ones are left out then is not by time.
    fn children(&mut self, of: Position, wanted: usize) -> Result<(Vec<(Position, Traced)>, bool), Fault> {
        let mut found = Vec::new();
        let is_cut = self.find_children(of, wanted, &mut found)?;
        found.sort_by_key(|(_, traced)| traced.append_time_ms);
        Ok((found, is_cut))
    }

    /// Adds children, shard by shard; whether there may be more than are wanted.
    fn find_children(
        &mut self,
        of: Position,
        wanted: usize,
        found: &mut Vec<(Position, Traced)>,
    ) -> Result<bool, Fault> {
        for shard in self.shards {
            // One more than may be read, so that it is seen that there are more.
            let most = self.entries_left.saturating_add(1);
            for index in shard.group.log().descendants(of, shard.upto(), most)? {
                if self.entries_left == 0 {
                    return Ok(true);
                }
                self.entries_left -= 1;
                for child in self.children_in(shard, index, of)? {
                    if found.len() == wanted {
                        return Ok(true);
                    }
                    found.push(child);
                }
            }
        }
        Ok(false)
    }

    /// Those in an entry.
    fn children_in(
        &mut self,
        shard: &Shard,
        index: LogIndex,
        of: Position,
    ) -> Result<Vec<(Position, Traced)>, Fault> {
        let mut found = Vec::new();
        for logged in shard.group.log().entries(index.0..index.0 + 1, 0)? {
            let Payload::Entry(entry) = &logged.payload else { continue };
            for placed in entry.resident() {
                let Some(children) = descent::children(placed, of)? else { continue };
                let row = shard.partition(placed.at)?;
                let append_time = children.append_time;
                for (child, hops) in children.records {
                    let line = Lineage { parent: of, root: of, hops };
                    let seen = match row.filter(|row| child.offset >= row.log_start) {
                        Some(_) => Seen::There { append_time, by: Some((children.by.clone(), line)) },
                        None => Seen::Expired,
                    };
                    found.push((child, self.traced(child, &seen)?));
                }
            }
        }
        Ok(found)
    }

    fn home(&mut self, topic: TopicId) -> Result<Option<&Home>, Fault> {
        if !self.homes.contains_key(&topic) {
            let home = match catalog::topic_by_id(self.catalog, topic)? {
                None => None,
                Some(row) => Some(Home { shards: catalog::shards_of(self.catalog, &row)?, name: row.name }),
            };
            self.homes.insert(topic, home);
        }
        Ok(self.homes[&topic].as_ref())
    }

    /// Looks at a place.
    fn seen(&mut self, position: Position) -> Result<Seen, Fault> {
        let Position { at, offset } = position;
        let home = self.home(at.topic)?;
        let shard = home.and_then(|home| home.shards.get(at.partition.0 as usize)).copied();
        let Some(shard) = shard.and_then(|shard| self.shards.get(usize::from(shard.0))) else {
            return Ok(Seen::Expired);
        };
        let Some(row) = shard.partition(at)? else { return Ok(Seen::Expired) };
        if offset < row.log_start || offset >= row.end {
            return Ok(if offset < row.log_start { Seen::Expired } else { Seen::Nowhere });
        }
        let batches = shard.group.log().batches(at, offset, shard.upto(), 0)?;
        // It may have expired since.
        let Some((_, placed)) = batches.into_iter().next() else { return Ok(Seen::Expired) };
        let header = placed.header()?;
        let Some(number) = offset.0.checked_sub(header.base_offset.0) else { return Ok(Seen::Expired) };
        let envelope = Envelope::parse(&placed.envelope)?;
        let line = envelope.lineage(number as usize).copied();
        let by = match envelope.origin {
            Origin::Producer => None,
            Origin::Task(derivation) => line.map(|line| (derivation, line)),
        };
        Ok(Seen::There { append_time: envelope.append_time, by })
    }

    fn traced(&mut self, position: Position, seen: &Seen) -> Result<Traced, Fault> {
        let Position { at, offset } = position;
        let name = self.home(at.topic)?.map(|home| home.name.clone());
        let (fate, append_time_ms, by) = match seen {
            Seen::Nowhere | Seen::Expired => (Fate::Expired, None, None),
            Seen::There { append_time, by } => (Fate::Retained, Some(append_time.0), by.as_ref()),
        };
        Ok(Traced {
            topic: name.unwrap_or_else(|| at.topic.to_string()),
            partition: at.partition.0,
            offset: offset.0,
            parent: None,
            unknown_between: 0,
            fate,
            append_time_ms,
            by: by.map(|(derivation, _)| self.by(derivation)),
            is_dead_letter: self.dead_letters.contains(&at.topic),
            is_cut: false,
        })
    }

    fn by(&self, derivation: &Derivation) -> By {
        let task = derivation.task;
        By {
            plugin: self.plugins.get(&task.deployment).cloned(),
            deployment: task.deployment.0,
            task: task.partition.0,
            generation: derivation.generation.0,
            step: derivation.step.0,
            digest: derivation.digest.to_string(),
            timer: derivation.by_timer,
        }
    }
}

impl Seen {
    fn line(&self) -> Option<Lineage> {
        match self {
            Seen::There { by: Some((_, line)), .. } => Some(*line),
            _ => None,
        }
    }
}
