//! Compiling in a process of its own, which may be killed.
//!
//! The parent starts the program it is told (itself, with a hidden argument), writes an order and the component to
//! its standard input, and reads the answer from its standard output. The child binds itself before it reads a byte
//! of the component: memory, processor time, no files written, no core dump. Whatever it does then, dying included,
//! is one [`CompileError`] to the parent.
//!
//! ```text
//! order:  TMCO · version u8 · metering u8 · memory reservation u64 · memory u64 · processor seconds u64 · component
//! answer: 0 · machine code    or    1 · why it is invalid
//! ```
//!
//! The component ends with the input. Integers are big-endian. Parent and child are the same program, so the format
//! is nobody else's; the version is there to say so if they are not.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::process::{Resource, Rlimit, Signal};
use tidemill_core::limits;
use tidemill_core::seams::{BoxFuture, Clock};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::artifact::Artifact;
use crate::compile::{CompileError, Compiler, check_size, compile};
use crate::engine::{CodeOptions, Metering};

const MAGIC: [u8; 4] = *b"TMCO";
const VERSION: u8 = 1;
const ORDER_BYTES: usize = 30;
const ANSWER_CODE: u8 = 0;
const ANSWER_INVALID: u8 = 1;
/// What is read of the child's standard error: enough for the last words of a panic.
const LAST_WORDS_BYTES_MAX: u64 = 16 * 1024;
/// Threads that compile. Each costs address space, which is what the memory limit counts.
const THREADS_MAX: usize = 4;
/// Below everything that serves somebody.
const NICENESS: i32 = 10;

/// What one compilation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space of the child, in bytes.
    pub memory_bytes: u64,
    /// Its processor time, of all its threads together, to the second.
    pub cpu: Duration,
    /// Time on the clock, after which it is killed.
    pub wall: Duration,
}

impl Default for CompileLimits {
    fn default() -> Self {
        let (cpu, wall) = (limits::COMPILE_CPU_MAX, limits::COMPILE_WALL_MAX);
        CompileLimits { memory_bytes: limits::COMPILE_MEMORY_MAX, cpu, wall }
    }
}

/// Compiles in a child process. It needs tokio's runtime.
#[derive(Clone)]
pub struct ChildProcess {
    /// The program; it calls [`compile_child_main`] when it gets `args`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// For which engines it compiles.
    pub code: CodeOptions,
    /// What it may use.
    pub limits: CompileLimits,
    /// What the time on the clock is measured with.
    pub clock: Arc<dyn Clock>,
}

impl Compiler for ChildProcess {
    fn compile(&self, component: Bytes) -> BoxFuture<Result<Artifact, CompileError>> {
        let this = self.clone();
        Box::pin(async move {
            check_size("the component", component.len(), limits::COMPONENT_BYTES_MAX)?;
            let mut child = this.start().map_err(|error| {
                CompileError::Crashed(format!("{} does not start: {error}", this.program.display()))
            })?;
            let end = tokio::select! {
                end = converse(&mut child, this.order(), &component) => end,
                () = this.clock.sleep(this.limits.wall) => None,
            };
            // Whatever the child still does, nobody waits for it any more. (It is often gone already.)
            let _ = child.kill().await;
            match end {
                Some(end) => end.into_result(this.limits),
                None => Err(CompileError::Time(this.limits.wall)),
            }
        })
    }
}

impl ChildProcess {
    fn start(&self) -> std::io::Result<Child> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear();
        command.env("RAYON_NUM_THREADS", cores.min(THREADS_MAX).to_string()).env("MALLOC_ARENA_MAX", "2");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).spawn()
    }

    fn order(&self) -> [u8; ORDER_BYTES] {
        let mut order = Vec::with_capacity(ORDER_BYTES);
        order.extend(MAGIC);
        order.extend([VERSION, u8::from(self.code.metering == Metering::Fuel)]);
        order.extend(self.code.memory_reservation_bytes.to_be_bytes());
        order.extend(self.limits.memory_bytes.to_be_bytes());
        order.extend(self.limits.cpu.as_secs().max(1).to_be_bytes());
        order.try_into().expect("the sum of the fields")
    }
}

/// What the child left.
struct End {
    status: ExitStatus,
    answer: Vec<u8>,
    last_words: String,
}

