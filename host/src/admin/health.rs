//! Health and metrics, over plain HTTP: for probes and for Prometheus. Nothing here names a tenant's data.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use parking_lot::RwLock;
use tidemill_core::seams::World;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::broker::Broker;
use crate::metrics::Metrics;

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// A probe that takes longer is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the broker serves yet.
#[derive(Clone, Default)]
pub struct Readiness(Arc<RwLock<Option<Arc<Broker>>>>);

impl Readiness {
    /// From now on it serves; or, with none, no longer.
    pub fn set(&self, broker: Option<Arc<Broker>>) {
        *self.0.write() = broker;
    }

    /// The broker, while it serves.
    pub fn broker(&self) -> Option<Arc<Broker>> {
        self.0.read().clone()
    }
}

#[derive(Clone)]
struct Health {
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

/// Serves until `stop` says so.
pub fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    world: World,
    mut stop: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + 'static {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .with_state(Health { metrics, readiness });
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Ok((connection, _)) = accepted else { continue };
            let Ok(place) = room.clone().try_acquire_owned() else { continue };
            let (router, clock) = (router.clone(), world.clock.clone());
            let serving = async move {
                let service = TowerToHyperService::new(router);
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                tokio::select! {
                    _ = http.serve_connection(TokioIo::new(connection), service) => {}
                    () = clock.sleep(PATIENCE) => {}
                }
                drop(place);
            };
            world.spawner.task("probe", Box::pin(serving));
        }
    }
}

/// 200 once the broker serves and leads all its shards; else 503, and why.
///
/// A stalled task does not make it unready: it is named behind the word, and everything else is served. To take the
/// whole broker out of service for one plugin that does not get on would stop producers who have nothing to do with it.
async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let Some(broker) = health.readiness.broker() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n".to_owned());
    };
    let without: Vec<_> = broker.shards.iter().filter(|shard| shard.leader().is_none()).collect();
    if without.is_empty() {
        let stalled: String =
            broker.plugins.stalled().into_iter().map(|task| format!("degraded: {task}\n")).collect();
        let full = broker.reserve.check().err().map(|full| format!("degraded: {full}\n")).unwrap_or_default();
        (StatusCode::OK, format!("ready\n{full}{stalled}"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("no leader: {without:?}\n"))
    }
}

async fn scrape(State(health): State<Health>) -> impl IntoResponse {
    text(&health.metrics)
}

/// All metrics, over the admin API.
pub async fn metrics(State(broker): State<Arc<Broker>>) -> impl IntoResponse {
    text(&broker.metrics)
}

fn text(metrics: &Metrics) -> impl IntoResponse + use<> {
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], metrics.text())
}
