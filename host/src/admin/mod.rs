//! The admin API: everything that Kafka's protocol has no message for, as JSON over HTTP/1.1 over TLS, with client
//! certificates.
//!
//! | path | file |
//! |---|---|
//! | `/v1/cluster` | here |
//! | `/v1/metrics` | [`health`], for who cannot reach its own listener |
//! | `/v1/topics` | [`topics`], [`trace`] |
//! | `/v1/components`, `/v1/plugins` | [`plugins`], [`lifecycle`], [`letters`], [`logs`] |
//! | `/v1/bundles` | [`bundles`] |
//! | `/v1/shards` | [`shards`] |
//! | `/v1/certificates` | [`certificates`] |
//! | `/v1/backups` | [`backups`] |
//! | `/v1/openapi.json` | [`openapi`]: all of these, documented in `docs/openapi.json` |
//! | `/v1/log-level` | [`log_level`] |
//! | `/healthz`, `/readyz`, `/metrics`, on a listener of their own | [`health`] |
//!
//! What goes wrong is told as a [`problem`] document; what a request brings is read by [`extract`], which names what is
//! wrong with it.

pub mod backups;
pub mod bundles;
pub mod certificates;
mod extract;
pub mod health;
pub mod letters;
pub mod lifecycle;
pub mod log_level;
pub mod logs;
pub mod openapi;
pub mod plugins;
pub mod problem;
pub mod shards;
pub mod topics;
pub mod trace;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, patch, post, put};
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tidemill_core::catalog::{self, DEFAULT_TENANT};
use tidemill_core::limits;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::backup::restore::Restored;
use crate::broker::Broker;
use crate::tls::{ALPN_ADMIN, Tls, TlsError};
#[doc(hidden)]
pub use extract::hostile;

use extract::Json;
use log_level::LogFilter;
use problem::Problem;

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;

/// The admin API of a broker.
pub struct Admin {
    broker: Arc<Broker>,
    tls: Arc<Tls>,
    log: Arc<dyn LogFilter>,
}

/// Until there are tenants, everybody is of the default one.
const TENANT: &str = DEFAULT_TENANT;

impl Admin {
    /// The API of an open broker.
    pub fn new(broker: Arc<Broker>, tls: Arc<Tls>, log: Arc<dyn LogFilter>) -> Admin {
        Admin { broker, tls, log }
    }

    /// Serves connections until `stop` says so.
    ///
    /// # Errors
    /// [`TlsError`] when the certificates do not do.
    pub fn serve(
        self,
        listener: TcpListener,
        mut stop: watch::Receiver<bool>,
    ) -> Result<impl Future<Output = ()> + Send + 'static, TlsError> {
        let acceptor = TlsAcceptor::from(Arc::new(self.tls.server(ALPN_ADMIN)?));
        let (spawner, clock) = (self.broker.world.spawner.clone(), self.broker.world.clock.clone());
        let router = router(self.broker).layer(Extension(self.log)).layer(Extension(self.tls));
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Ok(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stop.wait_for(|stop| *stop) => return,
                };
                let Ok((connection, _)) = accepted else { continue };
                let Ok(place) = room.clone().try_acquire_owned() else { continue };
                let (acceptor, router, clock) = (acceptor.clone(), router.clone(), clock.clone());
                let mut stop = stop.clone();
                let serving = async move {
                    // Who is silent before it has said who it is holds its place no longer than this.
                    let connection = tokio::select! {
                        accepted = acceptor.accept(connection) => accepted,
                        () = clock.sleep(limits::ADMIN_HEAD_WAIT_MAX) => return,
                    };
                    let Ok(connection) = connection else { return };
                    let service = TowerToHyperService::new(router);
                    let mut http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    http.http1().half_close(true).timer(TokioTimer::new());
                    http.http1().header_read_timeout(limits::ADMIN_HEAD_WAIT_MAX);
                    let serving = http.serve_connection(TokioIo::new(connection), service);
                    tokio::pin!(serving);
                    tokio::select! {
                        _ = serving.as_mut() => {}
                        () = async { drop(stop.wait_for(|stop| *stop).await) } => {
                            serving.as_mut().graceful_shutdown();
                            let _ = serving.await;
                        }
                    }
                    drop(place);
                };
                spawner.task("admin connection", Box::pin(serving));
            }
        })
    }
}

