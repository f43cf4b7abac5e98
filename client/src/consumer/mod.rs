//! The consumer: reads partitions from where it is told to, ahead of whoever takes the records.
//!
//! ```text
//!  next_batch ◀── state ◀── fetcher     one task: asks the leaders, several streams to each
//!                   ▲
//!  seek, assign ────┘
//! ```
//!
//! The fetcher and the consumer meet in [`state`]: what was fetched lies there, bounded in bytes, as it came from the
//! broker. Batches are checked and inflated when they are taken, one at a time, by whoever takes them. A seek gives a
//! partition a new *generation*: what was fetched for an older one is dropped wherever it is met.

mod builder;
mod fetcher;
mod state;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
pub use tidemill_protocol::batch::Record as StoredRecord;
use tidemill_protocol::batch::{self, BatchError};
use tidemill_protocol::ids::{Offset, Partition};

use crate::client::Core;
use crate::error::Error;
use crate::limits::READ;
use crate::offsets::{Found, Moment, Place};
use state::{Shared, Taken};

pub use builder::{ConsumerBuilder, OutOfRange};

/// Where to begin to read a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first record that is still there.
    Beginning,
    /// With the first record that is written from now on.
    End,
    /// With this one.
    Offset(Offset),
    /// With the first whose time is this or later, in milliseconds since 1970; with the end where there is none.
    Time(i64),
}

/// Some records of one partition, in order: those of one batch, as far as they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: Partition,
    /// The records; at least one.
    pub records: Vec<StoredRecord>,
    /// The first offset that was not committed when they were fetched.
    pub high_watermark: Offset,
}

/// One record, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: Partition,
    /// Offset, time, key, value, headers.
    pub record: StoredRecord,
}

/// How far a partition was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: Partition,
    /// The offset of the next record.
    pub position: Offset,
    /// The first offset that was not committed when the broker was last asked.
    pub high_watermark: Offset,
    /// Whether reading it has stopped after an error; a seek starts it again.
    pub is_halted: bool,
}

impl Progress {
    /// Records that were there and were not read.
    pub fn lag_records(&self) -> u64 {
        self.high_watermark.0.saturating_sub(self.position.0)
    }
}

/// Why a partition is not read any further. Others go on; a seek starts it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    /// The offset is not there, and [`OutOfRange::Fail`] is the policy.
    #[error("{topic}, partition {}: there is no offset {}", .partition.0, .offset.0)]
    OutOfRange {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: Offset,
    },
    /// What the broker gave is not what a producer wrote.
    #[error("{topic}, partition {}, at offset {}: {why}", .partition.0, .offset.0)]
    Corrupt {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// Where it was to be.
        offset: Offset,
        /// What is wrong with it.
        why: BatchError,
    },
    /// The broker refuses.
    #[error("{topic}, partition {}: {why}", .partition.0)]
    Refused {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: Partition,
        /// Why.
        why: Error,
    },
}

/// Reads partitions. Each is read in order; between partitions there is none.
///
/// ```no_run
/// # async fn example(client: tidemill_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use tidemill_client::Start;
///
/// let mut consumer = client.consumer().read("orders", Start::Beginning).build().await?;
/// while let Some(batch) = consumer.next_batch_before_end().await? {
///     for record in &batch.records {
///         println!("{}: {:?}", record.offset.0, record.value);
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// It is also a [`Stream`] of single records.
pub struct Consumer {
    core: Arc<Core>,
    shared: Arc<Shared>,
    /// What is left of the batch that records are taken from one by one.
    current: Option<(Place, std::vec::IntoIter<StoredRecord>)>,
}

impl Consumer {
    /// The next batch of some partition. Waits for as long as it takes. Dropped, it loses nothing.
    ///
    /// # Errors
    /// [`ConsumeError`], once, when a partition cannot be read any further.
    pub async fn next_batch(&mut self) -> Result<Fetched, ConsumeError> {
        std::future::poll_fn(|context| self.poll_batch(context)).await
    }

    /// As [`Consumer::next_batch`], but `None` once everything was read that is committed: see
    /// [`Consumer::is_at_end`].
    ///
    /// # Errors
    /// As [`Consumer::next_batch`].
    pub async fn next_batch_before_end(&mut self) -> Result<Option<Fetched>, ConsumeError> {
        std::future::poll_fn(|context| match self.poll_batch(context) {
            Poll::Pending if self.is_at_end() => Poll::Ready(Ok(None)),
            polled => polled.map(|batch| batch.map(Some)),
        })
        .await
    }

