//! The checkpoint's thread: writes what was frozen, and freezes what has been dirty for long enough.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use tidemill_core::fault::Fault;

use super::{Checkpoint, Shared};

/// Works until the store is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        if shared.progress.lock().fault.is_some() {
            break;
        }
        freeze_if_due(&shared);
        let (frozen, log) = {
            let progress = shared.progress.lock();
            (progress.frozen.clone(), progress.log.clone())
        };
        if let Some(checkpoint) = frozen {
            if let (Some(log), Some(applied)) = (log, checkpoint.applied) {
                log.wait_durable(applied.index).await;
            }
            if let Err(fault) = write(&shared, checkpoint) {
                shared.fail(&fault);
            }
            continue;
        }
        if shared.progress.lock().is_closing {
            break;
        }
        match time_left(&shared) {
            Some(left) => {
                let work = pin!(shared.work.notified());
                select(work, shared.clock.sleep(left)).await;
            }
            None => shared.work.notified().await,
        }
    }
    let fault = shared.progress.lock().fault.clone();
    let result = fault.map_or_else(|| shared.file.lock().close(), Err);
    shared.closed.send_replace(Some(result));
}

/// Freezes what a flush waits for, or what has been dirty for too long. If the tables lie between two entries just
/// now, the next `checkpoint` does it.
fn freeze_if_due(shared: &Shared) {
    let mut layers = shared.layers.write();
    let mut progress = shared.progress.lock();
    let is_old = progress
        .dirty_since
        .is_some_and(|since| shared.clock.monotonic().saturating_sub(since) >= shared.options.age);
    if progress.is_wanted || is_old {
        progress.is_wanted = !progress.freeze(&mut layers);
    }
}

/// How long what is dirty may stay so.
fn time_left(shared: &Shared) -> Option<Duration> {
    let progress = shared.progress.lock();
    let since = progress.dirty_since.filter(|_| !progress.is_wanted)?;
    Some((since + shared.options.age).saturating_sub(shared.clock.monotonic()))
}

fn write(shared: &Shared, checkpoint: Checkpoint) -> Result<(), Fault> {
    let file = shared.file.lock();
    // An install may have put other tables in the place of these.
    if shared.progress.lock().frozen.as_ref() != Some(&checkpoint) {
        return Ok(());
    }
    let frozen = shared.layers.read().frozen();
    file.write(&frozen, &checkpoint)?;
    let base = file.base()?;
    let mut layers = shared.layers.write();
    layers.written(base);
    let mut progress = shared.progress.lock();
    progress.frozen = None;
    progress.durable = checkpoint;
    drop(progress);
    shared.room.notify_waiters();
    Ok(())
}

impl Shared {
    /// Ends the store. Only the first fault counts.
    pub(super) fn fail(&self, fault: &Fault) {
        let mut progress = self.progress.lock();
        if progress.fault.is_none() {
            progress.fault = Some(fault.clone());
            drop(progress);
            (self.on_fault)(fault.clone());
            self.room.notify_waiters();
            self.work.notify_one();
        }
    }
}
