//! The broker as a component sees it: the imports of `wit/`, turned into this crate's words and back.
//!
//! Hidden from the documentation: only the macro [`plugin!`](crate::plugin!) names it. Its unsafe
//! code is all generated.
#![allow(unsafe_code, missing_docs)]

use std::panic;

use bindings::tidemill::plugin::{config, delivery, diagnostics, files, log, timers, types};

use crate::host::{Host, Pair, due, numbered};
use crate::log::Level;
use crate::{Event, Failure, FileError, Header, Plugin, Record, Refusal, Step, Timer, TimerKind};

pub use bindings::exports::tidemill::plugin::handler::Guest;
pub use delivery::Step as HostStep;
pub use types::Failure as HostFailure;

#[allow(unused_qualifications, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "plugin",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "tidemill_plugin_sdk::guest::bindings",
        generate_all,
    });
}

/// Runs `P` on one step of the broker's.
pub fn handle<P: Plugin>(delivery: &HostStep) -> Result<(), HostFailure> {
    report_panics();
    let events = numbered(delivery.events().into_iter().map(Event::from));
    let timers = due(delivery.timers().into_iter().map(Timer::from));
    P::step(&Step { host: &Broker(delivery), events, timers }).map_err(HostFailure::from)
}

/// Lets the broker know what a panic said, and where, before it traps. An instance serves one step, so this is
/// done once in its life.
fn report_panics() {
    panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        let (file, line, column) =
            panic.location().map_or(("", 0, 0), |at| (at.file(), at.line(), at.column()));
        diagnostics::report_panic(message, file, line, column);
    }));
}

pub(crate) fn write_log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => log::Level::Trace,
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::write(level, message);
}

struct Broker<'a>(&'a HostStep);

impl Host for Broker<'_> {
    fn partition(&self) -> u32 {
        self.0.partition()
    }

    fn attempt(&self) -> u32 {
        self.0.attempt()
    }

    fn time_ms(&self) -> u64 {
        self.0.time_ms()
    }

    fn event_time_watermark_ms(&self) -> Option<i64> {
        self.0.event_time_watermark_ms()
    }

    fn set_timer(&self, parent: u32, timer: Timer) -> Result<(), Refusal> {
        Ok(self.0.set_timer(parent, &timer.into())?)
    }

    fn cancel_timer(&self, kind: TimerKind, name: &[u8]) -> Result<(), Refusal> {
        Ok(self.0.cancel_timer(kind.into(), name)?)
    }

    fn emit(&self, parent: u32, topic: &str, records: Vec<Record>) -> Result<(), Refusal> {
        let records: Vec<_> = records.into_iter().map(types::Outgoing::from).collect();
        Ok(self.0.emit(parent, topic, &records)?)
    }

    fn state_get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.state_get(key)
    }

    fn state_put(&self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        Ok(self.0.state_put(key, value)?)
    }

    fn state_delete(&self, key: &[u8]) -> Result<(), Refusal> {
        Ok(self.0.state_delete(key)?)
    }

    fn state_scan(&self, start: &[u8], end: Option<&[u8]>, limit: u32) -> Vec<Pair> {
        self.0.state_scan(start, end, limit)
    }

    fn config_get(&self, key: &str) -> Option<String> {
        config::get(key)
    }

    fn config_all(&self) -> Vec<(String, String)> {
        config::all()
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        loop {
            let piece = files::read(path, bytes.len() as u64, u32::MAX).map_err(|why| problem(path, why))?;
            if piece.is_empty() {
                return Ok(bytes);
            }
            bytes.extend(piece);
        }
    }

    fn folder(&self, path: &str) -> Result<Vec<String>, FileError> {
        files::entries(path).map_err(|why| problem(path, why))
    }
}

fn problem(path: &str, why: files::Problem) -> FileError {
    match why {
        files::Problem::Missing => FileError::new(path, "no bundle has it"),
        files::Problem::Kind => FileError::new(path, "it is a folder, or a file where a folder is wanted"),
        files::Problem::Other(why) => FileError::new(path, why),
    }
}

impl From<types::Event> for Event {
    fn from(event: types::Event) -> Event {
        Event {
            index: 0,
            topic: event.topic,
            partition: event.partition,
            offset: event.offset,
            timestamp_ms: event.timestamp_ms,
            append_time_ms: event.append_time_ms,
            key: event.key,
            value: event.value,
            headers: event
                .headers
                .into_iter()
                .map(|types::Header { name, value }| Header { name, value })
                .collect(),
        }
    }
}

impl From<timers::Timer> for Timer {
    fn from(timer: timers::Timer) -> Timer {
        let kind = match timer.kind {
            timers::Kind::AppendTime => TimerKind::AppendTime,
            timers::Kind::EventTime => TimerKind::EventTime,
        };
        Timer { index: 0, kind, name: timer.name, at_ms: timer.at_ms }
    }
}

impl From<Timer> for timers::Timer {
    fn from(timer: Timer) -> timers::Timer {
        timers::Timer { kind: timer.kind.into(), name: timer.name, at_ms: timer.at_ms }
    }
}

impl From<TimerKind> for timers::Kind {
    fn from(kind: TimerKind) -> timers::Kind {
        match kind {
            TimerKind::AppendTime => timers::Kind::AppendTime,
            TimerKind::EventTime => timers::Kind::EventTime,
        }
    }
}

impl From<Record> for types::Outgoing {
    fn from(Record { key, value, headers, timestamp_ms }: Record) -> types::Outgoing {
        let headers =
            headers.into_iter().map(|Header { name, value }| types::Header { name, value }).collect();
        types::Outgoing { key, value, headers, timestamp_ms }
    }
}

impl From<types::Refusal> for Refusal {
    fn from(refusal: types::Refusal) -> Refusal {
        match refusal {
            types::Refusal::NotGranted(what) => Refusal::NotGranted(what),
            types::Refusal::Limit(which) => Refusal::Limit(which),
            types::Refusal::Invalid(why) => Refusal::Invalid(why),
            types::Refusal::Other(why) => Refusal::Other(why),
        }
    }
}

impl From<Failure> for HostFailure {
    fn from(failure: Failure) -> HostFailure {
        match failure {
            Failure::Retry(reason) => HostFailure::Retry(reason),
            Failure::Reject(reason) => HostFailure::Reject(reason),
        }
    }
}
