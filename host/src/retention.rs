//! Retention: log starts move up when records have been kept for as long as their topic says, or when more is kept.
//!
//! Time counts from append time, which the broker gave: old orders that are loaded today stay. Append time never goes
//! back within a shard, so the first record that is to stay is found by halving, without looking at those between.
//! A batch goes when its newest record may; all that is in one batch has one append time. Size is counted as Kafka does,
//! a sealed segment at a time: at least as much as the topic says stays, and up to a segment more. `reclaim.rs` gives
//! the disk back.

use std::sync::Arc;
use std::time::Duration;

use tidemill_core::catalog::{self, TopicRow};
use tidemill_core::envelope::Envelope;
use tidemill_core::fault::Fault;
use tidemill_core::seams::{Timestamp, World};
use tidemill_core::shard::trim::Trim;
use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::ids::{Offset, Partition, TopicPartition};

use crate::catalog::Catalog;
use crate::shards::{Refused, Shard};

/// Moves log starts of all topics up, every so often, for ever.
pub async fn run(world: World, catalog: Arc<Catalog>, shards: Vec<Arc<Shard>>, every: Duration) {
    loop {
        world.clock.sleep(every).await;
        let topics = match catalog::topics(&catalog.view()) {
            Ok(topics) => topics,
            Err(fault) => {
                tracing::error!(%fault, "retention ends: the catalog cannot be read");
                return;
            }
        };
        for topic in topics {
            if let Err(refused) = expire(&catalog, &shards, &topic, world.clock.now()).await {
                tracing::warn!(topic = topic.name, %refused, "what has expired stays for now");
            }
        }
    }
}

/// Moves the log starts of one topic up.
async fn expire(
    catalog: &Catalog,
    shards: &[Arc<Shard>],
    topic: &TopicRow,
    now: Timestamp,
) -> Result<(), Refused> {
    let since = topic.settings.retention_ms().map(|kept| Timestamp(now.0.saturating_sub(kept)));
    let bytes = topic.settings.retention_bytes();
    for (partition, home) in (0..).zip(catalog::shards_of(&catalog.view(), topic)?) {
        let Some(shard) = shards.get(usize::from(home.0)).filter(|shard| shard.leader().is_some()) else {
            continue;
        };
        let at = TopicPartition { topic: topic.id, partition: Partition(partition) };
        let by_time = since.map_or(Ok(None), |since| first_kept(shard, at, since))?;
        let by_size = bytes.map_or(Ok(None), |bytes| shard.group.log().newest(at, bytes))?;
        let by_size = match by_size {
            Some(before) => shard.partition(at)?.and_then(|row| (before > row.log_start).then_some(before)),
            None => None,
        };
        if let Some(before) = by_time.max(by_size) {
            let trim = Trim { topic: topic.id, partition, before: before.0 };
            shard.trim(&[trim]).await?;
            tracing::info!(topic = topic.name, partition, log_start = before.0, "expired");
        }
        // To look may take a read of the disk.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// The first offset whose batch was appended then or later; none when that is where the log starts already.
fn first_kept(shard: &Shard, at: TopicPartition, since: Timestamp) -> Result<Option<Offset>, Fault> {
    let Some(row) = shard.partition(at)? else { return Ok(None) };
    // Below `low` all has expired, and from `high` on nothing has.
    let (mut low, mut high) = (row.log_start, row.end);
    if low < high {
        // Most often nothing has: one look is enough then.
        match batch_at(shard, at, low)? {
            Some((_, appended)) if appended >= since => return Ok(None),
            _ => {}
        }
    }
    while low < high {
        let middle = Offset(low.0 + (high.0 - low.0) / 2);
        let Some((header, appended)) = batch_at(shard, at, middle)? else { break };
        if appended < since {
            low = header.next_offset();
        } else {
            // The batch found may lie behind a hole.
            high = header.base_offset.min(middle).max(low);
        }
    }
    Ok((low > row.log_start).then_some(low))
}

/// The batch that holds an offset, or the next one, and when it was appended.
pub(crate) fn batch_at(
    shard: &Shard,
    at: TopicPartition,
    offset: Offset,
) -> Result<Option<(BatchHeader, Timestamp)>, Fault> {
    let batches = shard.group.log().batches(at, offset, shard.upto(), 1)?;
    let Some((_, placed)) = batches.into_iter().next() else { return Ok(None) };
    Ok(Some((placed.header()?, Envelope::parse(&placed.envelope)?.append_time)))
}
