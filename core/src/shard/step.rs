//! A step of a task: what it consumed, what it derived, what it changed, in one entry.
//!
//! Exactly once follows from this entry. All of it becomes real together: what goes to partitions of this shard
//! is thereby in their logs; what goes to other shards waits in the entry to be shipped, each batch naming the
//! step before it that derived something for the same partition (see [`super::ship`]).
//!
//! Invariants:
//! 1. A step begins where the one before it ended, and has the next number.
//! 2. Only the newest generation of a running task takes steps, on what it read since a log start last passed it.
//! 3. A step that failed consumes nothing and derives nothing.
//! 4. A step has events, due timers, or one dead letter that waits to be given to its plugin again; a timer fires once
//!    each time it is set, and a letter is given once. Neither consumes anything.
//!
//! What the entry says is drawn in [`meta`](mod@meta).

pub mod meta;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tidemill_protocol::batch::{self, BatchBuilder, BatchHeader};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::ids::{Offset, Partition, Position, TopicPartition};

pub use meta::{Clock, StepMeta, TimerMove, meta};

use super::{Deciding, extend, letters, partition};
use crate::effect::Effect;
use crate::entry::{Entry, EntryKind, PlacedBatch, stored_header};
use crate::envelope::{Derivation, Envelope, Lineage, Origin};
use crate::event_time::Observation;
use crate::fault::Fault;
use crate::ids::{Cursor, Generation, LogIndex, ShardId, TaskId};
use crate::limits;
use crate::plugin::{Effects, Emitted, Timer, TimerChange};
use crate::rows::{LinkRow, PendingRow, TaskRow, TaskStatus};
use crate::seams::Timestamp;
use crate::tables::{self, Key, Tables, View};
use crate::task::{KnownSpec, Output, TaskSpec};
use crate::timers::{self, SetBy};

/// In [`Emitted::output`]: the task's dead-letter topic, which a guest cannot name.
pub const DEAD_LETTER: u16 = u16::MAX;

/// What a task wants to commit.
#[derive(Debug, Clone)]
pub struct Proposed<'a> {
    /// The task.
    pub task: TaskId,
    /// The generation that ran.
    pub generation: Generation,
    /// How often a log start had passed the task when it read what it consumes.
    pub jumps: u32,
    /// What the task was told, if the caller knows: it need not be read again, unless something else stands in the
    /// tables.
    pub known: Option<&'a KnownSpec>,
    /// Where it began to read.
    pub from: Cursor,
    /// Where it is to go on.
    pub to: Cursor,
    /// Per input, the first offset that is not consumed then.
    pub positions: Vec<Offset>,
    /// How it went.
    pub outcome: Outcome,
    /// The events, or due timers, of the step: what its emitted records name as parents.
    pub sources: &'a [Source],
    /// The task's append time then: the highest of what it consumed, or of a tick.
    pub time: Timestamp,
    /// What it saw of the writers of its inputs.
    pub observed: Vec<Observation>,
    /// The timers that it was given, and that are set no more unless it set them anew.
    pub fired: Vec<Timer>,
    /// The dead letter that it was given again.
    pub letter: Option<Position>,
    /// What it wants to become real.
    pub effects: Effects,
}

/// An event of a step, or the record that set a timer, as lineage sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Its place.
    pub position: Position,
    /// Its own time, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// What its chain began with: itself, for a produced record.
    pub root: Position,
    /// The steps between that and itself.
    pub hops: u32,
}

/// How a step went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The guest handled its events.
    Done,
    /// It did not, and will be tried again: nothing is consumed.
    Failed {
        /// Failed attempts at the event, this one included.
        attempts: u32,
        /// Why.
        reason: String,
    },
    /// It did not, and the event went to the dead-letter topic.
    DeadLettered {
        /// Why.
        reason: String,
    },
    /// It did not, and the task stopped before the event: nothing is consumed.
    Stopped {
        /// Why.
        reason: String,
    },
}

