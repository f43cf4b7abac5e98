//! The producer: takes records, and says of each what became of it.
//!
//! ```text
//!  send ─▶ shared    chooses the partition, waits for room in the buffer
//!            │
//!            ▼
//!         accumulator   records gather into batches, one accumulator for each partition
//!            │
//!            ▼
//!          sender       one task for each partition: a stream to its leader, again when it was lost
//!            │ ▲
//!            ▼ │
//!         sequence      which batch is sent when, under which epoch and sequence; what may be said of it
//!            │
//!            ▼
//!         delivery      the sender of each record learns its offset, or why there is none
//! ```
//!
//! A partition stands for itself: it has its own sequence, and after an expiry its own epoch. Brokers know producers
//! by partition, so nothing that goes wrong in one partition holds up or renumbers another.
//!
//! What surprises: see [`sequence`], which says what happens to batches behind one that expired.

mod accumulator;
mod batch;
mod builder;
mod delivery;
mod identity;
mod lane;
mod partitioner;
mod report;
mod sender;
mod sequence;
#[cfg(test)]
mod sequence_model;
mod shared;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::error::Outcome;

use crate::error::Error;
use crate::limits::FINISH_WAIT;
use crate::record::Record;
use crate::runtime;
use batch::Room;
use shared::Shared;

pub use builder::ProducerBuilder;
pub use delivery::{Delivery, Receipt, SendError};
pub use partitioner::{KeyedOrSticky, Partitioner, TopicPartitioner};
pub use report::{Report, Unsent};
pub use shared::Acks;

/// Produces records. Cheap to clone; all clones are one producer.
///
/// ```no_run
/// # async fn example(client: tidemill_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tidemill_client::Record;
///
/// let producer = client.producer().build().await?;
/// // Waits for room, not for the broker: thousands may be under way.
/// let mut deliveries = Vec::new();
/// for n in 0..1_000 {
///     deliveries.push(producer.send(Record::to("numbers").key(format!("{n}")).value("x")).await);
/// }
/// for delivery in deliveries {
///     let receipt = delivery.await?;
///     println!("{} of partition {}", receipt.offset.map_or(0, |offset| offset.0), receipt.partition.0);
/// }
/// let report = producer.close(Duration::from_secs(10)).await;
/// assert!(report.is_clean(), "{report:?}");
/// # Ok(())
/// # }
/// ```
///
/// Dropped, it accepts nothing more, and goes on with what it has while the runtime runs; [`Producer::close`] waits
/// for that and tells how it went.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// The last one of these that is dropped closes the producer.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A record that [`Producer::try_send`] did not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError {
    /// There is no room in the buffer for it just now.
    #[error("there is no room in the producer's buffer")]
    Full(Record),
    /// The topic is not known yet: it is being asked for. See [`Producer::prepare`].
    #[error("the topic is not known yet")]
    NotReady(Record),
}

impl TrySendError {
    /// The record.
    pub fn into_record(self) -> Record {
        match self {
            TrySendError::Full(record) | TrySendError::NotReady(record) => record,
        }
    }
}

impl Producer {
    /// Sends a record: waits until it is known how many partitions its topic has and until there is room in the
    /// buffer, puts the record into a batch, and returns what will say what became of it.
    ///
    /// What is dropped while it waits was not accepted; from then on nothing can cancel it. Records of one task that
    /// awaits each send go out in that order, partition by partition. A record that cannot be accepted has a delivery
    /// that says so at once.
    pub async fn send(&self, record: Record) -> Delivery {
        let topic = record.topic.clone();
        self.accept(record).await.unwrap_or_else(|error| Delivery::failed(topic, error))
    }

    async fn accept(&self, record: Record) -> Result<Delivery, SendError> {
        let shared = &self.handle.0;
        let cost = shared.cost(&record)?;
        let partitions = match shared.core.metadata.cached(&record.topic, Duration::MAX) {
            Some(topic) => topic.partitions.len(),
            None => {
                let found = shared.core.topic(&record.topic).await;
                found
                    .map_err(|error| SendError::Refused(error.with_outcome(Outcome::NotApplied)))?
                    .partitions
                    .len()
            }
        };
        let permits = shared.buffer.acquire_many(cost).await.expect("the buffer is never closed");
        permits.forget();
        shared.place(&record, partitions, Room::new(shared.buffer.clone(), cost as usize))
    }

    /// Sends a record if that needs no waiting.
    ///
    /// # Errors
    /// [`TrySendError`], with the record, when it would have to wait. A record that cannot be accepted at all has a
    /// delivery that says so.
    #[expect(clippy::result_large_err, reason = "the record is given back, and not put into a box for it")]
    pub fn try_send(&self, record: Record) -> Result<Delivery, TrySendError> {
        let shared = &self.handle.0;
        let failed = |record: &Record, error| Delivery::failed(record.topic.clone(), error);
        let cost = match shared.cost(&record) {
            Ok(cost) => cost,
            Err(error) => return Ok(failed(&record, error)),
        };
        let Some(topic) = shared.core.metadata.cached(&record.topic, Duration::MAX) else {
            shared.look_for(&record.topic);
            return Err(TrySendError::NotReady(record));
        };
        let Ok(permits) = shared.buffer.try_acquire_many(cost) else {
            return Err(TrySendError::Full(record));
        };
        permits.forget();
        let room = Room::new(shared.buffer.clone(), cost as usize);
        Ok(shared.place(&record, topic.partitions.len(), room).unwrap_or_else(|error| failed(&record, error)))
    }

    /// Asks for a topic, so that the first record to it need not wait.
    ///
    /// # Errors
    /// When there is no such topic, or no broker answers.
    pub async fn prepare(&self, topic: &str) -> Result<(), Error> {
        self.handle.0.core.topic(topic).await.map(drop)
    }

    /// Bytes of the buffer that are free.
    pub fn free_bytes(&self) -> usize {
        self.handle.0.buffer.available_permits()
    }

    /// Waits until every record that was accepted before has ended, each by its deadline at the latest, and lets none
    /// of them linger. Records accepted meanwhile are not waited for. Dropped, it cancels nothing.
    pub async fn flush(&self) -> Report {
        let mut report = Report::default();
        for (lane, fates) in self.handle.0.flush() {
            for fate in fates {
                let ended = fate.ended().await;
                report.count(&lane.topic, lane.partition, fate.records(), &ended);
            }
        }
        report
    }

    /// Accepts nothing more, waits for what was accepted, and tells how it ended. After `deadline` what is left is
    /// given up: what was never sent is refused, the rest expires.
    pub async fn close(self, deadline: Duration) -> Report {
        let shared = self.handle.0.clone();
        shared.close();
        let pending = shared.flush();
        let senders = shared.take_senders();
        let all = async {
            for fate in pending.iter().flat_map(|(_, fates)| fates) {
                fate.ended().await;
            }
        };
        if runtime::within(deadline, all).await.is_none() {
            shared.abandon();
        }
        let mut report = Report::default();
        for (lane, fates) in &pending {
            for fate in fates {
                let ended = fate.ended().await;
                report.count(&lane.topic, lane.partition, fate.records(), &ended);
            }
        }
        let _ = runtime::within(FINISH_WAIT, futures_util::future::join_all(senders)).await;
        report
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("settings", &self.handle.0.settings).finish_non_exhaustive()
    }
}
