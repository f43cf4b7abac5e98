//! Dead letters of plugins.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use bytes::Bytes;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use tidemill_core::catalog::{self, Deployment};

use super::extract::{Json, Path};
use super::plugins::find;
use super::problem::Problem;
use crate::broker::Broker;
use crate::catalog::Unchanged;
use crate::letters::{Fate, Letter, Place, Redrives, Summary, Which};

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
    fate: Fate,
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
    let root = match letter.lineage.map(|line| line.root) {
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
        fate: letter.fate,
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

/// Every letter that is named lies there.
fn are_there(broker: &Broker, deployment: &Deployment, which: &Which) -> Result<(), Problem> {
    for place in which.letters.iter().flatten() {
        if broker.plugins.letter(deployment, *place)?.is_none() {
            let (name, Place { partition, offset }) = (&deployment.name, place);
            return Err(Problem::not_found(format!("{name} has no dead letter at {partition}/{offset}")));
        }
    }
    Ok(())
}

/// Discards letters, all that are open when nothing else is said.
pub async fn discard(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
    Json(which): Json<Which>,
) -> Result<Json<Discarded>, Problem> {
    let deployment = find(&broker, &name)?;
    are_there(&broker, &deployment, &which)?;
    let discarded = broker.plugins.discard_letters(&deployment, &which).await.map_err(Unchanged::from)?;
    Ok(Json(Discarded { discarded }))
}

/// Which letters are to be given to the plugin again.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Again {
    #[serde(default)]
    letters: Option<Vec<Place>>,
    #[serde(default)]
    reason: Option<String>,
    /// Only say which they would be.
    #[serde(default)]
    dry_run: bool,
}

/// Has letters given to the plugin again, all that are open when nothing else is said.
pub async fn redrive(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
    Json(Again { letters, reason, dry_run }): Json<Again>,
) -> Result<Json<Redrives>, Problem> {
    let (deployment, which) = (find(&broker, &name)?, Which { letters, reason });
    are_there(&broker, &deployment, &which)?;
    let redrives = broker.plugins.redrive_letters(&deployment, &which, dry_run).await;
    Ok(Json(redrives.map_err(Unchanged::from)?))
}

/// Letters whose fates are asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Asked {
    letters: Vec<Place>,
}

/// What became of a letter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FateView {
    #[serde(flatten)]
    at: Place,
    fate: Fate,
}

/// What became of letters.
pub async fn fates(
    State(broker): State<Arc<Broker>>,
    Path(name): Path<String>,
    Json(Asked { letters }): Json<Asked>,
) -> Result<Json<Vec<FateView>>, Problem> {
    let fates = broker.plugins.fates(&find(&broker, &name)?, &letters)?;
    Ok(Json(fates.into_iter().map(|(at, fate)| FateView { at, fate }).collect()))
}
