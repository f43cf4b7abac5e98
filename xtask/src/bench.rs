//! `cargo xtask bench`: how fast a broker is, beside the bare rates of what it is built on, in one run.
//!
//! What is measured, and how, is the program's in `bench`; this builds what it needs and starts it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;
use clap::Args;
use xtask::places;

use crate::plugins;

/// Measure produce, fetch and a chain beside the bare rates of quinn, redb and wasmtime, and print a table.
#[derive(Debug, Args)]
pub struct Bench {
    /// How often all rows are measured, each time with a new broker; of each row the middle one is printed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// How long each row is measured, about.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Also write the rows to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the broker's temporary folder is made: on the disk that is to be measured, and with some gibibytes of
    /// room. The folder that cargo builds into when left out.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Bench {
    /// Runs it.
    ///
    /// # Errors
    /// When something does not build, or a measurement fails.
    pub fn run(self) -> anyhow::Result<()> {
        plugins::build()?;
        eprintln!("building the broker and the bench (the first time takes some minutes)");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(places::repository()).args(["build", "--release", "--workspace", "--bins"]);
        ensure!(cargo.status()?.success(), "the broker and the bench do not compile");
        let release = places::target().join("release");
        let mut bench = Command::new(release.join("tidemill-bench"));
        bench.arg("--program").arg(release.join("tidemill")).arg("--components").arg(places::components());
        bench.arg("--folder").arg(self.folder.unwrap_or_else(|| places::target().join("bench")));
        bench.args(["--seconds", &self.seconds.to_string(), "--rounds", &self.rounds.to_string()]);
        if let Some(file) = self.json {
            bench.arg("--json").arg(file);
        }
        ensure!(bench.status()?.success(), "the bench failed");
        Ok(())
    }
}
