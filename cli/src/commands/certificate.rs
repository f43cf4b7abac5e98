//! `certificate`: those of a broker, and taking them anew without a restart.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::admin_api::AdminApi;
use crate::contexts::Contexts;
use crate::exit::Failure;
use crate::output::{self, Format};

/// Look at a broker's certificates, and have it take new ones.
#[derive(Debug, Subcommand)]
pub enum Certificate {
    /// Print when they end.
    List,
    /// Have the broker read its pair from the files again, now rather than within a minute.
    ///
    /// New connections are shown the new certificate; those that are there go on. A pair that does not do is refused,
    /// and the old one stays.
    Reload,
}

impl Certificate {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure::Refused`] when the new pair does not do.
    pub async fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        let api = AdminApi::new(&Contexts::find(context)?)?;
        let shown: Value = match self {
            Certificate::List => api.get("/v1/certificates").await?,
            Certificate::Reload => api.post("/v1/certificates/reload", &json!({})).await?,
        };
        if format == Format::Json {
            return Ok(output::json(&shown)?);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let rows: Vec<_> =
            shown["certificates"].as_array().into_iter().flatten().map(|row| line(row, now)).collect();
        output::table(&["CERTIFICATE", "ENDS", "DAYS", ""], &rows)?;
        if let Some(why) = shown["trouble"].as_str() {
            say!("the files hold another, which cannot be shown: {}", output::shown(why));
        }
        Ok(())
    }
}

fn line(row: &Value, now: Duration) -> Vec<String> {
    let ends = Duration::from_millis(row["ends-at-ms"].as_u64().unwrap_or_default());
    let soon = if row["ends-soon"] == true { "ends soon" } else { "" };
    vec![
        row["name"].as_str().unwrap_or_default().to_owned(),
        humantime::format_rfc3339_seconds(UNIX_EPOCH + ends).to_string(),
        (ends.saturating_sub(now).as_secs() / (24 * 3600)).to_string(),
        soon.to_owned(),
    ]
}
