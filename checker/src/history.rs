//! What there is to check.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_core::ids::{LogIndex, ShardId, TaskId, Term};
use tidemill_protocol::primitive::{Malformed, Reader};

/// A cluster's logs and states.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The committed entries of each shard, from the first on.
    pub shards: BTreeMap<ShardId, Vec<Logged>>,
    /// What each task's state holds.
    pub states: BTreeMap<TaskId, BTreeMap<Bytes, Bytes>>,
}

/// A committed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its place.
    pub index: LogIndex,
    /// The term of the leader that decided it.
    pub term: Term,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Reads a page of a log, as the admin API sends it: `n × (index u64 · term u64 · entry blob)`.
///
/// # Errors
/// [`Malformed`] when it is none.
pub fn read_page(page: Bytes) -> Result<Vec<Logged>, Malformed> {
    let mut reader = Reader::new(page);
    let mut entries = Vec::new();
    while reader.remaining() > 0 {
        let index = LogIndex(reader.u64("index")?);
        let term = Term(reader.u64("term")?);
        entries.push(Logged { index, term, bytes: reader.blob("entry")? });
    }
    Ok(entries)
}
