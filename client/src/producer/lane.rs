//! One partition as a producer sees it: where its records gather, and the task that sends them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_protocol::ids::Partition;
use tokio::sync::Notify;

use super::accumulator::{Accumulator, Added, Gathering, Ready};
use super::batch::{Batch, Room};
use super::delivery::Fate;
use crate::error::Error;
use crate::record::Record;
use crate::runtime::Instant;

/// One partition of a producer.
#[derive(Debug)]
pub(super) struct Lane {
    pub topic: Arc<str>,
    pub partition: Partition,
    accumulator: Mutex<Accumulator>,
    /// Tells the sender that something has changed.
    wake: Notify,
}

impl Lane {
    pub fn new(topic: Arc<str>, partition: Partition, gathering: Gathering) -> Lane {
        let accumulator = Mutex::new(Accumulator::new(gathering));
        Lane { topic, partition, accumulator, wake: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Accumulator> {
        self.accumulator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Accumulator::add`].
    pub fn add(
        &self,
        record: &Record,
        timestamp_ms: i64,
        room: Room,
        now: Instant,
        may_begin: bool,
    ) -> Added {
        let mut accumulator = self.lock();
        if accumulator.is_closing {
            return Added::Refused(Error::impossible("the producer is closed"));
        }
        let added = accumulator.add(record, timestamp_ms, room, now, may_begin);
        drop(accumulator);
        if !matches!(added, Added::To { wakes: false, .. }) {
            self.wake.notify_one();
        }
        added
    }

    /// What there is to take.
    pub fn ready(&self, now: Instant) -> Ready {
        self.lock().ready(now)
    }

    /// The oldest batch, if it is ready.
    pub fn take(&self, now: Instant) -> Option<Batch> {
        self.lock().take(now)
    }

    /// Lets nothing wait any longer, and returns what has not ended.
    pub fn flush(&self) -> Vec<Arc<Fate>> {
        let fates = self.lock().flush();
        self.wake.notify_one();
        fates
    }

    /// Accepts nothing more. The sender ends when everything has ended.
    pub fn close(&self) {
        self.lock().is_closing = true;
        self.wake.notify_one();
    }

    /// Whether nothing more will come.
    pub fn is_finished(&self) -> bool {
        let accumulator = self.lock();
        accumulator.is_closing && accumulator.is_empty()
    }

    /// Whether nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.lock().next_deadline()
    }

    pub fn expire(&self, now: Instant, why: &Error) {
        self.lock().expire(now, why);
    }

    pub fn fail(&self, error: &Error) {
        self.lock().fail(error);
    }

    /// Lets the sender look again.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until something has changed.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }
}
