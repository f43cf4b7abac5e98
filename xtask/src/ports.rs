//! Ports for servers that stop and come back to the same place.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;

/// Below those that Linux and others give to whoever asks for any: a port from there may be someone else's by the
/// time its server is back.
const PORTS: Range<u16> = 10_000..32_000;

/// A port of 127.0.0.1 that is free for TCP and for UDP, and that nobody is given who asks for just any.
///
/// # Panics
/// When none is found.
pub fn lasting() -> u16 {
    let random = RandomState::new();
    let mut tries = (0..1_000_u32).map(|number| {
        let span = u64::from(PORTS.end - PORTS.start);
        PORTS.start + u16::try_from(random.hash_one(number) % span).expect("less than the span")
    });
    let is_free = |port: &u16| {
        let address = (Ipv4Addr::LOCALHOST, *port);
        UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
    };
    tries.find(is_free).expect("a free port")
}
