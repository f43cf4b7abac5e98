//! What a log should be, kept as plainly as can be: a list of entries. And random work on it and on a real log.

use std::collections::BTreeMap;

use tidemill_core::entry::PlacedBatch;
use tidemill_core::ids::LogIndex;
use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::ids::{Offset, TopicPartition};
use tidemill_storage::log::{GroupLog, LogEntry, LogId, Payload};

use super::descent::{check_descent, derived, parents};
use super::world::{Lots, all_entries, at, batch, entry, id, placed};

/// A log as a list.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// The index of the first of `entries`.
    pub first: u64,
    pub entries: Vec<LogEntry>,
    pub term: u64,
    /// What a log must have to follow another one: offsets that were given before `first`.
    pub ends_before: BTreeMap<TopicPartition, Offset>,
    pub timestamp_ms: i64,
}

pub fn partitions() -> Vec<TopicPartition> {
    vec![at(1, 0), at(1, 1), at(2, 0), at(9, 0)]
}

impl Model {
    pub fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.id)
    }

    pub fn id_at(&self, index: u64) -> Option<LogId> {
        index.checked_sub(self.first).and_then(|place| self.entries.get(place as usize)).map(|entry| entry.id)
    }

    pub fn truncate(&mut self, next: u64) {
        self.entries.truncate(next.saturating_sub(self.first) as usize);
    }

    /// The resident batches of a partition, in order, with their entries and headers.
    pub fn batches(&self, at: TopicPartition) -> Vec<(LogIndex, PlacedBatch, BatchHeader)> {
        let mut batches = Vec::new();
        for entry in &self.entries {
            let Payload::Entry(inner) = &entry.payload else { continue };
            for placed in inner.resident().filter(|placed| placed.at == at) {
                batches.push((entry.id.index, placed.clone(), BatchHeader::parse(&placed.batch).unwrap()));
            }
        }
        batches
    }

    fn end(&self, at: TopicPartition) -> Offset {
        let last = self.batches(at).last().map(|(_, _, header)| header.next_offset());
        last.or_else(|| self.ends_before.get(&at).copied()).unwrap_or_default()
    }

    /// Makes some entries and adds them.
    pub fn grow(&mut self, lots: &Lots, count: u64, bytes: u64) -> Vec<LogEntry> {
        let before = self.entries.len();
        for _ in 0..count {
            let id = id(self.term, self.next());
            let made = match lots.below(12) {
                0 => LogEntry { id, payload: Payload::Blank },
                1 => {
                    LogEntry { id, payload: Payload::Membership(bytes::Bytes::from(id.index.0.to_string())) }
                }
                _ => {
                    let mut batches: Vec<PlacedBatch> = Vec::new();
                    for _ in 0..lots.below(4) {
                        let at = partitions()[lots.below(3) as usize];
                        let in_entry = batches.iter().rev().find(|placed| placed.at == at);
                        let base = in_entry.map_or_else(
                            || self.end(at),
                            |placed| BatchHeader::parse(&placed.batch).unwrap().next_offset(),
                        );
                        self.timestamp_ms += lots.below(100) as i64 - 40;
                        let size = lots.below(bytes) as usize;
                        let records = 1 + lots.below(3) as u32;
                        let batch = batch(base, records, size, self.timestamp_ms);
                        batches.push(match lots.below(4) {
                            0 => placed(at, batch),
                            _ => derived(at, batch, parents(lots, records)),
                        });
                    }
                    entry(id, batches)
                }
            };
            self.entries.push(made);
        }
        self.entries[before..].to_vec()
    }
}

/// Compares everything that can be read of `log`, up to `upto`, with the model.
pub fn check(log: &GroupLog, model: &Model, upto: u64) {
    assert_eq!(log.last_id(), model.last());
    assert_eq!(all_entries(log).unwrap(), model.entries);
    check_records(log, model, upto);
}

/// Compares what readers of records see with the model.
pub fn check_records(log: &GroupLog, model: &Model, upto: u64) {
    let upto = LogIndex(upto);
    check_descent(log, &model.entries, upto);
    for at in partitions() {
        let batches = model.batches(at);
        let visible: Vec<_> = batches.iter().filter(|(index, _, _)| *index < upto).collect();
        let end = batches.last().map_or(5, |(_, _, header)| header.next_offset().0 + 3);
        let start = batches.first().map_or(0, |(_, _, header)| header.base_offset.0);
        for offset in (start..end).step_by(1 + (end - start) as usize / 23) {
            let offset = Offset(offset);
            let holds = |header: &BatchHeader| header.next_offset() > offset;
            let index = batches.iter().find(|(_, _, header)| holds(header)).map(|(index, _, _)| *index);
            assert_eq!(log.index_of(at, offset).unwrap(), index, "{at:?} {offset:?}");

            let expected = visible.iter().filter(|(_, _, header)| holds(header));
            let expected: Vec<_> = expected.map(|(index, placed, _)| (*index, placed.clone())).collect();
            assert_eq!(log.batches(at, offset, upto, usize::MAX).unwrap(), expected, "{at:?} {offset:?}");
            let some = log.batches(at, offset, upto, 1_500).unwrap();
            assert!(
                expected.starts_with(&some) && some.is_empty() == expected.is_empty(),
                "{at:?} {offset:?}"
            );
            assert!(
                some.len() <= 1 || some.iter().map(|(_, placed)| placed.batch.len()).sum::<usize>() <= 1_500
            );
        }
        let times =
            visible.iter().map(|(_, _, header)| header.max_timestamp_ms).flat_map(|time| [time, time + 1]);
        for time in times.step_by(1 + visible.len() / 15).chain([i64::MIN, i64::MAX]) {
            let expected = visible.iter().find(|(_, _, header)| header.max_timestamp_ms >= time);
            let expected = expected.map(|(index, placed, _)| (*index, placed.clone()));
            assert_eq!(log.batch_for_time(at, time, upto).unwrap(), expected, "{at:?} at {time} ms");
        }
    }
    for chosen in [vec![at(1, 0)], vec![at(1, 1), at(2, 0)], vec![at(9, 0)], partitions()] {
        let indexes: Vec<LogIndex> =
            chosen.iter().flat_map(|at| model.batches(*at)).map(|(index, _, _)| index).collect();
        for from in (model.first..model.next() + 2).step_by(1 + model.entries.len() / 40) {
            let from = LogIndex(from);
            let expected = indexes.iter().filter(|index| (from..upto).contains(*index)).min().copied();
            assert_eq!(log.next_with(from, upto, &chosen).unwrap(), expected, "{chosen:?} from {from:?}");
        }
    }
}
