//! What is printed of a trial: each step, and what all of them came to.

use std::time::Duration;

use serde_json::{Value, json};
use tidemill_core::plugin::{Timer, TimerChange, TimerKind};
use tidemill_core::shard::step::Outcome;

use super::step::{Derived, Given, Step, Waiting};
use crate::commands::consume::{Place, object, readable, text};
use crate::exit::Failure;
use crate::output::{self, Format, shown};

impl Derived {
    /// As `consume` prints it.
    pub fn object(&self) -> Value {
        let place = Place { topic: &self.topic, partition: self.partition.0, offset: self.offset.0 };
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        object(&place, self.timestamp_ms, self.key.as_deref(), self.value.as_deref(), headers)
    }
}

impl Step {
    /// Prints it.
    ///
    /// # Errors
    /// As the terminal's or pipe's.
    pub fn print(&self, format: Format) -> Result<(), Failure> {
        match format {
            Format::Json => output::json(&self.document())?,
            Format::Table => self.lines().iter().for_each(|line| say!("{line}")),
        }
        Ok(())
    }

    fn document(&self) -> Value {
        let given = match &self.given {
            Given::Record(topic, offset) => json!({ "topic": topic, "offset": offset.0 }),
            Given::Timer(timer) => timer_object(timer),
        };
        let (outcome, reason) = outcome(&self.outcome);
        let state = self.state.iter().map(|change| {
            let value = change.value.as_deref();
            json!({ "key": text(Some(&change.key)), "value": readable(value), "removed": value.is_none() })
        });
        let timers = self.timers.iter().map(|change| match change {
            TimerChange::Set { timer, .. } => timer_object(timer),
            TimerChange::Cancel { kind, name } => {
                json!({ "kind": kind_name(*kind), "name": text(Some(name)), "removed": true })
            }
        });
        let log = self.log.0.iter().map(
            |line| json!({ "level": format!("{:?}", line.level).to_lowercase(), "message": line.message }),
        );
        json!({
            "task": self.task, "step": self.number.0, "attempt": self.attempt, "given": given,
            "outcome": outcome, "reason": reason, "backtrace": self.backtrace,
            "derived": self.derived.iter().map(Derived::object).collect::<Vec<_>>(),
            "state": state.collect::<Vec<_>>(), "timers": timers.collect::<Vec<_>>(),
            "log": log.collect::<Vec<_>>(), "log-lines-dropped": self.log.1,
            "cpu-us": micros(self.usage.cpu), "memory-bytes": self.usage.memory_bytes_max,
        })
    }

    fn lines(&self) -> Vec<String> {
        let given = match &self.given {
            Given::Record(topic, offset) => format!("{topic}/{}, offset {}", self.task, offset.0),
            Given::Timer(timer) => format!("timer {} ({})", name(timer), kind_name(timer.kind)),
        };
        let again = if self.attempt > 0 { format!(", attempt {}", self.attempt + 1) } else { String::new() };
        let (cpu, memory) = (micros(self.usage.cpu), self.usage.memory_bytes_max.div_ceil(1024));
        let mut lines = vec![format!(
            "task {} step {}: {given}{again}   {cpu} us of processor time, {memory} KiB",
            self.task, self.number.0
        )];
        let mut line = |what: &str, text: String| lines.push(format!("  {what:7} {}", shown(&text)));
        for message in &self.log.0 {
            line("log", format!("{} {}", format!("{:?}", message.level).to_lowercase(), message.message));
        }
        if self.log.1 > 0 {
            line("log", format!("… and {} lines more, which a broker drops", self.log.1));
        }
        match (&self.outcome, outcome(&self.outcome).1) {
            (Outcome::Failed { .. }, Some(why)) => line("fails", format!("{why}; it is tried again")),
            (Outcome::DeadLettered { .. }, Some(why)) => line("fails", format!("{why}; it is given up")),
            (Outcome::Stopped { .. }, Some(why)) => line("fails", format!("{why}; the task stops before it")),
            _ => {}
        }
        for function in &self.backtrace {
            line("  at", function.clone());
        }
        for record in &self.derived {
            line("derives", record.object().to_string());
        }
        for change in &self.state {
            let key = plain(&text(Some(&change.key)));
            match &change.value {
                Some(value) => line("state", format!("{key} = {}", plain(&readable(Some(value))))),
                None => line("state", format!("{key} is removed")),
            }
        }
        for change in &self.timers {
            match change {
                TimerChange::Set { timer, .. } => line("timer", due(timer)),
                TimerChange::Cancel { kind, name } => {
                    let name = plain(&text(Some(name)));
                    line("timer", format!("{name} ({}) is cancelled", kind_name(*kind)));
                }
            }
        }
        lines
    }
}

