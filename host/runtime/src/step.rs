//! One step, as its guest sees it and as it will be seen afterwards.
//!
//! This is what the host functions of every version of the contract act on, in types of no version. Emitting and
//! writing only stage. A call that makes no sense by itself is refused to the guest; going beyond what the step as
//! a whole may use ends the step, whatever the guest would make of it.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::limits;
use tidemill_core::plugin::{Effects, Emitted, Header, Timer, TimerKind};

use crate::failure::{Denied, LimitReached, PanicReport, Refusal, Stop, shortened};
use crate::limiter::Limiter;
use crate::run::StepInput;
use crate::state::StagedState;
use crate::timers::StagedTimers;
use crate::wasi::Wasi;

/// How much a line of a plugin's log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    /// All, from the one that matters least.
    pub const ALL: [LogLevel; 5] =
        [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(name: &str) -> Result<LogLevel, String> {
        let level = LogLevel::ALL.into_iter().find(|level| level.name() == name);
        level.ok_or_else(|| {
            format!("{name:?} is no level: use {}", LogLevel::ALL.map(LogLevel::name).join(", "))
        })
    }
}

/// A line that a plugin wrote to its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// What it says, cut to [`limits::GUEST_LOG_LINE_BYTES_MAX`].
    pub message: String,
}

/// A step at work: what the store of its instance holds. (Public to the generated bindings alone: this module is
/// not.)
pub struct Step {
    pub(crate) input: StepInput,
    /// The names of the inputs, as they are handed to the guest.
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) state: StagedState,
    pub(crate) timers: StagedTimers,
    pub(crate) limiter: Limiter,
    pub(crate) log: Vec<LogLine>,
    pub(crate) log_lines_dropped: u64,
    pub(crate) panic: Option<PanicReport>,
    /// For components that import it.
    pub(crate) wasi: Option<Box<Wasi>>,
    emitted: Vec<Emitted>,
    emitted_bytes: u64,
}

impl Step {
    /// Nothing staged yet.
    ///
    /// # Errors
    /// A [`Fault`] when its files cannot be opened.
    pub(crate) fn new(input: StepInput, has_wasi: bool) -> Result<Step, Fault> {
        Ok(Step {
            wasi: if has_wasi { Some(Box::new(Wasi::new(&input)?)) } else { None },
            topics: input.inputs.iter().map(|topic| Arc::from(topic.as_str())).collect(),
            state: StagedState::new(Arc::clone(&input.state), input.limits.state_bytes),
            timers: StagedTimers::new(input.limits.state_bytes),
            limiter: Limiter::new(input.limits.memory_bytes),
            log: Vec::new(),
            log_lines_dropped: 0,
            panic: None,
            emitted: Vec::new(),
            emitted_bytes: 0,
            input,
        })
    }

