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
mod effort;
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

use effort::Watch;
use row::Row;
use stage::Stage;

/// The broker's: what peers of the bare rates allocate, they allocate as it does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// How often all rows are measured, each time with a new broker; of each row the middle one is printed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
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
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut rounds = Vec::new();
        for round in 1..=self.rounds {
            eprintln!("bench: round {round} of {}", self.rounds);
            let folder = tempfile::Builder::new().prefix("tidemill-bench-").tempdir_in(&self.folder)?;
            let stage = Stage::set(&runtime, &self.program, &self.components, folder.path())?;
            rounds.push(rows(&stage, Duration::from_secs(self.seconds))?);
            stage.clear()?;
        }
        let rows = middle(rounds);
        print!("{}", table::markdown(&rows));
        if let Some(file) = &self.json {
            let document = json!({
                "version": env!("CARGO_PKG_VERSION"),
                "processors": std::thread::available_parallelism()?.get(),
                "rounds": self.rounds,
                "record-bytes": stage::RECORD_BYTES,
                "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
            });
            let text = serde_json::to_string_pretty(&document)? + "\n";
            std::fs::write(file, text).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }
}

/// Of each row, the one that stands in the middle of all rounds.
fn middle(rounds: Vec<Vec<Row>>) -> Vec<Row> {
    let names = rounds.first().map_or(0, Vec::len);
    let row = |number: usize| {
        let mut of_all: Vec<&Row> = rounds.iter().filter_map(|round| round.get(number)).collect();
        of_all.sort_by(|one, other| one.merit().total_cmp(&other.merit()));
        of_all[of_all.len() / 2].clone()
    };
    (0..names).map(row).collect()
}

/// All rows, each of ours right behind what bounds it.
fn rows(stage: &Stage<'_>, time: Duration) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    let mut keep = |other: Option<u32>, measure: &mut dyn FnMut() -> anyhow::Result<Row>| {
        let this = Watch::begin("self")?;
        let other = other.map(|id| Watch::begin(&id.to_string())).transpose()?;
        let mut row = measure()?;
        row.efforts = (this.end()?, other.map(Watch::end).transpose()?);
        eprintln!("bench: {}", row.line());
        rows.push(row.clone());
        anyhow::Ok(row)
    };
    let broker = stage.broker.id();
    let quinn = bare_quinn::Pair::connect(stage)?;
    let peer = Some(quinn.peer());
    let bulk = keep(peer, &mut || quinn.bulk(stage, time))?;
    let mut topic = None;
    keep(broker, &mut || {
        let written = produce::batches(stage, time, &bulk)?;
        topic = Some(written.topic);
        Ok(written.row)
    })?;
    let topic = topic.context("a topic with records")?;
    keep(broker, &mut || fetch::from_memory(stage, time, &topic, &bulk))?;
    let redb_bulk = keep(None, &mut || bare_redb::bulk(stage, time))?;
    let ping = keep(peer, &mut || quinn.ping_pong(stage, time))?;
    drop(quinn);
    let commit = keep(None, &mut || bare_redb::small(stage, time))?;
    let single = keep(broker, &mut || produce::one_at_a_time(stage, time, &ping, &commit))?;
    keep(broker, &mut || chain::latency(stage, time, "chain, 1 hop, send to fetched", 1, &single))?;
    keep(broker, &mut || chain::latency(stage, time, "chain, 10 hops, send to fetched", 10, &single))?;
    keep(broker, &mut || chain::throughput(stage, time, &redb_bulk))?;
    keep(None, &mut || bare_wasmtime::instances(time))?;
    keep(None, &mut || steps::pass_through(stage, time, "steps of 1 × 1 KiB, no broker", 1))?;
    keep(None, &mut || steps::pass_through(stage, time, "steps of 100 × 1 KiB, no broker", 100))?;
    Ok(rows)
}
