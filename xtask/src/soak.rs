//! `cargo xtask soak`: producers, the chain and retention at a fixed rate, for as long as one likes.
//!
//! Orders are sent at a fixed rate, whatever the broker makes of it, so that a pause is seen in the latencies of all that
//! wait behind it. The sample is sent over and over; each time its orders have other ids. Retention is short, so that the
//! disk is at its level soon, and small segments are given back all the time.
//!
//! The first quarter warms up (half a minute at least, two minutes at most). What is measured then is parted in four: memory,
//! disk and the p99 of acknowledgements of the last part are compared with those of the first; memory in runs that are long
//! enough to fill what is kept of the logs in memory.

use std::io::BufRead as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::Value;
use tidemill_client::{Client, Producer, Record};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use xtask::chain::{self, ORDERS};
use xtask::process::Broker;
use xtask::{client, gauge};

use crate::{build, plugins};

/// Settings and retention by which little is kept, and what is kept is soon at its level.
const SETTINGS: [&str; 3] =
    ["storage.segment-bytes=8MiB", "storage.segment-age=10s", "storage.retention-interval=2s"];
const RETENTION: &str = "retention.ms=10000";
/// How often orders are sent, all that are due.
const BEAT: Duration = Duration::from_millis(10);
/// How often memory and disk are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// From how many minutes on memory is judged: before, the tails of the shards' logs are still filling.
const MEMORY_FROM_MINUTES: u64 = 10;
/// What memory and disk may grow by from the first part to the last: a part, and what does not count. Of the disk that is
/// two segments.
const GROWTH_MAX: f64 = 1.1;
const MEMORY_SLACK_BYTES: f64 = (48u64 << 20) as f64;
const DISK_SLACK_BYTES: f64 = (16u64 << 20) as f64;
/// The same of the p99, and what a shared machine alone makes of it.
const P99_GROWTH_MAX: f64 = 1.5;
const P99_NOISE: Duration = Duration::from_millis(40);
/// How long the chain may take to come to rest in the end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Run producers, the order chain and retention at a fixed rate, and see that memory, disk and latency stay flat.
#[derive(Debug, Args)]
pub struct Soak {
    /// How long, warming up included.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// Orders a second; the chain derives some twenty-five records from each.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
}

/// Memory and disk at a moment.
struct Look {
    at: Duration,
    memory: u64,
    disk: u64,
}

/// When a record was sent, and how long its acknowledgement took.
type Answered = (Duration, Duration);

impl Soak {
    /// The short form.
    pub fn short() -> Soak {
        Soak { minutes: 1, rate: 100 }
    }

    /// Runs it.
    ///
    /// # Errors
    /// When something grows that should not, or a send fails.
    pub fn run(self) -> anyhow::Result<()> {
        plugins::build()?;
        self.run_with(&build::tidemill()?)
    }

    /// Runs it with a broker that is built.
    ///
    /// # Errors
    /// When something grows that should not, or a send fails.
    pub fn run_with(self, program: &Path) -> anyhow::Result<()> {
        let folder = tempfile::Builder::new().prefix("tidemill-soak-").tempdir_in(xtask::places::target())?;
        let mut broker = Broker::start(program, folder.path(), &SETTINGS)?;
        chain::apply(&broker)?;
        let topics = broker.json(&["topic", "list"])?;
        for topic in topics.as_array().context("topics")? {
            broker.run(&["topic", "alter", topic["name"].as_str().context("a name")?, "--set", RETENTION])?;
        }
        let orders = orders()?;
        let runtime = Runtime::new()?;
        let (looks, answered) = runtime.block_on(async {
            let client = client::connect(&broker).await?;
            let ran = self.drive(&client, &broker, &orders).await;
            client.close().await;
            ran
        })?;
        broker.rest(PATIENCE)?;
        let status = broker.stop()?;
        ensure!(status.success(), "on SIGTERM the broker ended with {status}");
        self.judge(&looks, &answered)
    }

