//! What every test here starts from: a runtime, a step's input, and guests written in wasm's text format.
//!
//! A guest is a few instructions of a core module; [`guest`] wraps them into a component of the world `plugin`. That
//! way a test can do what no compiler would, such as hand over the same bytes a hundred times in one call.
#![allow(dead_code, reason = "each test file uses what it needs")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests are a shell: they have a clock and threads of their own"
)]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{DeploymentId, TaskId};
use tidemill_core::plugin::{Event, GuestLimits, StateView};
use tidemill_core::seams::{BoxFuture, Clock, Timestamp};
use tidemill_protocol::ids::{Offset, Partition, Position, TopicId, TopicName, TopicPartition};
use tidemill_runtime::{
    Artifact, CodeOptions, Metering, Plugin, Runtime, RuntimeOptions, StepInput, StepOutcome, compile,
};

/// The clock on the wall.
pub struct RealClock(Instant);

impl RealClock {
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(RealClock(Instant::now()))
    }
}

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A component that `cargo xtask plugins` built, from the folder that this test was built into.
pub fn built(name: &str) -> Vec<u8> {
    let program = std::env::current_exe().unwrap();
    let components =
        program.ancestors().map(|folder| folder.join("components")).find(|folder| folder.is_dir());
    let component =
        components.and_then(|folder| std::fs::read(folder.join(name).with_extension("wasm")).ok());
    component.unwrap_or_else(|| panic!("no {name}.wasm: run `cargo xtask plugins` first"))
}

/// The runtime of this process, with its ticker on a thread of its own.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let start = || {
        let runtime = Runtime::new(RuntimeOptions { instances: 64, code: CodeOptions::default() }).unwrap();
        let ticker = runtime.tick(RealClock::shared());
        std::thread::spawn(|| block_on(ticker));
        runtime
    };
    RUNTIME.get_or_init(start)
}

/// A runtime that counts instructions.
pub fn counting_runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let code = CodeOptions { metering: Metering::Fuel, ..CodeOptions::default() };
    RUNTIME.get_or_init(|| Runtime::new(RuntimeOptions { instances: 16, code }).unwrap())
}

/// Runs a future on this thread alone.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Compiles for [`runtime`].
pub fn compiled(component: &[u8]) -> Artifact {
    compile(component, CodeOptions::default()).unwrap()
}

/// Compiles and admits a component.
pub fn plugin(component: &[u8]) -> Plugin {
    runtime().load(&compiled(component)).unwrap()
}

/// Runs one step of a component, alone.
pub fn run(component: &[u8], input: StepInput) -> StepOutcome {
    let plugin = plugin(component);
    block_on(runtime().run(&plugin, input))
}

/// A step with `events` events of topic `in`, whose plugin may publish to `out`.
pub fn input(events: usize) -> StepInput {
    let name = |name: &str| TopicName::new(name).unwrap();
    StepInput {
        task: TaskId { deployment: DeploymentId(7), partition: Partition(3) },
        partition: 3,
        attempt: 0,
        events: (0..events as u64).map(event).collect(),
        timers: [].into(),
        time: Timestamp(5_000),
        event_time_watermark_ms: None,
        inputs: [name("in")].into(),
        outputs: [name("out"), name("out-2")].into(),
        config: Arc::new(BTreeMap::new()),
        files: [].into(),
        limits: GuestLimits::default(),
        state: Arc::new(State::default()),
    }
}

/// The event at `offset` of topic `in`.
pub fn event(offset: u64) -> Event {
    let at = TopicPartition { topic: TopicId([1; 16]), partition: Partition(3) };
    Event {
        input: 0,
        position: Position { at, offset: Offset(offset) },
        timestamp_ms: 1_000 + offset as i64,
        append_time: Timestamp(2_000 + offset),
        key: Some(format!("key-{offset}").into()),
        value: Some(format!("value-{offset}").into()),
        headers: Vec::new(),
    }
}

/// A task's state in memory; or a disk that fails.
#[derive(Default)]
pub struct State {
    pub pairs: BTreeMap<Bytes, Bytes>,
    pub fault: Option<Fault>,
}

