//! What the handles of a log, its writer and its sealer share.
//!
//! One lock guards all that is in memory; it is never held while the disk is asked for anything. Files are written by
//! the writer and by the sealer alone, but for those that are out of sight yet, and what is gone (`reclaim.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, MutexGuard, RwLock};
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::seams::{Clock, Disk};
use tokio::sync::{Notify, watch};

use super::cache::ChunkCache;
use super::chunk;
use super::directory::Directory;
use super::entry::{LogEntry, LogId};
use super::gone::{GoneFile, GoneOf};
use super::line::Line;
use super::promises::Promises;
use super::sealed::SealedFiles;
use super::work::Work;
use super::{LogOptions, OnFault};

/// The shared part of a log.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) folder: PathBuf,
    pub(super) options: LogOptions,
    pub(super) on_fault: OnFault,
    pub(super) directory: Directory,
    /// What of sealed segments is gone. Whoever reads a sealed chunk or its segment's index holds it meanwhile.
    pub(super) gone: RwLock<GoneOf>,
    pub(super) gone_file: Mutex<GoneFile>,
    /// The file system gives back no parts of files.
    pub(super) cannot_punch: AtomicBool,
    /// What was dead in segments when they were looked at in vain.
    pub(super) in_vain: Mutex<BTreeMap<u64, u64>>,
    pub(super) sealed: SealedFiles,
    pub(super) chunks: ChunkCache,
    memory: Mutex<Memory>,
    /// There is work for the writer.
    pub(super) work: Notify,
    /// There may be a segment to seal.
    pub(super) sealing: Notify,
    /// Something became durable.
    pub(super) room: Notify,
    /// How the log was closed, once it is.
    pub(super) closed: watch::Sender<Option<Result<(), Fault>>>,
    /// Held by who gives segments back.
    pub(super) reclaiming: tokio::sync::Mutex<()>,
    /// Whether the sealer has ended.
    pub(super) sealer_ended: watch::Sender<bool>,
}

/// What is in memory.
pub(super) struct Memory {
    /// The log.
    pub(super) line: Line,
    /// The records of a snapshot that is being installed.
    pub(super) incoming: Option<Line>,
    /// What is durably remembered.
    pub(super) promises: Promises,
    /// The highest entry known to be committed.
    pub(super) committed: Option<LogId>,
    /// The first entry that is not durable.
    pub(super) next_durable: LogIndex,
    /// The first entry that is not applied, once that is told.
    pub(super) next_applied: Option<LogIndex>,
    /// Where truncations that are queued cut: what an earlier turn writes above is not durable.
    pub(super) cuts: VecDeque<LogIndex>,
    /// Bytes appended and not durable.
    pub(super) unsynced_bytes: usize,
    /// The number of the next segment.
    pub(super) next_segment: u64,
    pub(super) queue: VecDeque<Work>,
    pub(super) fault: Option<Fault>,
    /// No new work is taken.
    pub(super) is_closing: bool,
}

impl Shared {
    pub(super) fn new(
        (disk, clock): (Arc<dyn Disk>, Arc<dyn Clock>),
        folder: PathBuf,
        (options, on_fault): (LogOptions, OnFault),
        (directory, gone_file, gone): (Directory, GoneFile, GoneOf),
        memory: Memory,
    ) -> Shared {
        Shared {
            sealed: SealedFiles::new(disk.clone(), folder.clone()),
            disk,
            clock,
            folder,
            options,
            on_fault,
            directory,
            gone: RwLock::new(gone),
            gone_file: Mutex::new(gone_file),
            cannot_punch: AtomicBool::new(false),
            in_vain: Mutex::default(),
            chunks: ChunkCache::default(),
            memory: Mutex::new(memory),
            work: Notify::new(),
            sealing: Notify::new(),
            room: Notify::new(),
            closed: watch::Sender::new(None),
            reclaiming: tokio::sync::Mutex::default(),
            sealer_ended: watch::Sender::new(false),
        }
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock()
    }

    /// Queues work, or refuses it.
    pub(super) fn queue(&self, memory: MutexGuard<'_, Memory>, work: Work) {
        let mut memory = memory;
        match memory.refusal() {
            None => {
                memory.queue.push_back(work);
                drop(memory);
                self.work.notify_one();
            }
            Some(fault) => {
                drop(memory);
                work.into_replies().into_iter().for_each(|done| done(Err(fault.clone())));
            }
        }
    }

    /// Ends the log: nothing more is written, and all who wait are told why. Only the first fault counts.
    pub(super) fn fail(&self, fault: &Fault) {
        let mut memory = self.memory();
        if memory.fault.is_some() {
            return;
        }
        memory.fault = Some(fault.clone());
        let queue = std::mem::take(&mut memory.queue);
        drop(memory);
        (self.on_fault)(fault.clone());
        queue.into_iter().flat_map(Work::into_replies).for_each(|done| done(Err(fault.clone())));
        self.room.notify_waiters();
        self.work.notify_one();
        self.sealing.notify_one();
    }
}

impl Memory {
    /// Why no work is taken, if none is.
    pub(super) fn refusal(&self) -> Option<Fault> {
        let closed = self.is_closing.then(|| Fault::disk("the log", "it is closed"));
        self.fault.clone().or(closed)
    }

    /// The line of this number.
    pub(super) fn line_mut(&mut self, number: u32) -> Option<&mut Line> {
        if self.line.number == number {
            return Some(&mut self.line);
        }
        self.incoming.as_mut().filter(|line| line.number == number)
    }

    /// A number for a new segment.
    pub(super) fn number_segment(&mut self) -> u64 {
        self.next_segment += 1;
        self.next_segment - 1
    }

    /// Entries of `line` were synced.
    pub(super) fn synced(&mut self, line: u32, entries: &[LogEntry]) {
        let Some(last) = entries.last().filter(|_| self.line.number == line) else { return };
        let bytes: usize = entries.iter().map(chunk::bytes_of).sum();
        self.unsynced_bytes = self.unsynced_bytes.saturating_sub(bytes);
        let cut = self.cuts.iter().min().copied().unwrap_or(LogIndex(u64::MAX));
        self.next_durable = LogIndex(last.id.index.0 + 1).min(cut);
        self.trim();
    }

    /// Lets go of the oldest entries in memory; but not of those that are about to be written, or applied.
    pub(super) fn trim(&mut self) {
        let kept = self.next_applied.map_or(self.next_durable, |applied| applied.min(self.next_durable));
        self.line.tail.trim(kept);
    }
}
