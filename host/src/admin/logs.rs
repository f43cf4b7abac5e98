//! The last lines of plugins' logs. Whoever wants to follow one, or to search it, reads its topic.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use tidemill_core::limits;
use tidemill_protocol::ids::Partition;

use super::extract::{Json, Path, Query};
use super::plugins::find;
use super::problem::Problem;
use crate::broker::Broker;
use crate::logs::last::ReadLine;

/// How many lines, when nothing else is said.
const LINES_DEFAULT: usize = 100;

/// Which lines.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Which {
    /// At most so many.
    limit: Option<usize>,
    /// Of this task only.
    task: Option<u32>,
}

/// Lines of a plugin's log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lines {
    /// The topic that has them all.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// In the order of their times.
    lines: Vec<LineView>,
}

/// A line, as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LineView {
    /// The task that wrote it, and the partition that it lies in.
    task: u32,
    offset: u64,
    at_ms: u64,
    generation: u32,
    step: u64,
    /// 1 for the first.
    attempt: u32,
    level: &'static str,
    message: String,
    /// How many lines were dropped where this one stands; of others 0.
    dropped: u64,
}

impl From<ReadLine> for LineView {
    fn from(ReadLine { offset, line }: ReadLine) -> LineView {
        LineView {
            task: line.tried.task.0,
            offset: offset.0,
            at_ms: line.tried.at.0,
            generation: line.tried.generation.0,
            step: line.tried.step.0,
            attempt: line.tried.attempt,
            level: line.level.name(),
            message: line.message,
            dropped: line.dropped,
        }
    }
}

/// The last lines of a plugin.
pub async fn read(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<Lines>, Problem> {
    let deployment = find(&broker, &name)?;
    let limit = which.limit.unwrap_or(LINES_DEFAULT).min(limits::LOG_LINES_SHOWN_MAX);
    let mut lines: Vec<ReadLine> = Vec::new();
    for task in (0..deployment.spec.tasks()).filter(|task| which.task.is_none_or(|only| only == *task)) {
        lines.extend(broker.plugins.last_lines(&deployment, Partition(task), limit)?);
        lines.sort_by_key(|lying| lying.line.tried.at);
        lines.drain(..lines.len().saturating_sub(limit));
    }
    let topic = deployment.spec.log.map(|log| log.name);
    Ok(Json(Lines { topic, lines: lines.into_iter().map(LineView::from).collect() }))
}
