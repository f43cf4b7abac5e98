//! From a component to machine code.
//!
//! Compiling is where a stranger's bytes do the most: seconds of time, hundreds of mebibytes, and now and then a bug
//! of the compiler. Brokers do it in a child process ([`ChildProcess`](crate::ChildProcess)); tests, simulations and
//! tools may do it in their own ([`InProcess`]). Both are a [`Compiler`].

use std::time::Duration;

use bytes::Bytes;
use tidemill_core::limits;
use tidemill_core::seams::BoxFuture;

use crate::artifact::Artifact;
use crate::engine::{self, CodeOptions};

/// How the header of a component begins; a core module's differs in the fifth byte.
const COMPONENT_MAGIC: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
const MODULE_MAGIC: [u8; 8] = [0, b'a', b's', b'm', 1, 0, 0, 0];

/// Why there is no machine code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It is no component, or none that this broker runs.
    #[error("not a component that can be run: {0}")]
    Invalid(String),
    /// It, or the machine code made of it, is too large.
    #[error("{what} has {bytes} bytes or more, and the limit is {limit}; nothing raises it")]
    TooLarge {
        /// The component, or its machine code.
        what: &'static str,
        /// How large it is, as far as it was read.
        bytes: usize,
        /// The most that is possible.
        limit: usize,
    },
    /// It took too long.
    #[error("compiling it takes more than {} s; nothing raises this limit", .0.as_secs_f32())]
    Time(Duration),
    /// It took too much memory.
    #[error("compiling it takes more than {0} bytes of memory; nothing raises this limit")]
    Memory(u64),
    /// The compiler broke down.
    #[error("the compiler broke down: {0}")]
    Crashed(String),
}

/// Makes machine code.
pub trait Compiler: Send + Sync {
    /// Compiles a component.
    fn compile(&self, component: Bytes) -> BoxFuture<Result<Artifact, CompileError>>;
}

/// Compiles within this process, when the future is first polled, and without any bound but on size.
#[derive(Debug, Clone, Copy, Default)]
pub struct InProcess {
    /// For which engines.
    pub code: CodeOptions,
}

impl Compiler for InProcess {
    fn compile(&self, component: Bytes) -> BoxFuture<Result<Artifact, CompileError>> {
        let code = self.code;
        Box::pin(async move { compile(&component, code) })
    }
}

/// Compiles a component here and now.
///
/// # Errors
/// [`CompileError::Invalid`] with the compiler's reason, and [`CompileError::TooLarge`].
pub fn compile(component: &[u8], code: CodeOptions) -> Result<Artifact, CompileError> {
    check_size("the component", component.len(), limits::COMPONENT_BYTES_MAX)?;
    if component.starts_with(&MODULE_MAGIC) {
        let why = "it is a core module; `tidemill plugin build` makes a component of one";
        return Err(CompileError::Invalid(why.to_owned()));
    }
    if !component.starts_with(&COMPONENT_MAGIC) {
        return Err(CompileError::Invalid("it does not begin as one".to_owned()));
    }
    let invalid = |error: wasmtime::Error| CompileError::Invalid(format!("{error:#}"));
    let engine = engine::compiling(code).map_err(|error| CompileError::Crashed(format!("{error:#}")))?;
    let machine_code = engine.precompile_component(component).map_err(invalid)?;
    check_size("its machine code", machine_code.len(), limits::ARTIFACT_BYTES_MAX)?;
    Ok(Artifact::vouched(machine_code.into()))
}

/// Refuses what is larger than it may be.
pub(crate) fn check_size(what: &'static str, bytes: usize, limit: usize) -> Result<(), CompileError> {
    if bytes > limit { Err(CompileError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}
