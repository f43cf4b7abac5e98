//! How clients reach the brokers, on each transport.

use std::net::{Ipv6Addr, SocketAddr};

use parking_lot::RwLock;
use tidemill_core::ids::BrokerId;

/// Host and port of `host:port`, or of `[host]:port` where the host has colons itself.
pub fn split(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let host = match bare {
        Some(host) => host.parse::<Ipv6Addr>().is_ok().then_some(host)?,
        None => (!host.is_empty() && host.len() <= 255 && host.chars().all(legal)).then_some(host)?,
    };
    Some((host.to_owned(), port))
}

/// How a client reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Over QUIC, with an identity.
    Quic,
    /// Over plain TCP, on loopback.
    Tcp,
}

impl Transport {
    /// Its name, as in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Quic => "quic",
            Transport::Tcp => "tcp",
        }
    }
}

/// Addresses of this broker. Metadata answers with those of the transport on which it was asked.
#[derive(Debug)]
pub struct Addresses {
    /// The broker.
    pub broker: BrokerId,
    /// The cluster's id.
    pub cluster: String,
    advertised: RwLock<Advertised>,
}

#[derive(Debug, Default)]
struct Advertised {
    quic: Option<(String, u16)>,
    tcp: Option<(String, u16)>,
}

impl Addresses {
    /// None yet.
    pub fn new(broker: BrokerId, cluster: String) -> Addresses {
        Addresses { broker, cluster, advertised: RwLock::default() }
    }

    /// From now on clients of a transport are told this: what was configured, or where the broker listens.
    pub fn advertise(&self, transport: Transport, configured: Option<&str>, bound: SocketAddr) {
        let address = configured.and_then(split).unwrap_or_else(|| (bound.ip().to_string(), bound.port()));
        let mut advertised = self.advertised.write();
        match transport {
            Transport::Quic => advertised.quic = Some(address),
            Transport::Tcp => advertised.tcp = Some(address),
        }
    }

    /// Host and port for clients of a transport.
    pub fn of(&self, transport: Transport) -> (String, u16) {
        let advertised = self.advertised.read();
        let address = match transport {
            Transport::Quic => &advertised.quic,
            Transport::Tcp => &advertised.tcp,
        };
        address.clone().unwrap_or_default()
    }
}
