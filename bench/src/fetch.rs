//! Fetching what was written a moment ago, which the broker still has in memory.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tidemill_client::{Offset, Start};

use crate::row::Row;
use crate::stage::{BATCH_RECORDS, PARTITION, RECORD_BYTES, Stage};
use crate::times::Stretch;

/// Batches that are read again and again. They, and what they are wrapped in, are fewer bytes than a shard keeps of
/// its newest entries ([`tidemill_core::limits::TAIL_BYTES_MAX`]).
const BATCHES: u64 = 24;
const _: () = assert!(
    BATCHES as usize * BATCH_RECORDS as usize * (RECORD_BYTES + 64) < tidemill_core::limits::TAIL_BYTES_MAX,
    "what is read must lie in memory"
);

/// Reads the newest batches of what was written, with a consumer as it comes, over and over.
pub fn from_memory(stage: &Stage<'_>, time: Duration, topic: &Arc<str>, bulk: &Row) -> anyhow::Result<Row> {
    let row = stage.runtime.block_on(async {
        let end = stage.end(topic).await?;
        let begin = end.checked_sub(BATCHES * BATCH_RECORDS).context("enough was written")?;
        let start = Start::Offset(Offset(begin));
        let mut consumer = stage.client.consumer().read_partition(&**topic, PARTITION, start).build().await?;
        let (mut stretch, mut records) = (Stretch::of(time), 0);
        let mut is_warm = false;
        while stretch.lasts() {
            let mut next = begin;
            while next < end {
                let batch = consumer.next_batch().await?;
                let first = batch.records.first().context("a record")?;
                ensure!(first.offset.0 == next, "offset {} came where {next} was next", first.offset.0);
                ensure!(batch.records.len() as u64 == BATCH_RECORDS, "a batch of {}", batch.records.len());
                next += BATCH_RECORDS;
            }
            if is_warm {
                records += end - begin;
            } else {
                (is_warm, stretch) = (true, Stretch::of(time));
            }
            consumer.seek(topic, PARTITION, start).await?;
        }
        let row = Row::new("fetch from memory, 1 KiB", stretch.elapsed());
        anyhow::Ok(row.on(1, 1).amount(records, "records", RECORD_BYTES))
    })?;
    let of_bulk = row.mib_per_second().zip(bulk.mib_per_second()).map(|(ours, bare)| ours / bare);
    Ok(row.ratio(of_bulk.context("two rates")?, "quinn bulk"))
}
