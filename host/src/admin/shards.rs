//! Shards: where they stand, and their logs as they are, for those who check.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use tidemill_core::catalog;
use tidemill_protocol::primitive::Writer;
use tidemill_storage::log::Payload;

use super::extract::{Json, Path, Query};
use super::problem::Problem;
use crate::broker::Broker;

/// A shard, as the API shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShardView {
    shard: u16,
    leads: bool,
    term: u64,
    first_index: Option<u64>,
    applied_index: Option<u64>,
    /// Partitions of topics that lie in it.
    partitions: usize,
    /// Whether its log holds all that was ever in it; false once the disk was given some of it back.
    whole: bool,
}

/// All shards.
pub async fn list(State(broker): State<Arc<Broker>>) -> Result<Json<Vec<ShardView>>, Problem> {
    let partitions = catalog::partitions_of_shards(&broker.catalog.view())?;
    let view = |shard: &Arc<crate::shards::Shard>| ShardView {
        shard: shard.id.0,
        leads: shard.leader().is_some(),
        term: shard.group.leadership().borrow().term.0,
        first_index: shard.group.log().first_index().map(|index| index.0),
        applied_index: shard.group.applied().map(|index| index.0),
        partitions: partitions.get(&shard.id).copied().unwrap_or_default(),
        whole: shard.group.log().is_whole(),
    };
    Ok(Json(broker.shards.iter().map(view).collect()))
}

/// Where to read a log.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct From {
    /// The first index.
    #[serde(default)]
    from: u64,
}

/// Bytes of one page of a log, about.
const PAGE_BYTES: usize = 4 << 20;

/// A page of a shard's committed entries: `n × (index u64 · term u64 · entry blob)`; entries that only Raft knows are
/// left out. The header `tidemill-next` says where the next page begins, `tidemill-end` where the log ended.
pub async fn log(
    State(broker): State<Arc<Broker>>,
    Path(shard): Path<u16>,
    Query(From { from }): Query<From>,
) -> Result<(HeaderMap, Bytes), Problem> {
    let found = broker.shards.get(usize::from(shard));
    let shard = found.ok_or_else(|| Problem::not_found(format!("there is no shard {shard}")))?;
    let end = shard.upto().0;
    let mut page = Writer::new();
    let mut next = from.min(end);
    for entry in shard.group.log().entries(next..end, PAGE_BYTES)? {
        next = entry.id.index.0 + 1;
        if let Payload::Entry(encoded) = &entry.payload {
            page.u64(entry.id.index.0).u64(entry.id.term.0).blob(encoded.bytes());
        }
    }
    let mut headers = HeaderMap::new();
    headers.insert("tidemill-next", next.into());
    headers.insert("tidemill-end", end.into());
    Ok((headers, page.finish()))
}
