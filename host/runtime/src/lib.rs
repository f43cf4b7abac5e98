//! A component in, a step's effects out.
//!
//! This crate knows wasm and nothing of logs, topics or brokers. It is handed a component and compiles it, where
//! a crash hurts nobody ([`ChildProcess`]); it is handed a step's events and runs the component on them, in an
//! instance that serves this one step and is discarded ([`Runtime::run`]). What the guest wants comes back as
//! values ([`StepOutcome`]): nothing that it does is real before the caller makes it so.
//!
//! ```text
//!            Compiler::compile          Sealer::seal / open           Runtime::load          Runtime::run
//! component ──────────────────▶ Artifact ◀────────────▶ sealed bytes  ───────────▶ Plugin ───────────────▶ outcome
//!            in a killable child            on the disk            names what it may      one instance,
//!                                                                  not import             one step
//! ```
//!
//! It is the only crate that names wasmtime, and none of wasmtime's types leave it. The contract with plugins has
//! versions; each is one file in `abi/`, and nothing else here knows of them.
//!
//! What surprises:
//!
//! - A guest is never stopped by dropping its future half-way and using the instance again. It is stopped by a trap
//!   at its deadline; what is dropped is dropped whole, the store with the call.
//! - The deadline is one of processor time, not of the clock on the wall: a guest that waits for others to run does
//!   not age. Where time must not decide anything, instructions are counted instead ([`Metering::Fuel`]).
//! - Somebody has to run [`Runtime::tick`] on a thread that no guest can occupy, or an endless loop has no end.
//! - Going beyond what a whole step may emit or write ends the step; a single call that makes no sense is refused
//!   to the guest, which may go on.

mod abi;
mod activity;
mod artifact;
pub mod bundle;
mod child;
mod compile;
mod engine;
mod failure;
mod files;
mod limiter;
mod load;
mod meter;
mod run;
mod state;
mod step;
mod timers;
mod trap;
mod wasi;

pub use artifact::{Artifact, SealError, Sealer};
pub use bundle::{Bundle, Mounted};
pub use child::{ChildProcess, CompileLimits, compile_child_main};
pub use compile::{CompileError, Compiler, InProcess, compile};
pub use engine::{CodeOptions, Metering, Runtime, RuntimeError, RuntimeOptions};
pub use failure::{GuestFailure, LimitReached, PanicReport};
pub use load::{LoadError, Plugin, is_offered};
pub use run::{StepInput, StepOutcome, Usage};
pub use step::{LogLevel, LogLine};
