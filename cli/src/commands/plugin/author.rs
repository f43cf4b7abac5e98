//! What an author does with a plugin before others run it, and while they do: a file for each.

use clap::Subcommand;

use super::{dev, inspect, logs, new, state, test};
use crate::admin_api::AdminApi;
use crate::contexts::Contexts;
use crate::exit::Failure;
use crate::output::Format;

/// Write, try and look into plugins.
#[derive(Debug, Subcommand)]
pub enum Author {
    New(new::New),
    Test(test::Test),
    Dev(dev::Dev),
    Inspect(inspect::Inspect),
    Logs(logs::Logs),
    /// Look into the state that a plugin keeps, as its last committed steps left it.
    #[command(subcommand)]
    State(state::State),
}

impl Author {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when something is refused or different, or a broker that is needed cannot be reached.
    pub async fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        let api = || AdminApi::new(&Contexts::find(context)?);
        match self {
            Author::New(order) => order.run(format),
            Author::Test(order) => order.run(format).await,
            Author::Dev(order) => order.run(&api()?, format).await,
            Author::Inspect(order) => order.run(format),
            Author::Logs(order) => {
                let context = Contexts::find(context)?;
                order.run(&context, &AdminApi::new(&context)?, format).await
            }
            Author::State(order) => order.run(&api()?, format).await,
        }
    }
}