    /// The next record of some partition. As [`Consumer::next_batch`] otherwise; do not mix the two within a batch.
    ///
    /// # Errors
    /// As [`Consumer::next_batch`].
    pub async fn next_record(&mut self) -> Result<ConsumedRecord, ConsumeError> {
        std::future::poll_fn(|context| self.poll_record(context)).await
    }

    fn poll_record(&mut self, context: &mut Context<'_>) -> Poll<Result<ConsumedRecord, ConsumeError>> {
        loop {
            if let Some(((topic, partition), records)) = &mut self.current
                && let Some(record) = records.next()
            {
                return Poll::Ready(Ok(ConsumedRecord {
                    topic: topic.clone(),
                    partition: *partition,
                    record,
                }));
            }
            self.current = None;
            let batch = ready!(self.poll_fetched(context))?;
            self.current = Some(((batch.topic, batch.partition), batch.records.into_iter()));
        }
    }

    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Result<Fetched, ConsumeError>> {
        // What is left of a batch that was begun record by record.
        if let Some(((topic, partition), records)) = self.current.take()
            && records.len() > 0
        {
            let high_watermark = self.shared.high_watermark(&(topic.clone(), partition)).unwrap_or_default();
            return Poll::Ready(Ok(Fetched { topic, partition, records: records.collect(), high_watermark }));
        }
        self.poll_fetched(context)
    }

    fn poll_fetched(&mut self, context: &mut Context<'_>) -> Poll<Result<Fetched, ConsumeError>> {
        loop {
            let Taken { place, from, header, batch, high_watermark } =
                ready!(self.shared.poll_take(context))?;
            let (topic, partition) = place.clone();
            let mut records = match batch::decode(&batch, &READ) {
                // Nothing of a user's is in it.
                _ if header.is_control() => Vec::new(),
                Ok(records) => records,
                Err(why) => {
                    self.shared.halt(&place);
                    let offset = header.base_offset;
                    return Poll::Ready(Err(ConsumeError::Corrupt { topic, partition, offset, why }));
                }
            };
            // A broker gives whole batches, also for an offset in the middle of one.
            records.retain(|record| record.offset >= from);
            if !records.is_empty() {
                return Poll::Ready(Ok(Fetched { topic, partition, records, high_watermark }));
            }
        }
    }

    /// Reads a partition, too, or all of a topic's; where they are read already, from `start` on.
    ///
    /// # Errors
    /// When there is no such partition, or when its start cannot be found.
    pub async fn assign(
        &mut self,
        topic: &str,
        partition: Option<Partition>,
        start: Start,
    ) -> Result<(), Error> {
        let places = places(&self.core, topic, partition).await?;
        self.begin(&places.into_iter().map(|place| (place, start)).collect::<Vec<_>>()).await
    }

    /// Reads a partition no more, or all of a topic's.
    pub fn unassign(&mut self, topic: &str, partition: Option<Partition>) {
        let is_meant = |place: &Place| *place.0 == *topic && partition.is_none_or(|meant| meant == place.1);
        self.current.take_if(|(place, _)| is_meant(place));
        self.shared.remove(is_meant);
    }

    /// Goes on in a partition from elsewhere. Nothing from before the seek is returned behind it.
    ///
    /// # Errors
    /// When the partition is not read, or when the start cannot be found; then it stays where it is.
    pub async fn seek(&mut self, topic: &str, partition: Partition, start: Start) -> Result<(), Error> {
        let place = (Arc::from(topic), partition);
        if self.shared.high_watermark(&place).is_none() {
            let message = format!("{topic}, partition {}, is not assigned to this consumer", partition.0);
            return Err(Error::impossible(message));
        }
        self.begin(&[(place, start)]).await
    }

    /// Goes on in all partitions from elsewhere.
    ///
    /// # Errors
    /// When the start cannot be found; then all stay where they are.
    pub async fn seek_all(&mut self, start: Start) -> Result<(), Error> {
        let places: Vec<_> =
            self.shared.progress().into_iter().map(|at| ((at.topic, at.partition), start)).collect();
        self.begin(&places).await
    }

