//! Steps without a broker: what one thread of our runtime does with the plugin of the chain's rows, when its events
//! are at hand and nobody writes down what it derives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{DeploymentId, TaskId};
use tidemill_core::plugin::{Event, GuestLimits, StateView};
use tidemill_core::seams::{BoxFuture, Clock, Timestamp};
use tidemill_protocol::ids::{Offset, Partition, Position, TopicId, TopicName, TopicPartition};
use tidemill_runtime::{CodeOptions, Runtime, RuntimeOptions, StepInput, compile};

use crate::row::Row;
use crate::stage::{RECORD_BYTES, Stage};
use crate::times::{Stretch, Times};

/// Before the measurement.
const WARM_STEPS: u64 = 100;
/// Places of the pool; one step runs at a time.
const INSTANCES: u32 = 16;

/// A step of so many records of 1 KiB, and the next: each in an instance of its own.
pub fn pass_through(
    stage: &Stage<'_>,
    time: Duration,
    row: &'static str,
    events: u64,
) -> anyhow::Result<Row> {
    let file = stage.components().join("pass-through.wasm");
    let component = std::fs::read(&file).with_context(|| file.display().to_string())?;
    let runtime = Runtime::new(RuntimeOptions { instances: INSTANCES, code: CodeOptions::default() })?;
    let plugin = runtime.load(&compile(&component, CodeOptions::default())?)?;
    let ticker = runtime.tick(Arc::new(RealClock(Instant::now())));
    std::thread::spawn(|| on_one_thread(ticker));
    let input = input(stage, events)?;
    let (took, times) = on_one_thread(async {
        let (mut stretch, mut times, mut number) = (Stretch::of(time), Times::default(), 0);
        while stretch.lasts() {
            let begun = Instant::now();
            let outcome = runtime.run(&plugin, input.clone()).await;
            times.since(begun);
            let effects = outcome.result.map_err(|failure| anyhow!("a step failed: {failure:?}"))?;
            ensure!(effects.emitted.len() as u64 == events, "{} records derived", effects.emitted.len());
            number += 1;
            if number == WARM_STEPS {
                (stretch, times) = (Stretch::of(time), Times::default());
            }
        }
        anyhow::Ok((stretch.elapsed(), times))
    })??;
    let row = Row::new(row, took);
    Ok(row.amount(times.count() * events, "records", RECORD_BYTES).latency(times))
}

fn on_one_thread<F: Future>(future: F) -> anyhow::Result<F::Output> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}

fn input(stage: &Stage<'_>, events: u64) -> anyhow::Result<StepInput> {
    let at = TopicPartition { topic: TopicId([1; 16]), partition: Partition(0) };
    let event = |offset| Event {
        input: 0,
        position: Position { at, offset: Offset(offset) },
        timestamp_ms: 1,
        append_time: Timestamp(1),
        key: None,
        value: Some(stage.value(offset)),
        headers: Vec::new(),
    };
    Ok(StepInput {
        task: TaskId { deployment: DeploymentId(1), partition: Partition(0) },
        partition: 0,
        attempt: 0,
        events: (0..events).map(event).collect(),
        timers: [].into(),
        time: Timestamp(1),
        event_time_watermark_ms: None,
        inputs: [TopicName::new("in")?].into(),
        outputs: [TopicName::new("out")?].into(),
        config: Arc::new(BTreeMap::from([("to".to_owned(), "out".to_owned())])),
        files: [].into(),
        limits: GuestLimits::default(),
        state: Arc::new(NoState),
    })
}

/// The plugin keeps none.
struct NoState;

impl StateView for NoState {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, Fault> {
        Ok(None)
    }

    fn scan(&self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        Ok(Vec::new())
    }
}

/// The clock on the wall, for the ticker.
struct RealClock(Instant);

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
