//! A shard in memory, for stories: it decides against its head, commits when told to, and applies.

use std::collections::VecDeque;

use bytes::Bytes;
use tidemill_core::effect::Effect;
use tidemill_core::entry::Entry;
use tidemill_core::event_time::EventTimeRules;
use tidemill_core::head::{Head, Proposal};
use tidemill_core::ids::{Cursor, DeploymentId, Digest, Generation, LogIndex, ShardId, TaskId, Term};
use tidemill_core::plugin::{Effects, Emitted, GuestLimits, StateChange};
use tidemill_core::rows::TaskRow;
use tidemill_core::seams::Timestamp;
use tidemill_core::shard::control::{self, Control, NewPartition, NewTask};
use tidemill_core::shard::produce::{self, Produced, Verdict};
use tidemill_core::shard::ship::{self, Reception, Shipment, Shipped};
use tidemill_core::shard::step::{self, Outcome, Proposed, Source, StepRefused};
use tidemill_core::shard::{self, Deciding};
use tidemill_core::tables::{self, Key, MemoryTables};
use tidemill_core::task::{FailurePolicy, Input, Output, TaskSpec};
use tidemill_protocol::batch::{BatchBuilder, BatchHeader};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::ids::{
    Offset, Partition, Position, ProducerEpoch, ProducerId, Sequence, TopicId, TopicPartition,
};

pub const ORDERS: TopicPartition = at(1, 0);
pub const LINES: TopicId = TopicId([2; 16]);
pub const DEAD: TopicId = TopicId([3; 16]);
pub const TASK: TaskId = TaskId { deployment: DeploymentId(7), partition: Partition(0) };

pub const fn at(topic: u8, partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicId([topic; 16]), partition: Partition(partition) }
}

/// A shard and its log.
pub struct Mill {
    pub applied: MemoryTables,
    pub head: Head,
    pub log: Vec<Entry>,
    waiting: VecDeque<(Proposal, Entry)>,
    pub now: Timestamp,
}

impl Mill {
    pub fn holding(partitions: &[TopicPartition]) -> Mill {
        let mut mill = Mill {
            applied: MemoryTables::default(),
            head: Head::default(),
            log: Vec::new(),
            waiting: VecDeque::new(),
            now: Timestamp(1_000),
        };
        let partitions = partitions.iter().map(|at| NewPartition {
            topic: at.topic,
            partition: at.partition.0,
            batch_bytes_max: 10_000,
        });
        mill.control(&Control::CreatePartitions { partitions: partitions.collect() });
        mill.commit();
        mill
    }

    pub fn decide<T>(&self, decide: impl FnOnce(&Deciding) -> T) -> T {
        let head = self.head.over(&self.applied);
        decide(&Deciding { head: &head, now: self.now, term: Term(3) })
    }

    pub fn propose(&mut self, entry: Entry) {
        // What is written is what is read: every entry passes through its bytes.
        let entry = Entry::parse(&entry.encode()).unwrap();
        let fold = |tables: &mut dyn tables::Tables| {
            shard::apply(tables, LogIndex(u64::MAX), &entry, &mut Vec::new())
        };
        let draft = self.head.draft(&self.applied, fold).unwrap();
        let proposal = self.head.fold(draft);
        self.waiting.push_back((proposal, entry));
    }

    /// Commits and applies everything proposed.
    pub fn commit(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some((proposal, entry)) = self.waiting.pop_front() {
            let index = LogIndex(self.log.len() as u64);
            shard::apply(&mut self.applied, index, &entry, &mut effects).unwrap();
            self.head.settle(proposal);
            self.log.push(entry);
        }
        effects
    }

    /// Loses what is not committed, as a change of term does.
    pub fn lose_uncommitted(&mut self) {
        self.waiting.clear();
        self.head = Head::default();
    }

    pub fn control(&mut self, control: &Control) {
        let entry = self.decide(|deciding| control::decide(deciding, control)).unwrap();
        self.propose(entry);
    }

    pub fn produce(&mut self, produced: Produced) -> Verdict {
        let (verdicts, entry) = self.decide(|deciding| produce::decide(deciding, &[produced])).unwrap();
        entry.into_iter().for_each(|entry| self.propose(entry));
        verdicts.into_iter().next().unwrap()
    }

    pub fn step(&mut self, proposed: &Proposed) -> Result<(), StepRefused> {
        let entry = self.decide(|deciding| step::decide(deciding, proposed)).unwrap()?;
        self.propose(entry);
        Ok(())
    }

    pub fn receive(&mut self, shipments: &[Shipment]) -> Vec<Reception> {
        let (receptions, entry) = self.decide(|deciding| ship::decide_arrival(deciding, shipments)).unwrap();
        entry.into_iter().for_each(|entry| self.propose(entry));
        receptions
    }

    pub fn shipped(&mut self, words: &[Shipped]) {
        let entry = self.decide(|deciding| ship::decide_shipped(deciding, words)).unwrap();
        self.propose(entry);
    }

