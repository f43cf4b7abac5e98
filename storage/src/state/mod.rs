//! The tables that apply keeps, and their checkpoints.
//!
//! ```text
//!   apply ──▶ dirty ──freeze──▶ frozen ──one commit──▶ state.redb      a reader looks through all three
//!             memory            memory, being written   durable
//! ```
//!
//! The tables are a function of the log, so they are made durable lazily: every so many bytes of log or seconds the
//! dirty layer is frozen and written by a thread of its own, with the id of the last entry it covers; apply goes on in
//! a new one and never waits for the disk. After a crash the log is applied again from the last checkpoint on. A purge
//! may pass only what a durable checkpoint covers, and a checkpoint only what is durable in the log
//! ([`StateStore::follow`]).

mod base;
mod checkpointer;
mod copy;
mod layers;
mod transfer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tidemill_core::fault::Fault;
use tidemill_core::limits;
use tidemill_core::seams::{Clock, Disk, World};
use tidemill_core::tables::{Tables, View};
use tokio::sync::{Notify, watch};

use crate::log::{GroupLog, LogId, OnFault};
use base::StateFile;
use layers::Layers;

#[doc(hidden)]
pub use base::hostile;
pub(crate) use copy::check;
pub use transfer::{Dump, Install};

/// When the state is checkpointed.
#[derive(Debug, Clone)]
pub struct StateOptions {
    /// Bytes of log applied after which it is.
    pub log_bytes: u64,
    /// Time after which a changed state is.
    pub age: Duration,
}

impl Default for StateOptions {
    fn default() -> Self {
        StateOptions { log_bytes: limits::CHECKPOINT_LOG_BYTES, age: limits::CHECKPOINT_AGE_MAX }
    }
}

/// How far a state has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The last entry that was applied to it.
    pub applied: Option<LogId>,
    /// What Raft wants kept with it: see `raft/standing.rs`.
    pub standing: Bytes,
}

/// The tables of one group. Cheap to clone; all clones are the same tables.
#[derive(Clone)]
pub struct StateStore {
    handle: Arc<Handle>,
}

/// Ends the checkpoint's thread when the last handle is dropped.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.progress.lock().is_closing = true;
        self.shared.work.notify_one();
    }
}

/// What the handles and the checkpoint's thread share. Locks are taken in the order of the fields.
struct Shared {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    folder: PathBuf,
    options: StateOptions,
    on_fault: OnFault,
    /// The file, and the right to write it. Never waited for by apply.
    file: Mutex<StateFile>,
    layers: RwLock<Layers>,
    progress: Mutex<Progress>,
    /// There may be work for the checkpoint's thread.
    work: Notify,
    /// A checkpoint became durable, or will not.
    room: Notify,
    closed: watch::Sender<Option<Result<(), Fault>>>,
}

/// How far the tables are, and their checkpoints.
struct Progress {
    /// As told last.
    noted: Checkpoint,
    /// Whether the tables have changed since: then they lie between two entries.
    is_between: bool,
    /// Bytes of log applied since the last freeze.
    log_bytes: u64,
    /// Since when something is not durable and not frozen.
    dirty_since: Option<Duration>,
    /// A freeze is wanted as soon as the tables do not lie between two entries.
    is_wanted: bool,
    /// What the frozen layer covers.
    frozen: Option<Checkpoint>,
    durable: Checkpoint,
    /// The log that must be durable before the state is.
    log: Option<GroupLog>,
    /// How often an install was begun.
    installs: u64,
    fault: Option<Fault>,
    is_closing: bool,
}

impl StateStore {
    /// Opens the tables in `folder`, or makes empty ones, and starts the checkpoint's thread.
    ///
    /// # Errors
    /// [`Fault::Disk`], [`Fault::Damaged`], [`Fault::Newer`].
    pub fn open(
        world: &World,
        folder: PathBuf,
        options: StateOptions,
        on_fault: OnFault,
    ) -> Result<(StateStore, Checkpoint), Fault> {
        let (file, base, checkpoint) = StateFile::open(&*world.disk, &folder)?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let progress = Progress {
            noted: checkpoint.clone(),
            is_between: false,
            log_bytes: 0,
            dirty_since: None,
            is_wanted: false,
            frozen: None,
            durable: checkpoint.clone(),
            log: None,
            installs: 0,
            fault: None,
            is_closing: false,
        };
        let shared = Arc::new(Shared {
            disk: world.disk.clone(),
            clock: world.clock.clone(),
            folder,
            options,
            on_fault,
            file: Mutex::new(file),
            layers: RwLock::new(Layers::over(base)),
            progress: Mutex::new(progress),
            work: Notify::new(),
            room: Notify::new(),
            closed: watch::Sender::new(None),
        });
        world.spawner.thread(format!("{name}-checkpoint"), Box::pin(checkpointer::run(shared.clone())));
        Ok((StateStore { handle: Arc::new(Handle { shared }) }, checkpoint))
    }

