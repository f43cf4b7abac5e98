//! What a step's entry says beside its batches, byte by byte.
//!
//! ```text
//! meta: deployment u64 · partition u32 · generation u32 · step u64
//!       · from: index u64, skip u32 · to: index u64, skip u32
//!       · outcome u8 · attempts u32 · reason text
//!       · inputs n u16 · n × next offset u64
//!       · changes n u32 · n × (key blob · kept u8 · value blob, if kept)
//!       · away n u16 · n × (generation u32 · step u64) of the step before
//!       · time u64 · lateness u64 · idle u64 · observed n u16 · n × observation, see [`crate::event_time`]
//!       · fired n u32 × (kind u8 · at i64 · name blob)
//!       · timers n u32 × (kind u8 · name blob · set u8 [· at i64 · source, see [`crate::timers`]])
//!       [· 1 u8 · topic id 16 · partition u32 · offset u64]: the dead letter that it was given, if it was
//! ```

use bytes::Bytes;
use tidemill_protocol::ids::{Offset, Partition, Position, TopicId, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::{Outcome, Source};
use crate::entry::Entry;
use crate::event_time::{self, EventTimeRow, EventTimeRules, Observation};
use crate::fault::Fault;
use crate::ids::{Cursor, DeploymentId, Generation, LogIndex, StepNumber, TaskId};
use crate::plugin::{StateChange, Timer, TimerKind};
use crate::rows::LinkRow;
use crate::seams::Timestamp;
use crate::tables::{self, Key, View};
use crate::timers;

/// What stands before the dead letter of a step that was given one: what is behind it otherwise is of a newer version.
const LETTER: u8 = 1;
/// Room for what a small step says.
const META_BYTES: usize = 192;

/// What a step's entry says beside its batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepMeta {
    /// The task.
    pub task: TaskId,
    /// The generation that ran.
    pub generation: Generation,
    /// The step's number.
    pub step: StepNumber,
    /// Where it began to read.
    pub from: Cursor,
    /// Where the next begins.
    pub to: Cursor,
    /// How it went.
    pub outcome: Outcome,
    /// Per input, the first offset that is not consumed.
    pub positions: Vec<Offset>,
    /// What it changed in the task's state.
    pub state: Vec<StateChange>,
    /// For each batch that goes to another shard, in their order: the step before it that derived something for
    /// the same partition.
    pub previous: Vec<LinkRow>,
    /// How it moved the task's clocks.
    pub clock: Clock,
    /// The timers that it was given.
    pub fired: Vec<Timer>,
    /// The timers that it set, moved or removed.
    pub timers: Vec<TimerMove>,
    /// The dead letter that it was given again.
    pub letter: Option<Position>,
}

/// How a step moved its task's clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// The rules that it went by: those of the spec.
    pub rules: EventTimeRules,
    /// The append time of what it consumed, or of a tick.
    pub time: Timestamp,
    /// What it saw of the writers of its inputs.
    pub observed: Vec<Observation>,
}

impl Clock {
    /// The task's clocks after the step.
    pub(super) fn moved(
        &self,
        view: &(impl View + ?Sized),
        task: TaskId,
        step: StepNumber,
    ) -> Result<EventTimeRow, Fault> {
        let mut row = tables::read::<EventTimeRow>(view, &Key::EventTime(task))?.unwrap_or_default();
        row.observe(&self.rules, &self.observed, self.time, step);
        Ok(row)
    }
}

/// A timer that a step set or moved to a time, for a record; or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerMove {
    /// Its kind.
    pub kind: TimerKind,
    /// Its name.
    pub name: Bytes,
    /// Its new time in milliseconds since 1970, and the record; none removes it.
    pub to: Option<(i64, Source)>,
}

