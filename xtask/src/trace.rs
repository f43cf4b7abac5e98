//! `cargo xtask trace`: how long it takes to trace a record where there are many.
//!
//! ```text
//!   a ──copy──▶ b ──copy──▶ c      b in the shards of a, c in others; small segments, so that nearly all are sealed
//! ```
//!
//! A broker is given records until the three topics hold so many together. Then random records of all three are traced by
//! the command, as a user would, and each trace must show one record of each topic. *Cold* is after a restart of the broker
//! and with its segments dropped from the system's page cache before each; *warm* is once more, without that. What is
//! measured is the whole command, its start and its connection included.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use rustix::fs::{Advice, fadvise};
use serde_json::Value;
use xtask::dice::Dice;
use xtask::places;
use xtask::process::Broker;

use crate::{build, plugins};

/// The topics, and their affinity groups.
const TOPICS: [(&str, &str); 3] = [("a", "near"), ("b", "near"), ("c", "far")];
const PARTITIONS: &str = "8";
/// How long the plugins may take, for each thousand records; and for anything.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// What a trace may take.
const TRACE_MAX: Duration = Duration::from_secs(1);

/// Fill a broker with records and those derived from them, trace random ones, and say how long that takes.
#[derive(Debug, Args)]
pub struct Trace {
    /// Records of all topics together.
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    /// Traces, cold and as many warm.
    #[arg(long, default_value_t = 300)]
    traces: u64,
    /// What the records that are traced follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Trace {
    /// The short form.
    pub fn short() -> Trace {
        Trace { records: 100_000, traces: 40, seed: 1 }
    }

    /// Runs it.
    ///
    /// # Errors
    /// When a trace is not right, or takes more than a second.
    pub fn run(self) -> anyhow::Result<()> {
        plugins::build()?;
        self.run_with(&build::tidemill()?)
    }

    /// Runs it with a broker that is built.
    ///
    /// # Errors
    /// When a trace is not right, or takes more than a second.
    pub fn run_with(self, program: &Path) -> anyhow::Result<()> {
        let folder = tempfile::Builder::new().prefix("tidemill-trace-").tempdir()?;
        // Small, so that there are many and nearly all are sealed.
        let segment = format!("storage.segment-bytes={}MiB", (self.records / 1_000_000).clamp(1, 8));
        let mut broker = Broker::start(program, folder.path(), &[&segment])?;
        let start = Instant::now();
        self.fill(&broker)?;
        let ends =
            TOPICS.map(|(topic, _)| ends(&broker, topic)).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let records: u64 = ends.iter().flatten().sum();
        ensure!(records >= self.records, "{records} records came of it");
        ensure!(broker.stop()?.success(), "it does not stop");
        let (segments, bytes) = segments(folder.path(), |_| Ok(()))?;
        println!(
            "    {records} records in {segments} segments, {} MiB, after {} s",
            bytes >> 20,
            start.elapsed().as_secs()
        );
        broker.restart()?;
        for is_cold in [true, false] {
            let mut dice = Dice(self.seed);
            let mut took = Vec::new();
            for _ in 0..self.traces {
                let topic = dice.below(TOPICS.len() as u64) as usize;
                let partition = dice.below(ends[topic].len() as u64) as usize;
                let offset = dice.below(ends[topic][partition]);
                let asked = format!("{}/{partition}/{offset}", TOPICS[topic].0);
                if is_cold {
                    segments_dropped(folder.path())?;
                }
                let start = Instant::now();
                let found = broker.json(&["event", "trace", &asked])?;
                took.push(start.elapsed());
                check(&found, topic).with_context(|| format!("{asked}: {found}"))?;
            }
            took.sort_unstable();
            let worst = took[took.len() - 1];
            let name = if is_cold { "cold" } else { "warm" };
            println!(
                "    {name}: {} traces, p50 {} ms, worst {} ms",
                took.len(),
                took[took.len() / 2].as_millis(),
                worst.as_millis()
            );
            ensure!(worst <= TRACE_MAX, "a trace took {worst:?}");
        }
        ensure!(broker.stop()?.success(), "it does not stop");
        Ok(())
    }

    fn fill(&self, broker: &Broker) -> anyhow::Result<()> {
        for (topic, group) in TOPICS {
            broker.run(&["topic", "create", topic, "--partitions", PARTITIONS, "--affinity", group])?;
        }
        let components = places::components();
        for (name, from, to) in [("first", "a", "b"), ("second", "b", "c")] {
            let manifest = broker.folder().join(format!("{name}.toml"));
            let text = format!(
                "name = \"{name}\"\ncomponent = \"pass-through.wasm\"\npublish = [\"{to}\"]\n\n\
                 [[subscribe]]\ntopic = \"{from}\"\nfrom = \"earliest\"\n\n[config]\nto = \"{to}\"\n"
            );
            fs::write(&manifest, text)?;
            let (manifest, components) = (manifest.to_str(), components.to_str());
            let paths = manifest.zip(components).context("paths in UTF-8")?;
            broker.run(&["plugin", "deploy", paths.0, "--components", paths.1])?;
        }
        let mut command = broker.command();
        command.args(["produce", "a", "--key", "key"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut producing = command.spawn()?;
        let mut lines = BufWriter::new(producing.stdin.take().context("its input")?);
        for number in 0..self.records.div_ceil(TOPICS.len() as u64) {
            writeln!(lines, "{{\"key\":\"{number}\"}}")?;
        }
        drop(lines);
        let status = producing.wait()?;
        ensure!(status.success(), "producing ended with {status}");
        broker.settle(PATIENCE.1 + PATIENCE.0 * u32::try_from(self.records / 1_000)?)
    }
}

/// One record of each topic, each below the other, and none missing.
fn check(found: &Value, asked: usize) -> anyhow::Result<()> {
    let records = found["records"].as_array().context("records")?;
    ensure!(found["is-complete"] == true && found["asked"] == asked, "it is another");
    ensure!(records.len() == TOPICS.len(), "it has {} records", records.len());
    for (number, (record, (topic, _))) in records.iter().zip(TOPICS).enumerate() {
        ensure!(record["topic"] == topic && record["fate"] == "retained", "{record}");
        ensure!(record["parent"].as_u64() == number.checked_sub(1).map(|parent| parent as u64), "{record}");
    }
    Ok(())
}

/// The high watermarks of a topic's partitions.
fn ends(broker: &Broker, topic: &str) -> anyhow::Result<Vec<u64>> {
    let described = broker.json(&["topic", "describe", topic])?;
    let state = described["state"].as_array().context("partitions")?;
    state.iter().map(|partition| partition["high-watermark"].as_u64().context("a high watermark")).collect()
}

/// How many segments there are, and their bytes; something is done with each.
fn segments(folder: &Path, with: impl Fn(&File) -> anyhow::Result<()>) -> anyhow::Result<(u64, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for group in fs::read_dir(folder.join("data"))? {
        let group = group?.path();
        if !group.is_dir() {
            continue;
        }
        for file in fs::read_dir(group)? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with("segment-") {
                let file = File::open(file.path())?;
                with(&file)?;
                (count, bytes) = (count + 1, bytes + file.metadata()?.len());
            }
        }
    }
    Ok((count, bytes))
}

/// Has the system forget what it holds of them in memory.
fn segments_dropped(folder: &Path) -> anyhow::Result<()> {
    segments(folder, |file| Ok(fadvise(file, 0, None, Advice::DontNeed)?)).map(drop)
}