/// What all steps came to.
#[derive(Debug, Default)]
pub struct Totals {
    derived: Vec<Value>,
    events: u64,
    failed: u64,
    cpu: Vec<Duration>,
    memory_bytes_max: u64,
}

impl Totals {
    /// Counts a step.
    pub fn add(&mut self, step: &Step) {
        self.derived.extend(step.derived.iter().map(Derived::object));
        self.events += u64::from(matches!(step.given, Given::Record(..)) && step.attempt == 0);
        self.failed += u64::from(step.outcome != Outcome::Done);
        self.cpu.push(step.usage.cpu);
        self.memory_bytes_max = self.memory_bytes_max.max(step.usage.memory_bytes_max);
    }

    /// All records that were derived, in order.
    pub fn derived(&self) -> &[Value] {
        &self.derived
    }

    /// The middle and the highest processor time of a step.
    fn cpu(&self) -> (Duration, Duration) {
        let mut sorted = self.cpu.clone();
        sorted.sort();
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        (middle, sorted.last().copied().unwrap_or_default())
    }

    /// For programs.
    pub fn document(&self, waiting: &Waiting) -> Value {
        let (middle, highest) = self.cpu();
        let timers = waiting.timers.iter().map(|(task, timer)| {
            let mut timer = timer_object(timer);
            timer["task"] = (*task).into();
            timer
        });
        json!({
            "events": self.events, "steps": self.cpu.len(), "failed": self.failed, "records": self.derived.len(),
            "cpu-us-p50": micros(middle), "cpu-us-max": micros(highest), "memory-bytes-max": self.memory_bytes_max,
            "timers": timers.collect::<Vec<_>>(), "records-not-taken": waiting.records,
        })
    }

    /// For people.
    pub fn print(&self, waiting: &Waiting) {
        for (task, timer) in &waiting.timers {
            say!("task {task} has still set: {}", shown(&due(timer)));
        }
        if waiting.records > 0 {
            say!("{} records wait behind the one that stopped their task", waiting.records);
        }
        let (middle, highest) = self.cpu();
        say!(
            "{} events in {} steps, of which {} failed; {} records derived; processor time p50 {} us, max {} us",
            self.events,
            self.cpu.len(),
            self.failed,
            self.derived.len(),
            micros(middle),
            micros(highest)
        );
    }
}

fn outcome(outcome: &Outcome) -> (&'static str, Option<&str>) {
    match outcome {
        Outcome::Done => ("done", None),
        Outcome::Failed { reason, .. } => ("failed", Some(reason)),
        Outcome::DeadLettered { reason } => ("dead-lettered", Some(reason)),
        Outcome::Stopped { reason } => ("stopped", Some(reason)),
    }
}

fn kind_name(kind: TimerKind) -> &'static str {
    match kind {
        TimerKind::AppendTime => "append-time",
        TimerKind::EventTime => "event-time",
    }
}

fn timer_object(timer: &Timer) -> Value {
    json!({ "kind": kind_name(timer.kind), "name": text(Some(&timer.name)), "at": timer.at_ms })
}

fn name(timer: &Timer) -> String {
    plain(&text(Some(&timer.name)))
}

fn due(timer: &Timer) -> String {
    format!("{} ({}) at {}", name(timer), kind_name(timer.kind), timer.at_ms)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
