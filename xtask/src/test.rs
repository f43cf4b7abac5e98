//! `cargo xtask test`: everything that CI runs, in the order in which mistakes are found soonest.
//!
//! It skips nothing: what it needs is looked for first, and what is missing is named with the command that installs
//! it. All Rust code of the workspace is built once, in the release profile, so that what is tested is what users run.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;
use xtask::places;

use crate::demo::Demo;
use crate::exactly_once::ExactlyOnce;
use crate::full_disk::FullDisk;
use crate::newcomer::Newcomer;
use crate::plugins;
use crate::polyglot::Polyglot;
use crate::reclaim::Reclaim;
use crate::scale::Scale;
use crate::soak::Soak;
use crate::trace::Trace;
use crate::witness::{Witness, tools};

/// Run everything that CI runs: formatting, lints, tests, documents, the demo and the chain under SIGKILL.
#[derive(Debug, Args)]
pub struct Test {
    /// Kills of the broker under the chain.
    #[arg(long, default_value_t = 20)]
    kills: u64,
}

impl Test {
    /// Runs it.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn run(self) -> anyhow::Result<()> {
        let start = Instant::now();
        let step = |doing: &str| println!("\n==> [{:>4} s] {doing}", start.elapsed().as_secs());
        step("looking for what the tests need");
        tools::look(&["cc", "tar"])?;
        Witness::look_for_tools()?;
        FullDisk::look_for_tools()?;
        step("formatting");
        cargo(&["fmt", "--all", "--check"])?;
        cargo(&["fmt", "--all", "--check", "--manifest-path", "plugins/Cargo.toml"])?;
        step("plugins, to components");
        plugins::build()?;
        step("building broker and tests (the first time takes some minutes)");
        cargo(&["test", "--release", "--workspace", "--no-run"])?;
        step("tests");
        cargo(&["test", "--release", "--workspace", "--no-fail-fast"])?;
        step("tests of the plugins, natively");
        cargo(&["test", "--manifest-path", "plugins/Cargo.toml", "--target-dir", &own("plugins-native")?])?;
        // What was built for the tests is the broker that the demo runs: its features are those of the workspace.
        let program = places::target().join("release/tidemill");
        step("witnesses: Kafka's own clients");
        Witness::default().run_with(&program)?;
        step("the demo");
        Demo::default().run_with(&program)?;
        step("a newcomer, from nothing to a derived record");
        Newcomer.run_with(&program)?;
        step("traces");
        Trace::short().run_with(&program)?;
        step("a full disk");
        FullDisk::default().run_with(&program)?;
        step("one plugin in three languages");
        Polyglot::default().run_with(&program)?;
        step("the chain under SIGKILL");
        ExactlyOnce::of(self.kills).run_with(&program)?;
        step("ten thousand topics");
        Scale::short().run_with(&program)?;
        step("one of a hundred topics is deleted");
        Reclaim::short().run_with(&program)?;
        step("a minute of load at a fixed rate");
        Soak::short().run_with(&program)?;
        step("lints");
        cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
        step("documents");
        documents()?;
        step("all is well");
        Ok(())
    }
}

/// `cargo xtask docs`: writes the pages that are made from tables in the source.
///
/// # Errors
/// When they cannot be written.
pub fn write_pages() -> anyhow::Result<()> {
    let mut cargo = command(&["test", "--release", "--workspace", "--test", "pages"]);
    let status = cargo.env("TIDEMILL_WRITE_PAGES", "1").status()?;
    ensure!(status.success(), "the pages cannot be written");
    Ok(())
}

fn documents() -> anyhow::Result<()> {
    let mut cargo = command(&["doc", "--release", "--workspace", "--no-deps", "--document-private-items"]);
    let status =
        cargo.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private-intra-doc-links").status()?;
    ensure!(status.success(), "the documents have mistakes");
    Ok(())
}

fn own(folder: &str) -> anyhow::Result<String> {
    let path = places::target().join(folder);
    Ok(path.to_str().context("a path")?.to_owned())
}

/// A command of cargo in the repository.
pub fn command(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(places::repository()).args(arguments);
    cargo.env("CARGO_TARGET_DIR", absolute(&places::target()));
    cargo
}

fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let status = command(arguments).status()?;
    ensure!(status.success(), "`cargo {}` failed", arguments.join(" "));
    Ok(())
}
