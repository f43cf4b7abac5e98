//! `cargo xtask reclaim`: one of a hundred topics is deleted under load, and its disk comes back.
//!
//! 1. A hundred topics are filled, one batch of each after the other, so that they lie mixed in the logs of their shards.
//! 2. All of them get batches at a fixed rate, whatever the broker makes of it; then one is deleted, and the others go on.
//!
//! What is back is what the segments that were there then take less of the disk, in blocks, a minute later at most. Those
//! that are written go on growing meanwhile, which is counted against it, and so is whatever was written anew. Beside
//! it: the bytes written for a byte that is back, and the p99 of acknowledgements before and after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use tidemill_client::{Client, NewTopic, Partition, Producer, Record};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use xtask::dice::Dice;
use xtask::process::{Broker, counter};
use xtask::{client, gauge};

use crate::build;

const TOPICS: u64 = 100;
/// The one that goes.
const DELETED: u64 = 50;
const VALUE_BYTES: u64 = 1 << 10;
/// Topics that are filled at once: as many batches may come into one turn.
const AT_ONCE: u64 = 20;
/// Of the deleted topic's bytes, this part must be back within this time.
const BACK_MIN: f64 = 0.9;
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes written for each that is back.
const REWRITTEN_MAX: f64 = 2.0;
/// What the p99 may grow by; and what does not count, alone on a machine and beside others.
const P99_GROWTH_MAX: f64 = 2.0;
const P99_NOISE: Duration = Duration::from_millis(20);
const P99_NOISE_SHARED: Duration = Duration::from_millis(250);
const BEAT: Duration = Duration::from_millis(5);

/// Delete one of a hundred topics under load, and see what of its disk is back after a minute, and what that cost.
#[derive(Debug, Args)]
pub struct Reclaim {
    /// What is written before, in MiB.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(200..=1_000_000))]
    mib: u64,
    /// What a batch holds, in KiB.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    batch_kib: u64,
    /// Batches a second while the topic is deleted.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// For how many seconds latencies are measured before.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    seconds: u64,
    /// Others work on this machine, too: a p99 of some hundred milliseconds says nothing.
    #[arg(long)]
    shared: bool,
}

/// How long before the topic is deleted the last batch for it is due.
const LAST_BEFORE: Duration = Duration::from_secs(1);

/// When a batch was due, and how long after that it was acknowledged.
type Answered = (Duration, Duration);

/// What came of it.
struct Seen {
    /// What the deleted topic held.
    of_topic: u64,
    /// What is back, and when it was.
    back: u64,
    after: Duration,
    rewritten: f64,
    before: Vec<Duration>,
    meanwhile: Vec<Duration>,
}

impl Reclaim {
    /// The short form.
    pub fn short() -> Reclaim {
        Reclaim { mib: 400, batch_kib: 64, rate: 50, seconds: 8, shared: true }
    }

    /// Runs it.
    ///
    /// # Errors
    /// When less is back, or it costs more, than may be.
    pub fn run(self) -> anyhow::Result<()> {
        self.run_with(&build::tidemill()?)
    }

    /// Runs it with a broker that is built.
    ///
    /// # Errors
    /// When less is back, or it costs more, than may be.
    pub fn run_with(self, program: &Path) -> anyhow::Result<()> {
        let folder =
            tempfile::Builder::new().prefix("tidemill-reclaim-").tempdir_in(xtask::places::target())?;
        let mut broker = Broker::start(program, folder.path(), &[])?;
        let runtime = Runtime::new()?;
        let seen = runtime.block_on(async {
            let client = client::connect(&broker).await?;
            let seen = self.story(&client, &broker).await;
            client.close().await;
            seen
        })?;
        let status = broker.stop()?;
        ensure!(status.success(), "on SIGTERM the broker ended with {status}");
        judge(seen, if self.shared { P99_NOISE_SHARED } else { P99_NOISE })
    }