    async fn drive(
        &self,
        client: &Client,
        broker: &Broker,
        orders: &[Value],
    ) -> anyhow::Result<(Vec<Look>, Vec<Answered>)> {
        let producer = client.producer().build().await?;
        let id = broker.id().context("it runs")?;
        let data = broker.folder().join("data");
        let (start, whole) = (Instant::now(), self.whole());
        let (mut looks, mut answered, mut under_way) = (Vec::new(), Vec::new(), JoinSet::new());
        let mut sent = 0u64;
        let mut beat = tokio::time::interval(BEAT);
        let mut next_look = LOOK;
        while start.elapsed() < whole {
            beat.tick().await;
            let due = (start.elapsed().as_secs_f64() * self.rate as f64) as u64;
            while sent < due {
                let record = order(orders, sent)?;
                under_way.spawn(send(producer.clone(), record, start));
                sent += 1;
            }
            while let Some(done) = under_way.try_join_next() {
                answered.push(done??);
            }
            if start.elapsed() >= next_look {
                let (memory, disk) = (gauge::resident_bytes(id)?, gauge::disk_bytes(&data)?);
                looks.push(Look { at: start.elapsed(), memory, disk });
                next_look += LOOK;
            }
        }
        while let Some(done) = under_way.join_next().await {
            answered.push(done??);
        }
        Ok((looks, answered))
    }

    fn whole(&self) -> Duration {
        Duration::from_secs(60 * self.minutes)
    }

    /// Compares the last part with the first.
    fn judge(&self, looks: &[Look], answered: &[Answered]) -> anyhow::Result<()> {
        let warm =
            (self.whole() / 4).clamp(Duration::from_secs(30).min(self.whole() / 2), Duration::from_secs(120));
        let part = (self.whole() - warm) / 4;
        let parts = [warm..warm + part, self.whole() - part..self.whole()];
        let mean = |of: fn(&Look) -> u64| {
            parts.clone().map(|part| {
                let values: Vec<f64> =
                    looks.iter().filter(|look| part.contains(&look.at)).map(|look| of(look) as f64).collect();
                values.iter().sum::<f64>() / values.len().max(1) as f64
            })
        };
        let mut wrong = Vec::new();
        let memory = ("memory", mean(|look| look.memory), MEMORY_SLACK_BYTES);
        let disk = ("disk", mean(|look| look.disk), DISK_SLACK_BYTES);
        for (what, [first, last], slack) in [memory, disk] {
            let mib = |bytes: f64| bytes / f64::from(1 << 20);
            println!("    {what}: {:.0} MiB at first, {:.0} MiB at last", mib(first), mib(last));
            let is_judged = what != "memory" || self.minutes >= MEMORY_FROM_MINUTES;
            if is_judged && last > first * GROWTH_MAX + slack {
                wrong.push(what);
            }
        }
        let p99 = parts.map(|part| {
            let of_part = answered.iter().filter(|(sent, _)| part.contains(sent)).map(|(_, took)| *took);
            gauge::quantile(&mut of_part.collect::<Vec<_>>(), 0.99)
        });
        let [Some(first), Some(last)] = p99 else { anyhow::bail!("nothing was acknowledged") };
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "    {} orders at {} a second; p99 of acknowledgements: {:.1} ms at first, {:.1} ms at last",
            answered.len(),
            self.rate,
            ms(first),
            ms(last)
        );
        if last > first.mul_f64(P99_GROWTH_MAX).max(P99_NOISE) {
            wrong.push("p99");
        }
        ensure!(wrong.is_empty(), "grew over {} minutes: {}", self.minutes, wrong.join(", "));
        Ok(())
    }
}

async fn send(producer: Producer, record: Record, start: Instant) -> anyhow::Result<Answered> {
    let at = start.elapsed();
    producer.send(record).await.await?;
    Ok((at, start.elapsed() - at))
}

fn orders() -> anyhow::Result<Vec<Value>> {
    let file = chain::sample();
    let lines = chain::head(&file, chain::count(&file)?)?.lines();
    lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

/// The order of a number: the sample's, with an id of its own each time around.
fn order(orders: &[Value], number: u64) -> anyhow::Result<Record> {
    let count = orders.len() as u64;
    let mut order = orders[(number % count) as usize].clone();
    let id = format!("{}-{}", order["orderId"].as_str().context("an id")?, number / count);
    order["orderId"] = id.into();
    let key = order["customerId"].as_str().context("a customer")?.to_owned();
    let time = order["timestamp"].as_str().context("a time")?;
    let time = humantime::parse_rfc3339_weak(time)?.duration_since(std::time::UNIX_EPOCH)?;
    let record = Record::to(ORDERS).key(key).value(serde_json::to_vec(&order)?);
    Ok(record.timestamp_ms(i64::try_from(time.as_millis())?))
}
