//! Where in a partition a moment is.

use tidemill_core::fault::Fault;
use tidemill_protocol::batch;
use tidemill_protocol::ids::{Offset, TopicPartition};

use crate::shards::Shard;
use crate::tasks::inbox::READABLE;

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

/// The offset of a moment; `None` when the partition is not here, or no record is that late.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn find(shard: &Shard, at: TopicPartition, moment: Moment) -> Result<Option<Found>, Fault> {
    let Some(row) = shard.partition(at)? else { return Ok(None) };
    let plain = |offset| Some(Found { offset, timestamp_ms: None });
    match moment {
        Moment::Earliest => Ok(plain(row.log_start)),
        Moment::Latest => Ok(plain(row.end)),
        Moment::Time(time) => {
            let Some((_, placed)) = shard.group.log().batch_for_time(at, time, shard.upto())? else {
                return Ok(None);
            };
            let header = batch::BatchHeader::parse(&placed.batch)
                .map_err(|error| Fault::damaged("a stored batch", error))?;
            // A batch whose records cannot be read is found as a whole.
            let records = batch::decode(&placed.batch, &READABLE).unwrap_or_default();
            let record = records.into_iter().find(|record| record.timestamp_ms >= time);
            Ok(Some(match record {
                Some(record) => Found { offset: record.offset, timestamp_ms: Some(record.timestamp_ms) },
                None => Found { offset: header.base_offset, timestamp_ms: Some(header.max_timestamp_ms) },
            }))
        }
    }
}
