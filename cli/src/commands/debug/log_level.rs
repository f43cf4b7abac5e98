//! `debug log-level`: what the broker logs.

use serde_json::{Value, json};

use crate::admin_api::AdminApi;
use crate::contexts::Contexts;
use crate::exit::Failure;
use crate::output::{self, Format};

const PATH: &str = "/v1/log-level";

/// Prints the filter, after changing it if there is another.
///
/// # Errors
/// [`Failure::Refused`] when it is no filter.
pub async fn run(filter: Option<String>, context: Option<&str>, format: Format) -> Result<(), Failure> {
    let api = AdminApi::new(&Contexts::find(context)?)?;
    let level: Value = match filter {
        Some(filter) => api.replace(PATH, &json!({ "filter": filter })).await?,
        None => api.get(PATH).await?,
    };
    match format {
        Format::Json => output::json(&level)?,
        Format::Table => say!("{}", level["filter"].as_str().unwrap_or_default()),
    }
    Ok(())
}
