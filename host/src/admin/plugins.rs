//! Components and plugins.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tidemill_core::catalog::{self, Deployment};
use tidemill_core::ids::{Digest, TaskId};
use tidemill_core::manifest::Manifest;
use tidemill_core::tables::{Key, View, end_of_prefix};
use tidemill_protocol::ids::Partition;

use super::TENANT;
use super::extract::{Component, Json, Path, Query};
use super::problem::Problem;
use crate::broker::Broker;
use crate::catalog::Unchanged;
use crate::plugins::{Deployed, TaskState};

/// A plugin to deploy; its component was uploaded before.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Deploy {
    manifest: Manifest,
    digest: String,
}

/// A plugin, as the API shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PluginView {
    name: String,
    id: u64,
    generation: u32,
    digest: String,
    deployed_at_ms: u64,
    subscribe: Vec<String>,
    publish: Vec<String>,
    dead_letter: String,
    /// The topic of its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    lag_records: u64,
    /// Records that were removed before its tasks consumed them, and that these passed over.
    passed_over_records: u64,
    /// Tasks that have not consumed records which will be removed soon.
    expiring: usize,
    timers: usize,
    /// Tasks that take steps, of all.
    running: usize,
    /// Whether somebody paused it.
    paused: bool,
    /// Tasks that have records to consume and consume none.
    stalled: usize,
    /// Why the first of them does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    stalled_cause: Option<String>,
    tasks: usize,
    /// Whether this call changed anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    /// The whole deployment and its tasks, where it is described.
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment: Option<Deployment>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    state: Vec<TaskState>,
}

fn view(broker: &Broker, deployment: &Deployment) -> Result<PluginView, Problem> {
    let state = broker.plugins.describe(deployment)?;
    let spec = &deployment.spec;
    Ok(PluginView {
        name: deployment.name.clone(),
        id: deployment.id.0,
        generation: deployment.generation.0,
        digest: deployment.digest.to_string(),
        deployed_at_ms: deployment.deployed_at.0,
        subscribe: spec.inputs.iter().map(|input| input.name.clone()).collect(),
        publish: spec.outputs.iter().map(|output| output.name.clone()).collect(),
        dead_letter: spec.dead_letter.name.clone(),
        log: spec.log.as_ref().map(|log| log.name.clone()),
        lag_records: state.iter().map(|task| task.lag_records).sum(),
        passed_over_records: state.iter().map(|task| task.passed_over_records).sum(),
        expiring: state.iter().filter(|task| !task.expiring.is_empty()).count(),
        timers: state.iter().map(|task| task.timers).sum(),
        running: state.iter().filter(|task| task.status == "running").count(),
        paused: spec.paused,
        stalled: state.iter().filter(|task| task.stalled.is_some()).count(),
        stalled_cause: state.iter().find_map(|task| Some(task.stalled.as_ref()?.cause.clone())),
        tasks: state.len(),
        changed: None,
        deployment: None,
        state,
    })
}

/// Keeps a component.
pub async fn upload(
    State(broker): State<Arc<Broker>>,
    Path(digest): Path<String>,
    Component(body): Component,
) -> Result<StatusCode, Problem> {
    broker.reserve.check().map_err(Unchanged::from)?;
    broker.plugins.components.put(read_digest(&digest)?, &body)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A component's bytes.
pub async fn download(
    State(broker): State<Arc<Broker>>,
    Path(digest): Path<String>,
) -> Result<Bytes, Problem> {
    let wanted = read_digest(&digest)?;
    let component = broker.plugins.components.get(wanted).map_err(crate::components::ComponentError::from)?;
    component.ok_or_else(|| Problem::not_found(format!("there is no component {digest}")))
}

/// Deploys a plugin; answers once every task runs.
pub async fn deploy(
    State(broker): State<Arc<Broker>>,
    Json(Deploy { manifest, digest }): Json<Deploy>,
) -> Result<Json<PluginView>, Problem> {
    let deployed = broker.plugins.deploy(TENANT, manifest, read_digest(&digest)?, false).await?;
    answer(&broker, deployed)
}

/// Says what a deployment would come to.
pub async fn check(
    State(broker): State<Arc<Broker>>,
    Json(Deploy { manifest, digest }): Json<Deploy>,
) -> Result<Json<PluginView>, Problem> {
    let deployed = broker.plugins.deploy(TENANT, manifest, read_digest(&digest)?, true).await?;
    answer(&broker, deployed)
}

pub(super) fn answer(broker: &Broker, deployed: Deployed) -> Result<Json<PluginView>, Problem> {
    let plugin = view(broker, &deployed.deployment)?;
    Ok(Json(PluginView { changed: Some(deployed.changed), deployment: Some(deployed.deployment), ..plugin }))
}

/// All plugins of the tenant.
pub async fn list(State(broker): State<Arc<Broker>>) -> Result<Json<Vec<PluginView>>, Problem> {
    let deployments = broker.deployments()?;
    let own = deployments.iter().filter(|deployment| deployment.tenant == TENANT);
    let brief =
        |deployment| view(&broker, deployment).map(|plugin| PluginView { state: Vec::new(), ..plugin });
    Ok(Json(own.map(brief).collect::<Result<_, _>>()?))
}

/// One plugin with its tasks.
pub async fn describe(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
) -> Result<Json<PluginView>, Problem> {
    let deployment = find(&broker, &name)?;
    let plugin = view(&broker, &deployment)?;
    Ok(Json(PluginView { deployment: Some(deployment), ..plugin }))
}

/// Which part of a state.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Page {
    /// Only keys that begin so, in hexadecimal.
    prefix: Option<String>,
    /// Only keys behind this one, in hexadecimal.
    after: Option<String>,
    /// At most so many.
    limit: Option<usize>,
}

