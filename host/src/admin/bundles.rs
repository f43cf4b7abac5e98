//! Bundles: the files that are deployed with plugins.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;

use super::extract::{Archive, Path};
use super::plugins::read_digest;
use super::problem::Problem;
use crate::broker::Broker;
use crate::bundles::BundleError;
use crate::catalog::Unchanged;

/// Keeps a bundle.
pub async fn upload(
    State(broker): State<Arc<Broker>>,
    Path(digest): Path<String>,
    Archive(body): Archive,
) -> Result<StatusCode, Problem> {
    broker.reserve.check().map_err(Unchanged::from)?;
    broker.plugins.components.bundles.put(read_digest(&digest)?, &body)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A bundle's archive.
pub async fn download(
    State(broker): State<Arc<Broker>>,
    Path(digest): Path<String>,
) -> Result<Bytes, Problem> {
    let wanted = read_digest(&digest)?;
    let archive = broker.plugins.components.bundles.get(wanted).map_err(BundleError::from)?;
    archive.ok_or_else(|| Problem::not_found(format!("there is no bundle {digest}")))
}
