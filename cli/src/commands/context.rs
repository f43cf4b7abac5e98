//! `context`: which broker the other commands speak to, and as whom.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};

use crate::contexts::{Context, Contexts};
use crate::exit::Failure;
use crate::output::{self, Format};

/// Manage the contexts that name brokers and identities.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print all contexts.
    List,
    /// Make a context the current one.
    #[command(after_help = "Example:\n  tidemill context use local")]
    Use {
        /// Its name.
        name: String,
    },
    /// Add a context, or replace it.
    #[command(
        after_help = "Example:\n  tidemill context add prod --broker bus-1:9642 --admin bus-1:9643 --ca ca.pem \
--certificate me.pem --key me-key.pem"
    )]
    Add(Add),
}

/// A context to add.
#[derive(Debug, Args)]
pub struct Add {
    /// Its name.
    name: String,
    /// host:port of a broker, over QUIC.
    #[arg(long)]
    broker: String,
    /// host:port of its admin API.
    #[arg(long)]
    admin: String,
    /// The authority's certificate.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Your certificate.
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

impl Command {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure::Configuration`] when contexts cannot be read or written, or one is missing.
    pub fn run(self, format: Format) -> Result<(), Failure> {
        let mut contexts = Contexts::load()?;
        match self {
            Command::List => return list(&contexts, format),
            Command::Use { name } => {
                if !contexts.context.contains_key(&name) {
                    return Err(Failure::Configuration(anyhow!("there is no context {name}")));
                }
                contexts.current = Some(name);
            }
            Command::Add(add) => {
                let absolute = |path: PathBuf| {
                    let found = File::open(&path).and_then(|_| std::path::absolute(&path));
                    found.with_context(|| path.display().to_string()).map_err(Failure::Configuration)
                };
                let context = Context {
                    broker: add.broker,
                    admin: add.admin,
                    ca: absolute(add.ca)?,
                    certificate: absolute(add.certificate)?,
                    key: absolute(add.key)?,
                };
                contexts.current.get_or_insert_with(|| add.name.clone());
                contexts.context.insert(add.name, context);
            }
        }
        contexts.save()
    }
}

fn list(contexts: &Contexts, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return Ok(output::json(contexts)?);
    }
    let rows: Vec<_> = contexts
        .context
        .iter()
        .map(|(name, context)| {
            let current = if contexts.current.as_ref() == Some(name) { "*" } else { "" };
            vec![current.to_owned(), name.clone(), context.broker.clone(), context.admin.clone()]
        })
        .collect();
    Ok(output::table(&["", "NAME", "BROKER", "ADMIN"], &rows)?)
}
