//! The transport of a broker that is alone.

use bytes::Bytes;
use tidemill_core::ids::BrokerId;
use tidemill_core::seams::{BoxFuture, Transport, Unreachable};

/// There is nobody: a cluster of one has no peers to reach.
#[derive(Debug)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn call(&self, to: BrokerId, _message: Bytes) -> BoxFuture<Result<Bytes, Unreachable>> {
        Box::pin(async move { Err(Unreachable(to)) })
    }
}
