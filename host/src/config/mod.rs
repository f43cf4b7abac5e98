//! The broker's configuration: one typed tree, read once and handed down.
//!
//! Three sources lie over the defaults: a file, the environment, flags. Every setting stands once in [`settings`],
//! which is its manual too. Unknown keys are refused, and all mistakes are told at once.

mod layers;
mod settings;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use layers::{ConfigError, Layers, Origin};
pub use settings::{SETTINGS, Setting, manual};

/// What a broker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The folder that makes the broker.
    pub data: PathBuf,
    /// Where it listens.
    pub listen: Listen,
    /// How clients reach it, where that is not where it listens.
    pub advertise: Advertise,
    /// What a new cluster is made with.
    pub cluster: Cluster,
    /// How it keeps its log.
    pub storage: Storage,
    /// How it runs plugins.
    pub plugins: Plugins,
    /// The certificate that it shows, where that is not its own.
    pub tls: Option<PairFiles>,
    /// How it writes its own log.
    pub log: Log,
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Kafka's protocol over QUIC.
    pub quic: SocketAddr,
    /// Kafka's protocol over plain TCP, if at all.
    pub tcp: Option<SocketAddr>,
    /// The admin API, over TLS.
    pub admin: SocketAddr,
    /// Health and metrics, over plain HTTP.
    pub metrics: SocketAddr,
}

/// How clients reach a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertise {
    /// `host:port` over QUIC.
    pub quic: Option<String>,
    /// `host:port` over TCP.
    pub tcp: Option<String>,
}

/// What a new cluster is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// How many shards.
    pub shards: u16,
}

/// How a broker keeps its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Free bytes of the disk under which producers are refused and tasks rest.
    pub reserve_bytes: u64,
    /// How often it is looked for records that have expired.
    pub retention_interval: Duration,
    /// Bytes after which a segment is sealed.
    pub segment_bytes: u64,
    /// Whether large writes go past the page cache.
    pub direct_writes: bool,
    /// Age after which a segment is sealed.
    pub segment_age: Duration,
}

/// How a broker runs plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugins {
    /// Threads that guests run on.
    pub threads: usize,
    /// Instances at once.
    pub instances: u32,
}

/// Where a certificate and its key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The certificate, or a chain of them, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// How a broker writes its own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// As lines of text or of JSON.
    pub format: LogFormat,
    /// What is written, as `tracing` filters it.
    pub filter: String,
}

/// A form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}
