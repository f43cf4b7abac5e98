//! QUIC's settings, and the socket under it.
//!
//! A broker uses the same numbers. They are for one long-lived connection on which many streams share what there is:
//! the windows bound what a peer may make us hold, and are large enough that a commit's time does not empty them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig};
use socket2::{Domain, Protocol, Socket, Type};

/// The name of Kafka's protocol over QUIC: length-prefixed frames on bidirectional streams, answered in order.
pub const ALPN: &[u8] = b"tidemill/1";
/// Bytes of one stream that may be on their way before they are read.
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// The same, over all streams of a connection. (quinn's default has no bound.)
pub const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Bytes of a connection that may be sent and not acknowledged by the peer's QUIC.
pub const SEND_WINDOW_BYTES: u64 = 16 << 20;
/// A connection on which nothing else happens says so this often.
pub const KEEP_ALIVE: Duration = Duration::from_millis(1_500);
/// A peer from which nothing came for so long is dead. (quinn's default is 30 s.)
pub const IDLE: Duration = Duration::from_secs(5);
/// What is taken for a round trip before one was measured. Who reaches for a broker that is just starting asks again
/// after three times that. (quinn's default of 333 ms would make it wait for seconds.)
pub const INITIAL_RTT: Duration = Duration::from_millis(100);
/// What a socket asks for. A system's default of some 200 KiB overflows on every burst, and each loss costs tens of
/// milliseconds.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// The settings of a client's connections. Packets keep to quinn's 1,452 bytes: more than about 6,500 would break
/// its segmented sends without a word.
pub fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        // Brokers open no streams.
        .max_concurrent_bidi_streams(0u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .send_window(SEND_WINDOW_BYTES)
        .initial_rtt(INITIAL_RTT)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE).expect("five seconds fit")));
    config
}

/// What the operating system gave a socket, as it counts it (Linux counts its own bookkeeping too, and says twice
/// what was asked for).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketBuffers {
    /// Bytes that may arrive before they are read.
    pub receive_bytes: usize,
    /// Bytes that may wait to be sent.
    pub send_bytes: usize,
}

/// A UDP socket with [`SOCKET_BUFFER_BYTES`] each way, or as much of it as the operating system gives.
///
/// # Errors
/// The operating system's, when there is no socket at that address.
pub fn bind(address: SocketAddr) -> io::Result<(UdpSocket, SocketBuffers)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // Smaller buffers cost speed, not correctness.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    let buffers =
        SocketBuffers { receive_bytes: socket.recv_buffer_size()?, send_bytes: socket.send_buffer_size()? };
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok((socket.into(), buffers))
}
