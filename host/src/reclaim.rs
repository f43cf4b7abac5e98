//! Giving the disk back: of records that expired, were trimmed, or whose topic is no more.
//!
//! What a shard's log may lose lies below whatever anybody still needs: the steps of which something has not arrived
//! elsewhere, the records from the log starts on. It waits for no task: one that a log start has passed knows that by
//! the same entry. The rest is storage's to weigh, segment by segment. Raft is asked to forget first, which makes a
//! checkpoint: nothing is given back that a start would have to apply again.
//!
//! One thread for all shards, because it waits for the disk. It looks when records were deleted, and every so often:
//! what was in a segment that was not sealed then is found the next time. The segment that a shard writes ends early
//! for what was deleted in it, and for nothing else: most deletions are of what was sealed long ago.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{LogIndex, ShardId};
use tidemill_core::rows::PendingRow;
use tidemill_core::seams::World;
use tidemill_core::tables::{Key, Row, View, end_of_prefix};
use tokio::sync::Notify;

use crate::metrics::Metrics;
use crate::shards::Shard;

/// How long it rests after it looked, whatever is deleted meanwhile.
const REST: Duration = Duration::from_secs(5);
/// What a segment must take, in bytes, to be ended early for what was deleted in it.
const ROLL_BYTES: u64 = 1 << 20;

/// Gives back what can be, for ever. `deleted` is told when records were deleted.
pub async fn run(
    world: World,
    shards: Vec<Arc<Shard>>,
    metrics: Arc<Metrics>,
    deleted: Arc<Notify>,
    every: Duration,
) {
    let mut wait = every;
    loop {
        let told = pin!(deleted.notified());
        let was_deleted = matches!(select(told, world.clock.sleep(wait)).await, Either::Left(_));
        // What was ended just now is not sealed yet.
        wait = if was_deleted { REST } else { every };
        for shard in &shards {
            match reclaim(shard, shards.len() as u16, was_deleted, &metrics).await {
                Ok(Outcome::Done) => {}
                Ok(Outcome::TooEarly) => wait = REST,
                Err(fault) => {
                    tracing::warn!(shard = shard.id.0, %fault, "the disk is not given back for now")
                }
            }
        }
        world.clock.sleep(REST).await;
    }
}

/// How a look at a shard ended.
enum Outcome {
    Done,
    /// Raft has not forgotten yet what it was asked to.
    TooEarly,
}

async fn reclaim(shard: &Shard, shards: u16, was_deleted: bool, metrics: &Metrics) -> Result<Outcome, Fault> {
    let log = shard.group.log();
    let log_start = |at| Ok(shard.partition(at)?.map(|row| row.log_start));
    if was_deleted {
        log.roll_dead(ROLL_BYTES, log_start).await?;
    }
    let below = needed_from(shard, shards)?;
    if !log.may_reclaim(below, log_start)? {
        return Ok(Outcome::Done);
    }
    let asked = shard.group.purge().await.unwrap_or_else(|error| {
        tracing::debug!(shard = shard.id.0, %error, "Raft keeps its log for now");
        None
    });
    let reclaimed = log.reclaim(below, log_start).await?;
    if reclaimed.unlinked + reclaimed.rewritten + reclaimed.punched > 0 {
        metrics.reclaimed(reclaimed.freed_bytes, reclaimed.written_bytes);
        tracing::info!(shard = shard.id.0, ?reclaimed, "gave segments back to the disk");
    }
    let is_purged = log.purged().map(|purged| purged.index) >= asked;
    Ok(if is_purged { Outcome::Done } else { Outcome::TooEarly })
}

/// The first entry of which somebody here may need all.
fn needed_from(shard: &Shard, shards: u16) -> Result<LogIndex, Fault> {
    let view = shard.group.tables();
    let mut needed = shard.upto();
    for target in (0..shards).map(ShardId) {
        let pending = Key::pending_prefix(target);
        for (_, row) in view.scan(&pending, end_of_prefix(&pending).as_deref(), usize::MAX)? {
            needed = needed.min(PendingRow::decode(&row)?.index);
        }
    }
    Ok(needed)
}