/// A step that cannot be committed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StepRefused {
    /// Another generation is at work, the task stopped, or another step was committed in the meantime: what ran
    /// is void.
    #[error("the task has moved on")]
    Fenced,
    /// The dead letter does not wait to be given again any more: it was discarded, or is not there.
    #[error("the dead letter is not to be redriven any more")]
    Withdrawn,
    /// An emitted record would be further from its chain's first than the task may go.
    #[error("a record derived from {} of topic {} would be hop {hops} of its chain, and the limit is {limit}; cycle.max-hops in the manifest raises it", parent.offset.0, parent.at.topic)]
    Hops {
        /// The event it would derive from.
        parent: Position,
        /// How far it would be.
        hops: u32,
        /// How far it may be.
        limit: u32,
    },
    /// What the step derives for one partition is larger than its topic takes.
    #[error("the step derives {bytes} bytes for partition {partition} of {topic}, and the topic takes {limit} in a batch; its setting max.message.bytes raises it, and plugin resume tells the plugin", partition = .partition.0)]
    TooLarge {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The size of the batch.
        bytes: usize,
        /// The topic's limit.
        limit: usize,
    },
    /// All that the step wants is larger than an entry may be.
    #[error(
        "what the step derives, keeps and sets takes {bytes} bytes of the log, and {} are possible",
        limits::ENTRY_BYTES_MAX
    )]
    Entry {
        /// The size of the entry.
        bytes: usize,
    },
    /// A derived record cannot be written down.
    #[error("a derived record is not one: {0}")]
    Unwritable(String),
}

/// Decides about a step: fences it, gives its records offsets, and makes its entry.
///
/// # Errors
/// The outer is a [`Fault`] of the storage, the inner says why the step is not committed.
pub fn decide(deciding: &Deciding, proposed: &Proposed) -> Result<Result<Entry, StepRefused>, Fault> {
    let task = proposed.task;
    let Some(row) = tables::read::<TaskRow>(deciding.head, &Key::Task(task))? else {
        return Ok(Err(StepRefused::Fenced));
    };
    let goes_on = row.status == TaskStatus::Running
        && row.generation == proposed.generation
        && row.jumps == proposed.jumps
        && row.cursor == proposed.from;
    if !goes_on {
        return Ok(Err(StepRefused::Fenced));
    }
    let read;
    let spec: &TaskSpec = match proposed.known {
        Some(known) if known.deployment == task.deployment && known.stands(deciding.head)? => known,
        _ => {
            read = KnownSpec::read(deciding.head, task.deployment)?;
            match &read {
                Some(read) => read,
                None => return Ok(Err(StepRefused::Fenced)),
            }
        }
    };
    for timer in &proposed.fired {
        if !timers::is_set(deciding.head, task, timer)? {
            return Ok(Err(StepRefused::Fenced));
        }
    }

    if let Some(letter) = proposed.letter
        && letters::waiting(deciding.head, letter)?.is_none()
    {
        return Ok(Err(StepRefused::Withdrawn));
    }

    let step = row.step.next();
    let clock = Clock { rules: spec.event_time, time: proposed.time, observed: proposed.observed.clone() };
    let clocks = clock.moved(deciding.head, task, step)?;
    let derivation = Derivation {
        task,
        generation: row.generation,
        digest: spec.digest,
        step,
        by_timer: !proposed.fired.is_empty(),
        event_time_watermark_ms: clocks.watermark_ms,
        lineage: Vec::new(),
    };
    let batches = match derive(spec, proposed, &derivation) {
        Ok(batches) => batches,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut meta = StepMeta {
        task,
        generation: row.generation,
        step,
        from: proposed.from,
        to: proposed.to,
        outcome: proposed.outcome.clone(),
        positions: proposed.positions.clone(),
        state: proposed.effects.state.clone(),
        previous: Vec::new(),
        clock,
        fired: proposed.fired.clone(),
        timers: proposed.effects.timers.iter().map(|change| resolved(change, proposed.sources)).collect(),
        letter: proposed.letter,
    };
    let append_time = deciding.append_time()?;
    let mut placed = Vec::with_capacity(batches.len());
    for derived in batches {
        // A partition that this shard does not hold lies elsewhere: the spec says where, and what its topic took when
        // the generation was made. Of one that is here its row says what it takes, as to producers.
        let (base_offset, limit) = match derived.shard {
            None => {
                let row = partition(deciding.head, derived.at)?;
                let row = row.ok_or_else(|| {
                    Fault::damaged("a task's spec", "it names a partition that is not here")
                })?;
                (row.end, row.batch_bytes_max)
            }
            Some(_) => {
                let link = tables::read::<LinkRow>(deciding.head, &Key::Outbound(task, derived.at))?;
                meta.previous.push(link.unwrap_or_default());
                (Offset(0), derived.output.batch_bytes_max)
            }
        };
        let (bytes, limit) = (derived.batch.len(), limit as usize);
        if bytes > limit && !derived.is_letter {
            let (topic, partition) = (derived.output.name.clone(), derived.at.partition);
            return Ok(Err(StepRefused::TooLarge { topic, partition, bytes, limit }));
        }
        let mut stamped = BytesMut::from(&derived.batch[..]);
        batch::stamp(&mut stamped, base_offset, deciding.leader_epoch());
        let crc = stored_header(&stamped)?.crc;
        let origin = Origin::Task(Derivation { lineage: derived.lineage, ..derivation.clone() });
        let envelope = Envelope { append_time, origin };
        placed.push(PlacedBatch {
            away: derived.shard,
            at: derived.at,
            envelope: envelope.seal(derived.at, base_offset, crc),
            batch: stamped.freeze(),
        });
    }
    let entry = Entry { kind: EntryKind::Step, append_time, meta: meta.encode(), batches: placed };
    let bytes = entry.encoded_bytes();
    Ok(if bytes > limits::ENTRY_BYTES_MAX { Err(StepRefused::Entry { bytes }) } else { Ok(entry) })
}

/// A change of the timers, with the record in place of its number in the step.
fn resolved(change: &TimerChange, sources: &[Source]) -> TimerMove {
    match change {
        TimerChange::Set { timer, parent } => TimerMove {
            kind: timer.kind,
            name: timer.name.clone(),
            to: Some((timer.at_ms, sources[*parent as usize])),
        },
        TimerChange::Cancel { kind, name } => TimerMove { kind: *kind, name: name.clone(), to: None },
    }
}

/// What a step derives for one partition.
struct Derived<'a> {
    output: &'a Output,
    /// Whether it is a dead letter, which is as large as it must be.
    is_letter: bool,
    /// The shard of that partition, when it is not this one.
    shard: Option<ShardId>,
    at: TopicPartition,
    batch: Bytes,
    lineage: Vec<Lineage>,
}

