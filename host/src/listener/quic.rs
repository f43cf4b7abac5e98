//! Kafka's protocol over QUIC. Each bidirectional stream carries frames as a connection over TCP would; a client
//! opens as many as it likes, so that one slow partition never holds up another.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use socket2::{Domain, Protocol, Socket, Type};
use tidemill_core::seams::{Clock, Spawner};
use tokio::sync::{mpsc, watch};

use super::stream::{self, Streams};
use crate::addresses::Transport;
use crate::requests::{Requests, Session};
use crate::tls::{ALPN_CLIENT, Tls, TlsError};

/// Connections at once.
const CONNECTIONS_MAX: u64 = 4_096;
/// Streams of one connection.
const STREAMS_MAX: u32 = 256;
/// Bytes of a stream that may be sent before they are read.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// The same over all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Bytes sent and not acknowledged, of a connection.
const SEND_WINDOW_BYTES: u64 = 16 << 20;
/// Of the socket, each way. The system's default overflows on a burst, and each overflow costs tens of milliseconds.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// A client that is silent for so long is gone; ours say something far more often.
const IDLE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// From the last answer to the closing of the connections, when the broker stops.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// The code with which a connection is closed when the broker stops.
const STOPPING: VarInt = VarInt::from_u32(8);

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The socket.
    #[error("listen.quic: {0}")]
    Io(#[from] io::Error),
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// They do not fit QUIC.
    #[error("TLS for QUIC: {0}")]
    Config(String),
}

/// A bound listener.
pub struct Quic {
    endpoint: Endpoint,
    clock: Arc<dyn Clock>,
}

impl Quic {
    /// Binds it.
    ///
    /// # Errors
    /// [`QuicError`] when the address is taken or the certificates do not do.
    pub fn bind(
        address: SocketAddr,
        tls: &Tls,
        reset_key: &[u8; 32],
        clock: Arc<dyn Clock>,
    ) -> Result<Quic, QuicError> {
        let crypto = tls.server(ALPN_CLIENT)?;
        let crypto =
            QuicServerConfig::try_from(crypto).map_err(|error| QuicError::Config(error.to_string()))?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(transport()));
        config.max_incoming(CONNECTIONS_MAX as usize);
        let endpoint =
            Endpoint::new(lasting(reset_key), Some(config), socket(address)?, Arc::new(TokioRuntime))?;
        Ok(Quic { endpoint, clock })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As the operating system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Serves connections until `stop` says so; then what is under way is answered and sent, and `open` let go.
    pub async fn serve(
        self,
        requests: Arc<Requests>,
        spawner: Arc<dyn Spawner>,
        mut stop: watch::Receiver<bool>,
        open: mpsc::Sender<()>,
    ) {
        let (mine, mut all_answered) = mpsc::channel(1);
        let streams = Streams { requests, spawner: spawner.clone(), stop: stop.clone(), open: mine };
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let Some(incoming) = incoming else { break };
            if self.endpoint.open_connections() as u64 >= CONNECTIONS_MAX {
                incoming.refuse();
                continue;
            }
            let streams = streams.clone();
            let connecting = async move {
                match incoming.await {
                    Ok(connection) => converse(connection, streams).await,
                    Err(error) => tracing::debug!(%error, "a connection was not made"),
                }
            };
            spawner.task("connection", Box::pin(connecting));
        }
        drop(streams);
        // Nothing is ever sent: this is ready when the last stream has sent its last answer.
        let _ = all_answered.recv().await;
        // What was handed over is not on its way yet: closing drops what is not acknowledged.
        self.clock.sleep(LAST_WORDS).await;
        self.endpoint.close(STOPPING, b"the broker stops");
        self.endpoint.wait_idle().await;
        drop(open);
    }
}

/// One connection: a task for each of its streams.
async fn converse(connection: Connection, streams: Streams) {
    let metrics = streams.requests.metrics.clone();
    metrics.connections("quic", 1);
    let session = Session::of(Transport::Quic);
    let mut stop = streams.stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept_bi() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok((send, receive)) = accepted else { break };
        let serving = stream::serve(streams.clone(), session.clone(), receive, send);
        streams.spawner.task("stream", Box::pin(serving));
    }
    metrics.connections("quic", -1);
    drop(streams);
    // The connection lives as long as somebody holds it.
    connection.closed().await;
}

/// With keys that outlive the process, its clients learn at once that it was started again: it knows the connection
/// ids that it gave out before, and can prove that it did.
fn lasting(reset_key: &[u8; 32]) -> EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, reset_key);
    let for_ids = hmac::sign(&key, b"connection ids");
    let for_ids = for_ids.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let mut config = EndpointConfig::new(Arc::new(key));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(for_ids)));
    config
}

fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(STREAMS_MAX.into())
        .max_concurrent_uni_streams(0u8.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .send_window(SEND_WINDOW_BYTES)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE).expect("ten seconds fit")));
    config
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The system may give less than it is asked for; that costs speed, not correctness.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    let given = socket.recv_buffer_size()?;
    if given < SOCKET_BUFFER_BYTES / 2 {
        tracing::warn!(
            bytes = given,
            "small socket buffers cost speed: raise net.core.rmem_max to 4 MiB or more"
        );
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