    async fn story(&self, client: &Client, broker: &Broker) -> anyhow::Result<Seen> {
        let topics: Vec<_> = (0..TOPICS).map(|number| NewTopic::new(name(number), 1)).collect();
        for (topic, made) in client.admin().create_topics(&topics).await? {
            made.with_context(|| topic)?;
        }
        let described = broker.json(&["topic", "describe", &name(DELETED)])?;
        // Its shard ends the segment that it writes. Those of the others only grow.
        let shard = broker.folder().join(format!("data/shard-{}", described["state"][0]["shard"]));
        let producer = client.producer().batch_target_bytes((self.batch_kib << 10) as usize).build().await?;
        let start = Instant::now();
        let mut sent = self.fill(&producer).await?;
        println!(
            "    wrote {} MiB to {TOPICS} topics in batches of {} KiB in {:.0} s",
            self.mib,
            self.batch_kib,
            start.elapsed().as_secs_f64()
        );

        let (start, warm) = (Instant::now(), Duration::from_secs(self.seconds));
        let (mut under_way, mut answered) = (JoinSet::new(), Vec::new());
        let mut beat = tokio::time::interval(BEAT);
        let (mut number, mut deleted, mut next_look) = (0, None, Duration::ZERO);
        let (mut back, mut done, mut deleting) = (0, None, None);
        // Latencies are measured for as long afterwards as before.
        while deleted.as_ref().is_none_or(|(at, _)| start.elapsed() < *at + warm) || done.is_none() {
            beat.tick().await;
            let due = (start.elapsed().as_secs_f64() * self.rate as f64) as u64;
            while number < due {
                let (topic, at) =
                    (number % TOPICS, Duration::from_secs_f64(number as f64 / self.rate as f64));
                // None of its own is under way when it goes.
                if topic != DELETED || at + LAST_BEFORE < warm {
                    under_way.spawn(self.send(producer.clone(), topic, number, (start, at)));
                    sent += if topic == DELETED { self.batch_kib << 10 } else { 0 };
                }
                number += 1;
            }
            while let Some(ended) = under_way.try_join_next() {
                answered.push(ended??);
            }
            match &deleted {
                None if start.elapsed() >= warm => {
                    let segments = segments(&shard)?;
                    let mut delete = broker.command();
                    delete.args(["topic", "delete", &name(DELETED), "--yes"]).stdout(Stdio::null());
                    // Load goes on meanwhile, and what it makes of latencies counts.
                    deleted = Some((start.elapsed(), segments));
                    deleting = Some(delete.spawn()?);
                }
                Some((at, before)) if done.is_none() && start.elapsed() >= next_look => {
                    let now = segments(&shard)?;
                    let left: u64 = before.keys().filter_map(|path| now.get(path)).sum();
                    back = before.values().sum::<u64>().saturating_sub(left + rewritten(broker)? as u64);
                    let passed = start.elapsed() - *at;
                    let is_over = back as f64 >= sent as f64 * BACK_MIN || passed >= PATIENCE;
                    done = is_over.then_some(passed);
                    next_look = start.elapsed() + Duration::from_millis(500);
                }
                _ => {}
            }
        }
        while let Some(ended) = under_way.join_next().await {
            answered.push(ended??);
        }
        let (at, _) = deleted.context("it was deleted")?;
        let status = deleting.context("it was deleted")?.wait()?;
        ensure!(status.success(), "topic delete ended with {status}");
        let of = |range: std::ops::Range<Duration>| {
            let within = answered.iter().filter(|(due, _)| range.contains(due));
            within.map(|(_, took)| *took).collect::<Vec<_>>()
        };
        Ok(Seen {
            of_topic: sent,
            back,
            after: done.context("it was looked at")?,
            rewritten: rewritten(broker)?,
            before: of(at.saturating_sub(warm)..at),
            meanwhile: of(at..Duration::MAX),
        })
    }

    /// Fills the topics, one batch of each after the other; returns what each got.
    async fn fill(&self, producer: &Producer) -> anyhow::Result<u64> {
        let rounds = (self.mib << 20).div_ceil(TOPICS * (self.batch_kib << 10));
        let start = Instant::now();
        for round in 0..rounds {
            for first in (0..TOPICS).step_by(AT_ONCE as usize) {
                let mut some = JoinSet::new();
                for topic in first..first + AT_ONCE {
                    let due = (start, start.elapsed());
                    some.spawn(self.send(producer.clone(), topic, round * TOPICS + topic, due));
                }
                while let Some(sent) = some.join_next().await {
                    sent??;
                }
            }
        }
        Ok(rounds * (self.batch_kib << 10))
    }

    /// Sends a batch, which was due so long after a start.
    fn send(
        &self,
        producer: Producer,
        topic: u64,
        seed: u64,
        (start, due): (Instant, Duration),
    ) -> impl Future<Output = anyhow::Result<Answered>> + use<> {
        let records = self.batch_kib << 10;
        async move {
            let mut dice = Dice(seed);
            let mut under_way = Vec::new();
            for _ in 0..records / VALUE_BYTES {
                let value: Vec<u8> = (0..VALUE_BYTES / 8).flat_map(|_| dice.number().to_be_bytes()).collect();
                let record = Record::to(name(topic)).partition(Partition(0)).value(value);
                under_way.push(producer.send(record).await);
            }
            for delivery in under_way {
                delivery.await?;
            }
            Ok((due, start.elapsed() - due))
        }
    }
}

fn judge(seen: Seen, noise: Duration) -> anyhow::Result<()> {
    let Seen { of_topic, back, after, rewritten, mut before, mut meanwhile } = seen;
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let part = back as f64 / of_topic as f64;
    println!(
        "    of {:.1} MiB of a deleted topic {:.1} MiB ({:.0} %) are back after {:.0} s",
        mib(of_topic as f64),
        mib(back as f64),
        100.0 * part,
        after.as_secs_f64()
    );
    let cost = rewritten / (back as f64).max(1.0);
    println!("    {:.3} MiB were written for that: {cost:.4} bytes a byte", mib(rewritten));
    let (Some(first), Some(then)) =
        (gauge::quantile(&mut before, 0.99), gauge::quantile(&mut meanwhile, 0.99))
    else {
        anyhow::bail!("nothing was acknowledged")
    };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "    p99 of acknowledgements: {:.1} ms before ({} batches), {:.1} ms after ({})",
        ms(first),
        before.len(),
        ms(then),
        meanwhile.len()
    );
    ensure!(part >= BACK_MIN, "{:.0} % were to be back within {PATIENCE:?}", 100.0 * BACK_MIN);
    ensure!(cost <= REWRITTEN_MAX, "at most {REWRITTEN_MAX} bytes a byte were meant");
    ensure!(then <= first.mul_f64(P99_GROWTH_MAX).max(noise), "the p99 was to be doubled at most");
    Ok(())
}

fn name(topic: u64) -> String {
    format!("topic-{topic:03}")
}

fn rewritten(broker: &Broker) -> anyhow::Result<f64> {
    Ok(counter(&broker.metrics()?, "tidemill_rewritten_bytes_total", ""))
}

/// The segments of a shard, and what each takes of the disk.
fn segments(shard: &Path) -> anyhow::Result<BTreeMap<PathBuf, u64>> {
    let mut segments = BTreeMap::new();
    for file in fs::read_dir(shard)? {
        let file = file?;
        let Ok(about) = file.metadata() else { continue };
        if file.file_name().to_string_lossy().starts_with("segment-") {
            segments.insert(file.path(), about.blocks() * 512);
        }
    }
    Ok(segments)
}
