//! `tidemill:plugin@0.1`: the contract as this version has it, and the host's side of it.
//!
//! The functions that a guest calls are implemented here on [`Step`], each a translation and one call. What the step
//! is and what it allows stands there. Topics and limits are checked against the step, never against what the guest
//! claims to be.

pub mod shapes;

use tidemill_core::limits;
use tidemill_core::plugin::{self, Emitted, Timer, TimerKind};
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{HasSelf, InstancePre, Linker, Resource};
use wasmtime::error::Context;

use self::bindings::tidemill::plugin::{config, delivery, diagnostics, files, log, timers};
use self::shapes::{Event, Failure, Header, Outgoing};
use crate::abi::Verdict;
use crate::failure::{Denied, Refusal, shortened};
use crate::files::Absent;
use crate::step::{LogLevel, Step};

/// The world `plugin`, out of `wit/`.
#[allow(missing_docs, unsafe_code, clippy::all)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "plugin",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "tidemill:plugin/types": crate::abi::v0_1::shapes,
            "tidemill:plugin/delivery.step": crate::step::Step,
        },
    });
}

pub(super) const VERSION: &str = "0.1";
pub(super) const HANDLER: &str = "tidemill:plugin/handler@0.1.0";
pub(super) const INTERFACES: [&str; 7] = [
    "tidemill:plugin/types@0.1.0",
    "tidemill:plugin/timers@0.1.0",
    "tidemill:plugin/delivery@0.1.0",
    "tidemill:plugin/config@0.1.0",
    "tidemill:plugin/files@0.1.0",
    "tidemill:plugin/log@0.1.0",
    "tidemill:plugin/diagnostics@0.1.0",
];

/// The handle by which a guest knows its step. A store holds one step, so its number means nothing.
const THE_STEP: u32 = 0;

pub(super) fn link(linker: &mut Linker<Step>) -> wasmtime::Result<()> {
    bindings::Plugin::add_to_linker::<_, HasSelf<Step>>(linker, |step| step)
}

/// A component of this version.
pub(crate) struct Handler(bindings::PluginPre<Step>);

impl Handler {
    pub(super) fn new(component: InstancePre<Step>) -> wasmtime::Result<Handler> {
        check_handle(&component)?;
        Ok(Handler(bindings::PluginPre::new(component)?))
    }

    pub(super) async fn handle(&self, store: &mut Store<Step>) -> wasmtime::Result<Verdict> {
        let instance = self.0.instantiate_async(&mut *store).await?;
        let step = Resource::new_borrow(THE_STEP);
        let said = instance.tidemill_plugin_handler().call_handle(store, step).await?;
        let kept = |reason| shortened(reason, limits::GUEST_REASON_BYTES_MAX);
        Ok(match said {
            Ok(()) => Verdict::Done,
            Err(Failure::Reject(reason)) => Verdict::Reject(kept(reason)),
            // What a later version may say, too, is tried again: attempts are bounded.
            Err(Failure::Retry(reason) | Failure::Other(reason)) => Verdict::Retry(kept(reason)),
        })
    }
}

/// Compares the handler's type with the contract's. The generated code would do so in each instance; a component that
/// does not fit is to be refused before there is one.
fn check_handle(component: &InstancePre<Step>) -> wasmtime::Result<()> {
    let engine = component.engine();
    let ty = component.component().component_type();
    let handler = ty.exports(engine).find(|(name, _)| super::serves(HANDLER, name));
    if let Some(ComponentItem::ComponentInstance(handler)) = handler.map(|(_, export)| export.ty)
        && let Some(export) = handler.get_export(engine, "handle")
        && let ComponentItem::ComponentFunc(handle) = export.ty
    {
        return handle
            .typecheck::<(Resource<Step>,), (Result<(), Failure>,)>(&component.instance_type())
            .context("its function `handle` has another type");
    }
    Err(wasmtime::Error::msg(format!("{HANDLER} has no function `handle`")))
}

impl timers::Host for Step {}

impl delivery::Host for Step {}

impl delivery::HostStep for Step {
    fn partition(&mut self, _: Resource<Step>) -> wasmtime::Result<u32> {
        Ok(self.input.partition)
    }

    fn attempt(&mut self, _: Resource<Step>) -> wasmtime::Result<u32> {
        Ok(self.input.attempt)
    }

    fn events(&mut self, _: Resource<Step>) -> wasmtime::Result<Vec<Event>> {
        let event = |event: &plugin::Event| Event {
            topic: self.topics[usize::from(event.input)].clone(),
            partition: event.position.at.partition.0,
            offset: event.position.offset.0,
            timestamp_ms: event.timestamp_ms,
            append_time_ms: event.append_time.0,
            key: event.key.clone(),
            value: event.value.clone(),
            headers: event.headers.iter().map(Header::from).collect(),
        };
        Ok(self.input.events.iter().map(event).collect())
    }

    fn timers(&mut self, _: Resource<Step>) -> wasmtime::Result<Vec<timers::Timer>> {
        let timer = |timer: &Timer| timers::Timer {
            kind: timer.kind.into(),
            name: timer.name.to_vec(),
            at_ms: timer.at_ms,
        };
        Ok(self.input.timers.iter().map(timer).collect())
    }

