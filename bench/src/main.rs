//! How fast a broker is, beside what the machine gives.
//!
//! ```text
//!   this process                                     another process
//!   bare rates:  quinn ◀──────── loopback ─────────▶ this program again, as quinn's peer
//!                redb, wasmtime (in this process)
//!   ours:        tidemill-client ◀── loopback ─────▶ a broker, as a user has it
//! ```
//!
//! A figure of ours means little alone: machines differ, and one machine differs from one hour to the next. So each
//! stands right behind the bare rate that bounds it, measured in the same run, between the same two processes, with
//! the same settings, on the same disk. This is the only program outside the house's own rooms that names quinn, redb
//! and wasmtime, and it does so for the bare rates alone; for the rest it is a user.
//!
//! Each row is a file: it measures for about the seconds that it is given, and returns a [`Row`]. `cargo xtask bench`
//! builds all that is needed and starts this; `docs/benchmarks.md` says what each row means.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a measurement has clocks, files, tasks and processes")]

mod bare_quinn;
mod bare_redb;
mod bare_wasmtime;
mod chain;
mod fetch;
mod produce;
mod row;
mod stage;
mod steps;
mod table;
mod times;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use serde_json::json;

use row::Row;
use stage::Stage;

/// How fast a broker is, beside what quinn, redb and wasmtime alone do. `cargo xtask bench` starts it.
#[derive(Parser)]
#[command(name = "tidemill-bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    run: Option<Run>,
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(clap::Args)]
struct Run {
    /// The `tidemill` command.
    #[arg(long)]
    program: PathBuf,
    /// The folder with `pass-through.wasm`.
    #[arg(long)]
    components: PathBuf,
    /// Where the temporary folder is made: on the disk that is to be measured.
    #[arg(long)]
    folder: PathBuf,
    /// How long each row is measured, about.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Also write the rows to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Other {
    /// The other end of the bare rates of quinn; ends with its standard input.
    #[command(hide = true)]
    QuinnPeer {
        /// The folder with the certificates of a broker.
        data: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse() {
        Arguments { other: Some(Other::QuinnPeer { data }), .. } => bare_quinn::peer::run(&data),
        Arguments { run: Some(run), .. } => run.run(),
        Arguments { .. } => Err(anyhow::anyhow!("nothing to do: see --help")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidemill-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Run {
    fn run(self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        let folder = tempfile::Builder::new().prefix("tidemill-bench-").tempdir_in(&self.folder)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let stage = Stage::set(&runtime, &self.program, &self.components, folder.path())?;
        let rows = rows(&stage, Duration::from_secs(self.seconds))?;
        print!("{}", table::markdown(&rows));
        if let Some(file) = &self.json {
            let document = json!({
                "version": env!("CARGO_PKG_VERSION"),
                "processors": std::thread::available_parallelism()?.get(),
                "record-bytes": stage::RECORD_BYTES,
                "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
            });
            let text = serde_json::to_string_pretty(&document)? + "\n";
            std::fs::write(file, text).with_context(|| file.display().to_string())?;
        }
        stage.clear()
    }
}

/// All rows, each of ours right behind what bounds it.
fn rows(stage: &Stage<'_>, time: Duration) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    let mut keep = |row: Row| {
        eprintln!("bench: {}", row.line());
        rows.push(row.clone());
        row
    };
    let quinn = bare_quinn::Pair::connect(stage)?;
    let bulk = keep(quinn.bulk(stage, time)?);
    let written = produce::batches(stage, time, &bulk)?;
    keep(written.row.clone());
    keep(fetch::from_memory(stage, time, &written, &bulk)?);
    let redb_bulk = keep(bare_redb::bulk(stage, time)?);
    let ping = keep(quinn.ping_pong(stage, time)?);
    drop(quinn);
    let commit = keep(bare_redb::small(stage, time)?);
    let single = keep(produce::one_at_a_time(stage, time, &ping, &commit)?);
    keep(chain::latency(stage, time, &single)?);
    keep(chain::throughput(stage, time, &redb_bulk)?);
    keep(bare_wasmtime::instances(time)?);
    keep(steps::pass_through(stage, time)?);
    Ok(rows)
}
