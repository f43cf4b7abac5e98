//! Dead letters of plugins.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use bytes::Bytes;
use data_encoding::BASE64;
use serde::Serialize;
use tidemill_core::catalog;

use super::extract::{Json, Path};
use super::plugins::find;
use super::problem::Problem;
use crate::broker::Broker;
use crate::catalog::Unchanged;
use crate::letters::{self, Letter, Place, Summary, Which};

/// The dead letters of a plugin.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Letters {
    plugin: String,
    topic: String,
    #[serde(flatten)]
    summary: Summary,
}

/// How many there are, by reason.
pub async fn list(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
) -> Result<Json<Letters>, Problem> {
    let deployment = find(&broker, &name)?;
    let summary = broker.plugins.letters(&deployment)?;
    Ok(Json(Letters { plugin: name, topic: deployment.spec.dead_letter.name, summary }))
}

/// Text, or what it is instead in Base64.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Content {
    Text(String),
    Base64(String),
}

impl Content {
    fn of(bytes: &Bytes) -> Content {
        match std::str::from_utf8(bytes) {
            Ok(text) => Content::Text(text.to_owned()),
            Err(_) => Content::Base64(BASE64.encode(bytes)),
        }
    }
}

/// A place of a record, in names.
#[derive(Debug, Serialize)]
struct Named {
    topic: String,
    partition: u32,
    offset: u64,
}

/// One dead letter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LetterView {
    partition: u32,
    offset: u64,
    /// What became of it: `open` or `discarded`.
    fate: &'static str,
    append_time_ms: u64,
    timestamp_ms: i64,
    key: Option<Content>,
    value: Option<Content>,
    headers: Vec<(String, Option<Content>)>,
    /// Why and where: plugin, component, topic, partition, offset, attempts, reason.
    facts: BTreeMap<String, String>,
    /// The record that its chain began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<Named>,
}

/// One of them, whole.
pub async fn show(
    State(broker): State<Arc<Broker>>,
    Path((name, partition, offset)): Path<(String, u32, u64)>,
) -> Result<Json<LetterView>, Problem> {
    let deployment = find(&broker, &name)?;
    let found = broker.plugins.letter(&deployment, Place { partition, offset })?;
    let letter: Letter = found
        .ok_or_else(|| Problem::not_found(format!("{name} has no dead letter at {partition}/{offset}")))?;
    let content = |bytes: &Option<Bytes>| bytes.as_ref().map(Content::of);
    let root = match letter.root {
        None => None,
        Some(root) => catalog::topic_by_id(&broker.catalog.view(), root.at.topic)?.map(|topic| Named {
            topic: topic.name,
            partition: root.at.partition.0,
            offset: root.offset.0,
        }),
    };
    Ok(Json(LetterView {
        partition,
        offset,
        fate: letters::fate(letter.fate),
        append_time_ms: letter.append_time_ms,
        timestamp_ms: letter.timestamp_ms,
        key: content(&letter.key),
        value: content(&letter.value),
        headers: letter.headers.iter().map(|(name, value)| (name.clone(), content(value))).collect(),
        facts: letter.facts,
        root,
    }))
}

/// How many were discarded.
#[derive(Debug, Serialize)]
pub struct Discarded {
    discarded: u64,
}

/// Discards letters, all that are open when nothing else is said.
pub async fn discard(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
    Json(which): Json<Which>,
) -> Result<Json<Discarded>, Problem> {
    let deployment = find(&broker, &name)?;
    for place in which.letters.iter().flatten() {
        if broker.plugins.letter(&deployment, *place)?.is_none() {
            let Place { partition, offset } = place;
            return Err(Problem::not_found(format!("{name} has no dead letter at {partition}/{offset}")));
        }
    }
    let discarded = broker.plugins.discard_letters(&deployment, &which).await.map_err(Unchanged::from)?;
    Ok(Json(Discarded { discarded }))
}
