//! The records of a history, each with what the broker says of it: for checks that know what a workflow means.

use std::collections::BTreeMap;

use tidemill_core::entry::Entry;
use tidemill_core::envelope::{Envelope, Lineage, Origin};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{StepNumber, TaskId};
use tidemill_core::limits;
use tidemill_core::seams::Timestamp;
use tidemill_protocol::batch::{self, Record};
use tidemill_protocol::ids::{Position, TopicPartition};

use crate::history::History;
use crate::violation::Violation;

/// A record that lies in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRecord {
    /// Its partition.
    pub at: TopicPartition,
    /// The record.
    pub record: Record,
    /// When the broker took it in.
    pub append_time: Timestamp,
    /// The step that derived it, and from what; none for a produced record.
    pub derived: Option<(TaskId, StepNumber, Lineage)>,
}

/// All records that can be read, in the order of each shard's log.
///
/// # Errors
/// The [`Violation`] of an entry that cannot be read.
pub fn records(history: &History) -> Result<Vec<LoggedRecord>, Violation> {
    let mut told = Vec::new();
    for (shard, log) in &history.shards {
        for logged in log {
            let wrong =
                |fault: Fault| Violation::Log { shard: *shard, index: logged.index, what: fault.to_string() };
            for placed in Entry::parse(&logged.bytes).map_err(wrong)?.resident() {
                let envelope =
                    Envelope::parse(&placed.envelope).map_err(|malformed| wrong(malformed.into()))?;
                let records = batch::decode(&placed.batch, &limits::STORED_BATCH).unwrap_or_default();
                for (place, record) in records.into_iter().enumerate() {
                    let derived = match &envelope.origin {
                        Origin::Producer => None,
                        Origin::Task(by) => by.lineage.get(place).map(|line| (by.task, by.step, *line)),
                    };
                    told.push(LoggedRecord {
                        at: placed.at,
                        record,
                        append_time: envelope.append_time,
                        derived,
                    });
                }
            }
        }
    }
    Ok(told)
}

/// For each record that others were derived from and that was derived from none: the time from its append to the
/// append of the last of its descendants, in milliseconds, in rising order.
pub fn latencies_ms(told: &[LoggedRecord]) -> Vec<u64> {
    let mut roots: BTreeMap<Position, (Timestamp, Option<Timestamp>)> = BTreeMap::new();
    for one in told.iter().filter(|one| one.derived.is_none()) {
        roots.insert(Position { at: one.at, offset: one.record.offset }, (one.append_time, None));
    }
    for one in told {
        if let Some((_, _, line)) = one.derived
            && let Some((_, last)) = roots.get_mut(&line.root)
        {
            *last = (*last).max(Some(one.append_time));
        }
    }
    let of_root = |(first, last): (Timestamp, Option<Timestamp>)| Some(last?.0.saturating_sub(first.0));
    let mut latencies: Vec<u64> = roots.into_values().filter_map(of_root).collect();
    latencies.sort_unstable();
    latencies
}