/// A part of a task's state: keys and values in hexadecimal.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StatePage {
    rows: Vec<(String, String)>,
    /// The last key here, when there may be more behind it.
    next: Option<String>,
}

/// Rows of one page, at most.
const PAGE_ROWS_MAX: usize = 10_000;
/// Bytes of keys and values after which a page ends.
const PAGE_BYTES: usize = 4 << 20;

/// The state of a task, page by page, as its last committed step left it.
pub async fn state(
    State(broker): State<Arc<Broker>>,
    Path((name, partition)): Path<(String, u32)>,
    Query(page): Query<Page>,
) -> Result<Json<StatePage>, Problem> {
    let deployment = find(&broker, &name)?;
    if partition >= deployment.spec.tasks() {
        return Err(Problem::not_found(format!("{name} has no task {partition}")));
    }
    let task = TaskId { deployment: deployment.id, partition: Partition(partition) };
    let shard = &broker.shards[usize::from(deployment.spec.home_of(task.partition).0)];
    let of_task = Key::state_prefix(task);
    let behind_task = |key: &[u8]| [&of_task[..], key].concat();
    let prefix = behind_task(&bytes("prefix", page.prefix.as_deref())?.unwrap_or_default());
    let after = bytes("after", page.after.as_deref())?;
    let start = after.map_or_else(|| prefix.clone(), |after| behind_task(&[&after[..], &[0]].concat()));
    let limit = page.limit.unwrap_or(PAGE_ROWS_MAX).clamp(1, PAGE_ROWS_MAX);
    let (mut start, end) = (start.max(prefix.clone()), end_of_prefix(&prefix));
    let (mut rows, mut bytes, mut is_all) = (Vec::new(), 0, false);
    // A few at first: how large they are is not known.
    let mut most = 16;
    while rows.len() < limit && bytes < PAGE_BYTES && !is_all {
        let most_now = most.min(limit - rows.len());
        let found = shard.group.tables().scan(&start, end.as_deref(), most_now)?;
        is_all = found.len() < most_now;
        let before = bytes;
        for (key, value) in found {
            bytes += key.len() + value.len();
            rows.push((HEXLOWER.encode(&key[of_task.len()..]), HEXLOWER.encode(&value)));
            start = [&key[..], &[0]].concat();
        }
        most = if bytes - before < PAGE_BYTES / 64 { 1_024 } else { 16 };
    }
    let next = rows.last().filter(|_| !is_all).map(|(key, _)| key.clone());
    Ok(Json(StatePage { rows, next }))
}

/// What a field says in hexadecimal.
fn bytes(field: &str, digits: Option<&str>) -> Result<Option<Vec<u8>>, Problem> {
    let decoded = digits.map(|digits| HEXLOWER.decode(digits.as_bytes())).transpose();
    decoded.map_err(|_| Problem::field(field, "it is not hexadecimal, in small letters"))
}

pub(super) fn find(broker: &Broker, name: &str) -> Result<Deployment, Problem> {
    let found = catalog::deployment(&broker.catalog.view(), TENANT, name)?;
    found.ok_or_else(|| Problem::not_found(format!("there is no plugin {name}")))
}

pub(super) fn read_digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|why: &str| Problem::field("digest", why))
}
