//! What becomes of plugins that are deployed.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use tidemill_core::manifest::StartAt;
use tidemill_core::task::BehindLogStart;

use super::TENANT;
use super::extract::{Json, Path, Query};
use super::plugins::{PluginView, answer};
use super::problem::Problem;
use crate::broker::Broker;

/// Its tasks take no steps until it is resumed.
pub async fn pause(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
) -> Result<Json<PluginView>, Problem> {
    answer(&broker, broker.plugins.pause(TENANT, &name).await?)
}

/// How tasks are to go on.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Resume {
    /// Where those go on that a log start has passed.
    behind: Option<BehindLogStart>,
}

/// Its tasks take steps again.
pub async fn resume(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
    Query(Resume { behind }): Query<Resume>,
) -> Result<Json<PluginView>, Problem> {
    if behind == Some(BehindLogStart::Stop) {
        return Err(Problem::field("behind", "tasks that are to go on do so at earliest or latest"));
    }
    answer(&broker, broker.plugins.resume(TENANT, &name, behind).await?)
}

/// The version before this one is deployed.
pub async fn rollback(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
) -> Result<Json<PluginView>, Problem> {
    answer(&broker, broker.plugins.rollback(TENANT, &name).await?)
}

/// Where tasks are to begin anew.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reset {
    to: StartAt,
    #[serde(default)]
    fresh_state: bool,
}

/// Its tasks begin anew.
pub async fn reset(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
    Json(Reset { to, fresh_state }): Json<Reset>,
) -> Result<Json<PluginView>, Problem> {
    answer(&broker, broker.plugins.reset(TENANT, &name, &to, fresh_state).await?)
}

/// What is left of a plugin.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Deleted {
    name: String,
    /// Topics that it wrote to, its dead letters' and its log's among them: they stay.
    topics: Vec<String>,
}

/// It is no more.
pub async fn delete(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
) -> Result<Json<Deleted>, Problem> {
    let spec = broker.plugins.delete(TENANT, &name).await?.spec;
    let topics = spec.outputs.iter().chain(spec.own_topics()).map(|output| output.name.clone()).collect();
    Ok(Json(Deleted { name, topics }))
}
