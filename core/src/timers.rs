//! A task's timers: by name, so that one can be moved, and by time, so that the next one is found.
//!
//! Setting, moving and removing them is part of a step, and so is firing: a step that was given a due timer removes it
//! with its entry, unless it set it anew.

use bytes::Bytes;
use tidemill_protocol::ids::{Offset, Partition, Position, TopicId, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use crate::event_time::EventTimeRow;
use crate::fault::Fault;
use crate::ids::{StepNumber, TaskId};
use crate::plugin::{Timer, TimerKind};
use crate::shard::step::Source;
use crate::tables::{self, Key, Row, Tables, View};

/// How many timers are looked at together.
const PAGE: usize = 64;

/// A set timer: `at i64`, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerRow {
    /// When it is due, in milliseconds since 1970.
    pub at_ms: i64,
}

impl Row for TimerRow {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.i64(self.at_ms);
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let at_ms = reader.i64("due time")?;
        reader.finish("timer row")?;
        Ok(TimerRow { at_ms })
    }
}

/// Who set a timer, and when: `step u64 · source`, by its due time and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetBy {
    /// The step that set it.
    pub step: StepNumber,
    /// The record that it was set for.
    pub source: Source,
}

impl Row for SetBy {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u64(self.step.0);
        write_source(&mut writer, &self.source);
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let step = StepNumber(reader.u64("step")?);
        let source = read_source(&mut reader)?;
        reader.finish("timer's source")?;
        Ok(SetBy { step, source })
    }
}

/// Writes a source: `position · root · hops u32 · timestamp i64`; a position is `topic id 16 · partition u32 · offset
/// u64`.
pub(crate) fn write_source(writer: &mut Writer, source: &Source) {
    for position in [source.position, source.root] {
        writer.raw(&position.at.topic.0).u32(position.at.partition.0).u64(position.offset.0);
    }
    writer.u32(source.hops).i64(source.timestamp_ms);
}

/// Reads a source.
pub(crate) fn read_source(reader: &mut Reader) -> Result<Source, Malformed> {
    let mut position = || {
        let topic = TopicId(reader.array("topic")?);
        let at = TopicPartition { topic, partition: Partition(reader.u32("partition")?) };
        Ok(Position { at, offset: Offset(reader.u64("offset")?) })
    };
    let (position, root) = (position()?, position()?);
    let hops = reader.u32("hops")?;
    Ok(Source { position, timestamp_ms: reader.i64("timestamp")?, root, hops })
}

/// Sets a timer, or moves it.
pub(crate) fn set(tables: &mut dyn Tables, task: TaskId, timer: &Timer, by: &SetBy) -> Result<(), Fault> {
    remove(tables, task, timer.kind, &timer.name)?;
    let row = TimerRow { at_ms: timer.at_ms };
    tables::write(tables, &Key::Timer(task, timer.kind, timer.name.clone()), &row);
    tables::write(tables, &Key::Due(task, timer.kind, timer.at_ms, timer.name.clone()), by);
    Ok(())
}

/// Removes a timer, if it is set.
pub(crate) fn remove(
    tables: &mut dyn Tables,
    task: TaskId,
    kind: TimerKind,
    name: &Bytes,
) -> Result<(), Fault> {
    let key = Key::Timer(task, kind, name.clone());
    if let Some(row) = tables::read::<TimerRow>(tables, &key)? {
        tables.delete(key.encode());
        tables.delete(Key::Due(task, kind, row.at_ms, name.clone()).encode());
    }
    Ok(())
}

/// Whether this very timer is set.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn is_set(view: &dyn View, task: TaskId, timer: &Timer) -> Result<bool, Fault> {
    let row = tables::read::<TimerRow>(view, &Key::Timer(task, timer.kind, timer.name.clone()))?;
    Ok(row.is_some_and(|row| row.at_ms == timer.at_ms))
}

/// At most `limit` timers of a kind, the earliest first, each with the record that set it.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn earliest(
    view: &dyn View,
    task: TaskId,
    kind: TimerKind,
    limit: usize,
) -> Result<Vec<(Timer, SetBy)>, Fault> {
    from(view, &Key::due_prefix(task, kind), (task, kind), limit)
}

/// At most `limit` timers of a task's kind whose keys are not below `start`.
fn from(
    view: &dyn View,
    start: &Bytes,
    (task, kind): (TaskId, TimerKind),
    limit: usize,
) -> Result<Vec<(Timer, SetBy)>, Fault> {
    let end = tables::end_of_prefix(&Key::due_prefix(task, kind));
    let found = view.scan(start, end.as_deref(), limit)?;
    let read = |(key, value): (Bytes, Bytes)| {
        let damaged = |malformed| Fault::damaged("a timer", malformed);
        match Key::decode(&key).map_err(damaged)? {
            Key::Due(_, kind, at_ms, name) => {
                Ok((Timer { kind, name, at_ms }, SetBy::decode(&value).map_err(damaged)?))
            }
            other => Err(Fault::damaged("a timer", format!("its key is {other:?}"))),
        }
    };
    found.into_iter().map(read).collect()
}

/// At most `limit` timers that are due for a task whose clocks stand so: those of append time first.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn due(
    view: &dyn View,
    task: TaskId,
    clocks: &EventTimeRow,
    limit: usize,
) -> Result<Vec<(Timer, SetBy)>, Fault> {
    let mut due = Vec::new();
    for kind in [TimerKind::AppendTime, TimerKind::EventTime] {
        let mut start = Key::due_prefix(task, kind);
        loop {
            let page = from(view, &start, (task, kind), PAGE)?;
            let Some((last, by)) = page.last().cloned() else { break };
            let is_last = page.len() < PAGE;
            due.extend(page.into_iter().filter(|(timer, by)| is_due(timer, by, clocks)));
            // While a task is idle, those that are due stand between those that were set since; else none is due behind
            // one that is not.
            let may_follow = clocks.idle_since.is_some() || is_due(&last, &by, clocks);
            if is_last || !may_follow || due.len() >= limit {
                break;
            }
            start = tables::successor(&Key::Due(task, kind, last.at_ms, last.name).encode());
        }
    }
    due.truncate(limit);
    Ok(due)
}

/// Whether a timer is due for a task whose clocks stand so.
pub fn is_due(timer: &Timer, by: &SetBy, clocks: &EventTimeRow) -> bool {
    match timer.kind {
        TimerKind::AppendTime => timer.at_ms <= clocks.time.as_i64(),
        TimerKind::EventTime => {
            clocks.watermark_ms.is_some_and(|now| timer.at_ms <= now)
                || clocks.idle_since.is_some_and(|since| by.step < since)
        }
    }
}
