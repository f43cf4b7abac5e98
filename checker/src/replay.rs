//! Each step, run again in a scratch instance, gives its entry again, byte for byte.
//!
//! The log has the step's records in its range, and the tables that were folded from the entries before it are what
//! its leader decided on: the head of that moment. So the same effects, decided again, make the same entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::bundle::Grant;
use tidemill_core::dead_letter::{self, Kept};
use tidemill_core::entry::Entry;
use tidemill_core::event_time::EventTimeRow;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{LogIndex, ShardId, TaskId};
use tidemill_core::limits;
use tidemill_core::plugin::{Event, GuestLimits, StateView, Timer};
use tidemill_core::rows::TaskRow;
use tidemill_core::shard::step::{self, Outcome, Proposed, Source, StepMeta, TaskState};
use tidemill_core::shard::{Deciding, letters as core};
use tidemill_core::tables::{self, Key, MemoryTables};
use tidemill_core::task::TaskSpec;
use tidemill_core::timers::{self, SetBy};
use tidemill_protocol::batch::{self, Record};
use tidemill_protocol::ids::{Offset, Position, TopicName, TopicPartition};
use tidemill_runtime::{Mounted, StepInput};

use crate::Scratch;
use crate::history::Logged;
use crate::ledger::Lying;
use crate::letters;
use crate::range::{self, Found};
use crate::violation::{Report, Violation};

/// A step to run again.
pub(crate) struct Run<'a> {
    pub(crate) shard: ShardId,
    pub(crate) logged: &'a Logged,
    pub(crate) entry: &'a Entry,
    pub(crate) earlier: &'a BTreeMap<LogIndex, Entry>,
    /// The head of its moment. Shared while it runs, and changed only afterwards.
    pub(crate) tables: &'a Arc<MemoryTables>,
    /// The batches that lie in the partitions of its shard.
    pub(crate) lying: &'a BTreeMap<TopicPartition, Vec<Lying>>,
}

