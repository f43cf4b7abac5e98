//! `cargo xtask scale`: ten thousand topics on one broker, at rest, and killed under load.
//!
//! ```text
//!   make the topics ─▶ are they spread? ─▶ rest: what does it cost? ─▶ fill every shard's log
//!     ─▶ SIGKILL while producing ─▶ start again ─▶ the first acknowledgement of each shard
//! ```
//!
//! What it may take stands in the constants; the figures that it prints are those of this machine at this moment.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::Value;
use tidemill_client::{Client, Delivery, NewTopic, Partition, Producer, Record};
use tidemill_core::limits;
use tokio::runtime::Runtime;
use xtask::process::Broker;
use xtask::{client, gauge};

use crate::build;

/// Topics of one request.
const AT_ONCE: usize = 250;
/// How long it may take to make them all.
const MAKING_MAX: Duration = Duration::from_secs(60);
/// How many times as many partitions as another a shard may have.
const SPREAD_MAX: f64 = 1.5;
/// What a broker at rest may take of one processor.
const REST_MAX: f64 = 0.02;
/// The same where others work on the machine, whose caches a broker then finds cold.
const REST_SHARED_MAX: f64 = 0.04;
/// How long it rests before it is looked at, and while.
const SETTLING: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_secs(20);
/// From the start of a broker that was killed to the first acknowledgement of the last shard.
const BACK_MAX: Duration = Duration::from_secs(5);
const VALUE_BYTES: usize = 32 << 10;
/// Records of a shard that are on their way at once.
const UNDER_WAY: usize = 64;

/// Make ten thousand topics, let the broker rest, fill its logs, kill it under load; and say what each took.
#[derive(Debug, Args)]
pub struct Scale {
    /// Topics, of one partition each.
    #[arg(long, default_value_t = 10_000)]
    topics: usize,
    /// What is sealed before the kill, in MiB over all shards; as much again as half a segment of each is not.
    #[arg(long, default_value_t = 10_240)]
    sealed_mib: u64,
    /// The size of a segment, in MiB.
    #[arg(long, default_value_t = 128)]
    segment_mib: u64,
    /// Others work on this machine: a broker at rest may take a little more.
    #[arg(long)]
    shared: bool,
}

impl Scale {
    /// The short form.
    pub fn short() -> Scale {
        Scale { topics: 10_000, sealed_mib: 512, segment_mib: 32, shared: true }
    }

    /// Runs it.
    ///
    /// # Errors
    /// When something takes longer or more than it may.
    pub fn run(self) -> anyhow::Result<()> {
        self.run_with(&build::tidemill()?)
    }

    /// Runs it with a broker that is built.
    ///
    /// # Errors
    /// When something takes longer or more than it may.
    pub fn run_with(self, program: &Path) -> anyhow::Result<()> {
        let folder = tempfile::Builder::new().prefix("tidemill-scale-").tempdir_in(xtask::places::target())?;
        let segment = format!("storage.segment-bytes={}MiB", self.segment_mib);
        let mut broker = Broker::start(program, folder.path(), &[&segment])?;
        let runtime = Runtime::new()?;
        let client = runtime.block_on(client::connect(&broker))?;
        let names: Vec<String> = (0..self.topics).map(|number| format!("topic-{number:05}")).collect();
        runtime.block_on(make(&client, &names))?;
        let shards = spread(&broker)?;
        self.rest(&broker)?;
        let homes = homes(&broker, &names, shards)?;
        runtime.block_on(self.fill(&client, &homes))?;
        runtime.block_on(killed_under_load(client, &mut broker, &homes))?;
        let status = broker.stop()?;
        ensure!(status.success(), "on SIGTERM the broker ended with {status}");
        Ok(())
    }

    fn rest(&self, broker: &Broker) -> anyhow::Result<()> {
        std::thread::sleep(SETTLING);
        let id = broker.id().context("it runs")?;
        let (before, start) = (gauge::processor_time(id)?, Instant::now());
        std::thread::sleep(REST);
        let used = gauge::processor_time(id)? - before;
        let part = used.as_secs_f64() / start.elapsed().as_secs_f64();
        println!("    at rest: {:.2} % of a processor over {} s", 100.0 * part, REST.as_secs());
        let most = if self.shared { REST_SHARED_MAX } else { REST_MAX };
        ensure!(part <= most, "at most {:.0} % was meant", 100.0 * most);
        Ok(())
    }

