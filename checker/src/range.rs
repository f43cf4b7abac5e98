//! The records that a step was given: those of its inputs in its range of the log.
//!
//! This is written apart from the broker's own reading, on purpose: the two must come to the same.

use std::collections::BTreeMap;

use tidemill_core::entry::Entry;
use tidemill_core::envelope::{Envelope, Origin};
use tidemill_core::event_time::{Observation, Writer};
use tidemill_core::ids::{Cursor, LogIndex};
use tidemill_core::limits;
use tidemill_core::plugin::{Event, Header};
use tidemill_core::seams::Timestamp;
use tidemill_core::shard::step::Source;
use tidemill_core::task::TaskSpec;
use tidemill_protocol::batch::{self, BatchHeader};
use tidemill_protocol::ids::{Offset, Partition, Position};

/// What lies in a range.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) events: Vec<Event>,
    pub(crate) sources: Vec<Source>,
    /// Per input, the first offset behind the range, where it holds any record of that input.
    pub(crate) next: BTreeMap<usize, Offset>,
    /// What it shows of the writers' event times.
    pub(crate) observed: Vec<Observation>,
    /// The latest append time in it.
    pub(crate) time: Timestamp,
    /// Batches whose records cannot be read.
    pub(crate) unreadable: usize,
}

impl Found {
    /// A task says its own event time, at the end of a batch; programs outside count together, by the highest of their
    /// timestamps.
    fn see(&mut self, input: usize, envelope: &Envelope, timestamp_ms: i64, is_last: bool) {
        let (writer, at_ms) = match &envelope.origin {
            Origin::Producer => (Writer::Outside, Some(timestamp_ms)),
            Origin::Task(derivation) => {
                (Writer::Task(derivation.task), derivation.event_time_watermark_ms.filter(|_| is_last))
            }
        };
        let input = input as u16;
        let known = self.observed.iter_mut().find(|seen| seen.input == input && seen.writer == writer);
        match (known, at_ms) {
            (_, None) => {}
            (Some(known), Some(at_ms)) => known.at_ms = known.at_ms.max(at_ms),
            (None, Some(at_ms)) => self.observed.push(Observation { input, writer, at_ms }),
        }
    }
}

/// The records of a task's inputs between two cursors; those before their input's start are passed over.
pub(crate) fn between(
    entries: &BTreeMap<LogIndex, Entry>,
    spec: &TaskSpec,
    partition: Partition,
    starts: &[Offset],
    from: Cursor,
    to: Cursor,
) -> Result<Found, String> {
    let mut found = Found::default();
    for (index, entry) in entries.range(from.index..=to.index) {
        let mut number = 0;
        for placed in entry.resident().filter(|placed| placed.at.partition == partition) {
            let Some(input) = spec.inputs.iter().position(|input| input.topic == placed.at.topic) else {
                continue;
            };
            let header = BatchHeader::parse(&placed.batch).map_err(|error| error.to_string())?;
            let envelope = Envelope::parse(&placed.envelope).map_err(|error| error.to_string())?;
            let first = number;
            number += header.record_count;
            let within = |number: u32| {
                let at = Cursor { index: *index, skip: number };
                at >= from && at < to
            };
            let Ok(records) = batch::decode(&placed.batch, &limits::READABLE_BATCH) else {
                if within(first) && header.next_offset() > starts[input] {
                    found.unreadable += 1;
                    found.time = found.time.max(envelope.append_time);
                    found.next.insert(input, header.next_offset());
                    let position = Position { at: placed.at, offset: header.base_offset };
                    found.sources.push(source(&envelope, 0, position, header.max_timestamp_ms));
                }
                continue;
            };
            let last = records.len().saturating_sub(1);
            for (place, record) in records.into_iter().enumerate() {
                if !within(first + place as u32) || record.offset < starts[input] {
                    continue;
                }
                let position = Position { at: placed.at, offset: record.offset };
                found.time = found.time.max(envelope.append_time);
                found.see(input, &envelope, record.timestamp_ms, place == last);
                found.next.insert(input, record.offset.plus(1));
                found.sources.push(source(&envelope, place, position, record.timestamp_ms));
                let headers = record.headers.into_iter();
                found.events.push(Event {
                    input: input as u16,
                    position,
                    timestamp_ms: record.timestamp_ms,
                    append_time: envelope.append_time,
                    key: record.key,
                    value: record.value,
                    headers: headers
                        .map(|header| Header { name: header.name, value: header.value })
                        .collect(),
                });
            }
        }
    }
    Ok(found)
}

fn source(envelope: &Envelope, place: usize, position: Position, timestamp_ms: i64) -> Source {
    match envelope.lineage(place) {
        Some(line) => Source { position, timestamp_ms, root: line.root, hops: line.hops },
        None => Source { position, timestamp_ms, root: position, hops: 0 },
    }
}
