//! What the broker logs, read and changed while it runs.
//!
//! The filter itself belongs to whoever started the process and set up its log; this file only hands words to and fro.
//! What is set here is gone with the process: the setting `log.filter` is what it starts with.

use std::sync::Arc;

use axum::Extension;
use serde::{Deserialize, Serialize};

use super::extract::Json;
use super::problem::Problem;

/// What the process logs.
pub trait LogFilter: Send + Sync {
    /// The filter as it is now.
    fn get(&self) -> String;

    /// Has another take its place from now on.
    ///
    /// # Errors
    /// Why it is none; the old one stays.
    fn set(&self, filter: &str) -> Result<(), String>;
}

/// A filter, as the API reads and shows it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Level {
    /// A level, or one for each module, as the setting `log.filter` has it.
    filter: String,
}

/// The filter now.
pub async fn show(Extension(log): Extension<Arc<dyn LogFilter>>) -> Json<Level> {
    Json(Level { filter: log.get() })
}

/// Changes it.
pub async fn change(
    Extension(log): Extension<Arc<dyn LogFilter>>,
    Json(Level { filter }): Json<Level>,
) -> Result<Json<Level>, Problem> {
    let before = log.get();
    log.set(&filter).map_err(|why| Problem::invalid(format!("filter: {why}")).with("filter", why))?;
    tracing::info!(before, filter, "the log's filter was changed");
    Ok(Json(Level { filter: log.get() }))
}
