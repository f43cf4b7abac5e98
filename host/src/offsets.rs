//! Where in a partition a moment is.

use tidemill_core::entry::PlacedBatch;
use tidemill_core::fault::Fault;
use tidemill_core::limits;
use tidemill_protocol::batch::{self, BatchHeader};
use tidemill_protocol::ids::{Offset, TopicPartition};

use crate::shards::Shard;

/// Bytes that are looked through at once.
const LOOK_BYTES: usize = 1 << 20;

/// A moment in the life of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The first retained record.
    Earliest,
    /// Behind the last committed record.
    Latest,
    /// The first record of this time or later, by the records' own timestamps, in milliseconds since 1970.
    Time(i64),
}

/// An offset, and the timestamp of the record there, if it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The offset.
    pub offset: Offset,
    /// In milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

/// The offset of a moment; `None` when the partition is not here, or no record is that late. It may have to read for
/// long, and lets others run in between.
///
/// # Errors
/// A [`Fault`] of the storage.
pub async fn find(shard: &Shard, at: TopicPartition, moment: Moment) -> Result<Option<Found>, Fault> {
    let Some(row) = shard.partition(at)? else { return Ok(None) };
    let plain = |offset| Some(Found { offset, timestamp_ms: None });
    match moment {
        Moment::Earliest => Ok(plain(row.log_start)),
        Moment::Latest => Ok(plain(row.end)),
        Moment::Time(time) => {
            let found = retained_for_time(shard, at, row.log_start, time).await?;
            let Some((placed, header)) = found else { return Ok(None) };
            // A batch whose records cannot be read is found as a whole.
            let records = batch::decode(&placed.batch, &limits::READABLE_BATCH).unwrap_or_default();
            let is_it =
                |record: &batch::Record| record.timestamp_ms >= time && record.offset >= row.log_start;
            Ok(Some(match records.into_iter().find(is_it) {
                Some(record) => Found { offset: record.offset, timestamp_ms: Some(record.timestamp_ms) },
                None => Found {
                    offset: header.base_offset.max(row.log_start),
                    timestamp_ms: Some(header.max_timestamp_ms),
                },
            }))
        }
    }
}

/// The first batch with a retained record whose latest timestamp is not below `time`. The log finds it at once, unless
/// it finds one that is not retained any more; then what is retained is looked through, for a late timestamp that was
/// trimmed hides those behind it.
async fn retained_for_time(
    shard: &Shard,
    at: TopicPartition,
    start: Offset,
    time: i64,
) -> Result<Option<(PlacedBatch, BatchHeader)>, Fault> {
    let (log, upto) = (shard.group.log(), shard.upto());
    let Some((_, placed)) = log.batch_for_time(at, time, upto)? else { return Ok(None) };
    let header = placed.header()?;
    if header.base_offset >= start {
        return Ok(Some((placed, header)));
    }
    let mut from = start;
    loop {
        let batches = log.batches(at, from, upto, LOOK_BYTES)?;
        if batches.is_empty() {
            return Ok(None);
        }
        for (_, placed) in batches {
            let header = placed.header()?;
            from = header.next_offset();
            if header.max_timestamp_ms >= time && has_retained(&placed, &header, start, time) {
                return Ok(Some((placed, header)));
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Whether one of the retained records of a batch is that late. Only of a batch in which the log starts they are few.
fn has_retained(placed: &PlacedBatch, header: &BatchHeader, start: Offset, time: i64) -> bool {
    let is_it = |record: &batch::Record| record.offset >= start && record.timestamp_ms >= time;
    header.base_offset >= start
        || batch::decode(&placed.batch, &limits::READABLE_BATCH)
            .is_ok_and(|records| records.iter().any(is_it))
}
