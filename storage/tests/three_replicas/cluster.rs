//! Brokers in one process, with one group between them: its machine, its messages, and what a test asks of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_core::effect::Effect;
use tidemill_core::entry::{Entry, EntryKind, PlacedBatch};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, GroupId, LogIndex, ShardId, Term};
use tidemill_core::seams::{BoxFuture, Disk, PeerService, Timestamp};
use tidemill_core::tables::{Tables, View};
use tidemill_protocol::batch::{BatchBuilder, stamp};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::ids::{Offset, Partition, TopicId, TopicPartition};
use tidemill_sim::broker::SimBroker;
use tidemill_sim::chance::SimChance;
use tidemill_sim::clock::SimClock;
use tidemill_sim::disk::SimDisk;
use tidemill_sim::net::SimNet;
use tidemill_storage::group::{Group, GroupOptions, Machine, Proposal, ProposeError, Role};
use tidemill_storage::log::{LogEntry, Payload, Recovery};
use tidemill_storage::state::StateStore;

/// The one partition of these stories.
pub const PARTITION: TopicPartition = TopicPartition { topic: TopicId([7; 16]), partition: Partition(0) };

const FOLDER: &str = "/data/shard-0";
const END: &[u8] = b"end of the partition";
const STEP: &[u8] = b"last step of the task";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine with one partition and one task. A record that does not lie at the partition's end is a fault, and so is a
/// step that is not the next one: nothing may be applied twice, or left out.
#[derive(Default)]
pub struct Mill;

impl Machine for Mill {
    fn apply(
        &self,
        tables: &mut dyn Tables,
        _: LogIndex,
        entry: &Entry,
        _: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        if entry.kind == EntryKind::Step {
            let step = u64::from_be_bytes(entry.meta[..].try_into().expect("a step's meta is its number"));
            let last = number(tables, STEP)?;
            if step != last + 1 {
                return Err(Fault::damaged("the story", format!("step {step} behind step {last}")));
            }
            tables.put(Bytes::from_static(STEP), Bytes::copy_from_slice(&step.to_be_bytes()));
        }
        for placed in &entry.batches {
            let (base, end) = (base_offset(&placed.batch), number(tables, END)?);
            if base != end {
                return Err(Fault::damaged("the story", format!("offset {base} where {end} is free")));
            }
            tables.put(Bytes::from_static(END), Bytes::copy_from_slice(&(end + 1).to_be_bytes()));
        }
        Ok(())
    }

    fn perform(&self, _: Term, _: Vec<Effect>) {}
}

fn number(view: &(impl View + ?Sized), key: &[u8]) -> Result<u64, Fault> {
    let value = view.get(key)?;
    Ok(value.map_or(0, |value| u64::from_be_bytes(value[..].try_into().expect("eight bytes"))))
}

fn base_offset(batch: &[u8]) -> u64 {
    u64::from_be_bytes(batch[..8].try_into().expect("a batch begins with its offset"))
}

/// A record at an offset.
pub fn record(offset: u64) -> Entry {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(offset as i64, None, Some(format!("record {offset}").as_bytes()), &[]).expect("it is small");
    let mut batch = builder.build().expect("it has a record").to_vec();
    stamp(&mut batch, Offset(offset), 1);
    let placed = PlacedBatch { away: None, at: PARTITION, envelope: Bytes::new(), batch: batch.into() };
    Entry { kind: EntryKind::Produce, append_time: Timestamp(0), meta: Bytes::new(), batches: vec![placed] }
}

/// A step of the task.
pub fn step(number: u64) -> Entry {
    let meta = Bytes::copy_from_slice(&number.to_be_bytes());
    Entry { kind: EntryKind::Step, append_time: Timestamp(0), meta, batches: Vec::new() }
}

/// A broker that lives.
pub struct Broker {
    /// Its replica.
    pub group: Group,
    /// What was found when it was opened.
    pub recovery: Recovery,
    place: SimBroker,
    faults: Arc<Mutex<Vec<Fault>>>,
}

impl Broker {
    /// The first free offset, by what is applied.
    pub fn end(&self) -> u64 {
        number(&self.group.tables(), END).expect("the tables can be read")
    }

    /// The last step, by what is applied.
    pub fn last_step(&self) -> u64 {
        number(&self.group.tables(), STEP).expect("the tables can be read")
    }

