//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer.
//!
//! Needs the nightly toolchain, for the pass that counts which ways the code went, and a C++ compiler, for libFuzzer;
//! cargo-fuzz itself is not needed, though `fuzz/` is laid out as it wants it. What a run finds lies in the build
//! folder; `--keep` minimises it into `fuzz/corpus`. An input on which a target failed is left in `fuzz/artifacts`,
//! and the command to run it again is printed.

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;
use xtask::places;

/// What `rustc` is told: count edges and comparisons, and check what a debug build would.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Targets that need a whole broker's code, which takes long to build so.
const BROKER: [&str; 4] = ["bundles", "components", "documents", "settings"];
/// Inputs longer than this find nothing that shorter ones do not.
const INPUT_BYTES_MAX: u32 = 4_096;
/// One input may take so long, and the process so much memory.
const INPUT_SECONDS_MAX: u32 = 20;
const MEMORY_MIB_MAX: u32 = 3_072;

/// Run fuzz targets, and print for each how many inputs it ran and how many edges they covered.
#[derive(Debug, Args)]
pub struct Fuzz {
    /// Targets; all when left out.
    targets: Vec<String>,
    /// How long each runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Targets that run at once.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Keep what was found, minimised, in `fuzz/corpus`.
    #[arg(long)]
    keep: bool,
    /// Print the targets and end.
    #[arg(long)]
    list: bool,
    /// Also find mistakes of memory (-Zsanitizer=address): slower, for code that is not ours.
    #[arg(long)]
    address: bool,
}

/// What a run came to.
struct Run {
    target: String,
    seconds: u64,
    executions: u64,
    edges: u64,
    features: u64,
    corpus: usize,
    failed: Option<PathBuf>,
}

impl Fuzz {
    /// Runs them.
    ///
    /// # Errors
    /// When a target cannot be built, or one failed.
    pub fn run(self) -> anyhow::Result<()> {
        let all = targets()?;
        if self.list {
            all.iter().for_each(|target| println!("{target}"));
            return Ok(());
        }
        if let Some(unknown) = self.targets.iter().find(|target| !all.contains(target)) {
            bail!("there is no target {unknown}; there are {}", all.join(", "));
        }
        let wanted = if self.targets.is_empty() { all } else { self.targets.clone() };
        self.build(&wanted)?;
        let queue = Mutex::new(VecDeque::from(wanted));
        let runs = Mutex::new(Vec::new());
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().expect("nobody panics").pop_front();
                        let Some(target) = next else { return };
                        let run = self.fuzz(&target);
                        runs.lock().expect("nobody panics").push((target, run));
                    }
                });
            }
        });
        let mut table = format!(
            "{:<16} {:>7} {:>12} {:>7} {:>9} {:>7}\n",
            "target", "seconds", "executions", "edges", "features", "corpus"
        );
        let mut failed = Vec::new();
        let (mut executions, mut count) = (0, 0);
        for (target, run) in runs.into_inner().expect("nobody panics") {
            let run = run.with_context(|| target)?;
            table += &format!(
                "{:<16} {:>7} {:>12} {:>7} {:>9} {:>7}\n",
                run.target, run.seconds, run.executions, run.edges, run.features, run.corpus
            );
            (executions, count) = (executions + run.executions, count + 1);
            failed.extend(run.failed.map(|input| (run.target, input)));
        }
        println!("{table}{executions} executions of {count} targets in {} s", start.elapsed().as_secs());
        for (target, input) in &failed {
            println!(
                "{target} FAILED on {}; once more: {} {0}",
                input.display(),
                self.binary(target).display()
            );
        }
        ensure!(failed.is_empty(), "{} targets failed", failed.len());
        Ok(())
    }

    fn build(&self, wanted: &[String]) -> anyhow::Result<()> {
        let sanitizer = if self.address { " -Zsanitizer=address" } else { "" };
        let mut cargo = Command::new("cargo");
        cargo.args(["+nightly", "build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--locked"]);
        // With a target named, build scripts and macros are built without the flags.
        cargo.args(["--target", TRIPLE, "--target-dir"]).arg(self.folder());
        if wanted.iter().any(|target| BROKER.contains(&target.as_str())) {
            cargo.args(["--features", "broker"]);
        }
        wanted.iter().for_each(|target| {
            cargo.args(["--bin", target]);
        });
        cargo.current_dir(places::repository()).env("RUSTFLAGS", format!("{FLAGS}{sanitizer}"));
        cargo.env("CARGO_INCREMENTAL", "0").env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
        let status = cargo.status().context("cargo")?;
        ensure!(
            status.success(),
            "the targets cannot be built: `rustup toolchain install nightly` brings what they need"
        );
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        places::target().join(if self.address { "fuzz-address" } else { "fuzz" })
    }

    fn binary(&self, target: &str) -> PathBuf {
        self.folder().join(TRIPLE).join("release").join(target)
    }

    fn fuzz(&self, target: &str) -> anyhow::Result<Run> {
        let repository = places::repository();
        let kept = repository.join("fuzz/corpus").join(target);
        let found = self.folder().join("corpus").join(target);
        let failures = repository.join("fuzz/artifacts").join(target);
        for folder in [&kept, &found, &failures] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let before = files(&failures)?;
        let output = Command::new(self.binary(target))
            .args([&found, &kept])
            .arg(format!("-artifact_prefix={}/", failures.display()))
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .args(["-print_final_stats=1", "-verbosity=1"])
            .stdin(Stdio::null())
            .output()
            .with_context(|| target.to_owned())?;
        let log = String::from_utf8_lossy(&output.stderr);
        fs::write(self.folder().join(format!("{target}.log")), log.as_bytes())?;
        let after = files(&failures)?;
        let failed = after.into_iter().find(|input| !before.contains(input));
        ensure!(output.status.success() || failed.is_some(), "it ended with {}:\n{log}", output.status);
        if self.keep && failed.is_none() {
            let merged = Command::new(self.binary(target))
                .arg("-merge=1")
                .arg(format!("-max_len={INPUT_BYTES_MAX}"))
                .args([&kept, &found])
                .stdin(Stdio::null())
                .output()?;
            ensure!(
                merged.status.success(),
                "what was found cannot be merged:\n{}",
                String::from_utf8_lossy(&merged.stderr)
            );
        }
        let last = |what: &str| number_behind(&log, what).unwrap_or_default();
        let run = Run {
            target: target.to_owned(),
            seconds: self.seconds,
            executions: last("stat::number_of_executed_units:"),
            edges: last("cov: "),
            features: last("ft: "),
            corpus: files(&kept)?.len(),
            failed,
        };
        let _ = writeln!(std::io::stdout(), "{target}: {} executions, {} edges", run.executions, run.edges);
        Ok(run)
    }
}

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// The targets, by the names of their binaries.
fn targets() -> anyhow::Result<Vec<String>> {
    let mut all: Vec<_> = files(&places::repository().join("fuzz/fuzz_targets"))?
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_str()?.replace('_', "-")))
        .collect();
    all.sort();
    Ok(all)
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// The number behind the last place where a log has these words.
fn number_behind(log: &str, words: &str) -> Option<u64> {
    let rest = log[log.rfind(words)? + words.len()..].trim_start();
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