/// Talks to the child until it ends, or until its answer is too long to be one.
async fn converse(child: &mut Child, order: [u8; ORDER_BYTES], component: &[u8]) -> Option<End> {
    let (mut stdin, stdout, stderr) = (child.stdin.take()?, child.stdout.take()?, child.stderr.take()?);
    let tell = async move {
        // A child that dies before it has read all says more by how it ends than by this error.
        let _ = stdin.write_all(&order).await;
        let _ = stdin.write_all(component).await;
    };
    let answer_bytes_max = limits::ARTIFACT_BYTES_MAX as u64 + 1;
    let (answer, last_words, ()) =
        tokio::join!(read(stdout, answer_bytes_max + 1), read(stderr, LAST_WORDS_BYTES_MAX), tell);
    let status = child.wait().await.ok()?;
    Some(End { status, answer, last_words: String::from_utf8_lossy(&last_words).into_owned() })
}

/// What comes, up to `bytes_max`.
async fn read(from: impl AsyncRead + Unpin, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = from.take(bytes_max).read_to_end(&mut bytes).await;
    bytes
}

impl End {
    fn into_result(self, limits: CompileLimits) -> Result<Artifact, CompileError> {
        let mut answer = Bytes::from(self.answer);
        let kind = answer.try_get_u8().ok().filter(|_| self.status.success());
        check_size("its machine code", answer.len(), limits::ARTIFACT_BYTES_MAX)?;
        match kind {
            Some(ANSWER_CODE) => return Ok(Artifact::vouched(answer)),
            Some(ANSWER_INVALID) => {
                return Err(CompileError::Invalid(String::from_utf8_lossy(&answer).into_owned()));
            }
            _ => {}
        }
        // Processor time: first a signal that says so, later one that cannot be caught.
        let signals = [Signal::XCPU, Signal::KILL].map(Signal::as_raw);
        if self.status.signal().is_some_and(|signal| signals.contains(&signal)) {
            return Err(CompileError::Time(limits.cpu));
        }
        // Rust's allocator and the operating system have no better way to say it.
        let memory = ["memory allocation of", "Cannot allocate memory", "Resource temporarily unavailable"];
        if memory.iter().any(|words| self.last_words.contains(words)) {
            return Err(CompileError::Memory(limits.memory_bytes));
        }
        let last =
            self.last_words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no last words");
        Err(CompileError::Crashed(format!("{}; {last}", self.status)))
    }
}

/// The child: what the program does when it is started with [`ChildProcess::args`], and nothing else.
pub fn compile_child_main() -> ExitCode {
    match obey() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn obey() -> std::io::Result<()> {
    let mut input = std::io::stdin().lock();
    let mut order = [0; ORDER_BYTES];
    input.read_exact(&mut order)?;
    let mut order = &order[..];
    if order.copy_to_bytes(4) != MAGIC[..] || order.get_u8() != VERSION {
        return Err(std::io::Error::other("the order is not one of this version"));
    }
    let metering = if order.get_u8() == 0 { Metering::Epoch } else { Metering::Fuel };
    let code = CodeOptions { metering, memory_reservation_bytes: order.get_u64() };
    bind(order.get_u64(), order.get_u64())?;
    let mut component = Vec::new();
    input.take(limits::COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut component)?;
    let mut output = std::io::stdout().lock();
    match compile(&component, code) {
        Ok(artifact) => {
            output.write_all(&[ANSWER_CODE])?;
            output.write_all(artifact.code())?;
        }
        Err(CompileError::Invalid(why)) => {
            output.write_all(&[ANSWER_INVALID])?;
            output.write_all(why.as_bytes())?;
        }
        Err(error) => return Err(std::io::Error::other(error)),
    }
    output.flush()
}

/// Binds this process for good.
fn bind(memory_bytes: u64, cpu_seconds: u64) -> std::io::Result<()> {
    let set = |resource, soft: u64, hard: u64| {
        rustix::process::setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) })
    };
    set(Resource::As, memory_bytes, memory_bytes)?;
    set(Resource::Cpu, cpu_seconds, cpu_seconds + 1)?;
    set(Resource::Fsize, 0, 0)?;
    set(Resource::Core, 0, 0)?;
    rustix::process::nice(NICENESS)?;
    Ok(())
}
