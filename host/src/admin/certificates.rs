//! The broker's certificates: when they end, and taking them anew from their files.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use serde::Serialize;

use super::extract::Json;
use super::problem::Problem;
use crate::broker::Broker;
use crate::tls::{Looked, Tls};

/// The certificates, as the API shows them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CertificatesView {
    certificates: Vec<CertificateView>,
    /// Why the pair that lies in the broker's files is not the one that is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    /// Whether this call changed what is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct CertificateView {
    /// `authority` or `broker`.
    name: &'static str,
    ends_at_ms: u64,
    /// Whether it ends within 30 days.
    ends_soon: bool,
}

fn view(broker: &Broker, tls: &Tls, changed: Option<bool>) -> CertificatesView {
    let now = broker.world.clock.now();
    let certificate = |end: crate::tls::End| CertificateView {
        name: end.name,
        ends_at_ms: end.at.0,
        ends_soon: end.is_soon(now),
    };
    let certificates = tls.ends().into_iter().map(certificate).collect();
    CertificatesView { certificates, trouble: tls.trouble(), changed }
}

/// All of them.
pub async fn list(
    State(broker): State<Arc<Broker>>,
    Extension(tls): Extension<Arc<Tls>>,
) -> Json<CertificatesView> {
    Json(view(&broker, &tls, None))
}

/// Takes the broker's pair anew from its files. One that cannot be shown is refused, and the old one stays.
pub async fn reload(
    State(broker): State<Arc<Broker>>,
    Extension(tls): Extension<Arc<Tls>>,
) -> Result<Json<CertificatesView>, Problem> {
    let looked = tls.reload(&broker.world).map_err(|error| {
        let why = error.to_string();
        Problem::unprocessable("Certificate refused", why.clone()).with("certificate", why)
    })?;
    for end in tls.ends() {
        broker.metrics.certificate_ends(end.name, end.at);
    }
    Ok(Json(view(&broker, &tls, Some(looked != Looked::Unchanged))))
}
