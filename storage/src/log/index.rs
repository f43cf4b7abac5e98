//! Where every batch lies that is not in a sealed segment: per partition, in memory, in the order of the log.
//!
//! Bounded by what unsealed segments hold. It is made again from their chunks when a log is opened, follows every
//! append and truncation at once, and gives up what a seal takes over.

use std::collections::{BTreeMap, VecDeque};

use tidemill_core::descent;
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::ids::{Offset, TopicPartition};

use super::descents::Descents;
use super::entry::{LogEntry, Payload};
use super::spans::Span;

/// One batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) base: Offset,
    /// The offset behind its last record.
    pub(super) end: Offset,
    /// The entry that holds it.
    pub(super) index: LogIndex,
    max_timestamp_ms: i64,
    bytes: u64,
    /// The latest timestamp of it and of all batches before it here.
    max_so_far_ms: i64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Index {
    partitions: BTreeMap<TopicPartition, VecDeque<Placed>>,
    /// What they descend from.
    pub(super) descents: Descents,
}

/// Base, end and latest timestamp of a batch.
///
/// # Errors
/// [`Fault::Damaged`] when it is none.
pub(super) fn extent(batch: &[u8]) -> Result<(Offset, Offset, i64), Fault> {
    let header = BatchHeader::parse(batch).map_err(|error| Fault::damaged("a batch of the log", error))?;
    let end = header.base_offset.plus(u64::from(header.last_offset_delta) + 1);
    Ok((header.base_offset, end, header.max_timestamp_ms))
}

impl Index {
    /// Takes in the batches that lie in `entry`.
    pub(super) fn add(&mut self, entry: &LogEntry) -> Result<(), Fault> {
        let Payload::Entry(inner) = &entry.payload else { return Ok(()) };
        for placed in inner.resident() {
            let (base, end, max_timestamp_ms) = extent(&placed.batch)?;
            let batches = self.partitions.entry(placed.at).or_default();
            let before = batches.back().map_or(i64::MIN, |last| last.max_so_far_ms);
            let max_so_far_ms = before.max(max_timestamp_ms);
            let (index, bytes) = (entry.id.index, placed.batch.len() as u64);
            batches.push_back(Placed { base, end, index, max_timestamp_ms, bytes, max_so_far_ms });
        }
        self.descents.add(entry.id.index, &descent::covers(inner));
        Ok(())
    }

    /// Forgets all above `last`; everything, if there is no last.
    pub(super) fn truncate_after(&mut self, last: Option<LogIndex>) {
        self.partitions.retain(|_, batches| {
            while batches.back().is_some_and(|batch| last.is_none_or(|last| batch.index > last)) {
                batches.pop_back();
            }
            !batches.is_empty()
        });
        self.descents.truncate_after(last);
    }

    /// Forgets all up to `last`, which a sealed segment holds now.
    pub(super) fn forget_upto(&mut self, last: LogIndex) {
        self.partitions.retain(|_, batches| {
            let kept = batches.partition_point(|batch| batch.index <= last);
            batches.drain(..kept);
            let mut max_so_far_ms = i64::MIN;
            for batch in batches.iter_mut() {
                max_so_far_ms = max_so_far_ms.max(batch.max_timestamp_ms);
                batch.max_so_far_ms = max_so_far_ms;
            }
            !batches.is_empty()
        });
        self.descents.forget_upto(last);
    }

    /// The batches of `at`, from the one that holds `offset` (or the next behind it) on.
    pub(super) fn behind(&self, at: TopicPartition, offset: Offset) -> impl Iterator<Item = Placed> {
        let batches = self.partitions.get(&at);
        let skipped = batches.map_or(0, |batches| batches.partition_point(|batch| batch.end <= offset));
        batches.into_iter().flat_map(move |batches| batches.range(skipped..)).copied()
    }

    /// What the batches of `at` take, in bytes.
    pub(super) fn bytes(&self, at: TopicPartition) -> u64 {
        self.partitions.get(&at).map_or(0, |batches| batches.iter().map(|batch| batch.bytes).sum())
    }

    /// The first batch of `at`.
    pub(super) fn first(&self, at: TopicPartition) -> Option<Placed> {
        self.partitions.get(&at)?.front().copied()
    }

    /// Where the first batch of each partition ends: nothing of it is dead here while its log start is below that.
    pub(super) fn first_ends(&self) -> Vec<(TopicPartition, Offset)> {
        let first = |(at, batches): (&TopicPartition, &VecDeque<Placed>)| Some((*at, batches.front()?.end));
        self.partitions.iter().filter_map(first).collect()
    }

    /// The lowest entry from `from` on that holds a batch of `at`.
    pub(super) fn next_with(&self, at: TopicPartition, from: LogIndex) -> Option<LogIndex> {
        let batches = self.partitions.get(&at)?;
        batches.get(batches.partition_point(|batch| batch.index < from)).map(|batch| batch.index)
    }

    /// The first batch of `at` whose latest timestamp is not below `timestamp_ms`.
    pub(super) fn at_time(&self, at: TopicPartition, timestamp_ms: i64) -> Option<Placed> {
        let batches = self.partitions.get(&at)?;
        batches.get(batches.partition_point(|batch| batch.max_so_far_ms < timestamp_ms)).copied()
    }

    /// The spans of a segment that ends with `last` and whose chunks begin at `chunks`, in the order of their keys.
    pub(super) fn spans(&self, chunks: &[LogIndex], last: LogIndex) -> Vec<(TopicPartition, Span)> {
        let mut spans: Vec<(TopicPartition, Span)> = Vec::new();
        for (at, batches) in &self.partitions {
            let mut max_timestamp_ms = i64::MIN;
            for batch in batches.iter().take_while(|batch| batch.index <= last) {
                let chunk = chunks[..chunks.partition_point(|first| *first <= batch.index)].last();
                let place = chunk.map_or(0, |first| first.0);
                max_timestamp_ms = max_timestamp_ms.max(batch.max_timestamp_ms);
                match spans.last_mut().filter(|(other, span)| other == at && span.place == place) {
                    Some((_, span)) => {
                        (span.end, span.last) = (batch.end, batch.index);
                        span.bytes += batch.bytes;
                        span.max_timestamp_ms = max_timestamp_ms;
                    }
                    None => {
                        let Placed { base, end, index, bytes, .. } = *batch;
                        spans.push((
                            *at,
                            Span { base, end, place, first: index, last: index, max_timestamp_ms, bytes },
                        ));
                    }
                }
            }
        }
        spans
    }
}
