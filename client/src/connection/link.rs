//! The way to one broker: a connection when one is needed, and a new one when it was lost.
//!
//! Whoever needs the broker while it cannot be reached is told so at once and waits by its own clock; attempts are
//! made one at a time, and no faster than the backoff allows, however many ask.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime};
use tidemill_protocol::error::Outcome;

use super::live::{Live, ended};
use crate::backoff::Backoff;
use crate::config::{Address, Config};
use crate::error::Error;
use crate::limits::ADDRESSES_MAX;
use crate::runtime::{self, Instant};
use crate::transport::{self, SocketBuffers};

/// The sockets of a client, one for each family of addresses that it needs.
pub(crate) struct Network {
    quic: ClientConfig,
    server_name: String,
    v4: Mutex<Option<(Endpoint, SocketBuffers)>>,
    v6: Mutex<Option<(Endpoint, SocketBuffers)>>,
}

impl Network {
    /// No sockets yet.
    ///
    /// # Errors
    /// When the certificates do not do.
    pub(crate) fn new(config: &Config) -> Result<Network, Error> {
        let mut quic = ClientConfig::new(Arc::new(config.tls.quic()?));
        quic.transport_config(Arc::new(transport::transport_config()));
        let server_name = config.tls.server_name.clone();
        Ok(Network { quic, server_name, v4: Mutex::default(), v6: Mutex::default() })
    }

    /// The buffers of the sockets in use.
    pub(crate) fn buffers(&self) -> Vec<SocketBuffers> {
        self.open().into_iter().map(|(_, buffers)| buffers).collect()
    }

    /// Closes all connections, and waits until their brokers have heard of it.
    pub(crate) async fn close(&self) {
        for (endpoint, _) in self.open() {
            endpoint.close(0u8.into(), b"the client stops");
            endpoint.wait_idle().await;
        }
    }

    fn open(&self) -> Vec<(Endpoint, SocketBuffers)> {
        let lock = |slot: &Mutex<Option<_>>| slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        [lock(&self.v4), lock(&self.v6)].into_iter().flatten().collect()
    }

    fn endpoint(&self, to: SocketAddr) -> Result<Endpoint, Error> {
        let (slot, any) = match to {
            SocketAddr::V4(_) => (&self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((endpoint, _)) = &*slot {
            return Ok(endpoint.clone());
        }
        let failed = |error: std::io::Error| Error::unsent(format!("no UDP socket: {error}"));
        let (socket, buffers) = transport::bind(any).map_err(failed)?;
        if buffers.receive_bytes < transport::SOCKET_BUFFER_BYTES / 2 {
            tracing::info!(
                ?buffers,
                "small socket buffers cost speed: raise net.core.rmem_max to 4 MiB or more"
            );
        }
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime));
        let endpoint = endpoint.map_err(failed)?;
        *slot = Some((endpoint.clone(), buffers));
        Ok(endpoint)
    }

    /// Connects to whichever of the name's addresses answers first: a name may stand for some where nobody listens,
    /// and over UDP nothing says so.
    async fn connect(&self, address: &Address) -> Result<quinn::Connection, Error> {
        let failed = |why: String| Error::unsent(format!("cannot connect to {address}: {why}"));
        let found = tokio::net::lookup_host((address.host.as_str(), address.port));
        let found = found.await.map_err(|error| failed(error.to_string()))?;
        let mut attempts: FuturesUnordered<_> =
            found.take(ADDRESSES_MAX).map(|to| self.connect_to(to)).collect();
        let mut told = None;
        while let Some(attempt) = attempts.next().await {
            match attempt {
                Ok(connection) => return Ok(connection),
                // Who answers, and refuses, says more than who does not answer.
                Err(error) if told.as_ref().is_none_or(|told: &Error| told.retriable) => told = Some(error),
                Err(_) => {}
            }
        }
        let told = told.unwrap_or_else(|| Error::unsent("the name has no address"));
        Err(Error { retriable: told.retriable, ..failed(told.message) })
    }

    async fn connect_to(&self, to: SocketAddr) -> Result<quinn::Connection, Error> {
        let connecting = self.endpoint(to)?.connect_with(self.quic.clone(), to, &self.server_name);
        let connecting = connecting.map_err(|error| Error::impossible(error.to_string()))?;
        connecting.await.map_err(|error| ended(&error))
    }
}

/// The way to one broker.
pub(crate) struct Link {
    pub(crate) address: Address,
    state: tokio::sync::Mutex<State>,
    /// The same as in the state, for those who do not want to wait.
    current: Mutex<Option<Arc<Live>>>,
}

struct State {
    backoff: Backoff,
    /// Until when no attempt is made, and why the last one failed.
    failed: Option<(Instant, Error)>,
}

impl Link {
    pub(crate) fn new(address: Address) -> Link {
        let state = State { backoff: Backoff::new(), failed: None };
        Link { address, state: state.into(), current: Mutex::default() }
    }

    /// The connection that is there, if any.
    pub(crate) fn current(&self) -> Option<Arc<Live>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|live| live.is_open()).cloned()
    }

    /// The connection that is there, or a new one.
    ///
    /// # Errors
    /// When the broker cannot be reached just now.
    pub(crate) async fn live(&self, network: &Network, config: &Config) -> Result<Arc<Live>, Error> {
        if let Some(live) = self.current() {
            return Ok(live);
        }
        let mut state = self.state.lock().await;
        if let Some(live) = self.current() {
            return Ok(live);
        }
        if let Some((until, error)) = &state.failed
            && runtime::now() < *until
        {
            return Err(error.clone());
        }
        let attempt = async {
            let connection = network.connect(&self.address).await?;
            Live::greet(connection, config.client_id.as_str().into(), config.request_timeout).await
        };
        let attempt = runtime::within(config.connect_timeout, attempt).await.unwrap_or_else(|| {
            let (address, limit) = (&self.address, config.connect_timeout);
            Err(Error::unsent(format!("cannot connect to {address}: no answer within {limit:?}")))
        });
        match attempt {
            Ok(live) => {
                tracing::debug!(broker = %self.address, "connected");
                let live = Arc::new(live);
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(live.clone());
                state.failed = None;
                state.backoff.reset();
                Ok(live)
            }
            Err(error) => {
                // Nothing but a greeting was sent, if anything.
                let error = error.with_outcome(Outcome::NotApplied);
                tracing::debug!(broker = %self.address, %error, "not connected");
                state.failed = Some((runtime::now() + state.backoff.next(), error.clone()));
                Err(error)
            }
        }
    }
}