impl StateView for State {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.fault.clone().map_or_else(|| Ok(self.pairs.get(key).cloned()), Err)
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let range = (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded));
        Ok(self.pairs.range::<[u8], _>(range).take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

/// A component of the world `plugin` whose handler is `body`: instructions of a core function that find the step's
/// handle in `$step`, and that leave nothing on the stack. It may call
///
/// - `(call $emit step parent topic topic-bytes records count answer)`
/// - `(call $put step key key-bytes value value-bytes answer)`
/// - `(call $get step key key-bytes answer)`
/// - `(call $log level message message-bytes)`
///
/// and use `$memory`, which has `pages` pages, of which the first is the handler's own: byte 0 to 15 are its answer,
/// which is "done" as long as nothing writes to them, and at 1,024 lies the text `out`.
pub fn guest(pages: u32, body: &str) -> Vec<u8> {
    let text = format!(
        r#"
(component
  (import "tidemill:plugin/types@0.1.0" (instance $types
    (type $header' (record (field "name" string) (field "value" (option (list u8)))))
    (export "header" (type $header (eq $header')))
    (type $outgoing' (record
      (field "key" (option (list u8))) (field "value" (option (list u8)))
      (field "headers" (list $header)) (field "timestamp-ms" (option s64))))
    (export "outgoing" (type $outgoing (eq $outgoing')))
    (type $refusal' (variant
      (case "not-granted" string) (case "limit" string) (case "invalid" string) (case "other" string)))
    (export "refusal" (type $refusal (eq $refusal')))
    (type $failure' (variant (case "retry" string) (case "reject" string) (case "other" string)))
    (export "failure" (type $failure (eq $failure')))))
  (alias export $types "outgoing" (type $outgoing))
  (alias export $types "refusal" (type $refusal))
  (alias export $types "failure" (type $failure))
  (import "tidemill:plugin/delivery@0.1.0" (instance $delivery
    (export "outgoing" (type $out (eq $outgoing)))
    (export "refusal" (type $ref (eq $refusal)))
    (export "step" (type $step (sub resource)))
    (export "[method]step.emit" (func
      (param "self" (borrow $step)) (param "parent" u32) (param "topic" string) (param "records" (list $out))
      (result (result (error $ref)))))
    (export "[method]step.state-get" (func
      (param "self" (borrow $step)) (param "key" (list u8)) (result (option (list u8)))))
    (export "[method]step.state-put" (func
      (param "self" (borrow $step)) (param "key" (list u8)) (param "value" (list u8))
      (result (result (error $ref)))))))
  (import "tidemill:plugin/log@0.1.0" (instance $log
    (type $level' (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (export "write" (func (param "level" $level) (param "message" string)))))
  (alias export $delivery "step" (type $step))

  (core module $libc
    (memory (export "memory") {pages})
    (global $next (mut i32) (i32.const 32768))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $here i32)
      (local.set $here (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $here) (local.get 3)))
      (local.get $here)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $emit (canon lower (func $delivery "[method]step.emit") (memory $memory) (realloc $realloc)))
  (core func $get (canon lower (func $delivery "[method]step.state-get") (memory $memory) (realloc $realloc)))
  (core func $put (canon lower (func $delivery "[method]step.state-put") (memory $memory) (realloc $realloc)))
  (core func $write (canon lower (func $log "write") (memory $memory) (realloc $realloc)))
  (core func $drop (canon resource.drop $step))

  (core module $main
    (import "libc" "memory" (memory $memory 1))
    (import "host" "emit" (func $emit (param i32 i32 i32 i32 i32 i32 i32)))
    (import "host" "get" (func $get (param i32 i32 i32 i32)))
    (import "host" "put" (func $put (param i32 i32 i32 i32 i32 i32)))
    (import "host" "log" (func $log (param i32 i32 i32)))
    (import "host" "drop" (func $drop (param i32)))
    (data (i32.const 1024) "out")
    (func $deep (param i64) (result i64)
      (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
    (func $handle (export "handle") (param $step i32) (result i32)
      (local $i i32) (local $j i32)
      {body}
      (call $drop (local.get $step))
      (i32.const 0)))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "host" (instance
      (export "emit" (func $emit)) (export "get" (func $get)) (export "put" (func $put))
      (export "log" (func $write)) (export "drop" (func $drop))))))

  (func $handle (param "this" (borrow $step)) (result (result (error $failure)))
    (canon lift (core func $main "handle") (memory $memory) (realloc $realloc)))
  (instance $handler (export "handle" (func $handle)))
  (export "tidemill:plugin/handler@0.1.0" (instance $handler)))
"#
    );
    wat::parse_str(text).unwrap()
}
