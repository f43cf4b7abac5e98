//! The `tidemill` command: a broker, and everything that one does with brokers.
//!
//! One file for each command in `commands`; what they share is how they find a broker ([`contexts`]), how they speak
//! to its admin API ([`admin_api`]), how they print ([`output`]) and how they end ([`exit`]).
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "the command is the shell: it has files, clocks and a terminal"
)]

/// Prints a line for people: as `println`, but whoever reads no more, as `head` does, ends the command, and no panic does.
macro_rules! say {
    ($($words:tt)*) => { $crate::output::line(format_args!($($words)*)) };
}

mod admin_api;
mod ask;
mod commands;
mod contexts;
mod exit;
mod input;
mod output;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use output::Format;

/// A record passes through some hundred small allocations on several threads; `docs/benchmarks.md` says what glibc's
/// allocator cost. Without huge pages: one that is touched first has its two megabytes cleared while a chain waits.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An event bus whose consumers live inside it.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, propagate_version = true)]
#[command(
    after_help = "Exit status: 0 done, 1 refused or different, 2 wrong usage, 3 no broker reached (trying again \
may help), 70 the broker failed, 78 wrong configuration.\n\nBegin with `tidemill serve`, and in another terminal \
`tidemill topic create orders`."
)]
struct Tidemill {
    /// How to print: for people, or as JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// The context that names the broker; the current one when left out.
    #[arg(long, global = true, env = "TIDEMILL_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let tidemill = Tidemill::parse();
    if let Command::CompileComponent = tidemill.command {
        return tidemill_runtime::compile_child_main();
    }
    match commands::run(tidemill.command, tidemill.context.as_deref(), tidemill.output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(tidemill.output);
            failure.code()
        }
    }
}

/// The command line, for completion scripts.
fn command_line() -> clap::Command {
    use clap::CommandFactory;
    Tidemill::command()
}
