//! What lies on a replica's disk, and what replicas say to one another. The decoders are storage's own; so are these.

use bytes::Bytes;
use tidemill_storage::raft::standing::{Standing, decode_membership, encode_membership};
use tidemill_storage::{log, raft, state};

/// Chunks of the log.
pub fn chunks(bytes: &[u8]) {
    log::hostile::chunk(bytes);
}

/// Rows of an index, of a sealed segment or of the directory.
pub fn spans(bytes: &[u8]) {
    log::hostile::span(bytes);
}

/// What a segment says of itself.
pub fn segments(bytes: &[u8]) {
    log::hostile::segment(bytes);
}

/// Votes, purge marks, losses, the mark of the last turn; and how far a checkpoint is.
pub fn promises(bytes: &[u8]) {
    log::hostile::promise(bytes);
    state::hostile(bytes);
}

/// Raft's messages, parts of snapshots among them.
pub fn messages(bytes: &[u8]) {
    raft::message::hostile(bytes);
}

/// Who belongs to a group, and where its terms ended.
pub fn standings(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(standing) = Standing::decode(&bytes) {
        assert_eq!(Standing::decode(&standing.encode()), Ok(standing));
    }
    if let Ok(membership) = decode_membership(&bytes) {
        assert_eq!(decode_membership(&encode_membership(&membership)), Ok(membership));
    }
}
