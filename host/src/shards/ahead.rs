//! Tasks that run ahead of the disk: on entries that lie in the log's tail and are not committed yet, or that Raft was
//! handed and will append next.
//!
//! If such an entry is lost, so is everything behind it, what was derived from it included; so nothing is lost by
//! beginning early, and a chain of tasks in one shard costs about one sync. Nothing of it is acknowledged, shown or
//! shipped before it is committed: those who wait for that are told by [`super::waiters`].
//!
//! A task is *awake* from the moment at which something is readable that it reads, until it has read all of it. While
//! any is, or a step is on its way into the log, the log's writer may wait a little before it takes the next turn: where
//! the end is near, by how long such stretches took lately. A long chain thus goes on while turns are written, and its
//! end waits for no turn that began just before it.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tidemill_core::entry::EntryKind;
use tidemill_core::seams::{BoxFuture, Clock};
use tidemill_protocol::ids::TopicPartition;
use tidemill_storage::log::{LogEntry, Payload, RunsAhead};
use tokio::sync::Notify;

/// All tasks of one shard.
pub struct Runners {
    places: Mutex<BTreeMap<TopicPartition, Vec<Arc<Awake>>>>,
    busy: Arc<Busy>,
}

/// What is about to follow from what was appended.
struct Busy {
    /// Tasks that are awake.
    awake: AtomicUsize,
    /// Steps that were handed to Raft and are not in the log yet.
    on_their_way: AtomicUsize,
    settled: Notify,
    clock: Arc<dyn Clock>,
    stretch: Mutex<Stretch>,
}

/// A stretch that took longer counts as one of so long: one backlog is not to have short chains miss their turns for long
/// afterwards.
const STRETCH_MAX: Duration = Duration::from_millis(20);

/// How long something is about to follow, once it is.
#[derive(Debug, Default)]
struct Stretch {
    /// Since when that is so.
    since: Option<Duration>,
    /// What it took lately, on average.
    usual: Duration,
}

/// A task, as the log knows it.
#[derive(Debug, Default)]
struct Awake {
    is_awake: AtomicBool,
    /// Whether dead letters may wait for it.
    may_have_letters: AtomicBool,
    notify: Notify,
}

/// One task, for as long as this lives. It misses nothing that is appended after it was made.
#[derive(Debug)]
pub struct Runner {
    runners: Arc<Runners>,
    places: Vec<TopicPartition>,
    task: Arc<Awake>,
}

/// Holds a task at work. When this is dropped the task looks whether it still is, though nothing came that it reads.
#[derive(Debug)]
pub struct Leash(Arc<Awake>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.notify.notify_one();
    }
}

impl Runners {
    /// No tasks yet.
    pub fn new(clock: Arc<dyn Clock>) -> Runners {
        let busy = Busy {
            awake: AtomicUsize::new(0),
            on_their_way: AtomicUsize::new(0),
            settled: Notify::new(),
            clock,
            stretch: Mutex::default(),
        };
        Runners { places: Mutex::default(), busy: Arc::new(busy) }
    }

    /// A task that reads these partitions. It is awake.
    pub fn runner(self: &Arc<Self>, places: &[TopicPartition]) -> Runner {
        let task = Arc::new(Awake { may_have_letters: AtomicBool::new(true), ..Awake::default() });
        self.wake(&task);
        let mut waiting = self.places.lock();
        for place in places {
            waiting.entry(*place).or_default().push(task.clone());
        }
        Runner { runners: self.clone(), places: places.to_vec(), task }
    }

    /// Dead letters wait for who reads this partition.
    pub fn letters_wait(&self, at: TopicPartition) {
        for task in self.places.lock().get(&at).into_iter().flatten() {
            task.may_have_letters.store(true, Ordering::Release);
            self.wake(task);
        }
    }

    /// A step is handed to Raft now.
    pub fn sends_step(&self) {
        self.busy.on_their_way.fetch_add(1, Ordering::AcqRel);
    }

    /// A step that was about to be handed over is not, or is in the log now.
    pub fn step_is_there(&self) {
        // Steps of another leader count, too; then there is none to take away.
        let fewer = |steps: usize| steps.checked_sub(1);
        let _ = self.busy.on_their_way.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        self.busy.tell_if_settled();
    }

    /// Steps that were on their way will not come: the leadership has changed.
    pub fn forget_steps(&self) {
        self.busy.on_their_way.store(0, Ordering::Release);
        self.busy.tell_if_settled();
    }