impl Run<'_> {
    /// Runs it, and says what is different.
    pub(crate) async fn again(&self, scratch: &Scratch, report: &mut Report) -> Option<Violation> {
        let Ok(meta) = step::meta(self.entry) else { return None };
        let compared = match meta.outcome {
            Outcome::Done => {
                report.replayed += 1;
                self.compare(&meta, scratch).await
            }
            Outcome::DeadLettered { .. } => {
                report.taken += 1;
                self.dead_letter(&meta)
            }
            Outcome::Failed { .. } | Outcome::Stopped { .. } => {
                report.taken += 1;
                Ok(())
            }
        };
        compared.err().map(|what| Violation::Step {
            task: meta.task,
            step: meta.step,
            shard: self.shard,
            index: self.logged.index,
            what,
        })
    }

    fn before(&self, meta: &StepMeta) -> Result<(TaskSpec, TaskRow, Found), String> {
        let fault = |fault: Fault| fault.to_string();
        let spec =
            tables::read::<TaskSpec>(&**self.tables, &Key::Spec(meta.task.deployment)).map_err(fault)?;
        let row = tables::read::<TaskRow>(&**self.tables, &Key::Task(meta.task)).map_err(fault)?;
        let (spec, row) = spec.zip(row).ok_or("its task was never started")?;
        // Records before an input's start are never given; behind it, a position only moves on.
        let starts: Vec<Offset> = row.positions.iter().map(|(_, next)| *next).collect();
        let partition = meta.task.partition;
        let found = range::between(self.earlier, &spec, partition, &starts, meta.from, meta.to)?;
        let mut positions = starts;
        for (input, next) in &found.next {
            positions[*input] = *next;
        }
        if positions != meta.positions {
            return Err(format!(
                "it says it consumed up to {:?}, and its range ends at {positions:?}",
                meta.positions
            ));
        }
        let found = match meta.letter {
            None => found,
            Some(letter) => self.letter(meta, &spec, letter)?,
        };
        Ok((spec, row, found))
    }

    /// What a step finds that is given a dead letter of its task again.
    fn letter(&self, meta: &StepMeta, spec: &TaskSpec, letter: Position) -> Result<Found, String> {
        if letter.at != spec.letters(meta.task.partition) {
            return Err("it was given the dead letter of another task".into());
        }
        letters::given(self.lying.get(&letter.at).map_or(&[], Vec::as_slice), spec, letter)
    }

    /// Failed attempts at what the step is given.
    fn attempts(&self, meta: &StepMeta, row: &TaskRow) -> Result<u32, String> {
        let Some(letter) = meta.letter else { return Ok(row.attempts) };
        let row = core::waiting(&**self.tables, letter).map_err(|fault| fault.to_string())?;
        row.map(|row| row.attempts).ok_or_else(|| "its dead letter does not wait".into())
    }

    async fn compare(&self, meta: &StepMeta, scratch: &Scratch) -> Result<(), String> {
        let (spec, row, mut found) = self.before(meta)?;
        if !meta.fired.is_empty() {
            found.sources = self.setters(meta, &spec, &found)?;
        }
        if found.unreadable > 0 {
            return Err("its range holds a batch that cannot be read, and yet it went well".into());
        }
        let plugin = scratch
            .plugins
            .get(&spec.digest)
            .ok_or_else(|| format!("component {} is not here", spec.digest))?;
        let names = |names: Vec<String>| -> Result<Arc<[TopicName]>, String> {
            names.into_iter().map(|name| TopicName::new(name).map_err(|error| error.to_string())).collect()
        };
        let clocks = self.clocks(meta, &spec, &found)?;
        let input = StepInput {
            task: meta.task,
            partition: meta.task.partition.0,
            attempt: self.attempts(meta, &row)?,
            events: found.events.into(),
            timers: meta.fired.clone().into(),
            time: clocks.time,
            event_time_watermark_ms: clocks.watermark_ms,
            inputs: names(spec.inputs.iter().map(|input| input.name.clone()).collect())?,
            outputs: names(spec.outputs.iter().map(|output| output.name.clone()).collect())?,
            config: Arc::new(spec.config.clone()),
            files: files(&spec, scratch)?,
            limits: GuestLimits { ..spec.limits.clone() },
            state: Arc::new(Folded { task: meta.task, tables: self.tables.clone() }),
        };
        let outcome = scratch.runtime.run(plugin, input).await;
        let effects = outcome.result.map_err(|failure| format!("run again, it fails: {failure}"))?;
        let proposed = Proposed {
            task: meta.task,
            generation: meta.generation,
            jumps: row.jumps,
            known: None,
            from: meta.from,
            to: meta.to,
            positions: meta.positions.clone(),
            outcome: Outcome::Done,
            sources: &found.sources,
            time: meta.clock.time,
            observed: found.observed,
            fired: meta.fired.clone(),
            letter: meta.letter,
            effects,
        };
        let deciding = Deciding { head: &**self.tables, now: self.entry.append_time, term: self.logged.term };
        let again = step::decide(&deciding, &proposed).map_err(|fault| fault.to_string())?;
        let again = again.map_err(|refused| format!("run again, it is refused: {refused}"))?;
        if again.encode() == self.logged.bytes { Ok(()) } else { Err(difference(&again, self.entry)) }
    }

    /// The task's clocks as the step saw them: before its events, or when its timers were due.
    fn clocks(&self, meta: &StepMeta, spec: &TaskSpec, found: &Found) -> Result<EventTimeRow, String> {
        let before = tables::read::<EventTimeRow>(&**self.tables, &Key::EventTime(meta.task));
        let mut clocks = before.map_err(|fault| fault.to_string())?.unwrap_or_default();
        if !meta.fired.is_empty() {
            clocks.observe(&spec.event_time, &[], meta.clock.time, meta.step);
        } else if meta.clock.time == found.time {
            clocks.time = clocks.time.max(found.time);
        } else {
            return Err(format!(
                "it says its time is {}, and its records say {}",
                meta.clock.time, found.time
            ));
        }
        Ok(clocks)
    }

    /// The records that set the timers of a step; each of these was set, and due.
    fn setters(&self, meta: &StepMeta, spec: &TaskSpec, found: &Found) -> Result<Vec<Source>, String> {
        if !found.sources.is_empty() {
            return Err("it was given timers, and yet consumed records".into());
        }
        let clocks = self.clocks(meta, spec, found)?;
        if clocks.time > self.entry.append_time {
            return Err("its tick lies ahead of it".into());
        }
        let setter = |timer: &Timer| {
            let key = Key::Due(meta.task, timer.kind, timer.at_ms, timer.name.clone());
            let by = tables::read::<SetBy>(&**self.tables, &key).map_err(|fault| fault.to_string())?;
            let due = by.filter(|by| timers::is_due(timer, by, &clocks));
            due.map(|by| by.source).ok_or_else(|| format!("timer {:?} was not due", timer.name))
        };
        meta.fired.iter().map(setter).collect()
    }

    /// A record that was given up lies in the dead-letter topic: whole, or cut to what a dead letter holds.
    fn dead_letter(&self, meta: &StepMeta) -> Result<(), String> {
        let (spec, _, found) = self.before(meta)?;
        let [letter] = &self.entry.batches[..] else {
            return Err("it gave a record up without a dead letter".into());
        };
        if letter.at.topic != spec.dead_letter.topic || !meta.state.is_empty() {
            return Err("it gave a record up, and yet derived or changed something".into());
        }
        let letters =
            batch::decode(&letter.batch, &limits::STORED_BATCH).map_err(|error| error.to_string())?;
        let [letter] = &letters[..] else { return Err("more than one dead letter".into()) };
        if let [timer] = &meta.fired[..] {
            self.setters(meta, &spec, &found)?;
            let is_name = letter.value.as_ref() == Some(&timer.name);
            return if is_name {
                Ok(())
            } else {
                Err("the dead letter is not the timer that it gave up".into())
            };
        }
        match (&found.events[..], found.unreadable) {
            ([event], 0) if is_letter_of(letter, event) => Ok(()),
            ([], 1) => Ok(()),
            _ => Err("the dead letter is not the record that it consumed".into()),
        }
    }
}