    /// What one call may hand over, in bytes of this process: all that the step may still want, and what its records
    /// take beside their bytes. More is refused by wasmtime before it copies anything.
    pub(crate) fn call_bytes_max(&self) -> usize {
        let limits = &self.input.limits;
        let records = limits.output_records.saturating_mul(limits::GUEST_RECORD_OVERHEAD as u64);
        let bytes = limits.output_bytes.saturating_add(records).saturating_add(2 * limits::MIB as u64);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Whether the step has an event, or a timer, of this number.
    pub(crate) fn check_parent(&self, parent: u32) -> Result<(), Refusal> {
        let (what, there) = match (self.input.events.len(), self.input.timers.len()) {
            (0, timers) => ("timer", timers),
            (events, _) => ("event", events),
        };
        if (parent as usize) < there {
            return Ok(());
        }
        Err(Refusal::Invalid(format!("there is no {what} {parent}: this step has {there}")))
    }

    /// The number of the output called `topic`, for records that derive from event or timer `parent`.
    pub(crate) fn output(&self, parent: u32, topic: &str) -> Result<u16, Refusal> {
        self.check_parent(parent)?;
        let granted = self.input.outputs.iter().position(|output| output.as_str() == topic);
        let number = granted.and_then(|number| u16::try_from(number).ok());
        number.ok_or_else(|| Refusal::NotGranted(shortened(topic.to_owned(), 256)))
    }

    /// Stages records, all of them or none.
    pub(crate) fn emit(&mut self, records: Vec<Emitted>) -> Result<(), Denied> {
        let limits = &self.input.limits;
        if let Some(record) = records.iter().find(|record| record.headers.len() > limits::RECORD_HEADERS_MAX)
        {
            return Err(Refusal::Limit(LimitReached::headers(record.headers.len())).into());
        }
        let count = (self.emitted.len() + records.len()) as u64;
        if count > limits.output_records {
            return Err(Stop::Limit(LimitReached::output_records(limits.output_records, count)).into());
        }
        let bytes = self.emitted_bytes + records.iter().map(|record| bytes_of(record) as u64).sum::<u64>();
        if bytes > limits.output_bytes {
            return Err(Stop::Limit(LimitReached::output_bytes(limits.output_bytes, Some(bytes))).into());
        }
        self.emitted_bytes = bytes;
        self.emitted.extend(records);
        Ok(())
    }

    /// Stages a value of the state, or with `None` that the key goes. What it and the timers count together is limited.
    pub(crate) fn stage_state(&mut self, key: Bytes, value: Option<Bytes>) -> Result<(), Denied> {
        self.state.change(key, value, self.timers.bytes())
    }

    /// Stages a timer, for event or timer `parent`.
    pub(crate) fn stage_timer(&mut self, timer: Timer, parent: u32) -> Result<(), Denied> {
        self.timers.set(timer, parent, self.state.bytes())
    }

    /// Stages that a timer goes.
    pub(crate) fn stage_cancel(&mut self, kind: TimerKind, name: Bytes) -> Result<(), Denied> {
        self.timers.cancel(kind, name, self.state.bytes())
    }

    /// Writes what the guest printed to its log.
    pub(crate) fn log_output(&mut self) {
        if let Some((lines, dropped)) = self.wasi.as_ref().map(|wasi| wasi.lines()) {
            self.log_lines_dropped += dropped;
            lines.into_iter().for_each(|(level, line)| self.keep(level, line));
        }
    }

    /// Writes a line to the log, behind what was printed before.
    pub(crate) fn log(&mut self, level: LogLevel, message: String) {
        self.log_output();
        self.keep(level, message);
    }

    /// Keeps a line, or counts it when there are too many.
    fn keep(&mut self, level: LogLevel, message: String) {
        if self.log.len() >= limits::GUEST_LOG_LINES_MAX {
            self.log_lines_dropped += 1;
            return;
        }
        self.log.push(LogLine { level, message: shortened(message, limits::GUEST_LOG_LINE_BYTES_MAX) });
    }

    /// Keeps the report of the first panic: what follows it is its consequence.
    pub(crate) fn report_panic(&mut self, message: String, file: String, line: u32, column: u32) {
        let kept = |text| shortened(text, limits::GUEST_REASON_BYTES_MAX);
        self.panic.get_or_insert_with(|| PanicReport {
            message: kept(message),
            file: kept(file),
            line,
            column,
        });
    }

    /// All that was staged.
    pub(crate) fn into_effects(self) -> Effects {
        Effects {
            emitted: self.emitted,
            state: self.state.into_changes(),
            timers: self.timers.into_changes(),
        }
    }
}

/// Bytes of key, value and headers, and what a header takes beside its own.
fn bytes_of(record: &Emitted) -> usize {
    let of = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    let one = |header: &Header| limits::HEADER_BYTES + header.name.len() + of(&header.value);
    let headers: usize = record.headers.iter().map(one).sum();
    of(&record.key) + of(&record.value) + headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_nothing_count() {
        let header = Header { name: "".into(), value: None };
        let emitted = |headers| Emitted {
            parent: 0,
            output: 0,
            key: Some(Bytes::from_static(b"key")),
            value: None,
            timestamp_ms: None,
            headers,
        };
        assert_eq!(bytes_of(&emitted(Vec::new())), 3);
        assert_eq!(bytes_of(&emitted(vec![header; 64])), 3 + 64 * limits::HEADER_BYTES);
    }
}
