//! What a caller of the log chooses, and what it is told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::fault::Fault;
use tidemill_core::limits;
use tidemill_core::seams::BoxFuture;

use super::entry::LogEntry;

/// Told of the first fault, once: the process must end.
pub type OnFault = Arc<dyn Fn(Fault) + Send + Sync>;

/// Called once what was appended is durable, or never will be; in the order of the appends. It runs on the writer's
/// thread, and must not block.
pub type Done = Box<dyn FnOnce(Result<(), Fault>) + Send>;

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Bytes after which a segment takes no more entries.
    pub segment_bytes: u64,
    /// Age after which a segment takes no more entries.
    pub segment_age: Duration,
    /// Bytes of durable and applied entries that stay in memory.
    pub tail_bytes: usize,
    /// Bytes that must have died in a segment before it is looked at for what can be given back where it lies.
    pub punch_bytes: u64,
    /// Zeros that are written ahead of small commits, in bytes: see `zeros.rs`.
    pub zeros_ahead: u64,
    /// Who counts turns.
    pub on_turn: OnTurn,
    /// Who works on entries before they are durable.
    pub ahead: Ahead,
    /// A mistake made on purpose, for a test that must find it.
    #[doc(hidden)]
    pub planted: Option<Planted>,
}

impl Default for LogOptions {
    fn default() -> Self {
        let (segment_bytes, segment_age) = (limits::SEGMENT_BYTES_DEFAULT, limits::SEGMENT_AGE_MAX);
        LogOptions {
            segment_bytes,
            segment_age,
            tail_bytes: limits::TAIL_BYTES_MAX,
            punch_bytes: limits::PUNCH_BYTES_MIN,
            zeros_ahead: limits::ZEROS_AHEAD_BYTES as u64,
            on_turn: OnTurn::default(),
            ahead: Ahead::default(),
            planted: None,
        }
    }
}

/// Is told of each turn that was committed: its bytes, and how long writing and syncing it took. It runs on the
/// writer's thread and must not block.
#[derive(Clone, Default)]
pub struct OnTurn(Option<Arc<dyn Fn(u64, Duration) + Send + Sync>>);

impl OnTurn {
    /// Tells this function.
    pub fn new(tell: impl Fn(u64, Duration) + Send + Sync + 'static) -> OnTurn {
        OnTurn(Some(Arc::new(tell)))
    }

    pub(super) fn tell(&self, bytes: u64, took: Duration) {
        if let OnTurn(Some(tell)) = self {
            tell(bytes, took);
        }
    }
}

impl fmt::Debug for OnTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "OnTurn(..)" } else { "OnTurn" })
    }
}

/// Is told of entries as soon as they can be read, and asked whether what it makes of them is worth waiting for.
pub trait RunsAhead: Send + Sync {
    /// These entries can be read now: they were appended, or will be next. It runs where the log is written to, and must
    /// not block.
    fn readable(&self, entries: &[LogEntry]);

    /// These entries were appended; they could be read before. As [`RunsAhead::readable`].
    fn appended(&self, entries: &[LogEntry]);

    /// Ready once nothing more is about to follow from what was appended so far; `None` when that is so already, or is not
    /// to be expected within this time.
    fn settled(&self, within: Duration) -> Option<BoxFuture<()>>;
}

/// Who runs ahead of the disk, if anybody does.
#[derive(Clone, Default)]
pub struct Ahead(Option<Arc<dyn RunsAhead>>);

impl Ahead {
    /// This one.
    pub fn new(runs: Arc<dyn RunsAhead>) -> Ahead {
        Ahead(Some(runs))
    }

    pub(super) fn readable(&self, entries: &[LogEntry]) {
        if let Ahead(Some(runs)) = self {
            runs.readable(entries);
        }
    }

    pub(super) fn appended(&self, entries: &[LogEntry]) {
        if let Ahead(Some(runs)) = self {
            runs.appended(entries);
        }
    }

    pub(super) fn settled(&self, within: Duration) -> Option<BoxFuture<()>> {
        self.0.as_ref()?.settled(within)
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Ahead(..)" } else { "Ahead" })
    }
}

/// Mistakes that tests make on purpose.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Appends are acknowledged before they are durable.
    EarlyAck,
}

/// Why batches cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This part of history is damaged, and not served; the rest is.
    #[error(transparent)]
    Damaged(Fault),
    /// The storage failed: the broker must stop.
    #[error(transparent)]
    Fault(Fault),
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> ReadError {
        match fault {
            Fault::Damaged { .. } => ReadError::Damaged(fault),
            Fault::Disk { .. } | Fault::Newer { .. } | Fault::Raft(_) => ReadError::Fault(fault),
        }
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Fault {
        match error {
            ReadError::Damaged(fault) | ReadError::Fault(fault) => fault,
        }
    }
}
