//! `config`: what the broker would be told.

use clap::Subcommand;

use super::serve::Sources;
use crate::exit::Failure;
use crate::output::{self, Format};

/// Look at the broker's configuration.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print every setting, its value and where it comes from.
    #[command(
        after_help = "Example:\n  tidemill config show --config /etc/tidemill.toml --set cluster.shards=4"
    )]
    Show(Sources),
    /// Print the manual of all settings, in Markdown.
    Manual,
}

impl Config {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure::Configuration`] with everything that is wrong.
    pub fn run(self, format: Format) -> Result<(), Failure> {
        let sources = match self {
            Config::Show(sources) => sources,
            Config::Manual => {
                print!("{}", tidemill_host::config::manual());
                return Ok(());
            }
        };
        let layers = sources.layers()?;
        layers.resolve().map_err(|error| Failure::Configuration(error.into()))?;
        let settings = layers.show();
        match format {
            Format::Json => {
                let settings: serde_json::Map<_, _> = settings
                    .into_iter()
                    .map(|(key, value, origin)| {
                        (key.to_owned(), serde_json::json!({ "value": value, "origin": origin.to_string() }))
                    })
                    .collect();
                output::json(&settings)?;
            }
            Format::Table => {
                let rows: Vec<_> = settings
                    .into_iter()
                    .map(|(key, value, origin)| vec![key.to_owned(), value.to_owned(), origin.to_string()])
                    .collect();
                output::table(&["SETTING", "VALUE", "ORIGIN"], &rows)?;
            }
        }
        Ok(())
    }
}
