//! What time it is for a task: two clocks, both moved by its log alone.
//!
//! Its *append time* is the highest of its records and ticks. Its *event-time watermark* says up to which event time it
//! has seen all records, as far as one can know: the lowest over the writers of the partitions it reads, less the
//! lateness that its manifest allows. A task that writes says its own watermark, in the envelope; programs outside
//! count together, for each partition, by the highest timestamp they wrote. A writer that was silent for the manifest's
//! idle time, in append time, is left out; when all of them are, nothing is waited for any more, and every timer of
//! event time that is set by then is due. (Those that are set later wait for records again: else one that sets itself
//! anew would never end.)
//!
//! Invariants:
//! 1. Neither clock goes back.
//! 2. Both are functions of the task's committed steps: [`EventTimeRow::observe`] is what every replica computes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidemill_protocol::ids::Partition;
use tidemill_protocol::primitive::{Malformed, Reader, Writer as ByteWriter};

use crate::ids::{DeploymentId, StepNumber, TaskId};
use crate::seams::Timestamp;
use crate::tables::Row;

/// The bytes of a row that knows no writers, and of each writer, at most.
const ROW_BYTES: usize = 26;
const HEARD_BYTES: usize = 31;
/// Stands for "none".
const NONE: i64 = i64::MIN;
const NEVER: u64 = u64::MAX;

/// How a plugin wants event time to move: `[event-time]` of its manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct EventTimeRules {
    /// How far a record may lie behind the highest timestamp before it is late, in milliseconds.
    pub lateness_ms: u64,
    /// For how long a writer may be silent before nobody waits for it, in milliseconds of append time; without it, for
    /// ever.
    pub idle_ms: Option<u64>,
}

/// Who writes to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writer {
    /// Programs outside, together.
    Outside,
    /// A task.
    Task(TaskId),
}

/// What a step saw of a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// The input that it wrote to.
    pub input: u16,
    /// The writer.
    pub writer: Writer,
    /// How far its event time is, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A writer that a task has heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// What it last showed.
    pub observation: Observation,
    /// The task's append time then.
    pub last: Timestamp,
}

/// A task's clocks: `append time u64 · watermark i64 · idle since u64, 0 if not · writers n u16 × (observation · last u64)`; an
/// observation is `input u16 · writer u8 [· deployment u64 · partition u32] · at i64`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventTimeRow {
    /// Its append time.
    pub time: Timestamp,
    /// Its event-time watermark, in milliseconds since 1970; none before its first record.
    pub watermark_ms: Option<i64>,
    /// The step by which all of its writers had been silent for the idle time, while they are.
    pub idle_since: Option<StepNumber>,
    /// The writers, in the order in which they were heard of.
    pub heard: Vec<Heard>,
}

impl EventTimeRow {
    /// Moves both clocks by what a step saw, at its time.
    pub fn observe(
        &mut self,
        rules: &EventTimeRules,
        observed: &[Observation],
        time: Timestamp,
        step: StepNumber,
    ) {
        self.time = self.time.max(time);
        for observation in observed {
            let is_same = |heard: &&mut Heard| {
                (heard.observation.input, heard.observation.writer) == (observation.input, observation.writer)
            };
            match self.heard.iter_mut().find(is_same) {
                Some(heard) => {
                    heard.observation.at_ms = heard.observation.at_ms.max(observation.at_ms);
                    heard.last = self.time;
                }
                None => self.heard.push(Heard { observation: *observation, last: self.time }),
            }
        }
        let awaited = self.heard.iter().filter(|heard| !is_silent(rules, heard, self.time));
        let lowest = awaited.map(|heard| heard.observation.at_ms).min();
        let is_idle = lowest.is_none() && !self.heard.is_empty();
        self.idle_since = is_idle.then(|| self.idle_since.unwrap_or(step));
        let highest = || self.heard.iter().map(|heard| heard.observation.at_ms).max();
        let lateness = i64::try_from(rules.lateness_ms).unwrap_or(i64::MAX);
        let reached = lowest.or_else(highest).map(|at| at.saturating_sub(lateness));
        self.watermark_ms = self.watermark_ms.max(reached);
    }

    /// When the next writer falls silent, if nobody writes.
    pub fn next_silence(&self, rules: &EventTimeRules) -> Option<Timestamp> {
        let idle = rules.idle_ms?;
        let awaited = self.heard.iter().filter(|heard| !is_silent(rules, heard, self.time));
        awaited.map(|heard| Timestamp(heard.last.0.saturating_add(idle).saturating_add(1))).min()
    }
}

fn is_silent(rules: &EventTimeRules, heard: &Heard, now: Timestamp) -> bool {
    rules.idle_ms.is_some_and(|idle| now.0.saturating_sub(heard.last.0) > idle)
}

/// Adds what a record shows to what a step saw so far.
pub fn note(observed: &mut Vec<Observation>, seen: Observation) {
    match observed.iter_mut().find(|known| (known.input, known.writer) == (seen.input, seen.writer)) {
        Some(known) => known.at_ms = known.at_ms.max(seen.at_ms),
        None => observed.push(seen),
    }
}

/// Writes rules: `lateness u64 · idle u64`.
pub(crate) fn write_rules(writer: &mut ByteWriter, rules: &EventTimeRules) {
    writer.u64(rules.lateness_ms).u64(rules.idle_ms.unwrap_or(NEVER));
}

