//! What plugins write to their logs.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use futures_util::future::select;
use serde::{Deserialize, Serialize};
use tidemill_core::limits;

use super::extract::{Json, Path, Query};
use super::plugins::find;
use super::problem::Problem;
use crate::broker::Broker;
use crate::tasks::logbook::Line;

/// The longest that one answer waits for a line: a broker that is to stop does not wait longer for it.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Which lines.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Which {
    /// From this number on.
    #[serde(default)]
    from: u64,
    /// At most so many: the last ones.
    limit: Option<usize>,
    /// How long to wait for one, if there is none yet; at most [`WAIT_MAX`].
    #[serde(default)]
    wait_ms: u64,
}

/// Lines of a plugin's log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lines {
    lines: Vec<LineView>,
    /// From where to go on.
    next: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct LineView {
    number: u64,
    at_ms: u64,
    task: u32,
    step: u64,
    attempt: u32,
    level: String,
    message: String,
}

impl From<Line> for LineView {
    fn from(line: Line) -> LineView {
        LineView {
            number: line.number,
            at_ms: line.at.0,
            task: line.task.partition.0,
            step: line.step.0,
            attempt: line.attempt,
            level: format!("{:?}", line.level).to_lowercase(),
            message: line.message,
        }
    }
}

/// The lines of a plugin, from a number on; waits for one, if it is told to.
pub async fn read(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<Lines>, Problem> {
    let deployment = find(&broker, &name)?.id;
    let limit = which.limit.unwrap_or(limits::LOG_LINES_KEPT);
    let book = broker.plugins.tasks.logbook();
    let mut news = book.watch();
    let wait = Duration::from_millis(which.wait_ms).min(WAIT_MAX);
    let mut time = pin!(broker.world.clock.sleep(wait));
    loop {
        // Read before the lines: what is written in between is read again rather than missed.
        let next = *news.borrow_and_update();
        let lines = book.read(deployment, which.from, limit);
        let next = lines.last().map_or(next, |line| line.number + 1).max(which.from);
        let over = !lines.is_empty() || wait.is_zero() || {
            let changed = pin!(news.changed());
            matches!(select(changed, &mut time).await, futures_util::future::Either::Right(_))
        };
        if over {
            return Ok(Json(Lines { lines: lines.into_iter().map(LineView::from).collect(), next }));
        }
    }
}
