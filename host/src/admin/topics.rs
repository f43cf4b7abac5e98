//! Topics.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tidemill_core::catalog::{self, TopicRow, TopicSettings};
use tidemill_protocol::ids::{Partition, TopicPartition};

use super::TENANT;
use super::problem::Problem;
use crate::broker::Broker;
use crate::topics::{self, Wanted};

/// A topic that somebody wants.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NewTopic {
    name: String,
    #[serde(default = "one")]
    partitions: u32,
    affinity: Option<String>,
    #[serde(default)]
    settings: TopicSettings,
}

fn one() -> u32 {
    1
}

/// How something is to be done.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct How {
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// A topic, as the API shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TopicView {
    name: String,
    id: String,
    partitions: u32,
    affinity: String,
    settings: TopicSettings,
    /// Its partitions, where it is described.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    state: Vec<PartitionView>,
}

/// A partition, as the API shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct PartitionView {
    partition: u32,
    shard: u16,
    log_start_offset: u64,
    high_watermark: u64,
}

fn view(row: TopicRow) -> TopicView {
    TopicView {
        id: row.id.to_string(),
        name: row.name,
        partitions: row.partitions,
        affinity: row.group,
        settings: row.settings,
        state: Vec::new(),
    }
}

/// All topics of the tenant.
pub async fn list(State(broker): State<Arc<Broker>>) -> Result<Json<Vec<TopicView>>, Problem> {
    let mut rows = catalog::topics(&broker.catalog.view())?;
    rows.retain(|row| row.tenant == TENANT);
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Json(rows.into_iter().map(view).collect()))
}

/// One topic with its partitions.
pub async fn describe(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
) -> Result<Json<TopicView>, Problem> {
    let catalog = broker.catalog.view();
    let row = catalog::topic(&catalog, TENANT, &name)?;
    let row = row.ok_or_else(|| Problem::not_found(format!("there is no topic {name}")))?;
    let shards = catalog::shards_of(&catalog, &row)?;
    let id = row.id;
    let mut topic = view(row);
    for (partition, shard) in (0..).zip(shards) {
        let at = TopicPartition { topic: id, partition: Partition(partition) };
        let row = broker.shards[usize::from(shard.0)].partition(at)?.unwrap_or_default();
        topic.state.push(PartitionView {
            partition,
            shard: shard.0,
            log_start_offset: row.log_start.0,
            high_watermark: row.end.0,
        });
    }
    Ok(Json(topic))
}

/// Makes a topic.
pub async fn create(
    State(broker): State<Arc<Broker>>,
    Query(how): Query<How>,
    body: Result<Json<NewTopic>, JsonRejection>,
) -> Result<(StatusCode, Json<TopicView>), Problem> {
    let Json(new) = body?;
    let wanted = Wanted {
        tenant: TENANT.to_owned(),
        name: new.name,
        partitions: new.partitions,
        affinity: new.affinity,
        settings: new.settings,
    };
    if how.dry_run {
        let row = topics::check(&broker.catalog, &broker.world, &wanted)?;
        return Ok((StatusCode::OK, Json(view(row))));
    }
    let row = topics::create(&broker.catalog, &broker.shards, &broker.world, &wanted).await?;
    Ok((StatusCode::CREATED, Json(view(row))))
}