/// Reads rules.
pub(crate) fn read_rules(reader: &mut Reader) -> Result<EventTimeRules, Malformed> {
    let lateness_ms = reader.u64("lateness")?;
    let idle = reader.u64("idle time")?;
    Ok(EventTimeRules { lateness_ms, idle_ms: (idle != NEVER).then_some(idle) })
}

/// Writes an observation.
pub(crate) fn write_observation(writer: &mut ByteWriter, observation: &Observation) {
    writer.u16(observation.input);
    match observation.writer {
        Writer::Outside => writer.u8(0),
        Writer::Task(task) => writer.u8(1).u64(task.deployment.0).u32(task.partition.0),
    };
    writer.i64(observation.at_ms);
}

/// Reads an observation.
pub(crate) fn read_observation(reader: &mut Reader) -> Result<Observation, Malformed> {
    let input = reader.u16("input")?;
    let writer = match reader.u8("writer")? {
        0 => Writer::Outside,
        1 => {
            let deployment = DeploymentId(reader.u64("writer")?);
            Writer::Task(TaskId { deployment, partition: Partition(reader.u32("writer")?) })
        }
        _ => return Err(reader.malformed("writer")),
    };
    Ok(Observation { input, writer, at_ms: reader.i64("event time")? })
}

impl Row for EventTimeRow {
    fn encode(&self) -> Bytes {
        let mut writer = ByteWriter::with_capacity(ROW_BYTES + self.heard.len() * HEARD_BYTES);
        writer.u64(self.time.0).i64(self.watermark_ms.unwrap_or(NONE));
        writer.u64(self.idle_since.map_or(0, |step| step.0));
        writer.u16(self.heard.len() as u16);
        for heard in &self.heard {
            write_observation(&mut writer, &heard.observation);
            writer.u64(heard.last.0);
        }
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let time = Timestamp(reader.u64("append time")?);
        let watermark = reader.i64("event-time watermark")?;
        let idle_since = Some(StepNumber(reader.u64("idle since")?)).filter(|step| step.0 > 0);
        let mut heard = Vec::new();
        for _ in 0..reader.u16("writers")? {
            let observation = read_observation(&mut reader)?;
            heard.push(Heard { observation, last: Timestamp(reader.u64("last")?) });
        }
        reader.finish("event time row")?;
        Ok(EventTimeRow { time, watermark_ms: (watermark != NONE).then_some(watermark), idle_since, heard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: EventTimeRules = EventTimeRules { lateness_ms: 10, idle_ms: Some(1_000) };

    fn seen(writer: Writer, at_ms: i64) -> Observation {
        Observation { input: 0, writer, at_ms }
    }

    fn task(partition: u32) -> Writer {
        Writer::Task(TaskId { deployment: DeploymentId(1), partition: Partition(partition) })
    }

    #[test]
    fn the_slowest_writer_holds_the_watermark_back_until_it_is_silent() {
        let mut row = EventTimeRow::default();
        row.observe(&RULES, &[seen(task(0), 500), seen(task(1), 200)], Timestamp(0), StepNumber(1));
        assert_eq!((row.watermark_ms, row.idle_since), (Some(190), None));
        row.observe(&RULES, &[seen(task(0), 900)], Timestamp(1_000), StepNumber(2));
        assert_eq!(row.watermark_ms, Some(190));
        assert_eq!(row.next_silence(&RULES), Some(Timestamp(1_001)));
        row.observe(&RULES, &[], Timestamp(1_001), StepNumber(3));
        assert_eq!((row.watermark_ms, row.idle_since), (Some(890), None));
        row.observe(&RULES, &[], Timestamp(2_001), StepNumber(4));
        assert_eq!((row.watermark_ms, row.idle_since), (Some(890), Some(StepNumber(4))));
        assert_eq!(row.next_silence(&RULES), None);
    }

    #[test]
    fn neither_clock_goes_back() {
        let mut row = EventTimeRow::default();
        row.observe(&RULES, &[seen(Writer::Outside, 500)], Timestamp(70), StepNumber(1));
        row.observe(&RULES, &[seen(Writer::Outside, 300), seen(task(0), 20)], Timestamp(60), StepNumber(2));
        assert_eq!((row.watermark_ms, row.time), (Some(490), Timestamp(70)));
    }

    #[test]
    fn without_an_idle_time_everybody_is_waited_for() {
        let rules = EventTimeRules { idle_ms: None, ..RULES };
        let mut row = EventTimeRow::default();
        row.observe(&rules, &[seen(task(0), 500)], Timestamp(0), StepNumber(1));
        row.observe(&rules, &[], Timestamp(u64::MAX), StepNumber(2));
        assert_eq!(row.idle_since, None);
        assert_eq!(row.next_silence(&rules), None);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut row = EventTimeRow::default();
        for step in 1..4 {
            assert_eq!(EventTimeRow::decode(&row.encode()), Ok(row.clone()));
            let (observed, time) = ([seen(task(3), 500), seen(Writer::Outside, -5)], Timestamp(step * 2_000));
            row.observe(&RULES, &observed[..usize::from(step < 3) * 2], time, StepNumber(step));
        }
    }
}
