//! A step: one fresh instance, one call, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::ids::TaskId;
use tidemill_core::plugin::{Effects, Event, GuestLimits, StateView, Timer};
use tidemill_core::seams::Timestamp;
use tidemill_protocol::ids::TopicName;
use wasmtime::Store;

use crate::abi::Verdict;
use crate::bundle::Mounted;
use crate::engine::Runtime;
use crate::failure::GuestFailure;
use crate::load::Plugin;
use crate::meter::Meter;
use crate::step::{LogLine, Step};
use crate::trap;

/// All that a step may know. Nothing else reaches the guest: no clock, no chance but what follows from it, no memory of
/// earlier steps.
#[derive(Clone)]
pub struct StepInput {
    /// Whose step it is.
    pub task: TaskId,
    /// The number of the partitions that the task reads.
    pub partition: u32,
    /// How often the first event, or timer, was tried before.
    pub attempt: u32,
    /// The records, each of which names its topic by its place in `inputs`: at least one, or none when there are
    /// timers.
    pub events: Arc<[Event]>,
    /// The timers that are due; none when there are records.
    pub timers: Arc<[Timer]>,
    /// The task's append time.
    pub time: Timestamp,
    /// The task's event-time watermark before the step, in milliseconds since 1970.
    pub event_time_watermark_ms: Option<i64>,
    /// The topics that the task reads.
    pub inputs: Arc<[TopicName]>,
    /// The topics that it may publish to; what it emits names them by their place here.
    pub outputs: Arc<[TopicName]>,
    /// The deployment's configuration.
    pub config: Arc<BTreeMap<String, String>>,
    /// The files that it may read.
    pub files: Arc<[Mounted]>,
    /// What the instance may use.
    pub limits: GuestLimits,
    /// The task's state, as the step before left it.
    pub state: Arc<dyn StateView>,
}

impl fmt::Debug for StepInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StepInput { partition, attempt, events, .. } = self;
        write!(f, "StepInput(partition {partition}, attempt {attempt}, {} events)", events.len())
    }
}

/// What came of a step.
#[derive(Debug)]
pub struct StepOutcome {
    /// What it wants to become real, or why nothing does.
    pub result: Result<Effects, GuestFailure>,
    /// What it used, also when it failed.
    pub usage: Usage,
    /// What the plugin wrote to its log, also when the step failed.
    pub log: Vec<LogLine>,
    /// Lines beyond [`tidemill_core::limits::GUEST_LOG_LINES_MAX`], which are not kept.
    pub log_lines_dropped: u64,
}

impl StepOutcome {
    /// Of a step that did not begin.
    fn failed(failure: GuestFailure) -> StepOutcome {
        StepOutcome { result: Err(failure), usage: Usage::default(), log: Vec::new(), log_lines_dropped: 0 }
    }
}

/// What a step used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time, making the instance included, clearing up after it not.
    pub cpu: Duration,
    /// The most that its linear memories have held, in bytes.
    pub memory_bytes_max: u64,
}

impl Runtime {
    /// Runs one step. It waits while all places for guests are taken.
    ///
    /// The future yields at every tick that finds the guest running, and may otherwise use the processor for as
    /// long as the guest does: poll it where that is expected
    /// ([`Spawner::guest`](tidemill_core::seams::Spawner::guest)). Dropping it ends the step without an outcome;
    /// the instance goes with it.
    ///
    /// # Panics
    /// When an event names an input that does not exist: a bug of the caller.
    pub async fn run(&self, plugin: &Plugin, input: StepInput) -> StepOutcome {
        let inputs = input.inputs.len();
        assert!(
            input.events.iter().all(|event| usize::from(event.input) < inputs),
            "an event is of no input"
        );
        let _room = self.room.acquire_many(plugin.places()).await.expect("the semaphore is never closed");
        let _at_work = self.activity.begins();
        let meter = Meter::new(self.metering, input.limits.cpu_ms);
        let step = match Step::new(input, plugin.has_wasi()) {
            Ok(step) => step,
            Err(fault) => return StepOutcome::failed(fault.into()),
        };
        let mut store = Store::new(&self.engine, step);
        store.limiter(|step| &mut step.limiter);
        store.set_hostcall_fuel(store.data().call_bytes_max());
        store.set_max_component_handles(tidemill_core::limits::GUEST_HANDLES_MAX);
        meter.arm(&mut store);
        let verdict = meter.measure(plugin.handle(&mut store)).await;
        let cpu = meter.used(&store);
        outcome(verdict, store.into_data(), cpu)
    }
}

fn outcome(verdict: wasmtime::Result<Verdict>, mut step: Step, cpu: Duration) -> StepOutcome {
    step.log_output();
    let usage = Usage { cpu, memory_bytes_max: step.limiter.bytes_max() };
    let (log, log_lines_dropped) = (std::mem::take(&mut step.log), step.log_lines_dropped);
    let result = match verdict {
        Ok(Verdict::Done) => Ok(step.into_effects()),
        Ok(Verdict::Retry(reason)) => Err(GuestFailure::Retry(reason)),
        Ok(Verdict::Reject(reason)) => Err(GuestFailure::Reject(reason)),
        Err(error) => Err(trap::failure(&error, step)),
    };
    StepOutcome { result, usage, log, log_lines_dropped }
}