    /// As [`Consumer::seek_all`] with [`Start::Beginning`]. Errors as there.
    pub async fn seek_to_beginning(&mut self) -> Result<(), Error> {
        self.seek_all(Start::Beginning).await
    }

    /// As [`Consumer::seek_all`] with [`Start::End`]. Errors as there.
    pub async fn seek_to_end(&mut self) -> Result<(), Error> {
        self.seek_all(Start::End).await
    }

    /// As [`Consumer::seek_all`] with [`Start::Time`]. Errors as there.
    pub async fn seek_to_time(&mut self, timestamp_ms: i64) -> Result<(), Error> {
        self.seek_all(Start::Time(timestamp_ms)).await
    }

    /// How far each partition was read.
    pub fn progress(&self) -> Vec<Progress> {
        let mut progress = self.shared.progress();
        if let Some((place, records)) = &self.current
            && let Some(next) = records.as_slice().first()
            && let Some(at) = progress.iter_mut().find(|at| at.topic == place.0 && at.partition == place.1)
        {
            at.position = next.offset;
        }
        progress
    }

    /// Whether everything was read that was committed when the brokers were last asked. Where nothing more is
    /// written that is the end. A partition that has halted counts as read; one whose offset is not there does not,
    /// until it is known where to go on.
    pub fn is_at_end(&self) -> bool {
        self.progress().iter().all(|at| at.is_halted || at.position == at.high_watermark)
    }

    /// Finds where to begin, and begins there.
    async fn begin(&mut self, starts: &[(Place, Start)]) -> Result<(), Error> {
        let moment = |start: &Start| match start {
            Start::Beginning => Some(Moment::Beginning),
            Start::Time(ms) => Some(Moment::Time(*ms)),
            Start::End | Start::Offset(_) => None,
        };
        // Where there is no record of that time yet, it begins at the end that there was before one was looked for.
        let late = starts.iter().filter(|(_, start)| matches!(start, Start::Time(_)));
        let late: Vec<_> = late.map(|(place, _)| (place.clone(), Moment::End)).collect();
        let mut late = self.core.find_offsets(&late).await.into_iter();
        // The ends are asked for after everything else: so no start lies behind its end.
        let asked = starts.iter().filter_map(|(place, start)| Some((place.clone(), moment(start)?)));
        let found = self.core.find_offsets(&asked.collect::<Vec<_>>()).await;
        let ends: Vec<_> = starts.iter().map(|(place, _)| (place.clone(), Moment::End)).collect();
        let ends = self.core.find_offsets(&ends).await;
        let mut found = found.into_iter();
        let mut begun = Vec::with_capacity(starts.len());
        for ((place, start), end) in starts.iter().zip(ends) {
            let end = end?.unwrap_or_default();
            let offset = match (start, moment(start)) {
                (Start::Offset(offset), _) => *offset,
                (_, None) => end,
                (Start::Time(_), Some(_)) => {
                    let before = late.next().unwrap_or(Found::Ok(None))?.unwrap_or_default();
                    found.next().unwrap_or(Found::Ok(None))?.unwrap_or(before)
                }
                (_, Some(_)) => found.next().unwrap_or(Found::Ok(None))?.unwrap_or(end),
            };
            begun.push((place.clone(), offset, end));
        }
        for (place, offset, end) in begun {
            self.current.take_if(|(current, _)| *current == place);
            self.shared.begin(place, offset, end);
        }
        Ok(())
    }
}

/// The partitions that are meant.
async fn places(core: &Core, topic: &str, partition: Option<Partition>) -> Result<Vec<Place>, Error> {
    let found = core.topic(topic).await?;
    let count = found.partitions.len() as u32;
    Ok(match partition {
        Some(partition) if partition.0 >= count => {
            return Err(Error::impossible(format!("{topic} has no partition {}", partition.0)));
        }
        Some(partition) => vec![(found.name.clone(), partition)],
        None => (0..count).map(|number| (found.name.clone(), Partition(number))).collect(),
    })
}

impl Stream for Consumer {
    type Item = Result<ConsumedRecord, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_record(context).map(Some)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("progress", &self.progress()).finish_non_exhaustive()
    }
}