    /// The offsets of the records that a reader finds.
    pub fn offsets(&self) -> Vec<u64> {
        let upto = LogIndex(self.group.applied().map_or(0, |applied| applied.0 + 1));
        let mut offsets = Vec::new();
        loop {
            let from = Offset(offsets.last().map_or(0, |last| last + 1));
            let batches = self.group.log().batches(PARTITION, from, upto, 1000).expect("the log can be read");
            if batches.is_empty() {
                return offsets;
            }
            offsets.extend(batches.iter().map(|(_, placed)| base_offset(&placed.batch)));
        }
    }

    /// Everything that its log holds.
    pub fn entries(&self) -> Vec<LogEntry> {
        let first = self.group.log().first_index().map_or(0, |first| first.0);
        self.group.log().entries(first..u64::MAX, usize::MAX).expect("the log can be read")
    }

    /// Whether this is the last entry of its log.
    pub fn log_ends_with(&self, entry: &Entry) -> bool {
        let entries = self.entries();
        let last = entries.last().map(|last| &last.payload);
        matches!(last, Some(Payload::Entry(last)) if **last == *entry)
    }

    /// Its tables.
    pub fn rows(&self) -> Vec<(Bytes, Bytes)> {
        let tables: StateStore = self.group.tables();
        tables.scan(b"", None, 1000).expect("the tables can be read")
    }

    /// The term in which it leads, if it does.
    pub fn leads_in(&self) -> Option<Term> {
        let now = *self.group.leadership().borrow();
        (now.role == Role::Leader).then_some(now.term)
    }
}

struct Answers(Group);

impl PeerService for Answers {
    fn answer(&self, from: BrokerId, message: Bytes) -> BoxFuture<Bytes> {
        let group = self.0.clone();
        Box::pin(async move { group.answer(from, message).await })
    }
}

/// The brokers, and what lies between them.
pub struct Cluster {
    /// The network.
    pub net: SimNet,
    /// The brokers that live.
    pub brokers: BTreeMap<u64, Broker>,
    /// What happened, with the time: the same for every run of a seed.
    pub transcript: Vec<String>,
    /// How long segments are. Short, so that there are some.
    pub segment_bytes: u64,
    clock: SimClock,
    chance: SimChance,
    /// The disks of those that do not live.
    disks: BTreeMap<u64, SimDisk>,
}

impl Cluster {
    /// Nobody yet.
    pub fn new(seed: u64) -> Cluster {
        let chance = SimChance::new(seed);
        Cluster {
            net: SimNet::new(chance.fork()),
            brokers: BTreeMap::new(),
            transcript: Vec::new(),
            segment_bytes: 8 * 1024,
            clock: SimClock::start(),
            chance,
            disks: BTreeMap::new(),
        }
    }

    /// Writes down what happened.
    pub fn tell(&mut self, what: impl Into<String>) {
        let now = tidemill_core::seams::Clock::monotonic(&self.clock);
        self.transcript.push(format!("{:>9.3} s  {}", now.as_secs_f64(), what.into()));
    }

    /// Starts a broker: on the disk it left, or on an empty one.
    pub async fn start(&mut self, id: u64) {
        let disk = self.disks.remove(&id).unwrap_or_default();
        let place = SimBroker::new(BrokerId(id), disk, self.clock.clone(), self.chance.fork(), &self.net);
        let mut options = GroupOptions::new(PathBuf::from(FOLDER), GroupId::Shard(ShardId(0)), BrokerId(id));
        options.log.segment_bytes = self.segment_bytes;
        let faults: Arc<Mutex<Vec<Fault>>> = Arc::default();
        let on_fault = {
            let faults = faults.clone();
            Arc::new(move |fault| faults.lock().push(fault))
        };
        let opened = Group::open(options, &place.world, Arc::new(Mill), on_fault).await;
        let (group, recovery) = opened.unwrap_or_else(|fault| panic!("broker {id} does not start: {fault}"));
        place.serve(Arc::new(Answers(group.clone())));
        self.tell(format!("broker {id} starts, applied {:?}", group.applied().map(|index| index.0)));
        self.brokers.insert(id, Broker { group, recovery, place, faults });
    }

    /// Ends a broker at once, as `kill -9` does.
    pub fn kill(&mut self, id: u64) {
        let broker = self.brokers.remove(&id).expect("it lives");
        self.tell(format!("broker {id} is killed"));
        self.disks.insert(id, broker.place.kill());
    }