impl StepMeta {
    /// Writes it.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(META_BYTES);
        w.u64(self.task.deployment.0).u32(self.task.partition.0).u32(self.generation.0).u64(self.step.0);
        for cursor in [self.from, self.to] {
            w.u64(cursor.index.0).u32(cursor.skip);
        }
        let (outcome, attempts, reason) = match &self.outcome {
            Outcome::Done => (0, 0, ""),
            Outcome::Failed { attempts, reason } => (1, *attempts, reason.as_str()),
            Outcome::DeadLettered { reason } => (2, 0, reason.as_str()),
            Outcome::Stopped { reason } => (3, 0, reason.as_str()),
        };
        w.u8(outcome).u32(attempts).text(reason);
        w.u16(self.positions.len() as u16);
        self.positions.iter().for_each(|next| {
            w.u64(next.0);
        });
        w.u32(self.state.len() as u32);
        for change in &self.state {
            w.blob(&change.key).u8(u8::from(change.value.is_some()));
            if let Some(value) = &change.value {
                w.blob(value);
            }
        }
        w.u16(self.previous.len() as u16);
        for link in &self.previous {
            w.u32(link.generation.0).u64(link.step.0);
        }
        w.u64(self.clock.time.0);
        event_time::write_rules(&mut w, &self.clock.rules);
        w.u16(self.clock.observed.len() as u16);
        self.clock.observed.iter().for_each(|seen| event_time::write_observation(&mut w, seen));
        w.u32(self.fired.len() as u32);
        for timer in &self.fired {
            w.u8(timer.kind as u8).i64(timer.at_ms).blob(&timer.name);
        }
        w.u32(self.timers.len() as u32);
        for change in &self.timers {
            w.u8(change.kind as u8).blob(&change.name).u8(u8::from(change.to.is_some()));
            if let Some((at_ms, source)) = &change.to {
                timers::write_source(w.i64(*at_ms), source);
            }
        }
        if let Some(Position { at, offset }) = self.letter {
            w.u8(LETTER).raw(&at.topic.0).u32(at.partition.0).u64(offset.0);
        }
        w.finish()
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Malformed`] when these are not its bytes.
    pub fn decode(bytes: &Bytes) -> Result<StepMeta, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let r = &mut reader;
        let deployment = DeploymentId(r.u64("deployment")?);
        let task = TaskId { deployment, partition: Partition(r.u32("partition")?) };
        let generation = Generation(r.u32("generation")?);
        let step = StepNumber(r.u64("step")?);
        let from = read_cursor(r)?;
        let to = read_cursor(r)?;
        let outcome = r.u8("outcome")?;
        let attempts = r.u32("attempts")?;
        let reason = r.text("reason")?;
        let outcome = match outcome {
            0 => Outcome::Done,
            1 => Outcome::Failed { attempts, reason },
            2 => Outcome::DeadLettered { reason },
            3 => Outcome::Stopped { reason },
            _ => return Err(r.malformed("outcome")),
        };
        let positions = (0..r.u16("inputs")?).map(|_| Ok(Offset(r.u64("position")?)));
        let positions = positions.collect::<Result<_, Malformed>>()?;
        let state = (0..r.u32("changes")?).map(|_| read_change(r)).collect::<Result<_, _>>()?;
        let previous = (0..r.u16("links")?).map(|_| read_link(r)).collect::<Result<_, _>>()?;
        let clock = read_clock(r)?;
        let fired = (0..r.u32("fired timers")?).map(|_| read_fired(r)).collect::<Result<_, _>>()?;
        let timers = (0..r.u32("timers")?).map(|_| read_move(r)).collect::<Result<_, _>>()?;
        let letter = match r.remaining() {
            0 => None,
            _ => Some(read_letter(r)?),
        };
        reader.finish("step")?;
        Ok(StepMeta {
            task,
            generation,
            step,
            from,
            to,
            outcome,
            positions,
            state,
            previous,
            clock,
            fired,
            timers,
            letter,
        })
    }
}

fn read_cursor(reader: &mut Reader) -> Result<Cursor, Malformed> {
    let index = LogIndex(reader.u64("cursor")?);
    Ok(Cursor { index, skip: reader.u32("cursor")? })
}

fn read_change(reader: &mut Reader) -> Result<StateChange, Malformed> {
    let key = reader.blob("state key")?;
    let value = match reader.u8("state change")? {
        0 => None,
        _ => Some(reader.blob("state value")?),
    };
    Ok(StateChange { key, value })
}

fn read_link(reader: &mut Reader) -> Result<LinkRow, Malformed> {
    let generation = Generation(reader.u32("link")?);
    Ok(LinkRow { generation, step: StepNumber(reader.u64("link")?) })
}

fn read_clock(reader: &mut Reader) -> Result<Clock, Malformed> {
    let time = Timestamp(reader.u64("task time")?);
    let rules = event_time::read_rules(reader)?;
    let observed = (0..reader.u16("observations")?).map(|_| event_time::read_observation(reader));
    Ok(Clock { rules, time, observed: observed.collect::<Result<_, _>>()? })
}

fn read_kind(reader: &mut Reader) -> Result<TimerKind, Malformed> {
    let number = reader.u8("kind of timer")?;
    TimerKind::of(number).ok_or_else(|| reader.malformed("kind of timer"))
}

fn read_fired(reader: &mut Reader) -> Result<Timer, Malformed> {
    let kind = read_kind(reader)?;
    let at_ms = reader.i64("due time")?;
    Ok(Timer { kind, at_ms, name: reader.blob("timer")? })
}

fn read_move(reader: &mut Reader) -> Result<TimerMove, Malformed> {
    let kind = read_kind(reader)?;
    let name = reader.blob("timer")?;
    let to = match reader.u8("timer")? {
        0 => None,
        _ => Some((reader.i64("due time")?, timers::read_source(reader)?)),
    };
    Ok(TimerMove { kind, name, to })
}

fn read_letter(reader: &mut Reader) -> Result<Position, Malformed> {
    if reader.u8("letter")? != LETTER {
        return Err(reader.malformed("letter"));
    }
    let topic = TopicId(reader.array("letter")?);
    let at = TopicPartition { topic, partition: Partition(reader.u32("letter")?) };
    Ok(Position { at, offset: Offset(reader.u64("letter")?) })
}

/// Reads the meta of a step's entry.
///
/// # Errors
/// A [`Fault`] when it is damaged.
pub fn meta(entry: &Entry) -> Result<StepMeta, Fault> {
    StepMeta::decode(&entry.meta).map_err(|malformed| Fault::damaged("a step's entry", malformed))
}
