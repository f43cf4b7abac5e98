//! Producing: in large batches as fast as it goes, and one record at a time.
//!
//! One idempotent producer, one partition; a record counts when the broker has acknowledged it, which it does when the
//! record is synced to its disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tidemill_client::{Codec, Delivery, Producer};
use tidemill_protocol::batch::BatchBuilder;

use crate::row::{Latency, Row};
use crate::stage::{BATCH_RECORDS, RECORD_BYTES, Stage};
use crate::times::{Stretch, Times};

/// Batches that this program keeps an eye on; the producer's buffer holds fewer.
const WATCHED_BATCHES: usize = 256;
/// How long what is left may take at the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before the measurement: connections are made, files grow, code is warm.
const WARM_BATCHES: u64 = 50;
const WARM_RECORDS: u64 = 200;

/// What was produced in batches.
pub struct Written {
    /// The row.
    pub row: Row,
    /// The topic.
    pub topic: Arc<str>,
}

/// Batches of 1,000 records, as fast as the producer's buffer lets them in.
pub fn batches(stage: &Stage<'_>, time: Duration, bulk: &Row) -> anyhow::Result<Written> {
    let topic = stage.topic("bench-produce", "bench-produce")?;
    let row = stage.runtime.block_on(async {
        let mut batches = Batches::new(stage, topic.clone()).await?;
        batches.send(WARM_BATCHES).await?;
        batches.settle().await?;
        let (stretch, before) = (Stretch::of(time), batches.sent);
        while stretch.lasts() {
            batches.send(1).await?;
        }
        batches.settle().await?;
        let (took, records) = (stretch.elapsed(), batches.sent - before);
        batches.close().await?;
        anyhow::Ok(Row::new("produce, batches of 1,000 × 1 KiB", took).on(1, 1).amount(
            records,
            "records",
            RECORD_BYTES,
        ))
    })?;
    let of_bulk = row.mib_per_second().zip(bulk.mib_per_second()).map(|(ours, bare)| ours / bare);
    Ok(Written { row: row.ratio(of_bulk.context("two rates")?, "quinn bulk"), topic })
}

/// One record, its acknowledgement, the next.
pub fn one_at_a_time(stage: &Stage<'_>, time: Duration, ping: &Row, commit: &Row) -> anyhow::Result<Row> {
    let topic = stage.topic("bench-single", "bench-single")?;
    let (took, times) = stage.runtime.block_on(async {
        let producer = stage.client.producer().linger(Duration::ZERO).build().await?;
        for number in 0..WARM_RECORDS {
            producer.send(stage.record(&topic, number)).await.await?;
        }
        let (stretch, mut times) = (Stretch::of(time), Times::default());
        while stretch.lasts() {
            let record = stage.record(&topic, times.count());
            let begun = Instant::now();
            producer.send(record).await.await?;
            times.since(begun);
        }
        let took = stretch.elapsed();
        close(producer).await?;
        anyhow::Ok((took, times))
    })?;
    let row = Row::new("produce, 1 × 1 KiB at a time", took).on(1, 1).amount(
        times.count(),
        "records",
        RECORD_BYTES,
    );
    let row = row.latency(times);
    let p50 = |row: &Row| row.latency.map(|Latency { p50, .. }| p50.as_secs_f64()).context("a latency");
    let bare = p50(ping)? + p50(commit)?;
    Ok(row.clone().ratio(p50(&row)? / bare, "p50 of quinn ping-pong + redb 1 KiB"))
}

/// A producer of batches of exactly [`BATCH_RECORDS`].
pub struct Batches<'a> {
    stage: &'a Stage<'a>,
    topic: Arc<str>,
    producer: Producer,
    watched: VecDeque<Delivery>,
    /// Records so far.
    pub sent: u64,
}

impl<'a> Batches<'a> {
    /// A producer for a topic.
    pub async fn new(stage: &'a Stage<'a>, topic: Arc<str>) -> anyhow::Result<Batches<'a>> {
        let limit = batch_limit_bytes(stage, &topic)?;
        let builder = stage.client.producer().linger(Duration::from_secs(1));
        let producer = builder.batch_target_bytes(usize::MAX).batch_limit_bytes(limit).build().await?;
        Ok(Batches { stage, topic, producer, watched: VecDeque::new(), sent: 0 })
    }

    /// Sends so many batches: hands them over, and waits while the producer's buffer is full.
    pub async fn send(&mut self, batches: u64) -> anyhow::Result<()> {
        for _ in 0..batches {
            for _ in 1..BATCH_RECORDS {
                drop(self.producer.send(self.stage.record(&self.topic, self.sent)).await);
                self.sent += 1;
            }
            // The records of a batch share its fate: it is enough to look at one.
            self.watched.push_back(self.producer.send(self.stage.record(&self.topic, self.sent)).await);
            self.sent += 1;
            if self.watched.len() > WATCHED_BATCHES {
                self.watched.pop_front().context("a batch")?.await?;
            }
        }
        Ok(())
    }

    /// Waits until all is acknowledged.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        let report = self.producer.flush().await;
        ensure!(report.is_clean(), "{report:?}");
        for delivery in self.watched.drain(..) {
            delivery.await?;
        }
        Ok(())
    }

    /// Ends it.
    pub async fn close(self) -> anyhow::Result<()> {
        close(self.producer).await
    }
}

/// The limit that ends a batch behind [`BATCH_RECORDS`], and not before: a producer closes a batch when the next record
/// may have no room in it. Records here are alike, their time included, so that this can be told beforehand.
fn batch_limit_bytes(stage: &Stage<'_>, topic: &Arc<str>) -> anyhow::Result<usize> {
    let mut batch = BatchBuilder::new(Codec::None);
    for number in 0..BATCH_RECORDS {
        let record = stage.record(topic, number);
        batch.push(record.timestamp_ms.context("a time")?, None, record.value.as_deref(), &[])?;
    }
    let one_more = BatchBuilder::record_bytes_max(None, Some(&stage.value(0)), &[]);
    Ok(batch.plain_bytes() + one_more - 1)
}

async fn close(producer: Producer) -> anyhow::Result<()> {
    let report = producer.close(PATIENCE).await;
    ensure!(report.is_clean(), "{report:?}");
    Ok(())
}
