//! The commands, one file each.

mod apply;
mod backup;
mod certificate;
mod config;
mod consume;
mod context;
mod debug;
mod dlq;
mod doctor;
mod event;
mod plugin;
mod produce;
mod serve;
mod topic;
mod verify;

use std::future::Future;

use anyhow::Context as _;
use clap::Subcommand;
use clap_complete::Shell;

use crate::exit::Failure;
use crate::output::Format;

/// What one can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Serve(serve::Serve),
    Doctor(doctor::Doctor),
    /// Look at a broker's certificates, and have it take new ones.
    #[command(subcommand)]
    Certificate(certificate::Certificate),
    /// Look into a broker that does not do what it should.
    #[command(subcommand)]
    Debug(debug::Debug),
    /// Copy a running broker, and make data folders of such copies.
    #[command(subcommand)]
    Backup(backup::Backup),
    /// Look at the broker's configuration.
    #[command(subcommand)]
    Config(config::Config),
    /// Manage the contexts that name brokers and identities.
    #[command(subcommand)]
    Context(context::Command),
    /// Create topics, look at them, alter, trim and delete them.
    #[command(subcommand)]
    Topic(topic::Topic),
    Produce(produce::Produce),
    Consume(consume::Consume),
    /// Make, build, test, deploy, check and look after plugins.
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// Follow one record through the plugins.
    #[command(subcommand)]
    Event(event::Event),
    /// Make topics and plugins be as files say.
    Apply(apply::Apply),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Compile a component in a process of its own. (The broker starts it.)
    #[command(hide = true)]
    CompileComponent,
}

/// Runs a command.
///
/// # Errors
/// [`Failure`] when it did not do what it was asked for.
pub fn run(command: Command, context: Option<&str>, format: Format) -> Result<(), Failure> {
    match command {
        Command::Serve(serve) => serve.run(context, format),
        Command::Doctor(doctor) => doctor.run(format),
        Command::Debug(debug) => block_on(debug.run(context, format)),
        Command::Certificate(certificate) => block_on(certificate.run(context, format)),
        Command::Backup(backup) => block_on(backup.run(context, format)),
        Command::Config(config) => config.run(format),
        Command::Context(context) => context.run(format),
        Command::Topic(topic) => block_on(topic.run(context, format)),
        Command::Produce(produce) => block_on(produce.run(context, format)),
        Command::Consume(consume) => block_on(consume.run(context)),
        Command::Plugin(plugin) => block_on(plugin.run(context, format)),
        Command::Dlq(dlq) => block_on(dlq.run(context, format)),
        Command::Event(event) => block_on(event.run(context, format)),
        Command::Apply(apply) => block_on(apply.run(context, format)),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut crate::command_line(), "tidemill", &mut std::io::stdout());
            Ok(())
        }
        Command::CompileComponent => unreachable!("main does it, whose exit status is the child's"),
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("threads")?.block_on(work)
}