    /// Writes as much to each shard's log as is to be sealed, and half a segment more.
    async fn fill(&self, client: &Client, homes: &BTreeMap<u64, String>) -> anyhow::Result<()> {
        let of_shard =
            (self.sealed_mib / homes.len() as u64).next_multiple_of(self.segment_mib) + self.segment_mib / 2;
        let records = (of_shard << 20) / VALUE_BYTES as u64;
        let start = Instant::now();
        let producer = client.producer().build().await?;
        let mut all = tokio::task::JoinSet::new();
        for topic in homes.values() {
            let (producer, topic) = (producer.clone(), topic.clone());
            all.spawn(async move { send(&producer, &topic, records).await });
        }
        while let Some(sent) = all.join_next().await {
            sent??;
        }
        println!(
            "    wrote {} MiB to each of {} shards in {:.0} s",
            of_shard,
            homes.len(),
            start.elapsed().as_secs_f64()
        );
        Ok(())
    }
}

async fn make(client: &Client, names: &[String]) -> anyhow::Result<()> {
    let start = Instant::now();
    for some in names.chunks(AT_ONCE) {
        let topics: Vec<_> = some.iter().map(|name| NewTopic::new(name, 1)).collect();
        for (name, made) in client.admin().create_topics(&topics).await? {
            made.with_context(|| name)?;
        }
    }
    let took = start.elapsed();
    println!("    {} topics in {:.1} s", names.len(), took.as_secs_f64());
    ensure!(took <= MAKING_MAX, "{MAKING_MAX:?} at most was meant");
    Ok(())
}

/// Whether partitions are spread over the shards; and how many of those there are.
fn spread(broker: &Broker) -> anyhow::Result<usize> {
    let shards = broker.json(&["debug", "get", "/v1/shards"])?;
    let shards = shards.as_array().context("shards")?;
    let counts = shards.iter().map(|shard| shard["partitions"].as_u64().context("partitions"));
    let counts = counts.collect::<anyhow::Result<Vec<_>>>()?;
    let (least, most) = (counts.iter().min().context("a shard")?, counts.iter().max().context("a shard")?);
    println!("    {least} to {most} partitions a shard");
    ensure!(*most as f64 <= SPREAD_MAX * *least as f64, "spread by more than {SPREAD_MAX}: {counts:?}");
    Ok(counts.len())
}

/// A topic of each shard.
fn homes(broker: &Broker, names: &[String], shards: usize) -> anyhow::Result<BTreeMap<u64, String>> {
    let mut homes = BTreeMap::new();
    // Those made one after the other lie together.
    for name in names.iter().step_by(limits::AFFINITY_GROUP_TOPICS_MAX as usize) {
        let described: Value = broker.json(&["topic", "describe", name])?;
        let shard = described["state"][0]["shard"].as_u64().context("a shard")?;
        homes.entry(shard).or_insert_with(|| name.clone());
        if homes.len() == shards {
            return Ok(homes);
        }
    }
    ensure!(homes.len() == shards, "topics were found in {} of {shards} shards", homes.len());
    Ok(homes)
}

async fn send(producer: &Producer, topic: &str, records: u64) -> anyhow::Result<()> {
    let mut under_way = VecDeque::new();
    for _ in 0..records {
        if under_way.len() == UNDER_WAY {
            let oldest: Delivery = under_way.pop_front().expect("it is full");
            oldest.await?;
        }
        under_way.push_back(producer.send(record(topic)).await);
    }
    for delivery in under_way {
        delivery.await?;
    }
    Ok(())
}

fn record(topic: &str) -> Record {
    Record::to(topic).partition(Partition(0)).value(vec![b'v'; VALUE_BYTES])
}

/// Kills it while every shard is written to, and waits for the first acknowledgement of each.
async fn killed_under_load(
    client: Client,
    broker: &mut Broker,
    homes: &BTreeMap<u64, String>,
) -> anyhow::Result<()> {
    let producer = client.producer().build().await?;
    let mut load = tokio::task::JoinSet::new();
    for topic in homes.values() {
        let (producer, topic) = (producer.clone(), topic.clone());
        load.spawn(async move { send(&producer, &topic, u64::MAX).await });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    broker.kill()?;
    load.shutdown().await;
    drop(client);
    let start = Instant::now();
    broker.restart()?;
    let serves = start.elapsed();
    let client = client::connect(broker).await?;
    let producer = client.producer().build().await?;
    let mut first = tokio::task::JoinSet::new();
    for topic in homes.values() {
        let (producer, topic) = (producer.clone(), topic.clone());
        first.spawn(async move { producer.send(record(&topic)).await.await });
    }
    while let Some(acknowledged) = first.join_next().await {
        acknowledged??;
    }
    let took = start.elapsed();
    println!(
        "    after SIGKILL: serves after {:.2} s, every shard acknowledged after {:.2} s",
        serves.as_secs_f64(),
        took.as_secs_f64()
    );
    ensure!(took <= BACK_MAX, "{BACK_MAX:?} at most was meant");
    client.close().await;
    Ok(())
}