    /// Ends a broker orderly.
    pub async fn stop(&mut self, id: u64) {
        let broker = self.brokers.remove(&id).expect("it lives");
        broker.group.shutdown().await.expect("it shuts down without a fault");
        self.tell(format!("broker {id} stops"));
        self.disks.insert(id, broker.place.kill());
    }

    /// Takes the power from a broker: of what was not synced, any part may be gone.
    pub fn cut_power(&mut self, id: u64) {
        let broker = self.brokers.remove(&id).expect("it lives");
        self.tell(format!("broker {id} loses its power"));
        let left = broker.place.cut_power(&self.chance);
        self.disks.insert(id, left);
    }

    /// Takes the newest segment from the disk of a broker that does not live.
    pub fn lose_newest_segment(&mut self, id: u64) {
        let disk = &self.disks[&id];
        let segments = disk.files().into_iter().map(|(path, _)| path);
        let newest = segments.filter(|path| path.to_string_lossy().contains("/segment-")).max();
        let newest = newest.expect("it has a segment");
        disk.remove(&newest).expect("a simulated disk removes what it has");
        self.tell(format!("{} of broker {id} is gone", newest.display()));
    }

    /// Lots for the story itself.
    pub fn lots(&self) -> SimChance {
        self.chance.fork()
    }

    /// A broker that lives.
    pub fn broker(&self, id: u64) -> &Broker {
        &self.brokers[&id]
    }

    /// Waits until something is so.
    pub async fn wait(&self, what: &str, is_so: impl Fn(&Cluster) -> bool) {
        let start = tokio::time::Instant::now();
        while !is_so(self) {
            self.check();
            assert!(
                start.elapsed() < PATIENCE,
                "{what}: not so after a minute\n{}",
                self.transcript.join("\n")
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.check();
    }

    /// Waits until one of these brokers leads, and no other does; who, and in which term.
    pub async fn leader_among(&mut self, some: &[u64]) -> (u64, Term) {
        self.wait("a leader", |cluster| some.iter().any(|id| cluster.broker(*id).leads_in().is_some())).await;
        let newest = some.iter().filter_map(|id| Some((*id, self.broker(*id).leads_in()?)));
        let (id, term) = newest.max_by_key(|(_, term)| *term).expect("somebody leads");
        self.tell(format!("broker {id} leads in term {}", term.0));
        (id, term)
    }

    /// Proposes an entry, and waits until it is applied.
    pub async fn write(&self, leader: (u64, Term), entry: Entry) -> Result<LogIndex, ProposeError> {
        self.propose(leader, entry).await?.await
    }

    /// Proposes an entry.
    pub async fn propose(&self, (id, term): (u64, Term), entry: Entry) -> Result<Proposal, ProposeError> {
        self.broker(id).group.propose(term, entry).await
    }

    /// Waits until these brokers have the same log, have applied all of it, and hold the same tables.
    pub async fn agree(&mut self, some: &[u64]) {
        let same = |cluster: &Cluster| {
            let logs =
                some.iter().map(|id| cluster.broker(*id).group.log().last_id()).collect::<BTreeSet<_>>();
            let applied = some.iter().map(|id| cluster.broker(*id).group.applied()).collect::<BTreeSet<_>>();
            logs.len() == 1
                && applied.len() == 1
                && logs.first().copied().flatten().map(|id| id.index) == applied.first().copied().flatten()
        };
        self.wait("all agree", same).await;
        let one = self.broker(some[0]);
        for id in some {
            let other = self.broker(*id);
            assert_eq!(one.entries(), other.entries(), "brokers {} and {id} hold the same log", some[0]);
            assert_eq!(one.rows(), other.rows(), "brokers {} and {id} hold the same tables", some[0]);
            assert_eq!(
                one.offsets(),
                other.offsets(),
                "readers find the same on brokers {} and {id}",
                some[0]
            );
        }
        let (end, steps, entries) = (one.end(), one.last_step(), one.entries().len());
        self.tell(format!("brokers {some:?} agree: {entries} entries, {end} records, {steps} steps"));
    }

    /// Nobody met a fault, no task panicked.
    pub fn check(&self) {
        for (id, broker) in &self.brokers {
            broker.place.spawner.check();
            assert_eq!(*broker.faults.lock(), [], "broker {id}\n{}", self.transcript.join("\n"));
        }
    }
}

/// These brokers.
pub fn brokers(ids: &[u64]) -> BTreeSet<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}