/// Puts a step's records into batches, one for each partition, in the order in which they were emitted.
fn derive<'a>(
    spec: &'a TaskSpec,
    proposed: &Proposed,
    derivation: &Derivation,
) -> Result<Vec<Derived<'a>>, StepRefused> {
    let mut by_partition: BTreeMap<(u16, Partition), Vec<&Emitted>> = BTreeMap::new();
    for emitted in &proposed.effects.emitted {
        let partition = partition_of(spec, emitted, derivation.task.partition);
        by_partition.entry((emitted.output, partition)).or_default().push(emitted);
    }
    let own = spec.home_of(derivation.task.partition);
    let mut batches = Vec::with_capacity(by_partition.len());
    for ((number, partition), records) in by_partition {
        let output = output(spec, number);
        let mut builder = BatchBuilder::new(Codec::None);
        let mut lineage = Vec::with_capacity(records.len());
        for emitted in records {
            let source = &proposed.sources[emitted.parent as usize];
            let hops = source.hops + 1;
            if hops > spec.hops_max && number != DEAD_LETTER {
                return Err(StepRefused::Hops { parent: source.position, hops, limit: spec.hops_max });
            }
            lineage.push(Lineage { parent: source.position, root: source.root, hops });
            push(&mut builder, emitted, source).map_err(StepRefused::Unwritable)?;
        }
        let batch = builder.build().map_err(|error| StepRefused::Unwritable(error.to_string()))?;
        let shard = output.shards[partition.0 as usize];
        batches.push(Derived {
            output,
            is_letter: number == DEAD_LETTER,
            shard: (shard != own).then_some(shard),
            at: TopicPartition { topic: output.topic, partition },
            batch,
            lineage,
        });
    }
    Ok(batches)
}

fn push(builder: &mut BatchBuilder, emitted: &Emitted, source: &Source) -> Result<(), String> {
    let headers: Vec<_> = emitted.headers.iter().map(|h| (h.name.as_str(), h.value.as_deref())).collect();
    let timestamp = emitted.timestamp_ms.unwrap_or(source.timestamp_ms);
    builder
        .push(timestamp, emitted.key.as_deref(), emitted.value.as_deref(), &headers)
        .map_err(|error| error.to_string())
}

/// Where a record goes that the task on `source` derives: a dead letter always to the partition of its record, so that
/// the two lie in one shard.
pub fn partition_of(spec: &TaskSpec, emitted: &Emitted, source: Partition) -> Partition {
    match emitted.output {
        DEAD_LETTER => source,
        number => output(spec, number).partition(emitted.key.as_ref(), source),
    }
}