    fn wake(&self, task: &Awake) {
        if !task.is_awake.swap(true, Ordering::AcqRel) {
            self.busy.one_is_awake();
        }
        task.notify.notify_one();
    }
}

impl std::fmt::Debug for Runners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runners").field("settled", &self.busy.is_settled()).finish_non_exhaustive()
    }
}

impl RunsAhead for Runners {
    fn readable(&self, entries: &[LogEntry]) {
        for entry in entries {
            let Payload::Entry(entry) = &entry.payload else { continue };
            let places = self.places.lock();
            let read = entry.resident().filter_map(|placed| places.get(&placed.at));
            read.flatten().for_each(|task| self.wake(task));
        }
    }

    fn appended(&self, entries: &[LogEntry]) {
        let is_step = |entry: &&LogEntry| match &entry.payload {
            Payload::Entry(entry) => entry.kind == EntryKind::Step,
            Payload::Blank | Payload::Membership(_) => false,
        };
        entries.iter().filter(is_step).for_each(|_| self.step_is_there());
    }

    fn settled(&self, within: Duration) -> Option<BoxFuture<()>> {
        if self.busy.is_settled() || self.busy.left() > within {
            return None;
        }
        let busy = self.busy.clone();
        Some(Box::pin(async move {
            loop {
                let settled = busy.settled.notified();
                if busy.is_settled() {
                    return;
                }
                settled.await;
            }
        }))
    }
}

impl Busy {
    fn is_settled(&self) -> bool {
        self.awake.load(Ordering::Acquire) == 0 && self.on_their_way.load(Ordering::Acquire) == 0
    }

    fn one_is_awake(&self) {
        if self.awake.fetch_add(1, Ordering::AcqRel) == 0 {
            let mut stretch = self.stretch.lock();
            if stretch.since.is_none() {
                stretch.since = Some(self.clock.monotonic());
            }
        }
    }

    fn tell_if_settled(&self) {
        if self.is_settled() {
            let mut stretch = self.stretch.lock();
            // For a task that woke meanwhile, and was not the first, this stretch goes on.
            if self.is_settled() {
                stretch.ends(self.clock.monotonic());
            }
            drop(stretch);
            self.settled.notify_waiters();
        }
    }

    /// How long it is still likely to take until all is settled; for ever, when it takes much longer than usual.
    fn left(&self) -> Duration {
        let stretch = self.stretch.lock();
        let Some(since) = stretch.since else { return Duration::ZERO };
        let lasts = self.clock.monotonic().saturating_sub(since);
        if lasts > 2 * stretch.usual { Duration::MAX } else { stretch.usual.saturating_sub(lasts) }
    }
}

impl Stretch {
    fn ends(&mut self, now: Duration) {
        if let Some(since) = self.since.take() {
            self.usual = (self.usual * 3 + now.saturating_sub(since).min(STRETCH_MAX)) / 4;
        }
    }
}

impl Runner {
    /// The task has read all there is: ready once there may be more, or was since the last call.
    pub async fn more(&self) {
        self.aside(self.task.notify.notified()).await;
    }

    /// What whoever started the task holds for as long as it is to run.
    pub fn leash(&self) -> Leash {
        Leash(self.task.clone())
    }

    /// Whether dead letters may wait for the task: true at first, and once each time that some were redriven.
    pub fn may_have_letters(&self) -> bool {
        self.task.may_have_letters.swap(false, Ordering::AcqRel)
    }

    /// There may be more of them.
    pub fn has_letters(&self) {
        self.task.may_have_letters.store(true, Ordering::Release);
    }

    /// The task waits for something; nothing follows from it meanwhile.
    pub async fn aside<T>(&self, waits: impl Future<Output = T>) -> T {
        let mut waits = pin!(waits);
        if let Some(came) = (&mut waits).now_or_never() {
            return came;
        }
        self.sleep();
        let came = waits.await;
        if !self.task.is_awake.swap(true, Ordering::AcqRel) {
            self.runners.busy.one_is_awake();
        }
        came
    }

