//! `cargo xtask exactly-once`: the chain under SIGKILL.
//!
//! A producer streams orders; the broker is killed again and again while steps are in flight, started again, and
//! left to finish in the end. Then the same checks as in the demo must hold. A kill counts only if some plugin lagged
//! when it was looked at last before the kill: then a step was under way.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use crate::{build, plugins};
use xtask::chain::{self, ORDERS};
use xtask::process::Broker;

/// How long the chain may take to come to rest after the last kill.
const PATIENCE: Duration = Duration::from_secs(600);
/// The most time between a start and the kill behind it.
const LIFE_MS_MAX: u64 = 900;
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
        // Orders are to last for all kills, each of which takes up to two seconds with the start behind it.
        let rate = (orders / (2 * self.kills.max(1))).max(1);
        let mut producer = broker
            .command()
            .args(["produce", ORDERS, "--key", "customerId", "--timestamp", "timestamp"])
            .args(["--limit", &orders.to_string(), "--rate", &rate.to_string(), "--file"])
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()?;
        let start = Instant::now();
        let (mut counted, mut all) = (0, 0);
        let mut slowest = Duration::ZERO;
        while counted < self.kills {
            ensure!(all < self.kills * TRIES, "{counted} of {all} kills found steps in flight: too few");
            std::thread::sleep(Duration::from_millis(dice.next() % LIFE_MS_MAX));
            // With a lag there is a step under way, or about to be. One look may fall between two orders.
            let looked = Instant::now();
            let mut in_flight = broker.lag().is_ok_and(|lag| lag > 0);
            while !in_flight && looked.elapsed() < Duration::from_secs(2) && producer.try_wait()?.is_none() {
                in_flight = broker.lag().is_ok_and(|lag| lag > 0);
            }
            broker.kill()?;
            slowest = slowest.max(broker.restart()?);
            all += 1;
            counted += u64::from(in_flight);
            if all % 20 == 0 {
                println!(
                    "{all} kills, {counted} with steps in flight, after {:.0} s",
                    start.elapsed().as_secs_f64()
                );
            }
        }
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
