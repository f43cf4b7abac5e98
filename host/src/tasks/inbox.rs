//! The events that a task is to be given next, in the order of its shard's log.
//!
//! What a task reads is all records of its partition number, of all its topics, in the order in which they lie in the
//! log: so the interleaving is a function of the log, too. How far it may look is the pump's to say; what it looks at
//! need not be committed.
//!
//! Of each input it gives the records from the task's position on, without a gap: what lies below was consumed, or passed
//! over because a log start had moved, and may be there or not. A gap above is damage, and told.

use std::collections::VecDeque;

use tidemill_core::entry::PlacedBatch;
use tidemill_core::envelope::{Envelope, Origin, is_sealed_for};
use tidemill_core::event_time::{Observation, Writer};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{Cursor, LogIndex, TaskId};
use tidemill_core::limits;
use tidemill_core::plugin::{Event, Header};
use tidemill_core::rows::TaskRow;
use tidemill_core::shard::step::Source;
use tidemill_core::task::TaskSpec;
use tidemill_protocol::batch::{self, BatchHeader};
use tidemill_protocol::ids::{Offset, Position, TopicPartition};
use tidemill_storage::log::{GroupLog, Payload};

use super::item::{Consumes, Content, Item, Unreadable};
use crate::shards::Shard;

/// A task's events, read ahead as far as the next step may take.
#[derive(Debug)]
pub struct Inbox {
    places: Vec<TopicPartition>,
    items: VecDeque<Item>,
    /// The first entry that was not looked at.
    at: LogIndex,
    /// Per input, the offset that comes next.
    next: Vec<Offset>,
}

