//! A broker process: a broker, its listeners, and its end.
//!
//! Health and metrics are served from the start, so that whoever waits can see why. On a signal to stop no more
//! requests are read, what is under way is answered, everything is made durable, and the process ends with status 0.
//! A fault ends it at once.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::fault::Fault;
use tidemill_core::seams::World;
use tidemill_storage::log::{LogOptions, OnFault};
use tokio::sync::{mpsc, watch};

use crate::addresses::Transport;
use crate::admin::Admin;
use crate::admin::health::{self, Readiness};
use crate::admin::log_level::LogFilter;
use crate::broker::{Broker, BrokerOptions, OpenError, Tools};
use crate::config::Config;
use crate::listener::quic::{Quic, QuicError};
use crate::listener::tcp::Tcp;
use crate::metrics::Metrics;
use crate::tls::{Tls, TlsError};

/// How long clients have to take their last answers when the broker stops.
const GRACE: Duration = Duration::from_secs(5);

/// Why a broker process ends otherwise than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The broker cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener.
    #[error("{what} ({address}): {error}")]
    Listen {
        /// Which setting.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// The QUIC listener.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// The storage failed; the process must end without touching its files again.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What a started broker tells: where it listens, and who may speak to it.
pub struct Started {
    /// The broker.
    pub broker: Arc<Broker>,
    /// Its certificates.
    pub tls: Arc<Tls>,
    /// Kafka's protocol over QUIC.
    pub quic: SocketAddr,
    /// Kafka's protocol over TCP.
    pub tcp: Option<SocketAddr>,
    /// The admin API.
    pub admin: SocketAddr,
    /// Health and metrics.
    pub metrics: SocketAddr,
}

/// Runs a broker until `stop` is ready. `log` is what the process logs; `started` is told once it serves.
///
/// # Errors
/// [`ServeError`]; after a fault nothing was tidied up, and the process must end.
pub async fn serve(
    config: Config,
    world: World,
    tools: Tools,
    log: Arc<dyn LogFilter>,
    started: impl FnOnce(Started),
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let metrics = Arc::new(Metrics::default());
    let readiness = Readiness::default();
    let (stopping, stopped) = watch::channel(false);
    let (faults, mut fault) = mpsc::channel(1);

    let listener = bind("listen.metrics", config.listen.metrics).await?;
    let metrics_at =
        listener.local_addr().map_err(|error| failed("listen.metrics", config.listen.metrics, error))?;
    let health = health::serve(listener, metrics.clone(), readiness.clone(), world.clone(), stopped.clone());
    world.spawner.task("health", Box::pin(health));

    let options = BrokerOptions {
        folder: config.data.clone(),
        shards: config.cluster.shards,
        retention_interval: config.storage.retention_interval,
        reserve_bytes: config.storage.reserve_bytes,
        log: LogOptions {
            segment_bytes: config.storage.segment_bytes,
            segment_age: config.storage.segment_age,
            ..LogOptions::default()
        },
    };
    // The first fault ends the process; more of them say nothing new.
    let on_fault: OnFault = Arc::new(move |fault| drop(faults.try_send(fault)));
    let broker = tokio::select! {
        broker = Broker::open(options, world.clone(), tools, metrics.clone(), on_fault) => broker?,
        Some(fault) = fault.recv() => return Err(fault.into()),
    };

    let names: Vec<String> = config
        .advertise
        .quic
        .iter()
        .filter_map(|at| at.rsplit_once(':').map(|(host, _)| host.to_owned()))
        .collect();
    let addresses = [config.listen.quic, config.listen.admin];
    let folder = config.data.join("tls");
    let tls = Arc::new(Tls::open(&world, &folder, &addresses, &names, config.tls.as_ref())?);
    let watching = tls.clone().watch(world.clone(), metrics, stopped.clone());
    world.spawner.task("certificates", Box::pin(watching));
    let quic = Quic::bind(config.listen.quic, &tls, &broker.identity.reset_key()?, world.clock.clone());
    let quic = quic.map_err(|error| match error {
        QuicError::Io(error) => failed("listen.quic", config.listen.quic, error),
        error => error.into(),
    })?;
    let quic_at = quic.address().map_err(|error| failed("listen.quic", config.listen.quic, error))?;
    broker.addresses.advertise(Transport::Quic, config.advertise.quic.as_deref(), quic_at);
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    let serving = quic.serve(broker.requests.clone(), world.spawner.clone(), stopped.clone(), open.clone());
    world.spawner.task("quic", Box::pin(serving));
    let mut tcp_at = None;
    if let Some(address) = config.listen.tcp {
        let tcp = Tcp::bind(address).await.map_err(|error| failed("listen.tcp", address, error))?;
        let at = tcp.address().map_err(|error| failed("listen.tcp", address, error))?;
        broker.addresses.advertise(Transport::Tcp, config.advertise.tcp.as_deref(), at);
        tcp_at = Some(at);
        let serving =
            tcp.serve(broker.requests.clone(), world.spawner.clone(), stopped.clone(), open.clone());
        world.spawner.task("tcp", Box::pin(serving));
    }
    drop(open);
    let listener = bind("listen.admin", config.listen.admin).await?;
    let admin_at =
        listener.local_addr().map_err(|error| failed("listen.admin", config.listen.admin, error))?;
    let api = Admin::new(broker.clone(), tls.clone(), log);
    world.spawner.task("admin", Box::pin(api.serve(listener, stopped)?));
    readiness.set(Some(broker.clone()));

    started(Started {
        broker: broker.clone(),
        tls,
        quic: quic_at,
        tcp: tcp_at,
        admin: admin_at,
        metrics: metrics_at,
    });
    tokio::select! {
        () = stop => {}
        Some(fault) = fault.recv() => return Err(fault.into()),
    }
    tracing::info!("stops: finishing what is under way");
    readiness.set(None);
    stopping.send_replace(true);
    tokio::select! {
        _ = all_closed.recv() => {}
        () = world.clock.sleep(GRACE) => tracing::warn!("some clients did not take their last answers"),
    }
    broker.shutdown().await?;
    Ok(())
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<tokio::net::TcpListener, ServeError> {
    tokio::net::TcpListener::bind(address).await.map_err(|error| failed(what, address, error))
}

fn failed(what: &'static str, address: SocketAddr, error: io::Error) -> ServeError {
    ServeError::Listen { what, address, error }
}
