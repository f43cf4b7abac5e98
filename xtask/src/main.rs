//! Chores of this repository, as `cargo xtask <chore>`.
//!
//! Each chore is a file. None knows a broker's insides: what a chore needs of the product it starts as a user
//! would. A chore that lacks a tool fails and says which command installs it; it skips nothing, so that a green
//! run has run everything.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "chores have files, clocks and processes")]

mod bench;
mod build;
mod crash_lab;
mod demo;
mod exactly_once;
mod fixture;
mod full_disk;
mod fuzz;
mod newcomer;
mod plugins;
mod polyglot;
mod reclaim;
mod scale;
mod soak;
mod test;
mod trace;
mod witness;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build every plugin of plugins/ to target/components/<name>.wasm.
    Plugins,
    Demo(demo::Demo),
    ExactlyOnce(exactly_once::ExactlyOnce),
    FullDisk(full_disk::FullDisk),
    Fixture(fixture::Fixture),
    Fuzz(fuzz::Fuzz),
    Newcomer(newcomer::Newcomer),
    Polyglot(polyglot::Polyglot),
    Reclaim(reclaim::Reclaim),
    Scale(scale::Scale),
    Soak(soak::Soak),
    Trace(trace::Trace),
    Witness(witness::Witness),
    CrashLab(crash_lab::CrashLab),
    Bench(bench::Bench),
    Test(test::Test),
    /// Write the pages of docs/ that are made from tables in the source.
    Docs,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Plugins => plugins::build().map(drop),
        Chore::Demo(demo) => demo.run(),
        Chore::ExactlyOnce(chore) => chore.run(),
        Chore::FullDisk(chore) => chore.run(),
        Chore::Fixture(chore) => chore.run(),
        Chore::Fuzz(chore) => chore.run(),
        Chore::Newcomer(chore) => chore.run(),
        Chore::Polyglot(chore) => chore.run(),
        Chore::Reclaim(chore) => chore.run(),
        Chore::Scale(chore) => chore.run(),
        Chore::Soak(chore) => chore.run(),
        Chore::Trace(chore) => chore.run(),
        Chore::Witness(witness) => witness.run(),
        Chore::CrashLab(chore) => chore.run(),
        Chore::Bench(bench) => bench.run(),
        Chore::Test(chore) => chore.run(),
        Chore::Docs => test::write_pages(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For a reader who ran a chore, not for one who debugs it: no backtrace.
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