impl Inbox {
    /// The inbox of a task that stands where its row says.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn open(task: TaskId, spec: &TaskSpec, row: &TaskRow, shard: &Shard) -> Result<Inbox, Fault> {
        let places = spec.places(task.partition);
        let next: Vec<Offset> = row.positions.iter().map(|(_, next)| *next).collect();
        let starts: Vec<_> = places.iter().copied().zip(next.iter().copied()).collect();
        // Behind a jump its cursor stands before what was removed.
        let at = row.cursor.index.max(shard.cursor_at(&starts)?.index);
        Ok(Inbox { places, items: VecDeque::new(), at, next })
    }

    /// Reads on, until a step is full or everything below `upto` is read, and returns what a step may take: as many
    /// items as fit, at least one if there is any.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn peek(&mut self, log: &GroupLog, upto: LogIndex, most: usize) -> Result<Vec<Item>, Fault> {
        while self.items.len() < most && self.bytes() < limits::STEP_INPUT_BYTES_MAX {
            let Some(index) = log.next_with(self.at, upto, &self.places)? else {
                // What lies between holds nothing for this task, and never will.
                self.at = self.at.max(upto);
                break;
            };
            self.at = index;
            if !self.read(log)? {
                break;
            }
        }
        let mut bytes = 0;
        let fits = |item: &&Item| {
            bytes += item.bytes();
            bytes <= limits::STEP_INPUT_BYTES_MAX
        };
        let count = self.items.iter().take(most).take_while(fits).count().max(1);
        Ok(self.items.iter().take(count).cloned().collect())
    }

    /// So many items are consumed.
    pub fn consume(&mut self, items: usize) {
        self.items.drain(..items);
    }

    fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.bytes()).sum()
    }

    /// Reads the entry at `self.at`; false when it was foreseen, and did not come.
    fn read(&mut self, log: &GroupLog) -> Result<bool, Fault> {
        let index = self.at;
        let entries = log.entries(index.0..index.0 + 1, usize::MAX)?;
        let entry = match entries.first().map(|entry| &entry.payload) {
            Some(Payload::Entry(entry)) => entry,
            None if log.foreseen_end() <= index => return Ok(false),
            _ => {
                let what = format!("no batches at {} where some are", index.0);
                return Err(Fault::damaged("a shard's log", what));
            }
        };
        let places = self.places.clone();
        let inputs = entry.resident().filter_map(|placed| {
            places.iter().position(|place| *place == placed.at).map(|input| (input, placed))
        });
        let mut seen = 0;
        let mut items = Vec::new();
        let mut next = self.next.clone();
        for (input, placed) in inputs {
            self.open_batch(input, placed, &mut seen, &mut next[input], &mut items)?;
        }
        // The last item of an entry leads to the next one.
        if let Some(last) = items.last_mut().and_then(|item| item.consumes.as_mut()) {
            last.after = Cursor { index: LogIndex(index.0 + 1), skip: 0 };
        }
        self.items.extend(items);
        (self.at, self.next) = (LogIndex(index.0 + 1), next);
        Ok(true)
    }

    fn open_batch(
        &self,
        input: usize,
        placed: &PlacedBatch,
        seen: &mut u32,
        next: &mut Offset,
        items: &mut Vec<Item>,
    ) -> Result<(), Fault> {
        let damaged = |what: &str| Fault::damaged("a batch in a shard's log", what);
        let header = BatchHeader::parse(&placed.batch).map_err(|error| damaged(&error.to_string()))?;
        if !is_sealed_for(&placed.envelope, placed.at, &header) {
            return Err(damaged("its envelope was sealed for another"));
        }
        if header.base_offset > *next {
            let (number, found) = (placed.at.partition.0, header.base_offset.0);
            return Err(damaged(&format!(
                "offset {} of partition {number} of topic {} comes next, and it begins with {found}",
                next.0, placed.at.topic
            )));
        }
        let envelope = Envelope::parse(&placed.envelope)?;
        let at = |offset| Position { at: placed.at, offset };
        let source = |number: usize, offset, timestamp_ms| {
            let line = envelope.lineage(number);
            let position = at(offset);
            let (root, hops) = line.map_or((position, 0), |line| (line.root, line.hops));
            Source { position, timestamp_ms, root, hops }
        };
        let index = self.at;
        match batch::decode(&placed.batch, &limits::READABLE_BATCH) {
            Ok(records) => {
                let last = records.len().saturating_sub(1);
                for (number, record) in records.into_iter().enumerate() {
                    *seen += 1;
                    if record.offset < *next {
                        continue;
                    }
                    let headers = record.headers.into_iter();
                    let event = Event {
                        input: input as u16,
                        position: at(record.offset),
                        timestamp_ms: record.timestamp_ms,
                        append_time: envelope.append_time,
                        key: record.key,
                        value: record.value,
                        headers: headers
                            .map(|header| Header { name: header.name, value: header.value })
                            .collect(),
                    };
                    items.push(Item {
                        source: source(number, record.offset, record.timestamp_ms),
                        content: Content::Event(event),
                        time: envelope.append_time,
                        consumes: Some(Consumes {
                            after: Cursor { index, skip: *seen },
                            input,
                            next: record.offset.plus(1),
                            observed: observed(input, &envelope, record.timestamp_ms, number == last),
                        }),
                        letter: None,
                    });
                }
            }
            Err(error) => {
                *seen += header.record_count;
                if header.next_offset() > *next {
                    let unreadable = Unreadable { reason: error.to_string(), batch: placed.batch.clone() };
                    items.push(Item {
                        content: Content::Unreadable(unreadable),
                        source: source(0, header.base_offset, header.max_timestamp_ms),
                        time: envelope.append_time,
                        consumes: Some(Consumes {
                            after: Cursor { index, skip: *seen },
                            input,
                            next: header.next_offset(),
                            observed: None,
                        }),
                        letter: None,
                    });
                }
            }
        }
        *next = header.next_offset().max(*next);
        Ok(())
    }
}

/// What a record shows of its writer's event time. Programs outside count by their timestamps. A task says its own, which it
/// had reached behind all of the batch: so the batch's last record shows it.
fn observed(input: usize, envelope: &Envelope, timestamp_ms: i64, is_last: bool) -> Option<Observation> {
    let (writer, at_ms) = match &envelope.origin {
        Origin::Producer => (Writer::Outside, timestamp_ms),
        Origin::Task(_) if !is_last => return None,
        Origin::Task(derivation) => (Writer::Task(derivation.task), derivation.event_time_watermark_ms?),
    };
    Some(Observation { input: input as u16, writer, at_ms })
}
