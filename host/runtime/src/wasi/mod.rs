//! WASI 0.2, without power: what the standard libraries of other languages look for at their start, and nothing that
//! reaches out of the step.
//!
//! A guest that imports it finds no files but those of its deployment, which it can only read ([`files`]), no environment,
//! no argument, an empty standard input, and no socket that it could make. Its output goes to the plugin's log, within the
//! log's bounds ([`output`]). Clocks and chance are the step's own ([`chance`]), so that a step that is run again reads the
//! same of them. HTTP and whatever else there is under `wasi:` is not in [`INTERFACES`]: who imports it is refused by name.
//!
//! What surprises: everything of `wasmtime-wasi` is linked, and some interfaces and functions are then put in place of its
//! own; what is not offered is refused before a linker is asked. Only steps of components that import any of it have a [`Wasi`].

mod chance;
mod files;
mod output;

use tidemill_core::fault::Fault;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};

use self::chance::Chance;
use self::output::Output;
use crate::run::StepInput;
use crate::step::{LogLevel, Step};

/// What is offered of WASI, each in every version that is compatible.
pub(crate) const INTERFACES: [&str; 27] = [
    "wasi:io/error@0.2.12",
    "wasi:io/poll@0.2.12",
    "wasi:io/streams@0.2.12",
    "wasi:clocks/monotonic-clock@0.2.12",
    "wasi:clocks/wall-clock@0.2.12",
    "wasi:random/random@0.2.12",
    "wasi:random/insecure@0.2.12",
    "wasi:random/insecure-seed@0.2.12",
    "wasi:cli/environment@0.2.12",
    "wasi:cli/exit@0.2.12",
    "wasi:cli/stdin@0.2.12",
    "wasi:cli/stdout@0.2.12",
    "wasi:cli/stderr@0.2.12",
    "wasi:cli/terminal-input@0.2.12",
    "wasi:cli/terminal-output@0.2.12",
    "wasi:cli/terminal-stdin@0.2.12",
    "wasi:cli/terminal-stdout@0.2.12",
    "wasi:cli/terminal-stderr@0.2.12",
    "wasi:filesystem/types@0.2.12",
    "wasi:filesystem/preopens@0.2.12",
    // Python's library imports them all, whether or not a program opens any: nothing here lets it.
    "wasi:sockets/network@0.2.12",
    "wasi:sockets/instance-network@0.2.12",
    "wasi:sockets/ip-name-lookup@0.2.12",
    "wasi:sockets/tcp@0.2.12",
    "wasi:sockets/tcp-create-socket@0.2.12",
    "wasi:sockets/udp@0.2.12",
    "wasi:sockets/udp-create-socket@0.2.12",
];

/// What [`files`] changes, as `wasmtime-wasi` calls it.
const FILES: &str = "wasi:filesystem/types@0.2.12";

/// How far a look at the monotonic clock moves it, in nanoseconds: who waits in a loop for time to pass is let go.
const LOOK_NS: u64 = 1_000;

/// Links it.
///
/// # Errors
/// wasmtime's, which would be a bug here.
pub(crate) fn link(linker: &mut Linker<Step>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    wall_clock::add_to_linker::<Step, HasSelf<Step>>(linker, |step| step)?;
    monotonic_clock::add_to_linker::<Step, HasSelf<Step>>(linker, |step| step)?;
    random::add_to_linker::<Step, HasSelf<Step>>(linker, |step| step)?;
    insecure::add_to_linker::<Step, HasSelf<Step>>(linker, |step| step)?;
    insecure_seed::add_to_linker::<Step, HasSelf<Step>>(linker, |step| step)?;
    files::link(&mut linker.instance(FILES)?)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What a step has of WASI.
pub(crate) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
    output: Output,
    chance: Chance,
    monotonic_ns: u64,
}

impl Wasi {
    /// For a step with this input.
    ///
    /// # Errors
    /// A [`Fault`] when the folder of a bundle cannot be opened.
    pub(crate) fn new(input: &StepInput) -> Result<Wasi, Fault> {
        let output = Output::default();
        let mut context = WasiCtx::builder();
        // A file is read where the guest runs: no other thread, no waiting for one.
        context.allow_blocking_current_thread(true);
        for files in input.files.iter() {
            let folder = files.bundle.folder();
            context.preopened_dir(folder, &files.at, FsPerms::ReadOnly).map_err(|error| {
                Fault::disk(
                    format!("opening {}", folder.display()),
                    std::io::Error::other(format!("{error:#}")),
                )
            })?;
        }
        context.stdout(output.stream(LogLevel::Info)).stderr(output.stream(LogLevel::Warn));
        context.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        Ok(Wasi {
            context: context.build(),
            table: ResourceTable::new(),
            output,
            chance: Chance::of(input),
            monotonic_ns: input.time.0.saturating_mul(1_000_000),
        })
    }

    /// The lines that were written since the last time, and how many were too many to be kept.
    pub(crate) fn lines(&self) -> (Vec<(LogLevel, String)>, u64) {
        self.output.take()
    }
}

impl Step {
    fn wasi(&mut self) -> &mut Wasi {
        self.wasi.as_mut().expect("a component that imports WASI is given it with its step")
    }
}

impl WasiView for Step {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi();
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

impl wall_clock::Host for Step {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let ms = self.input.time.0;
        let nanoseconds = u32::try_from(ms % 1_000).unwrap_or_default() * 1_000_000;
        Ok(wall_clock::Datetime { seconds: ms / 1_000, nanoseconds })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1_000_000 })
    }
}

/// To wait is to move the clock: a step has no time to pass.
impl monotonic_clock::Host for Step {
    fn now(&mut self) -> wasmtime::Result<u64> {
        let wasi = self.wasi();
        wasi.monotonic_ns = wasi.monotonic_ns.saturating_add(LOOK_NS);
        Ok(wasi.monotonic_ns)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(LOOK_NS)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let wasi = self.wasi();
        wasi.monotonic_ns = wasi.monotonic_ns.max(when);
        let passed = wasi.table.push(Passed)?;
        subscribe(&mut wasi.table, passed)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let when = self.wasi().monotonic_ns.saturating_add(duration);
        self.subscribe_instant(when)
    }
}

/// A moment that has come.
struct Passed;

#[wasmtime_wasi::async_trait]
impl Pollable for Passed {
    async fn ready(&mut self) {}
}

impl random::Host for Step {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.wasi().chance.bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.wasi().chance.number())
    }
}

impl insecure::Host for Step {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.wasi().chance.bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.wasi().chance.number())
    }
}

impl insecure_seed::Host for Step {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        let chance = &mut self.wasi().chance;
        Ok((chance.number(), chance.number()))
    }
}

#[cfg(test)]
mod tests;
