//! What a log holds: entries, each under the id that Raft gave it.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::entry::{Entry, EntryKind};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, LogIndex, Term};

/// The name of an entry: who led when it was appended, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The term of the leader that appended it.
    pub term: Term,
    /// Its place in the log, from 0.
    pub index: LogIndex,
}

/// What a replica has promised: its vote, to be durable before it says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// The term voted in.
    pub term: Term,
    /// For whom.
    pub node: Option<BrokerId>,
    /// Whether that broker is known to have won.
    pub committed: bool,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its name.
    pub id: LogId,
    /// What it says.
    pub payload: Payload,
}

impl LogEntry {
    /// Whether it follows from others: nobody outside waits to be told of it.
    pub fn is_derived(&self) -> bool {
        let Payload::Entry(entry) = &self.payload else { return false };
        matches!(entry.kind, EntryKind::Step | EntryKind::Arrival | EntryKind::Shipped)
    }
}

/// What an entry of the log says. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a leader's first word.
    Blank,
    /// An entry of the group.
    Entry(EncodedEntry),
    /// Who belongs to the group, as the upper half writes it.
    Membership(Bytes),
}

static NOTHING: Bytes = Bytes::new();

impl Payload {
    /// The bytes that are stored.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Payload::Blank => &NOTHING,
            Payload::Entry(entry) => entry.bytes(),
            Payload::Membership(bytes) => bytes,
        }
    }
}

/// An entry beside its bytes, so that it is encoded once and parsed once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EncodedEntry {
    entry: Arc<Entry>,
    bytes: Bytes,
}

impl EncodedEntry {
    /// Encodes an entry.
    pub fn new(entry: Entry) -> EncodedEntry {
        let bytes = entry.encode();
        EncodedEntry { entry: Arc::new(entry), bytes }
    }

    /// Reads an entry; it shares the memory of `bytes`.
    ///
    /// # Errors
    /// As [`Entry::parse`].
    pub fn parse(bytes: Bytes) -> Result<EncodedEntry, Fault> {
        Ok(EncodedEntry { entry: Arc::new(Entry::parse(&bytes)?), bytes })
    }

    /// The entry's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The entry, shared.
    pub fn shared(&self) -> Arc<Entry> {
        self.entry.clone()
    }
}

impl Deref for EncodedEntry {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl PartialEq for EncodedEntry {
    fn eq(&self, other: &EncodedEntry) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for EncodedEntry {}
