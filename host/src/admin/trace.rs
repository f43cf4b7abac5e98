//! Where records come from, and what became of them.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use tidemill_core::{catalog, limits};
use tidemill_protocol::ids::{Offset, Partition, Position, TopicPartition};

use super::TENANT;
use super::extract::{Json, Path, Query};
use super::problem::Problem;
use crate::broker::Broker;
use crate::trace::{self, Bounds, Trace};

/// How much of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Asked {
    /// At most so many records.
    #[serde(default = "records_default")]
    records: usize,
    /// At most so many generations up, and down.
    #[serde(default = "depth_default")]
    depth: u32,
}

fn records_default() -> usize {
    limits::TRACE_RECORDS_DEFAULT
}

fn depth_default() -> u32 {
    limits::TRACE_DEPTH_DEFAULT
}

/// A record's ancestors and descendants.
pub async fn show(
    State(broker): State<Arc<Broker>>,
    Path((name, partition, offset)): Path<(String, u32, u64)>,
    Query(Asked { records, depth }): Query<Asked>,
) -> Result<Json<Trace>, Problem> {
    let max = limits::TRACE_RECORDS_MAX;
    if !(1..=max).contains(&records) {
        let why = format!("from 1 to {max}");
        return Err(Problem::invalid(format!("records: {why}")).with("records", why));
    }
    if depth > limits::HOPS_MAX {
        let why = format!("at most {}", limits::HOPS_MAX);
        return Err(Problem::invalid(format!("depth: {why}")).with("depth", why));
    }
    let view = broker.catalog.view();
    let topic = catalog::topic(&view, TENANT, &name)?;
    let topic = topic.ok_or_else(|| Problem::not_found(format!("there is no topic {name}")))?;
    if partition >= topic.partitions {
        return Err(Problem::not_found(format!("{name} has no partition {partition}")));
    }
    let at = TopicPartition { topic: topic.id, partition: Partition(partition) };
    let asked = Position { at, offset: Offset(offset) };
    let found = trace::trace(&view, &broker.shards, asked, Bounds { records, depth }).await?;
    let missing = || Problem::not_found(format!("there is no record {name}/{partition}/{offset} yet"));
    Ok(Json(found.ok_or_else(missing)?))
}
