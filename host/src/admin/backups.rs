//! Backups: beginning one, and how far the newest is.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::extract::Json;
use super::problem::Problem;
use crate::backup::BackupError;
use crate::backup::job::Job;
use crate::broker::Broker;
use crate::world;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Wanted {
    /// A folder on the broker's machine.
    to: PathBuf,
    /// What to call it; after the time when left out.
    name: Option<String>,
}

/// A backup, as the API shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackupView {
    name: String,
    to: String,
    /// `running`, `done` or `failed`.
    state: &'static str,
    begun_at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    files: u64,
    bytes: u64,
    written_bytes: u64,
    /// How long the one moment took at which all groups were looked at.
    cut_us: u64,
}

/// The newest, if there was one since the broker started.
#[derive(Debug, Serialize)]
pub struct Newest {
    backup: Option<BackupView>,
}

impl From<Job> for BackupView {
    fn from(job: Job) -> BackupView {
        let (state, ended_at_ms, error) = match job.end {
            None => ("running", None, None),
            Some(Ok(at)) => ("done", Some(at.0), None),
            Some(Err(why)) => ("failed", None, Some(why)),
        };
        BackupView {
            name: job.name,
            to: job.to,
            state,
            begun_at_ms: job.begun.0,
            ended_at_ms,
            error,
            files: job.progress.files,
            bytes: job.progress.bytes,
            written_bytes: job.progress.written_bytes,
            cut_us: job.progress.cut.as_micros() as u64,
        }
    }
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Problem {
        match error {
            BackupError::Fault(fault) => fault.into(),
            refused => {
                let why = refused.to_string();
                Problem::unprocessable("No backup", why.clone()).with("to", why)
            }
        }
    }
}

/// Begins one.
pub async fn begin(
    State(broker): State<Arc<Broker>>,
    Json(wanted): Json<Wanted>,
) -> Result<Json<BackupView>, Problem> {
    // A link may lead into the data folder.
    let to = world::real_path(&wanted.to).map_err(|error| {
        let why = format!("{}: {error}", wanted.to.display());
        Problem::unprocessable("No backup", why.clone()).with("to", why)
    })?;
    if world::real_path(&broker.folder).is_ok_and(|data| to.starts_with(data)) {
        let why = format!("{}: it lies in the data folder, and would go with it", wanted.to.display());
        return Err(Problem::unprocessable("No backup", why.clone()).with("to", why));
    }
    Ok(Json(broker.backups.begin(&to, wanted.name)?.into()))
}

/// How far the newest is.
pub async fn newest(State(broker): State<Arc<Broker>>) -> Json<Newest> {
    Json(Newest { backup: broker.backups.newest().map(BackupView::from) })
}
