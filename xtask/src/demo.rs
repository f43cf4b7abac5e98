//! `cargo xtask demo`: real orders run the chain on one broker, before one's eyes.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{build, plugins};
use xtask::chain::{self, ORDERS, PLUGINS};
use xtask::process::{Broker, counter};

/// How long the chain may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(300);
/// Its place among [`PLUGINS`].
const PAYMENT: usize = 3;
const _: () = assert!(matches!(PLUGINS[PAYMENT].as_bytes(), b"payment"));
/// How often one looks.
const EVERY: Duration = Duration::from_millis(500);

/// Build everything, run the order chain on real orders, and check what came of it.
#[derive(Debug, Default, Args)]
pub struct Demo {
    /// Other orders: JSON lines, compressed if the name ends in .zst. The sample of 2,000 when left out.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// At most so many of them.
    #[arg(long, value_name = "N")]
    orders: Option<u64>,
    /// Leave the broker running, and say what to try.
    #[arg(long)]
    keep: bool,
}

impl Demo {
    /// Runs it.
    ///
    /// # Errors
    /// When anything is not as it should be.
    pub fn run(self) -> anyhow::Result<()> {
        step("building the plugins");
        plugins::build()?;
        self.run_with(&build::tidemill()?)
    }

    /// Runs it with a broker that is built.
    ///
    /// # Errors
    /// When anything is not as it should be.
    pub fn run_with(self, program: &Path) -> anyhow::Result<()> {
        let file = self.file.clone().unwrap_or_else(chain::sample);
        let there = chain::count(&file)?;
        let orders = self.orders.unwrap_or(there).min(there);

        let folder = tempfile::Builder::new().prefix("tidemill-demo-").tempdir()?;
        step(&format!("starting a broker in {}", folder.path().display()));
        let broker = Broker::start(program, folder.path(), &[])?;
        step("making topics and deploying the chain");
        let applied = chain::apply(&broker)?;
        print!("{}", indented(&applied));

        let start = Instant::now();
        step(&format!("producing {orders} orders of {}", file.display()));
        let producer = broker
            .command()
            .args(["produce", ORDERS, "--key", "customerId", "--timestamp", "timestamp"])
            .args(["--limit", &orders.to_string(), "--file"])
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()?;
        watch(&broker, producer, orders)?;
        broker.rest(PATIENCE)?;
        let took = start.elapsed();

        step(
            "checking: every step again in a scratch instance, then the numbers of the chain by a program of its own",
        );
        let proof = chain::prove(&broker, &file, orders)?;
        summary(&broker, &proof, orders, took)?;
        if self.keep {
            tries(&program.display().to_string(), &broker);
            broker.keep();
            let _ = folder.keep();
        }
        Ok(())
    }
}

fn step(doing: &str) {
    println!("\n==> {doing}");
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// Shows what happens until all is produced and the plugins have caught up.
fn watch(broker: &Broker, mut producer: Child, orders: u64) -> anyhow::Result<()> {
    let style = ProgressStyle::with_template(
        "    {bar:30} {human_pos}/{human_len} orders consumed, {elapsed}  {msg}",
    )?;
    let bar = ProgressBar::new(orders).with_style(style);
    let mut last = Instant::now();
    let mut before = Seen::default();
    loop {
        std::thread::sleep(EVERY);
        let now = Seen::read(&broker.metrics()?);
        let lag = broker.lag()?;
        // `payment` reads every order once, and nothing else.
        bar.set_position((now.events[PAYMENT] as u64).min(orders));
        let rates = now.rates(&before, last.elapsed());
        bar.set_message(format!("lag {lag}"));
        if bar.is_hidden() {
            println!("    lag {lag}; {rates}");
        } else {
            bar.println(format!("    {rates}"));
        }
        (last, before) = (Instant::now(), now);
        if let Some(status) = producer.try_wait()? {
            ensure!(status.success(), "producing ended with {status}");
            if lag == 0 {
                bar.finish_and_clear();
                return Ok(());
            }
        }
        ensure!(bar.elapsed() < PATIENCE, "it did not come to an end within {PATIENCE:?}");
    }
}

/// Events in and records out of each plugin, at one moment.
#[derive(Default)]
struct Seen {
    events: [f64; PLUGINS.len()],
    records: [f64; PLUGINS.len()],
}

impl Seen {
    fn read(metrics: &str) -> Seen {
        let of = |name: &str| PLUGINS.map(|plugin| counter(metrics, name, &format!("plugin=\"{plugin}\"")));
        Seen { events: of("tidemill_plugin_events_total"), records: of("tidemill_plugin_records_total") }
    }

    fn rates(&self, before: &Seen, time: Duration) -> String {
        let rate = |now: f64, before: f64| (now - before) / time.as_secs_f64();
        let each = PLUGINS.iter().enumerate().map(|(i, plugin)| {
            let (events, records) =
                (rate(self.events[i], before.events[i]), rate(self.records[i], before.records[i]));
            format!("{plugin} {events:.0}/s in {records:.0}/s out")
        });
        each.collect::<Vec<_>>().join(" · ")
    }
}

fn summary(broker: &Broker, proof: &chain::Proof, orders: u64, took: Duration) -> anyhow::Result<()> {
    let verified = &proof.verified;
    let number = |key: &str| verified[key].as_u64().unwrap_or_default();
    println!("\n    orders in                    {orders} in {:.1} s", took.as_secs_f64());
    for (topic, records) in &proof.records {
        println!("    {topic:<28} {records}");
    }
    let metrics = broker.metrics()?;
    let failures = counter(&metrics, "tidemill_plugin_failures_total", "");
    println!("    batches that crossed shards  {}", number("crossed"));
    println!(
        "    from an order to the last record derived from it: p50 {} ms, p99 {} ms",
        number("latency-ms-p50"),
        number("latency-ms-p99")
    );
    println!("    steps                        {} (tries that failed: {failures})", number("steps"));
    println!("    run again, and the same      {}", number("replayed"));
    let holds = verified["holds"].as_bool().context("a verdict")?;
    ensure!(holds, "the check found violations: {verified}");
    println!("\n    the check holds: every step happened exactly once, and the numbers are right");
    Ok(())
}

fn tries(program: &str, broker: &Broker) {
    let home = broker.folder().join("home");
    println!("\n==> the broker keeps running; try:");
    println!("    export TIDEMILL_HOME={}", home.display());
    for command in [
        "topic list",
        "consume shipments --from-beginning --limit 3",
        "plugin describe inventory",
        "plugin verify",
        "consume customer-notifications --from-beginning --exit-at-end --partition 0",
    ] {
        println!("    {program} {command}");
    }
}