fn output(spec: &TaskSpec, number: u16) -> &Output {
    if number == DEAD_LETTER { &spec.dead_letter } else { &spec.outputs[usize::from(number)] }
}

/// See [`super::apply`].
pub(super) fn apply(
    tables: &mut dyn Tables,
    index: LogIndex,
    entry: &Entry,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    let meta = meta(entry)?;
    let task = meta.task;
    let key = Key::Task(task);
    let row = tables::read::<TaskRow>(tables, &key)?;
    let mut row = row.ok_or_else(|| Fault::damaged("a shard's log", "a step of a task it has not"))?;
    row.step = meta.step;
    row.cursor = meta.to;
    for ((_, position), next) in row.positions.iter_mut().zip(&meta.positions) {
        *position = *next;
    }
    let (attempts, reason) = match &meta.outcome {
        Outcome::Done => (0, ""),
        Outcome::Failed { attempts, reason } => (*attempts, reason.as_str()),
        Outcome::DeadLettered { reason } | Outcome::Stopped { reason } => (0, reason.as_str()),
    };
    match meta.letter {
        None => (row.attempts, row.reason) = (attempts, reason.to_owned()),
        // An event may be waiting for its next attempt, which stays what it is: a letter has its own.
        Some(letter) => {
            letters::given(tables, letter, &meta.outcome, entry.append_time)?;
            if row.attempts == 0 || meta.outcome != Outcome::Done {
                reason.clone_into(&mut row.reason);
            }
        }
    }
    if let Outcome::Stopped { .. } = meta.outcome {
        row.status = TaskStatus::Stopped;
        effects.push(Effect::TaskStopped { task });
    }
    tables::write(tables, &key, &row);
    for change in &meta.state {
        let key = Key::State(task, change.key.clone()).encode();
        match &change.value {
            Some(value) => tables.put(key, value.clone()),
            None => tables.delete(key),
        }
    }
    apply_time(tables, &meta)?;
    let mut ships = Vec::new();
    for placed in &entry.batches {
        match placed.away {
            None => extend(tables, placed.at, &BatchHeader::parse(&placed.batch).map_err(damaged)?, effects)?,
            Some(shard) => {
                let link = LinkRow { generation: meta.generation, step: meta.step };
                tables::write(tables, &Key::Outbound(task, placed.at), &link);
                ships.push(shard);
            }
        }
    }
    ships.sort();
    ships.dedup();
    for to in ships {
        tables::write(tables, &Key::Pending(to, task, meta.step), &PendingRow { index });
        effects.push(Effect::ToShip { to });
    }
    Ok(())
}

/// Moves the task's clocks, and its timers: what fired is set no more, unless the step set it anew.
fn apply_time(tables: &mut dyn Tables, meta: &StepMeta) -> Result<(), Fault> {
    let task = meta.task;
    let clocks = meta.clock.moved(tables, task, meta.step)?;
    tables::write(tables, &Key::EventTime(task), &clocks);
    for timer in &meta.fired {
        timers::remove(tables, task, timer.kind, &timer.name)?;
    }
    for change in &meta.timers {
        match change.to {
            None => timers::remove(tables, task, change.kind, &change.name)?,
            Some((at_ms, source)) => {
                let timer = Timer { kind: change.kind, name: change.name.clone(), at_ms };
                timers::set(tables, task, &timer, &SetBy { step: meta.step, source })?;
            }
        }
    }
    Ok(())
}

fn damaged(error: impl ToString) -> Fault {
    Fault::damaged("a step's batch", error)
}

/// A task's state as its next step finds it.
pub struct TaskState<'a> {
    /// The task.
    pub task: TaskId,
    /// The head state of its shard.
    pub head: &'a dyn View,
}

impl TaskState<'_> {
    /// As [`crate::plugin::StateView::get`].
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.head.get(&Key::State(self.task, Bytes::copy_from_slice(key)).encode())
    }

    /// As [`crate::plugin::StateView::scan`].
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        let prefix = Key::state_prefix(self.task);
        let place = |key: &[u8]| Key::State(self.task, Bytes::copy_from_slice(key)).encode();
        let end = end.map(place).or_else(|| tables::end_of_prefix(&prefix));
        let found = self.head.scan(&place(start), end.as_deref(), limit)?;
        Ok(found.into_iter().map(|(key, value)| (key.slice(prefix.len()..), value)).collect())
    }
}
