//! What the handles and the senders of one producer share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tidemill_protocol::error::{ErrorCode, Outcome};
use tidemill_protocol::ids::Partition;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::accumulator::{Accumulator, Added, Gathering};
use super::batch::Room;
use super::delivery::{Delivery, Fate, Receipt, SendError};
use super::lane::Lane;
use super::partitioner::{Partitioner, TopicPartitioner};
use super::sender::Sender;
use super::sequence::Identity;
use crate::client::Core;
use crate::error::Error;
use crate::limits::RECORD_OVERHEAD_BYTES;
use crate::record::Record;
use crate::runtime;

/// When a batch counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// Once it is on the disks of a majority. Batches are recognised when they are sent again: nothing is doubled.
    #[default]
    All,
    /// Once it is handed to the network. What is lost on the way is lost without a word.
    None,
}

impl Acks {
    /// Kafka's number.
    pub(super) fn number(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::None => 0,
        }
    }
}

/// How a producer works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub gathering: Gathering,
    pub acks: Acks,
    pub in_flight: u32,
    pub buffer_bytes: usize,
    pub patience: Duration,
}

/// What the handles and the senders of one producer share.
pub(super) struct Shared {
    pub core: Arc<Core>,
    pub settings: Settings,
    /// The id that partitions begin with, and its window; none without acknowledgements.
    pub identity: Option<(Identity, u32)>,
    partitioner: Box<dyn Partitioner>,
    /// Bytes of the buffer that are free.
    pub buffer: Arc<Semaphore>,
    topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    /// Topics that are being asked for, because somebody would not wait.
    asking: Mutex<BTreeSet<Arc<str>>>,
    fatal: OnceLock<Error>,
    is_closing: AtomicBool,
    is_abandoned: AtomicBool,
}

/// The lanes of one topic, as far as they are in use.
struct Topic(Mutex<Lanes>);

struct Lanes {
    partitioner: Box<dyn TopicPartitioner>,
    lanes: BTreeMap<u32, Arc<Lane>>,
    senders: Vec<JoinHandle<()>>,
}

impl Topic {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub fn new(
        core: Arc<Core>,
        settings: Settings,
        identity: Option<(Identity, u32)>,
        partitioner: Box<dyn Partitioner>,
    ) -> Shared {
        Shared {
            core,
            settings,
            identity,
            partitioner,
            buffer: Arc::new(Semaphore::new(settings.buffer_bytes)),
            topics: RwLock::default(),
            asking: Mutex::default(),
            fatal: OnceLock::new(),
            is_closing: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
        }
    }

    /// Why the producer cannot go on, if it cannot.
    pub fn fatal(&self) -> Option<&Error> {
        self.fatal.get()
    }

    /// The producer cannot go on.
    pub fn fail(&self, error: Error) {
        tracing::warn!(%error, "the producer cannot go on");
        let _ = self.fatal.set(error);
        self.lanes().iter().for_each(|lane| lane.wake());
    }

