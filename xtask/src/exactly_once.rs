//! `cargo xtask exactly-once`: the chain under SIGKILL.
//!
//! A producer sends orders in bursts; the broker is killed again and again, started again, and left to finish in the
//! end. Then the same checks as in the demo must hold. It is killed only when it said, a moment before, that steps
//! were begun and not committed.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;

use crate::{build, plugins};
use xtask::chain::{self, ORDERS};
use xtask::dice::Dice;
use xtask::process::{Broker, counter};

/// How long the chain may take to come to rest after the last kill.
const PATIENCE: Duration = Duration::from_secs(600);
/// The most time between the first step of a burst and the kill.
const WITHIN_STEPS_US_MAX: u64 = 40_000;
/// How long the first step of a burst may take.
const LOOKS: Duration = Duration::from_secs(3);
/// Bursts for each kill: of most of them, some step is in flight when it is looked for.
const TRIES: u64 = 20;

/// Kill the broker again and again while the chain runs, and check what came of it.
#[derive(Debug, Args)]
pub struct ExactlyOnce {
    /// How often.
    #[arg(long, default_value_t = 20)]
    kills: u64,
    /// Other orders than the sample: JSON lines, compressed if the name ends in .zst.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// At most so many of them.
    #[arg(long, value_name = "N")]
    orders: Option<u64>,
    /// What the moments of the kills follow from; printed, so that a run can be repeated.
    #[arg(long)]
    seed: Option<u64>,
}

impl ExactlyOnce {
    /// Runs it.
    ///
    /// # Errors
    /// When anything is not as it should be.
    pub fn run(self) -> anyhow::Result<()> {
        plugins::build()?;
        self.run_with(&build::tidemill()?)
    }

    /// The short form, of so many kills.
    pub fn of(kills: u64) -> ExactlyOnce {
        ExactlyOnce { kills, file: None, orders: None, seed: None }
    }

    /// Runs it with a broker that is built.
    ///
    /// # Errors
    /// When anything is not as it should be.
    pub fn run_with(self, program: &Path) -> anyhow::Result<()> {
        let file = self.file.clone().unwrap_or_else(chain::sample);
        let there = chain::count(&file)?;
        let orders = self.orders.unwrap_or(there).min(there);
        let seed = self.seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("seed {seed}: again with `cargo xtask exactly-once --kills {} --seed {seed}`", self.kills);
        let mut dice = Dice(seed);

        let folder = tempfile::Builder::new().prefix("tidemill-exactly-once-").tempdir()?;
        let mut broker = Broker::start(program, folder.path(), &[])?;
        chain::apply(&broker)?;
        let mut producer = broker
            .command()
            .args(["produce", ORDERS, "--key", "customerId", "--timestamp", "timestamp"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let mut to_producer = producer.stdin.take().context("the producer reads what it is given")?;
        let mut lines = chain::head(&file, orders)?.lines();
        // Enough that some are left for the last kill, if no burst needs more than two.
        let burst = usize::try_from(orders / (2 * self.kills.max(1)))?.max(1);

        let start = Instant::now();
        let mut slowest = Duration::ZERO;
        for kill in 1..=self.kills {
            let mut tries = 0;
            while !is_in_flight(&broker)? {
                ensure!(tries < TRIES, "after {tries} bursts of {burst} orders no step was in flight");
                tries += 1;
                lines.by_ref().take(burst).try_for_each(|line| writeln!(to_producer, "{}", line?))?;
                to_producer.flush()?;
                wait_for_step(&broker)?;
                std::thread::sleep(Duration::from_micros(dice.below(WITHIN_STEPS_US_MAX)));
            }
            broker.kill()?;
            slowest = slowest.max(broker.restart()?);
            if kill % 20 == 0 {
                println!("{kill} kills after {} s", start.elapsed().as_secs());
            }
        }
        lines.try_for_each(|line| writeln!(to_producer, "{}", line?))?;
        drop(to_producer);
        let status = producer.wait()?;
        ensure!(status.success(), "producing ended with {status}");
        broker.rest(PATIENCE)?;
        println!("checking what came of {orders} orders and {} kills with steps in flight", self.kills);
        let proof = chain::prove(&broker, &file, orders)?;
        println!("the check holds: {}", proof.verified);
        println!("the slowest start took {} ms", slowest.as_millis());
        let status = broker.stop()?;
        ensure!(status.success(), "on SIGTERM the broker ended with {status}");
        Ok(())
    }
}

/// Whether the broker has begun a step and not yet committed it.
fn is_in_flight(broker: &Broker) -> anyhow::Result<bool> {
    Ok(counter(&broker.metrics()?, "tidemill_steps_in_flight", "") > 0.0)
}

/// Waits for the first step of a burst; it may have come and gone.
fn wait_for_step(broker: &Broker) -> anyhow::Result<()> {
    let start = Instant::now();
    while start.elapsed() < LOOKS && !is_in_flight(broker)? {}
    Ok(())
}
