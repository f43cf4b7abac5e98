//! Topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tidemill_core::catalog::settings::Shown;
use tidemill_core::catalog::{self, TopicRow, TopicSettings};
use tidemill_core::shard::trim::Trim;
use tidemill_protocol::ids::{Partition, TopicPartition};

use super::TENANT;
use super::extract::{Json, Path, Query};
use super::problem::Problem;
use crate::broker::Broker;
use crate::catalog::Unchanged;
use crate::offsets::{self, Moment};
use crate::topics::{self, TopicRequest};

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
    /// What somebody set.
    settings: TopicSettings,
    /// All settings, by their Kafka's names.
    configs: Vec<Shown>,
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
        configs: row.settings.shown(),
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
    Json(new): Json<NewTopic>,
) -> Result<(StatusCode, Json<TopicView>), Problem> {
    let wanted = TopicRequest {
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
    broker.reserve.check().map_err(Unchanged::from)?;
    let row = topics::create(&broker.catalog, &broker.shards, &broker.world, &wanted).await?;
    Ok((StatusCode::CREATED, Json(view(row))))
}

/// Sets settings by their Kafka's names, or with null unsets them.
pub async fn alter(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
    Query(how): Query<How>,
    Json(changes): Json<BTreeMap<String, Option<String>>>,
) -> Result<Json<TopicView>, Problem> {
    let changes: Vec<_> = changes.into_iter().collect();
    let of = (TENANT, name.as_str());
    let row = topics::alter(&broker.catalog, &broker.shards, of, &changes, how.dry_run).await?;
    Ok(Json(view(row)))
}

/// Deletes a topic.
pub async fn delete(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
) -> Result<Json<TopicView>, Problem> {
    let row = topics::delete(&broker.catalog, &broker.shards, TENANT, &name).await?;
    Ok(Json(view(row)))
}

/// Where a partition is to start.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TrimTo {
    partition: u32,
    /// The first offset that stays.
    before_offset: Option<u64>,
    /// The first record of this time or later, by the records' own timestamps, is the first that stays; if there is
    /// none, none stays. In milliseconds since 1970.
    before_time_ms: Option<i64>,
}

/// Where a partition starts now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trimmed {
    partition: u32,
    log_start_offset: u64,
    high_watermark: u64,
}

/// Moves the log start of a partition up.
pub async fn trim(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
    Json(wanted): Json<TrimTo>,
) -> Result<Json<Trimmed>, Problem> {
    let found = broker.catalog.topics().find(&broker.catalog.view(), TENANT, &name)?;
    let found = found.ok_or_else(|| Problem::not_found(format!("there is no topic {name}")))?;
    let missing = || Problem::not_found(format!("topic {name} has no partition {}", wanted.partition));
    let number = i32::try_from(wanted.partition).map_err(|_| missing())?;
    let (at, shard) = found.partition(number).ok_or_else(missing)?;
    let shard = &broker.shards[usize::from(shard.0)];
    let row = shard.partition(at)?.ok_or_else(missing)?;
    let before = match (wanted.before_offset, wanted.before_time_ms) {
        (Some(offset), None) => offset,
        (None, Some(time)) => {
            let found = offsets::find(shard, at, Moment::Time(time)).await?;
            found.map_or(row.end, |found| found.offset).0
        }
        _ => return Err(Problem::field("before-offset", "say either it or before-time-ms")),
    };
    let trim = Trim { topic: at.topic, partition: at.partition.0, before };
    let verdicts = shard.trim(&[trim]).await.map_err(Unchanged::Refused)?;
    let start = verdicts.into_iter().next().ok_or_else(missing)?.map_err(Unchanged::Rejected)?;
    tracing::info!(topic = name, partition = wanted.partition, log_start = start.0, "trimmed");
    let high_watermark = shard.partition(at)?.map_or(row.end, |row| row.end).0;
    Ok(Json(Trimmed { partition: wanted.partition, log_start_offset: start.0, high_watermark }))
}
