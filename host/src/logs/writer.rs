//! Who writes the lines of a shard's tasks: one for each shard, in the background.
//!
//! It wakes with the first line and waits a little for others; where no plugin logs it does nothing. What it writes are
//! batches of a producer without an id: nobody sends them again.

use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_core::ids::DeploymentId;
use tidemill_core::limits;
use tidemill_core::seams::World;
use tidemill_core::shard::produce::{self, Produced, Verdict};
use tidemill_core::task::TaskSpec;
use tidemill_protocol::batch::{BatchBuilder, BatchHeader};
use tidemill_protocol::codec::Codec;
use tidemill_runtime::{LogLevel, LogLine};
use tokio::sync::Notify;

use super::line::{Line, Tried};
use super::waiting::{Share, Waiting};
use crate::metrics::Metrics;
use crate::reserve::Reserve;
use crate::shards::{Refused, Shard};

/// The writer of one shard.
pub struct LogWriter {
    world: World,
    shard: Arc<Shard>,
    reserve: Arc<Reserve>,
    metrics: Arc<Metrics>,
    waiting: Mutex<Waiting>,
    come: Notify,
    /// One writes at a time.
    order: tokio::sync::Mutex<()>,
}

impl LogWriter {
    /// A writer with nothing to write.
    pub fn new(
        world: World,
        shard: Arc<Shard>,
        reserve: Arc<Reserve>,
        metrics: Arc<Metrics>,
    ) -> Arc<LogWriter> {
        let (waiting, come, order) = (Mutex::default(), Notify::new(), tokio::sync::Mutex::default());
        Arc::new(LogWriter { world, shard, reserve, metrics, waiting, come, order })
    }

    /// Takes the lines of a try, and says how many more it had. Waits for nothing.
    pub fn take(&self, spec: &TaskSpec, tried: Tried, lines: Vec<LogLine>, more: u64) {
        let Some(log) = spec.log.as_ref().filter(|_| !lines.is_empty()) else { return };
        let said = lines.into_iter().map(|LogLine { level, message }| (level, message, 0));
        let too_many = (more > 0).then(|| {
            let most = limits::GUEST_LOG_LINES_MAX as u64;
            let message = format!(
                "{more} lines more were dropped: the limit log-lines of a step is {most}, and {} were written; nothing \
                 raises it",
                most + more,
            );
            (LogLevel::Warn, message, more)
        });
        let line = |(level, message, dropped)| Line { tried, level, message, dropped };
        let gave_way = self.waiting.lock().add(spec, log.topic, said.chain(too_many).map(line));
        self.metrics.log_lines_dropped(&spec.name, gave_way + more);
        self.come.notify_one();
    }

    /// A plugin is no more.
    pub fn forget(&self, deployment: DeploymentId) {
        self.waiting.lock().forget(deployment);
    }

    /// Writes what comes, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.come.notified().await;
            self.world.clock.sleep(limits::LOG_WRITE_EVERY).await;
            self.write().await;
        }
    }

    /// Writes what waits, and returns once it is durable or cannot be.
    pub async fn write(&self) {
        let _order = self.order.lock().await;
        let shares = self.waiting.lock().take();
        if shares.is_empty() {
            return;
        }
        if self.reserve.check().is_err() {
            return shares.iter().for_each(|share| self.lose(share));
        }
        let mut written = Vec::with_capacity(shares.len());
        for share in shares {
            match produced(&share) {
                Some(batch) => written.push((share, batch)),
                None => self.lose(&share),
            }
        }
        let (shares, batches): (Vec<_>, Vec<_>) = written.into_iter().unzip();
        match self.shard.propose(|deciding| produce::decide(deciding, &batches)).await {
            Ok((verdicts, commit)) => {
                for (share, verdict) in shares.iter().zip(verdicts) {
                    match verdict {
                        Verdict::Append { .. } | Verdict::Duplicate { .. } => {
                            self.metrics.log_lines(&share.plugin, share.lines.len() as u64);
                        }
                        Verdict::Refuse(rejection) => {
                            tracing::warn!(plugin = share.plugin, %rejection, "its log is not written");
                            self.lose(share);
                        }
                    }
                }
                // If that is never known, the leadership is over, and its tasks begin anew elsewhere.
                let _ = commit.applied().await;
            }
            Err(Refused::NotLeader | Refused::Unknown | Refused::Fault(_)) => {
                shares.iter().for_each(|share| self.lose(share));
            }
        }
    }

    fn lose(&self, share: &Share) {
        self.metrics.log_lines_dropped(&share.plugin, share.own_lines());
        self.waiting.lock().lose(share);
    }
}

/// The batch of a task's lines.
fn produced(share: &Share) -> Option<Produced> {
    // Not compressed: every client can read it, also one that knows no codec.
    let mut batch = BatchBuilder::new(Codec::None);
    for line in &share.lines {
        line.push(&share.plugin, &mut batch).ok()?;
    }
    let batch = batch.build().ok()?;
    let header = BatchHeader::parse(&batch).ok()?;
    Some(Produced { at: share.at, batch, header })
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogWriter({})", self.shard.id.0)
    }
}
