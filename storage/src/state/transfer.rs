//! A checkpoint on its way from one replica to another: page by page out of a durable one, page by page into a file
//! that takes the place of the tables when it is whole.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::tables::View;

use super::base::{Base, StateFile};
use super::layers::Layers;
use super::{Checkpoint, Shared};

/// Rows that are looked at together.
const ROWS: usize = 256;

/// A durable checkpoint, to be read page by page.
pub struct Dump {
    base: Arc<Base>,
}

impl Dump {
    pub(super) fn of(base: Arc<Base>) -> Dump {
        Dump { base }
    }

    /// How far the tables were.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.base.checkpoint
    }

    /// Rows with keys above `after`, in order, about `max_bytes` of them, at least one if there is any.
    ///
    /// # Errors
    /// [`Fault::Disk`], or one that names a damaged row.
    pub fn page(&self, after: Option<&[u8]>, max_bytes: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        let mut page: Vec<(Bytes, Bytes)> = Vec::new();
        let mut bytes = 0;
        let mut start = after.map(successor).unwrap_or_default();
        loop {
            let rows = self.base.scan(&start, None, ROWS)?;
            let is_last = rows.len() < ROWS;
            for (key, value) in rows {
                bytes += key.len() + value.len();
                if bytes > max_bytes && !page.is_empty() {
                    return Ok(page);
                }
                start = successor(&key);
                page.push((key, value));
            }
            if is_last {
                return Ok(page);
            }
        }
    }
}

/// The least key above `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

/// A checkpoint that arrives page by page.
pub struct Install {
    shared: Arc<Shared>,
    number: u64,
    staged: StateFile,
}

impl Install {
    pub(super) fn begin(shared: &Arc<Shared>) -> Result<Install, Fault> {
        // Under the lock, because there is one place where files are staged.
        let _file = shared.file.lock();
        let number = {
            let mut progress = shared.progress.lock();
            progress.installs += 1;
            progress.installs
        };
        let staged = StateFile::stage(&*shared.disk, &shared.folder)?;
        Ok(Install { shared: shared.clone(), number, staged })
    }

    /// Takes some rows, in any order.
    ///
    /// # Errors
    /// [`Fault::Disk`].
    pub fn page(&mut self, rows: &[(Bytes, Bytes)]) -> Result<(), Fault> {
        self.staged.add(rows)
    }

    /// Puts what arrived in the place of the tables, durably and at once. Nothing may be applied meanwhile.
    ///
    /// # Errors
    /// [`Fault::Disk`]; [`Fault::Raft`] when another install was begun after this one.
    pub fn finish(self, checkpoint: Checkpoint) -> Result<(), Fault> {
        let Install { shared, number, staged } = self;
        let mut file = shared.file.lock();
        if shared.progress.lock().installs != number {
            return Err(Fault::Raft("another snapshot has begun to arrive since".to_owned()));
        }
        staged.write(&tidemill_core::tables::Changes::new(), &checkpoint)?;
        staged.show(&*shared.disk)?;
        let base = staged.base()?;
        let old = std::mem::replace(&mut *file, staged);
        *shared.layers.write() = Layers::over(base);
        {
            let mut progress = shared.progress.lock();
            (progress.noted, progress.durable) = (checkpoint.clone(), checkpoint);
            (progress.frozen, progress.dirty_since, progress.is_wanted) = (None, None, false);
            (progress.log_bytes, progress.is_between) = (0, false);
        }
        shared.room.notify_waiters();
        // Its name is gone already.
        old.close()
    }
}