    /// From now on a checkpoint waits until `log` is durable as far as it reaches: a state that is ahead of its log
    /// after a crash would leave a hole in it.
    pub fn follow(&self, log: &GroupLog) {
        self.shared().progress.lock().log = Some(log.clone());
    }

    /// Changes the tables; readers see all that `change` does at once, or nothing of it. It must not use this store by
    /// another way.
    pub fn write<R>(&self, change: impl FnOnce(&mut dyn Tables) -> R) -> R {
        let mut layers = self.shared().layers.write();
        self.shared().progress.lock().is_between = true;
        change(&mut *layers)
    }

    /// Reads the tables as they are between two changes. `look` must not use this store by another way.
    pub fn read<R>(&self, look: impl FnOnce(&dyn View) -> R) -> R {
        look(&*self.shared().layers.read())
    }

    /// To be called after entries were applied, up to `applied` (`log_bytes` of them), before the next is: the tables
    /// lie between no two entries. When enough has gathered, what changed is handed to the checkpoint's thread. Never
    /// waits for the disk.
    pub fn checkpoint(&self, applied: LogId, standing: &Bytes, log_bytes: u64) {
        let shared = self.shared();
        let mut layers = shared.layers.write();
        let mut progress = shared.progress.lock();
        progress.noted = Checkpoint { applied: Some(applied), standing: standing.clone() };
        progress.is_between = false;
        progress.log_bytes += log_bytes;
        let is_first = progress.dirty_since.is_none();
        if is_first {
            progress.dirty_since = Some(shared.clock.monotonic());
        }
        if progress.is_wanted || progress.log_bytes >= shared.options.log_bytes {
            progress.is_wanted = !progress.freeze(&mut layers);
            shared.work.notify_one();
        } else if is_first {
            // It must not sleep longer than this may stay in memory.
            shared.work.notify_one();
        }
    }

    /// Waits while more has changed than memory should hold. Returns at once when the storage has failed.
    pub async fn wait_for_room(&self) {
        loop {
            let room = self.shared().room.notified();
            let has_room = {
                let progress = self.shared().progress.lock();
                let is_behind =
                    progress.frozen.is_some() && progress.log_bytes >= self.shared().options.log_bytes;
                !is_behind || progress.fault.is_some() || progress.is_closing
            };
            if has_room {
                return;
            }
            room.await;
        }
    }

    /// Makes durable what [`StateStore::checkpoint`] last told of, or more, and returns how far that is.
    ///
    /// # Errors
    /// The [`Fault`] that ended the store.
    pub async fn flush(&self) -> Result<Option<LogId>, Fault> {
        let wanted = self.shared().progress.lock().noted.applied;
        loop {
            let room = self.shared().room.notified();
            {
                let mut progress = self.shared().progress.lock();
                if let Some(fault) = &progress.fault {
                    return Err(fault.clone());
                }
                if progress.durable.applied >= wanted {
                    return Ok(progress.durable.applied);
                }
                progress.is_wanted |= progress.frozen.as_ref().is_none_or(|frozen| frozen.applied < wanted);
            }
            self.shared().work.notify_one();
            room.await;
        }
    }

    /// The last entry that a durable checkpoint covers: a purge may pass only this.
    pub fn durable_checkpoint(&self) -> Option<LogId> {
        self.shared().progress.lock().durable.applied
    }

    /// The last durable checkpoint, whole, for a snapshot. What it shows never changes while it is held.
    pub fn dump(&self) -> Dump {
        Dump::of(self.shared().layers.read().base())
    }

    /// Begins to take over another replica's checkpoint. Nothing changes until [`Install::finish`]. An install that
    /// was begun before can no longer be finished.
    ///
    /// # Errors
    /// [`Fault::Disk`].
    pub fn install(&self) -> Result<Install, Fault> {
        Install::begin(self.shared())
    }

    /// Makes everything durable and closes the file. Everything later is refused.
    ///
    /// # Errors
    /// The [`Fault`] that ended the store, or that closing met.
    pub async fn close(&self) -> Result<(), Fault> {
        let flushed = self.flush().await.map(drop);
        let mut closed = self.shared().closed.subscribe();
        self.shared().progress.lock().is_closing = true;
        self.shared().work.notify_one();
        let result = closed.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
        flushed.and(result.unwrap_or(Ok(())))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl Progress {
    /// Freezes what changed, if the tables lie between no two entries and the last frozen layer is written. Returns
    /// whether it did.
    fn freeze(&mut self, layers: &mut Layers) -> bool {
        if self.is_between || self.frozen.is_some() {
            return false;
        }
        layers.freeze();
        self.frozen = Some(self.noted.clone());
        (self.log_bytes, self.dirty_since) = (0, None);
        true
    }
}

impl View for StateStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.shared().layers.read().get(key)
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        self.shared().layers.read().scan(start, end, limit)
    }

    fn keys(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>, Fault> {
        self.shared().layers.read().keys(start, end, limit)
    }
}
