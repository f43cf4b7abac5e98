//! `cargo xtask exactly-once`: the chain under SIGKILL.
//!
//! A producer sends orders in bursts; the broker is killed again and again while steps are in flight, started again,
//! and left to finish in the end. Then the same checks as in the demo must hold. A kill counts only if the
//! broker said, a moment before, that steps were begun and not committed.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;

use crate::{build, plugins};
use xtask::chain::{self, ORDERS};
use xtask::process::{Broker, counter};

/// How long the chain may take to come to rest after the last kill.
const PATIENCE: Duration = Duration::from_secs(600);
/// The most time between orders and the first look whether there are steps in flight.
const LIFE_MS_MAX: u64 = 120;
/// How long one looks.
const LOOKS: Duration = Duration::from_secs(3);
/// Tries for each kill that is to count.
const TRIES: u64 = 5;

/// Kill the broker again and again while the chain runs, and check what came of it.
#[derive(Debug, Args)]
pub struct ExactlyOnce {
    /// Kills that count.
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
        let burst = usize::try_from(orders / self.kills.max(1))?.max(1);

        let start = Instant::now();
        let (mut counted, mut all) = (0, 0);
        let mut slowest = Duration::ZERO;
        while counted < self.kills {
            ensure!(all < self.kills * TRIES, "{counted} of {all} kills found steps in flight: too few");
            // Sometimes what the last kill left undone must do.
            if dice.next() % 4 > 0 {
                lines.by_ref().take(burst).try_for_each(|line| writeln!(to_producer, "{}", line?))?;
                to_producer.flush()?;
            }
            std::thread::sleep(Duration::from_millis(dice.next() % LIFE_MS_MAX));
            let in_flight = finds_step(&broker)?;
            broker.kill()?;
            slowest = slowest.max(broker.restart()?);
            all += 1;
            counted += u64::from(in_flight);
            if all % 20 == 0 {
                let seconds = start.elapsed().as_secs();
                println!("{all} kills, {counted} with steps in flight, after {seconds} s");
            }
        }
        lines.try_for_each(|line| writeln!(to_producer, "{}", line?))?;
        drop(to_producer);
        let status = producer.wait()?;
        ensure!(status.success(), "producing ended with {status}");
        broker.settle(PATIENCE)?;
        println!("checking what came of {orders} orders and {all} kills ({counted} with steps in flight)");
        let proof = chain::prove(&broker, &file, orders)?;
        println!("the check holds: {}", proof.verified);
        println!("the slowest start took {} ms", slowest.as_millis());
        let status = broker.stop()?;
        ensure!(status.success(), "on SIGTERM the broker ended with {status}");
        Ok(())
    }
}

/// Looks until the broker has begun a step and not yet committed it.
fn finds_step(broker: &Broker) -> anyhow::Result<bool> {
    let start = Instant::now();
    while start.elapsed() < LOOKS {
        if counter(&broker.metrics()?, "tidemill_steps_in_flight", "") > 0.0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Numbers that follow from a seed: splitmix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