    fn sleep(&self) {
        if self.task.is_awake.swap(false, Ordering::AcqRel) {
            self.runners.busy.awake.fetch_sub(1, Ordering::AcqRel);
            self.runners.busy.tell_if_settled();
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let mut waiting = self.runners.places.lock();
        for place in &self.places {
            if let Some(here) = waiting.get_mut(place) {
                here.retain(|task| !Arc::ptr_eq(task, &self.task));
                if here.is_empty() {
                    waiting.remove(place);
                }
            }
        }
        drop(waiting);
        self.sleep();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use bytes::Bytes;
    use tidemill_core::entry::{Entry, PlacedBatch};
    use tidemill_core::ids::{LogIndex, Term};
    use tidemill_core::seams::Timestamp;
    use tidemill_protocol::ids::{Partition, TopicId};
    use tidemill_storage::log::{EncodedEntry, LogId};

    use super::*;

    /// A clock whose hand the test moves, in microseconds.
    #[derive(Debug, Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_micros(self.0.load(Ordering::Relaxed))
        }

        fn sleep(&self, _: Duration) -> BoxFuture<()> {
            Box::pin(std::future::pending())
        }
    }

    const HERE: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: Partition(0) };

    fn entry(kind: EntryKind, at: TopicPartition) -> LogEntry {
        let batch = PlacedBatch { away: None, at, envelope: Bytes::new(), batch: Bytes::new() };
        let entry = Entry { kind, append_time: Timestamp(0), meta: Bytes::new(), batches: vec![batch] };
        let id = LogId { term: Term(1), index: LogIndex(0) };
        LogEntry { id, payload: Payload::Entry(EncodedEntry::new(entry)) }
    }

    #[test]
    fn the_writer_waits_for_who_reads_what_was_appended_and_for_nobody_else() {
        let runners = Arc::new(Runners::new(Arc::new(Hand::default())));
        let settled = || runners.settled(Duration::MAX);
        let runner = runners.runner(&[HERE]);
        assert!(runner.more().now_or_never().is_some(), "it begins by looking");
        assert!(runner.more().now_or_never().is_none());
        assert!(settled().is_none());
        runners.readable(&[entry(EntryKind::Produce, TopicPartition { partition: Partition(1), ..HERE })]);
        assert!(settled().is_none(), "nobody reads that");

        runners.readable(&[entry(EntryKind::Produce, HERE)]);
        let mut settles = settled().unwrap();
        assert!(runner.more().now_or_never().is_some());
        runners.sends_step();
        assert!(runner.more().now_or_never().is_none());
        assert!((&mut settles).now_or_never().is_none(), "a step is on its way");
        let step = entry(EntryKind::Step, TopicPartition { partition: Partition(1), ..HERE });
        runners.readable(std::slice::from_ref(&step));
        assert!((&mut settles).now_or_never().is_none(), "it can be read, and is not there yet");
        runners.appended(&[step]);
        assert!(settles.now_or_never().is_some());
        drop(runner);
        runners.readable(&[entry(EntryKind::Produce, HERE)]);
        assert!(settled().is_none());
    }

    #[test]
    fn a_task_that_rests_is_told_that_it_is_over() {
        let runners = Arc::new(Runners::new(Arc::new(Hand::default())));
        let runner = runners.runner(&[HERE]);
        let leash = runner.leash();
        assert!(runner.more().now_or_never().is_some() && runner.more().now_or_never().is_none());
        drop(leash);
        assert!(runner.more().now_or_never().is_some(), "nothing came that it reads");
        assert!(runner.more().now_or_never().is_none());
        let leash = runner.leash();
        drop(runner);
        drop(leash);
        assert!(runners.settled(Duration::MAX).is_none(), "nobody waits for a task that has ended");
    }

    #[test]
    fn the_writer_waits_when_the_end_is_near() {
        let clock = Arc::new(Hand::default());
        let runners = Arc::new(Runners::new(clock.clone()));
        let runner = runners.runner(&[HERE]);
        let at = |us| clock.0.store(us, Ordering::Relaxed);
        let ends_at = |us| {
            at(us);
            assert!(runner.more().now_or_never().is_some());
            assert!(runner.more().now_or_never().is_none());
        };
        let waits = |us| runners.settled(Duration::from_micros(us)).is_some();
        ends_at(0);
        // So long does it take from now on.
        for chain in 1..50 {
            at(chain * 10_000);
            runners.readable(&[entry(EntryKind::Produce, HERE)]);
            ends_at(chain * 10_000 + 600);
        }
        at(1_000_000);
        runners.readable(&[entry(EntryKind::Produce, HERE)]);
        assert!(!waits(100), "it takes longer than that");
        assert!(waits(1_000));
        at(1_000_550);
        assert!(waits(100), "most of it is over");
        at(1_000_900);
        assert!(waits(100), "it may end at any moment");
        at(1_001_300);
        assert!(!waits(100), "nobody knows when");
    }
}