    fn time_ms(&mut self, _: Resource<Step>) -> wasmtime::Result<u64> {
        Ok(self.input.time.0)
    }

    fn event_time_watermark_ms(&mut self, _: Resource<Step>) -> wasmtime::Result<Option<i64>> {
        Ok(self.input.event_time_watermark_ms)
    }

    fn set_timer(
        &mut self,
        _: Resource<Step>,
        parent: u32,
        timer: timers::Timer,
    ) -> wasmtime::Result<Result<(), shapes::Refusal>> {
        let timer = Timer { kind: timer.kind.into(), name: timer.name.into(), at_ms: timer.at_ms };
        answer(self.check_parent(parent).map_err(Denied::from).and_then(|()| self.stage_timer(timer, parent)))
    }

    fn cancel_timer(
        &mut self,
        _: Resource<Step>,
        kind: timers::Kind,
        name: Vec<u8>,
    ) -> wasmtime::Result<Result<(), shapes::Refusal>> {
        answer(self.stage_cancel(kind.into(), name.into()))
    }

    fn emit(
        &mut self,
        _: Resource<Step>,
        parent: u32,
        topic: String,
        records: Vec<Outgoing>,
    ) -> wasmtime::Result<Result<(), shapes::Refusal>> {
        let emitted = |output, record: Outgoing| Emitted {
            parent,
            output,
            key: record.key,
            value: record.value,
            headers: record.headers.into_iter().map(plugin::Header::from).collect(),
            timestamp_ms: record.timestamp_ms,
        };
        answer(self.output(parent, &topic).map_err(Denied::from).and_then(|output| {
            self.emit(records.into_iter().map(|record| emitted(output, record)).collect())
        }))
    }

    fn state_get(&mut self, _: Resource<Step>, key: Vec<u8>) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.state.get(&key)?.map(Vec::from))
    }

    fn state_put(
        &mut self,
        _: Resource<Step>,
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), shapes::Refusal>> {
        answer(self.stage_state(key.into(), Some(value.into())))
    }

    fn state_delete(
        &mut self,
        _: Resource<Step>,
        key: Vec<u8>,
    ) -> wasmtime::Result<Result<(), shapes::Refusal>> {
        answer(self.stage_state(key.into(), None))
    }

    fn state_scan(
        &mut self,
        _: Resource<Step>,
        start: Vec<u8>,
        end: Option<Vec<u8>>,
        limit: u32,
    ) -> wasmtime::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let pairs = self.state.scan(&start, end.as_deref(), limit)?;
        Ok(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    fn drop(&mut self, _: Resource<Step>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl config::Host for Step {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.input.config.get(&key).cloned())
    }

    fn all(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.input.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

impl files::Host for Step {
    fn read(
        &mut self,
        path: String,
        offset: u64,
        length: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, files::Problem>> {
        Ok(self.read_file(&path, offset, length)?.map_err(files::Problem::from))
    }

    fn size(&mut self, path: String) -> wasmtime::Result<Result<u64, files::Problem>> {
        Ok(self.file_size(&path).map_err(files::Problem::from))
    }

    fn entries(&mut self, path: String) -> wasmtime::Result<Result<Vec<String>, files::Problem>> {
        Ok(self.list_folder(&path).map_err(files::Problem::from))
    }
}

impl From<Absent> for files::Problem {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::Missing => files::Problem::Missing,
            Absent::Kind => files::Problem::Kind,
        }
    }
}

impl log::Host for Step {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        self.log(level, message);
        Ok(())
    }
}

impl diagnostics::Host for Step {
    fn report_panic(
        &mut self,
        message: String,
        file: String,
        line: u32,
        column: u32,
    ) -> wasmtime::Result<()> {
        self.report_panic(message, file, line, column);
        Ok(())
    }
}

/// A refusal is the guest's to handle; a stop is a trap.
fn answer(outcome: Result<(), Denied>) -> wasmtime::Result<Result<(), shapes::Refusal>> {
    match outcome {
        Ok(()) => Ok(Ok(())),
        Err(Denied::Refused(refusal)) => Ok(Err(refusal.into())),
        Err(Denied::Stopped(stop)) => Err(stop.into()),
    }
}

impl From<Refusal> for shapes::Refusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotGranted(topic) => shapes::Refusal::NotGranted(topic),
            Refusal::Limit(limit) => shapes::Refusal::Limit(limit.to_string()),
            Refusal::Invalid(why) => shapes::Refusal::Invalid(why),
        }
    }
}

impl From<TimerKind> for timers::Kind {
    fn from(kind: TimerKind) -> Self {
        match kind {
            TimerKind::AppendTime => timers::Kind::AppendTime,
            TimerKind::EventTime => timers::Kind::EventTime,
        }
    }
}

impl From<timers::Kind> for TimerKind {
    fn from(kind: timers::Kind) -> Self {
        match kind {
            timers::Kind::AppendTime => TimerKind::AppendTime,
            timers::Kind::EventTime => TimerKind::EventTime,
        }
    }
}

impl From<&plugin::Header> for Header {
    fn from(header: &plugin::Header) -> Self {
        Header { name: header.name.clone(), value: header.value.clone() }
    }
}

impl From<Header> for plugin::Header {
    fn from(header: Header) -> Self {
        plugin::Header { name: header.name, value: header.value }
    }
}
