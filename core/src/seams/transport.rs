//! The other brokers, from outside.

use bytes::Bytes;

use super::BoxFuture;
use crate::ids::BrokerId;

/// The peer did not answer. Whether it got the message is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("broker {0} cannot be reached")]
pub struct Unreachable(pub BrokerId);

/// Carries a message to a peer and its answer back. Messages may be lost, doubled, delayed and reordered.
pub trait Transport: Send + Sync {
    /// Sends one message and waits for the answer; gives up by itself after some time.
    fn call(&self, to: BrokerId, message: Bytes) -> BoxFuture<Result<Bytes, Unreachable>>;
}

/// What answers a peer's messages.
pub trait PeerService: Send + Sync {
    /// The answer to `message` from broker `from`.
    fn answer(&self, from: BrokerId, message: Bytes) -> BoxFuture<Bytes>;
}
