//! What ended a guest, named.
//!
//! wasmtime hands back one error for everything: a limit of ours, a fault of the storage, a trap of the guest's own,
//! an instance that could not be made. Which it was is found out here, and nowhere else.

use tidemill_core::limits;
use wasmtime::{FrameInfo, Trap, WasmBacktrace};

use crate::failure::{GuestFailure, LimitReached, Stop, shortened};
use crate::step::Step;

/// What wasmtime says when a call hands over more than [`Step::call_bytes_max`]. Its error has no public type.
const CALL_TOO_LARGE: &str = "fuel allocated for hostcalls has been exhausted";

/// Why the step has no effects.
pub(crate) fn failure(error: &wasmtime::Error, step: Step) -> GuestFailure {
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(lines).unwrap_or_default();
    let limit = match error.downcast_ref::<Stop>() {
        Some(Stop::Fault(fault)) => return GuestFailure::Fault(fault.clone()),
        Some(Stop::Limit(limit)) => Some(limit.clone()),
        None => limit_behind(error, &step),
    };
    if let Some(limit) = limit {
        return GuestFailure::Limit { limit, backtrace };
    }
    let message = match &step.panic {
        Some(panic) => panic.to_string(),
        None => shortened(describe(error), limits::GUEST_REASON_BYTES_MAX),
    };
    GuestFailure::Trap { message, panic: step.panic, backtrace }
}

/// The limit that the guest met, where wasmtime reports something else.
fn limit_behind(error: &wasmtime::Error, step: &Step) -> Option<LimitReached> {
    let asked = &step.input.limits;
    if error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel) {
        return Some(LimitReached::cpu(asked.cpu_ms));
    }
    if error.root_cause().to_string().contains(CALL_TOO_LARGE) {
        return Some(LimitReached::output_bytes(asked.output_bytes, None));
    }
    // A guest that was refused memory mostly cannot go on, and says so in no better way than by a trap. (Where it
    // panics instead, Rust's message begins like this.)
    let about_memory =
        step.panic.as_ref().is_none_or(|panic| panic.message.starts_with("memory allocation of"));
    step.limiter.refused().filter(|_| about_memory)
}

fn describe(error: &wasmtime::Error) -> String {
    let Some(trap) = error.downcast_ref::<Trap>() else { return error.root_cause().to_string() };
    match trap {
        Trap::StackOverflow => {
            format!("its call stack is exhausted (does it recurse?): {}", LimitReached::stack())
        }
        Trap::UnreachableCodeReached => "it aborted (wasm's `unreachable`), and reported no panic".to_owned(),
        // The stack that Rust and C keep in linear memory lies at its very start, and grows down.
        Trap::MemoryOutOfBounds => "it used memory out of bounds: a bug, or a recursion too deep".to_owned(),
        other => other.to_string().trim_start_matches("wasm trap: ").to_owned(),
    }
}

/// One line for each function, from the innermost out; inlined ones included where the component says so. One that
/// calls itself gets one line, with how often.
fn lines(backtrace: &WasmBacktrace) -> Vec<String> {
    // What a component has beside its author's functions has no names, and nothing to say.
    let named = |frame: &&FrameInfo| frame.func_name().is_some();
    let any_named = backtrace.frames().iter().any(|frame| named(&frame));
    let frames = backtrace.frames().iter().filter(|frame| !any_named || named(frame));
    let all: Vec<_> = frames.flat_map(frame_lines).collect();
    let alike = all.chunk_by(|a, b| a == b).map(|lines| match lines.len() {
        1 => lines[0].clone(),
        times => format!("{} ({times} times)", lines[0]),
    });
    alike.take(limits::GUEST_BACKTRACE_FRAMES_MAX).collect()
}

fn frame_lines(frame: &FrameInfo) -> Vec<String> {
    let outer = match frame.func_name() {
        Some(name) => readable(name),
        None => format!("function {}", frame.func_index()),
    };
    let symbols = frame.symbols().iter().map(|symbol| {
        let name = symbol.name().map_or_else(|| outer.clone(), readable);
        match (symbol.file(), symbol.line()) {
            (Some(file), Some(line)) => format!("{name} ({file}:{line})"),
            _ => name,
        }
    });
    let symbols: Vec<_> = symbols.collect();
    if symbols.is_empty() { vec![outer] } else { symbols }
}

/// A function's name as its author wrote it, without the hash that the compiler adds.
fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
