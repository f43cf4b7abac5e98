//! The world of these tests: one thread, a clock that stands until it is told to move, lots drawn from a seed, and a
//! simulated disk. What a broker starts as threads runs as tasks, so that every run of a seed is the same.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_core::entry::{Entry, EntryKind, PlacedBatch};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, LogIndex, Term};
use tidemill_core::seams::{BoxFuture, Chance, Clock, Spawner, Timestamp, Transport, Unreachable, World};
use tidemill_protocol::batch::{BatchBuilder, stamp};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::ids::{Offset, Partition, TopicId, TopicPartition};
use tidemill_sim::disk::SimDisk;
use tidemill_storage::log::{EncodedEntry, GroupLog, LogEntry, LogId, LogOptions, Payload, Recovery};
use tokio::sync::Notify;

/// SplitMix64, by Steele, Lea and Flood.
pub struct Lots(AtomicU64);

impl Lots {
    pub fn new(seed: u64) -> Lots {
        Lots(AtomicU64::new(seed))
    }

    /// A number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }
}

impl Chance for Lots {
    fn fill(&self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            part.copy_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes()[..part.len()]);
        }
    }
}

/// A clock that moves when it is told to.
#[derive(Default)]
pub struct TestClock {
    now_ms: AtomicU64,
    moved: Arc<Notify>,
}

impl TestClock {
    pub fn advance(&self, by: Duration) {
        self.now_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
        self.moved.notify_waiters();
    }
}

struct SharedClock(Arc<TestClock>);

impl Clock for SharedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.now_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.now_ms.load(Ordering::Relaxed))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let (clock, end) = (self.0.clone(), self.monotonic() + duration);
        Box::pin(async move {
            loop {
                let moved = clock.moved.notified();
                if Duration::from_millis(clock.now_ms.load(Ordering::Relaxed)) >= end {
                    return;
                }
                moved.await;
            }
        })
    }
}

struct Tasks(tokio::runtime::Handle);

impl Spawner for Tasks {
    fn task(&self, _name: &'static str, future: BoxFuture<()>) {
        self.0.spawn(future);
    }

    fn thread(&self, _name: String, future: BoxFuture<()>) {
        self.0.spawn(future);
    }

    fn guest(&self, _name: &'static str, future: BoxFuture<()>) {
        self.0.spawn(future);
    }
}

struct Alone;

impl Transport for Alone {
    fn call(&self, to: BrokerId, _message: Bytes) -> BoxFuture<Result<Bytes, Unreachable>> {
        Box::pin(async move { Err(Unreachable(to)) })
    }
}

/// One life of a process: when it is dropped, all its tasks are gone.
pub struct Life {
    runtime: tokio::runtime::Runtime,
    pub world: World,
    pub clock: Arc<TestClock>,
    pub disk: SimDisk,
    faults: Arc<Mutex<Vec<Fault>>>,
}

pub fn folder() -> PathBuf {
    PathBuf::from("/data/shard-3")
}

impl Life {
    pub fn on(disk: &SimDisk, seed: u64) -> Life {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let clock = Arc::new(TestClock::default());
        let world = World {
            clock: Arc::new(SharedClock(clock.clone())),
            chance: Arc::new(Lots::new(seed)),
            disk: Arc::new(disk.clone()),
            transport: Arc::new(Alone),
            spawner: Arc::new(Tasks(runtime.handle().clone())),
        };
        Life { runtime, world, clock, disk: disk.clone(), faults: Arc::default() }
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Lets every task go on until it waits.
    pub fn settle(&self) {
        self.run(async {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        });
    }

    pub fn open(&self, options: &LogOptions) -> Result<(GroupLog, Recovery), Fault> {
        GroupLog::open(&self.world, folder(), options.clone(), self.on_fault())
    }

    pub fn on_fault(&self) -> Arc<dyn Fn(Fault) + Send + Sync> {
        let faults = self.faults.clone();
        Arc::new(move |fault| faults.lock().push(fault))
    }

    pub fn faults(&self) -> Vec<Fault> {
        self.faults.lock().clone()
    }
}

/// Runs a story from some seeds (`TIDEMILL_SEEDS` says how many, for a long run), or from the one that `TIDEMILL_SEED`
/// names, and says which one failed.
pub fn for_seeds(seeds: u64, story: impl Fn(u64)) {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let (chosen, seeds) = (number("TIDEMILL_SEED"), number("TIDEMILL_SEEDS").unwrap_or(seeds));
    for seed in chosen.map_or(0..seeds, |seed| seed..seed + 1) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| story(seed)));
        if let Err(panic) = result {
            eprintln!("the story failed with TIDEMILL_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

pub fn at(topic: u8, partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicId([topic; 16]), partition: Partition(partition) }
}

pub fn id(term: u64, index: u64) -> LogId {
    LogId { term: Term(term), index: LogIndex(index) }
}

/// A batch of `records` records at an offset, with `bytes` bytes of value each.
pub fn batch(base: Offset, records: u32, bytes: usize, timestamp_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for number in 0..records {
        let value = vec![number as u8; bytes];
        builder.push(timestamp_ms + i64::from(number), None, Some(&value), &[]).unwrap();
    }
    let mut batch = builder.build().unwrap().to_vec();
    stamp(&mut batch, base, 1);
    batch.into()
}

pub fn placed(at: TopicPartition, batch: Bytes) -> PlacedBatch {
    PlacedBatch { away: None, at, envelope: Bytes::from_static(b"an envelope"), batch }
}

pub fn entry(id: LogId, batches: Vec<PlacedBatch>) -> LogEntry {
    let entry =
        Entry { kind: EntryKind::Produce, append_time: Timestamp(id.index.0), meta: Bytes::new(), batches };
    LogEntry { id, payload: Payload::Entry(EncodedEntry::new(entry)) }
}

/// A plain entry: one batch of one record, at the offset that is the entry's index.
pub fn plain(term: u64, index: u64, bytes: usize) -> LogEntry {
    let batch = batch(Offset(index), 1, bytes, index as i64);
    entry(id(term, index), vec![placed(at(1, 0), batch)])
}

/// Appends entries and waits until they are durable.
pub async fn append(log: &GroupLog, entries: Vec<LogEntry>) -> Result<(), Fault> {
    let (tell, told) = tokio::sync::oneshot::channel();
    log.append(entries, Box::new(move |result| drop(tell.send(result))));
    told.await.unwrap()
}

/// All entries of a log, read a few at a time.
pub fn all_entries(log: &GroupLog) -> Result<Vec<LogEntry>, Fault> {
    let mut next = log.first_index().map_or(0, |first| first.0);
    let mut all: Vec<LogEntry> = Vec::new();
    loop {
        let some = log.entries(next..u64::MAX, 20_000)?;
        let Some(last) = some.last() else { return Ok(all) };
        next = last.id.index.0 + 1;
        all.extend(some);
    }
}
