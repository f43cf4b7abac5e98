//! `debug`: for whoever looks into a broker that does not do what it should.

mod bundle;
mod dump;
mod get;
mod log_level;

use clap::Subcommand;

use crate::exit::Failure;
use crate::output::Format;

/// Look into a broker.
#[derive(Debug, Subcommand)]
pub enum Debug {
    /// Print what the broker logs, or change it until it stops.
    #[command(
        after_help = "Examples:\n  tidemill debug log-level\n  tidemill debug log-level info,tidemill_host::tasks=debug"
    )]
    LogLevel {
        /// A level, or one for each module; as the setting `log.filter` has it.
        filter: Option<String>,
    },
    Dump(dump::Dump),
    /// Print what the admin API answers to a GET, as it is; `docs/openapi.json` has all paths.
    #[command(after_help = "Example:\n  tidemill debug get /v1/openapi.json")]
    Get {
        /// The path, with its query.
        path: String,
    },
    Bundle(bundle::Bundle),
}

impl Debug {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when it was not done.
    pub async fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        match self {
            Debug::Bundle(bundle) => bundle.run(context, format).await,
            Debug::Dump(dump) => dump.run(format),
            Debug::Get { path } => get::run(&path, context).await,
            Debug::LogLevel { filter } => log_level::run(filter, context, format).await,
        }
    }
}