/// All paths.
fn router(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/v1/cluster", get(cluster))
        .route("/v1/backups", get(backups::newest).post(backups::begin))
        .route("/v1/certificates", get(certificates::list))
        .route("/v1/certificates/reload", post(certificates::reload))
        .route("/v1/topics", get(topics::list).post(topics::create))
        .route("/v1/topics/{name}", get(topics::describe).delete(topics::delete))
        .route("/v1/topics/{name}/settings", patch(topics::alter))
        .route("/v1/topics/{name}/trim", post(topics::trim))
        .route("/v1/topics/{name}/partitions/{partition}/records/{offset}/trace", get(trace::show))
        .route("/v1/components/{digest}", put(plugins::upload).get(plugins::download))
        .route("/v1/bundles/{digest}", put(bundles::upload).get(bundles::download))
        .route("/v1/log-level", get(log_level::show).put(log_level::change))
        .route("/v1/openapi.json", get(openapi::show))
        .route("/v1/metrics", get(health::metrics))
        .route("/v1/plugins", get(plugins::list).post(plugins::deploy))
        .route("/v1/plugins/check", post(plugins::check))
        .route("/v1/plugins/{name}", get(plugins::describe).delete(lifecycle::delete))
        .route("/v1/plugins/{name}/dlq", get(letters::list))
        .route("/v1/plugins/{name}/dlq/discard", post(letters::discard))
        .route("/v1/plugins/{name}/dlq/fates", post(letters::fates))
        .route("/v1/plugins/{name}/dlq/redrive", post(letters::redrive))
        .route("/v1/plugins/{name}/dlq/{partition}/{offset}", get(letters::show))
        .route("/v1/plugins/{name}/logs", get(logs::read))
        .route("/v1/plugins/{name}/pause", post(lifecycle::pause))
        .route("/v1/plugins/{name}/resume", post(lifecycle::resume))
        .route("/v1/plugins/{name}/rollback", post(lifecycle::rollback))
        .route("/v1/plugins/{name}/reset", post(lifecycle::reset))
        .route("/v1/plugins/{name}/tasks/{partition}/state", get(plugins::state))
        .route("/v1/shards", get(shards::list))
        .route("/v1/shards/{shard}/log", get(shards::log))
        .fallback(|| async { Problem::not_found("there is no such path") })
        .method_not_allowed_fallback(|| async { Problem::method() })
        .layer(DefaultBodyLimit::disable())
        .with_state(broker)
}

/// The cluster, as the API shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterView {
    id: String,
    version: &'static str,
    feature_level: u32,
    broker: u64,
    brokers: Vec<u64>,
    shards: u16,
    topics: usize,
    plugins: usize,
    /// Batches that crossed shards since this broker started.
    shipped_batches: u64,
    /// When the first of the broker's certificates ends.
    certificate_ends_at_ms: u64,
    /// What was found lost when this broker started, by group.
    losses: Vec<String>,
    /// The backup that the broker's data folder came from, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    restored: Option<Restored>,
}

async fn cluster(
    State(broker): State<Arc<Broker>>,
    Extension(tls): Extension<Arc<Tls>>,
) -> Result<Json<ClusterView>, Problem> {
    let view = broker.catalog.view();
    let cluster = catalog::cluster(&view)?.ok_or_else(|| Problem::not_found("the cluster is not formed"))?;
    let losses = broker.losses.iter().map(|loss| format!("{}: {:?}", loss.group, loss.recovery.amnesia));
    Ok(Json(ClusterView {
        id: cluster.id,
        version: env!("CARGO_PKG_VERSION"),
        feature_level: cluster.feature_level,
        broker: broker.identity.broker.0,
        brokers: cluster.brokers.iter().map(|broker| broker.0).collect(),
        shards: cluster.shards,
        topics: catalog::topics(&view)?.len(),
        plugins: catalog::deployments(&view)?.len(),
        shipped_batches: broker.metrics.shipped_batches(),
        certificate_ends_at_ms: tls.ends().iter().map(|end| end.at.0).min().unwrap_or(0),
        losses: losses.collect(),
        restored: broker.restored.clone(),
    }))
}
