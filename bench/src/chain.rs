//! Chains of plugins that copy each record to another topic of the same shard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tidemill_client::Start;

use crate::produce::Batches;
use crate::row::{Latency, Row};
use crate::stage::{PARTITION, RECORD_BYTES, Stage};
use crate::times::{Stretch, Times};

/// Batches of 1,000 that are stored for each second that is to be measured.
const STORED_BATCHES_PER_SECOND: u64 = 300;
/// How long the whole input may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often one looks.
const EVERY: Duration = Duration::from_millis(5);
/// Before latencies are taken.
const WARM_RECORDS: u64 = 200;

/// From a send until a fetch that waits has the derived record, one after the other.
pub fn latency(
    stage: &Stage<'_>,
    time: Duration,
    row: &'static str,
    hops: usize,
    single: &Row,
) -> anyhow::Result<Row> {
    let chain = Chain::lay(stage, &format!("bench-hops-{hops}"), hops)?;
    chain.deploy()?;
    let (first, last) = chain.ends()?;
    let (took, times) = stage.runtime.block_on(async {
        let producer = stage.client.producer().linger(Duration::ZERO).build().await?;
        let to = stage.client.consumer().read_partition(&**last, PARTITION, Start::End);
        let mut consumer = to.build().await?;
        let (mut stretch, mut times) = (Stretch::of(time), Times::default());
        let mut number = 0;
        while stretch.lasts() {
            let record = stage.record(first, number);
            let expected = record.value.clone();
            let begun = Instant::now();
            let delivery = producer.send(record).await;
            let derived = consumer.next_record().await?;
            times.since(begun);
            delivery.await?;
            ensure!(derived.record.value == expected, "another record was derived");
            number += 1;
            if number == WARM_RECORDS {
                (stretch, times) = (Stretch::of(time), Times::default());
            }
        }
        anyhow::Ok((stretch.elapsed(), times))
    })?;
    let row = Row::new(row, took).on(hops as u32 + 1, 1);
    let row = row.amount(times.count(), "records", RECORD_BYTES).latency(times);
    let p50 = |row: &Row| row.latency.map(|Latency { p50, .. }| p50.as_secs_f64()).context("a latency");
    Ok(row.clone().ratio(p50(&row)? / p50(single)?, "p50 of produce, 1 × 1 KiB"))
}

/// From the deployment until all of a stored input is derived. The component was deployed before, under another name,
/// so that compiling it is no part of this.
pub fn throughput(stage: &Stage<'_>, time: Duration, redb: &Row) -> anyhow::Result<Row> {
    let chain = Chain::lay(stage, "bench-chain", 1)?;
    let (first, last) = chain.ends()?;
    let stored = stage.runtime.block_on(async {
        let mut batches = Batches::new(stage, first.clone()).await?;
        batches.send(STORED_BATCHES_PER_SECOND * time.as_secs()).await?;
        batches.settle().await?;
        let stored = batches.sent;
        batches.close().await?;
        anyhow::Ok(stored)
    })?;
    let stretch = Stretch::of(PATIENCE);
    chain.deploy()?;
    stage.runtime.block_on(async {
        loop {
            let derived = stage.end(last).await?;
            ensure!(derived <= stored, "{derived} records derived from {stored}");
            if derived == stored {
                return Ok(());
            }
            ensure!(stretch.lasts(), "{derived} of {stored} records were derived in {PATIENCE:?}");
            tokio::time::sleep(EVERY).await;
        }
    })?;
    let row = Row::new("chain, 1 hop, stored input", stretch.elapsed()).on(2, 1).amount(
        stored,
        "records",
        RECORD_BYTES,
    );
    let of_redb = row.mib_per_second().zip(redb.mib_per_second()).map(|(ours, bare)| ours / bare);
    Ok(row.ratio(of_redb.context("two rates")?, "redb bulk"))
}

/// Topics of one shard, and a plugin between each and the next.
struct Chain<'a> {
    stage: &'a Stage<'a>,
    name: String,
    topics: Vec<Arc<str>>,
}

impl<'a> Chain<'a> {
    /// Makes the topics.
    fn lay(stage: &'a Stage<'a>, name: &str, hops: usize) -> anyhow::Result<Chain<'a>> {
        let make = |number| stage.topic(&format!("{name}-{number}"), name);
        let topics = (0..=hops).map(make).collect::<anyhow::Result<Vec<_>>>()?;
        let home = stage.shard(&topics[0])?;
        for topic in &topics {
            ensure!(stage.shard(topic)? == home, "{topic} lies in another shard");
        }
        Ok(Chain { stage, name: name.to_owned(), topics })
    }

    /// The topic that is written to, and the one that all ends in.
    fn ends(&self) -> anyhow::Result<(&Arc<str>, &Arc<str>)> {
        self.topics.first().zip(self.topics.last()).context("topics")
    }

    /// Deploys the plugins; returns when their tasks run.
    fn deploy(&self) -> anyhow::Result<()> {
        let Chain { stage, name, topics } = self;
        let path = |path: &std::path::Path| path.to_str().map(str::to_owned).context("a path in UTF-8");
        let components = path(stage.components())?;
        for (number, link) in topics.windows(2).enumerate() {
            let (from, to) = (&link[0], &link[1]);
            let manifest = stage.folder().join(format!("{name}-{number}.toml"));
            let text = format!(
                "name = \"{name}-{number}\"\ncomponent = \"pass-through.wasm\"\npublish = [\"{to}\"]\n\n\
                 [[subscribe]]\ntopic = \"{from}\"\nfrom = \"earliest\"\n\n[config]\nto = \"{to}\"\n"
            );
            std::fs::write(&manifest, text)?;
            stage.broker.run(&["plugin", "deploy", &path(&manifest)?, "--components", &components])?;
        }
        Ok(())
    }
}