    pub fn end(&self, at: TopicPartition) -> u64 {
        shard::partition(&self.applied, at).unwrap().unwrap().end.0
    }

    pub fn task(&self) -> TaskRow {
        tables::read(&self.applied, &Key::Task(TASK)).unwrap().unwrap()
    }

    /// What committed steps derived for other shards and has not arrived.
    pub fn pending(&self, to: ShardId) -> usize {
        let start = Key::pending_prefix(to);
        let end = tables::end_of_prefix(&start);
        tables::View::scan(&self.applied, &start, end.as_deref(), usize::MAX).unwrap().len()
    }
}

pub fn batch(producer: i64, epoch: i16, sequence: i32, records: u32) -> Produced {
    let mut builder = BatchBuilder::new(Codec::None);
    for record in 0..records {
        builder.push(i64::from(record), Some(b"key"), Some(&record.to_be_bytes()), &[]).unwrap();
    }
    builder.producer(ProducerId(producer), ProducerEpoch(epoch), Sequence(sequence));
    let batch = builder.build().unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    Produced { at: ORDERS, batch, header }
}

/// A task that reads ORDERS and writes LINES, of which partition 0 lies here and 1 in shard 5.
pub fn spec(generation: u32) -> TaskSpec {
    let output =
        |topic, name: &str, shards| Output { topic, name: name.into(), shards, batch_bytes_max: 2_000 };
    TaskSpec {
        deployment: TASK.deployment,
        name: "lines".into(),
        generation: Generation(generation),
        digest: Digest([9; 32]),
        inputs: vec![Input { topic: ORDERS.topic, name: "orders".into() }],
        outputs: vec![output(LINES, "lines", vec![ShardId(0), ShardId(5)])],
        dead_letter: output(DEAD, "lines.dead-letter", vec![ShardId(0)]),
        log: None,
        config: Default::default(),
        limits: GuestLimits::default(),
        failure: FailurePolicy::default(),
        hops_max: 4,
        event_time: EventTimeRules { lateness_ms: 0, idle_ms: Some(1_000) },
        paused: false,
        state_versions: vec![1],
        restarted: Generation(0),
        bundles: Vec::new(),
        emptied: Generation(0),
    }
}

pub fn start(mill: &mut Mill, generation: u32) {
    start_as(mill, spec(generation));
}

pub fn start_as(mill: &mut Mill, spec: TaskSpec) {
    let tasks = vec![NewTask { partition: 0, cursor: Cursor::default(), starts: vec![0] }];
    mill.control(&Control::StartTasks { spec: Box::new(spec), tasks });
    mill.commit();
}

pub fn source(offset: u64) -> Source {
    let position = Position { at: ORDERS, offset: Offset(offset) };
    Source { position, timestamp_ms: 50, root: position, hops: 0 }
}

pub fn emitted(parent: u32, key: &'static str) -> Emitted {
    Emitted {
        parent,
        output: 0,
        key: Some(Bytes::from_static(key.as_bytes())),
        value: Some(Bytes::from_static(b"a line")),
        headers: vec![],
        timestamp_ms: None,
    }
}

/// A key whose records go to this partition of LINES.
pub fn key_for(partition: u32) -> &'static str {
    let lands = |key: &&'static str| {
        spec(1).outputs[0].partition(Some(&Bytes::from(*key)), Partition(0)).0 == partition
    };
    ["a", "b", "c", "d", "e", "f", "g", "h"]
        .into_iter()
        .find(lands)
        .expect("eight keys fall on two partitions")
}

pub fn set(key: &'static str, value: &'static str) -> StateChange {
    StateChange { key: Bytes::from(key), value: Some(Bytes::from(value)) }
}

/// A step of the task's first generation over one record, from entry `from` to the next.
pub fn proposed(sources: &[Source], from: u64, effects: Effects) -> Proposed<'_> {
    let cursor = |index| Cursor { index: LogIndex(index), skip: 0 };
    Proposed {
        task: TASK,
        generation: Generation(1),
        jumps: 0,
        known: None,
        from: cursor(from),
        to: cursor(from + 1),
        positions: vec![Offset(from + 1)],
        outcome: Outcome::Done,
        sources,
        time: Timestamp(0),
        observed: vec![],
        fired: vec![],
        letter: None,
        effects,
    }
}

/// The batches of entry `index` that are for shard 5.
pub fn shipments(mill: &Mill, index: usize) -> Vec<Shipment> {
    let entry = &mill.log[index];
    let meta = step::meta(entry).unwrap();
    let link = tidemill_core::rows::LinkRow { generation: meta.generation, step: meta.step };
    let away = entry.batches.iter().filter(|batch| batch.away.is_some());
    away.zip(meta.previous)
        .map(|(batch, previous)| Shipment { task: meta.task, link, previous, batch: batch.clone() })
        .collect()
}