/// Whether a letter holds an event, or what is kept of one that is too large, and says so.
fn is_letter_of(letter: &Record, event: &Event) -> bool {
    if letter.key == event.key && letter.value == event.value {
        return true;
    }
    let record = Kept { key: event.key.clone(), value: event.value.clone(), headers: event.headers.clone() };
    let (kept, cut_from) = dead_letter::fitted(record);
    let said = letter.headers.iter().rfind(|header| header.name == dead_letter::CUT_FROM);
    let said = said.and_then(|header| header.value.as_deref());
    let said = said.and_then(|said| std::str::from_utf8(said).ok()?.parse::<usize>().ok());
    cut_from.is_some() && said == cut_from && letter.key == kept.key && letter.value == kept.value
}

/// The files that the steps of a task may read.
fn files(spec: &TaskSpec, scratch: &Scratch) -> Result<Arc<[Mounted]>, String> {
    let mounted = |grant: &Grant| {
        let bundle = scratch.bundles.get(&grant.digest).cloned();
        let bundle = bundle.ok_or_else(|| format!("bundle {} is not here", grant.digest))?;
        Ok(Mounted { at: grant.mount.clone(), bundle })
    };
    spec.bundles.iter().map(mounted).collect()
}

fn difference(again: &Entry, logged: &Entry) -> String {
    if again.batches.len() != logged.batches.len() {
        let (now, then) = (again.batches.len(), logged.batches.len());
        return format!("run again, it derives {now} batches, and the log has {then}");
    }
    for (now, then) in again.batches.iter().zip(&logged.batches) {
        let at = format!("partition {} of topic {}", then.at.partition.0, then.at.topic);
        if now.at != then.at || now.away != then.away {
            return format!("run again, it derives for another partition than {at}");
        }
        if now.batch != then.batch {
            return format!("run again, it derives other records for {at}");
        }
        if now.envelope != then.envelope {
            return format!("run again, the envelope of its batch for {at} is another");
        }
    }
    "run again, it changes the state or its positions otherwise".into()
}

/// A task's state, out of the folded tables.
struct Folded {
    task: TaskId,
    tables: Arc<MemoryTables>,
}

impl StateView for Folded {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        TaskState { task: self.task, head: &*self.tables }.get(key)
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        TaskState { task: self.task, head: &*self.tables }.scan(start, end, limit)
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::limits;
    use tidemill_core::seams::Timestamp;
    use tidemill_protocol::batch::RecordHeader;
    use tidemill_protocol::ids::{Partition, TopicId};

    use super::*;

    fn event(value: Vec<u8>) -> Event {
        let at = TopicPartition { topic: TopicId([1; 16]), partition: Partition(0) };
        Event {
            input: 0,
            position: Position { at, offset: Offset(3) },
            timestamp_ms: 5,
            append_time: Timestamp(6),
            key: Some(Bytes::from_static(b"key")),
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    /// What a broker writes of an event, with the fact that it was cut, if it was.
    fn letter(event: &Event) -> Record {
        let Event { key, value, headers, .. } = event.clone();
        let (kept, cut_from) = dead_letter::fitted(Kept { key, value, headers });
        let says = |bytes: usize| RecordHeader {
            name: dead_letter::CUT_FROM.to_owned(),
            value: Some(bytes.to_string().into()),
        };
        Record {
            offset: Offset(0),
            timestamp_ms: event.timestamp_ms,
            key: kept.key,
            value: kept.value,
            headers: cut_from.map(says).into_iter().collect(),
        }
    }

    #[test]
    fn a_letter_is_of_its_record_whole_or_cut_as_it_says() {
        let small = event(b"reject it".to_vec());
        assert!(is_letter_of(&letter(&small), &small));
        let large = event(vec![7; limits::BATCH_BYTES_MAX + 9]);
        let cut = letter(&large);
        assert_ne!(cut.value, large.value);
        assert!(is_letter_of(&cut, &large));

        assert!(!is_letter_of(&letter(&small), &large));
        assert!(!is_letter_of(&Record { headers: Vec::new(), ..cut.clone() }, &large), "it does not say so");
        let shorter = cut.value.as_ref().map(|value| value.slice(1..));
        assert!(!is_letter_of(&Record { value: shorter, ..cut.clone() }, &large), "it keeps less");
        let longer = event(vec![7; limits::BATCH_BYTES_MAX + 10]);
        assert!(!is_letter_of(&cut, &longer), "it says another size");
        let empty = Record { value: Some(Bytes::new()), ..letter(&small) };
        assert!(!is_letter_of(&empty, &small), "nothing of it was to be cut");
    }
}