    /// Whether what has not ended is to be given up.
    pub fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Acquire)
    }

    /// Gives up what has not ended.
    pub fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Release);
        self.lanes().iter().for_each(|lane| lane.wake());
    }

    /// Accepts nothing more; senders end when everything has ended.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.lanes().iter().for_each(|lane| lane.close());
    }

    /// The tasks of all lanes; each is given out once.
    pub fn take_senders(&self) -> Vec<JoinHandle<()>> {
        self.topics().values().flat_map(|topic| std::mem::take(&mut topic.lock().senders)).collect()
    }

    /// Lets nothing wait any longer, and returns what has not ended.
    pub fn flush(&self) -> Vec<(Arc<Lane>, Vec<Arc<Fate>>)> {
        self.lanes().into_iter().map(|lane| (lane.clone(), lane.flush())).collect()
    }

    fn topics(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Arc<str>, Arc<Topic>>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lanes(&self) -> Vec<Arc<Lane>> {
        self.topics()
            .values()
            .flat_map(|topic| topic.lock().lanes.values().cloned().collect::<Vec<_>>())
            .collect()
    }

    fn topic(&self, name: &Arc<str>) -> Arc<Topic> {
        if let Some(topic) = self.topics().get(name) {
            return topic.clone();
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let partitioner = self.partitioner.for_topic(name);
            Arc::new(Topic(Mutex::new(Lanes { partitioner, lanes: BTreeMap::new(), senders: Vec::new() })))
        };
        topics.entry(name.clone()).or_insert_with(new).clone()
    }

    /// Asks for a topic, unless that is being done; nobody waits for it.
    pub fn look_for(self: &Arc<Self>, name: &Arc<str>) {
        if self.asking().insert(name.clone()) {
            let (shared, name) = (self.clone(), name.clone());
            runtime::spawn(async move {
                if let Err(error) = shared.core.topic(&name).await {
                    tracing::debug!(topic = %name, %error, "not found");
                }
                shared.asking().remove(&name);
            });
        }
    }

    fn asking(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that a record takes in the buffer.
    ///
    /// # Errors
    /// When the producer cannot take it, now or ever.
    pub fn cost(&self, record: &Record) -> Result<u32, SendError> {
        if let Some(error) = self.fatal() {
            return Err(SendError::Fatal(error.clone().with_outcome(Outcome::NotApplied)));
        }
        let bytes = Gathering::record_bytes(record);
        let cost = bytes.saturating_add(RECORD_OVERHEAD_BYTES);
        if !Accumulator::fits(&self.settings.gathering, bytes) || cost > self.settings.buffer_bytes {
            let limit = self.settings.gathering.limit_bytes.min(self.settings.buffer_bytes);
            let message =
                format!("the record takes up to {bytes} bytes, and the producer's limit is {limit}");
            return Err(SendError::Refused(Error::refused_here(ErrorCode::MESSAGE_TOO_LARGE, message)));
        }
        u32::try_from(cost).map_err(|_| SendError::Refused(Error::impossible("a record of 4 GiB")))
    }

    /// Puts a record into a batch of its partition. There are `partitions` of them.
    ///
    /// # Errors
    /// When the producer cannot take it.
    pub fn place(
        self: &Arc<Self>,
        record: &Record,
        partitions: usize,
        room: Room,
    ) -> Result<Delivery, SendError> {
        let count = u32::try_from(partitions).unwrap_or(u32::MAX);
        let topic = self.topic(&record.topic);
        let mut lanes = topic.lock();
        let is_free = record.partition.is_none() && count > 0;
        let choose = |lanes: &mut Lanes| match record.partition {
            Some(partition) => partition.0,
            None if count > 0 => lanes.partitioner.partition(record, count),
            None => 0,
        };
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(runtime::wall_ms);
        let now = runtime::now();
        let mut chosen = choose(&mut lanes);
        let mut added = self.lane(&mut lanes, &record.topic, chosen, count)?.add(
            record,
            timestamp_ms,
            room,
            now,
            !is_free,
        );
        if let Added::NotBegun(room) = added {
            lanes.partitioner.begin_batch();
            chosen = choose(&mut lanes);
            added = self.lane(&mut lanes, &record.topic, chosen, count)?.add(
                record,
                timestamp_ms,
                room,
                now,
                true,
            );
        }
        match added {
            Added::To { fate, record: place, .. } => {
                let (topic, partition) = (record.topic.clone(), Partition(chosen));
                Ok(Delivery::of(fate, place, Receipt { topic, partition, offset: None, timestamp_ms }))
            }
            Added::Refused(error) => Err(SendError::Refused(error)),
            Added::NotBegun(_) => unreachable!("a new batch was allowed"),
        }
    }

    /// The lane of a partition; its sender starts with its first record.
    fn lane(
        self: &Arc<Self>,
        lanes: &mut Lanes,
        topic: &Arc<str>,
        partition: u32,
        count: u32,
    ) -> Result<Arc<Lane>, SendError> {
        if partition >= count {
            let message = format!("{topic} has {count} partitions, and the record is for number {partition}");
            let error = Error::refused_here(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message);
            return Err(SendError::Refused(error));
        }
        if let Some(lane) = lanes.lanes.get(&partition) {
            return Ok(lane.clone());
        }
        if self.is_closing.load(Ordering::Acquire) {
            return Err(SendError::Refused(Error::impossible("the producer is closed")));
        }
        let lane = Arc::new(Lane::new(topic.clone(), Partition(partition), self.settings.gathering));
        lanes.lanes.insert(partition, lane.clone());
        lanes.senders.push(runtime::spawn(Sender::new(self.clone(), lane.clone()).run()));
        Ok(lane)
    }
}
