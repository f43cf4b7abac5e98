//! What a step costs: one fresh instance of `pass-through`, and 1, 100 or 1,000 events of 1 KiB.
//!
//! ```text
//! cargo xtask plugins
//! cargo run --release -p tidemill-runtime --example step_cost
//! ```
#![allow(clippy::disallowed_methods, reason = "it measures, so it needs a clock")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::plugin::{Event, GuestLimits, StateView};
use tidemill_core::seams::{BoxFuture, Clock, Timestamp};
use tidemill_protocol::ids::{Offset, Partition, Position, TopicId, TopicName, TopicPartition};
use tidemill_runtime::{CodeOptions, Runtime, RuntimeOptions, StepInput, compile};

/// How long each figure is measured.
const MEASURED: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let components =
        program.ancestors().map(|folder| folder.join("components")).find(|folder| folder.is_dir());
    let component = components.context("run `cargo xtask plugins` first")?.join("pass-through.wasm");
    let component = std::fs::read(&component).with_context(|| component.display().to_string())?;
    let threads = tokio::runtime::Builder::new_current_thread().enable_time().build()?;

    let runtime = Runtime::new(RuntimeOptions::default())?;
    let ticker = runtime.tick(Arc::new(ThreadClock(Instant::now())));
    std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().build().map(|thread| thread.block_on(ticker))
    });
    let start = Instant::now();
    let artifact = compile(&component, CodeOptions::default())?;
    println!("compile   {:>8} KiB of component, {:?}", component.len() / 1024, start.elapsed());
    let start = Instant::now();
    let plugin = runtime.load(&artifact)?;
    println!("load      {:>8} KiB of machine code, {:?}", artifact.size() / 1024, start.elapsed());

    for events in [1, 100, 1_000] {
        let input = input(events)?;
        let mut taken = Vec::new();
        let (mut cpu, start) = (Duration::ZERO, Instant::now());
        while start.elapsed() < MEASURED {
            let begun = Instant::now();
            let outcome = threads.block_on(runtime.run(&plugin, input.clone()));
            taken.push(begun.elapsed());
            cpu += outcome.usage.cpu;
            anyhow::ensure!(outcome.result?.emitted.len() == events, "an event was lost");
        }
        taken.sort();
        let (p50, p99) = (taken[taken.len() / 2], taken[taken.len() * 99 / 100]);
        let each = p50.as_nanos() as f64 / events as f64 / 1000.0;
        println!(
            "step      {events:>8} events: p50 {p50:>10.1?}  p99 {p99:>10.1?}  {each:>7.2} us an event  processor {:>10.1?}",
            cpu / taken.len() as u32
        );
    }
    Ok(())
}

/// `events` events of 1 KiB for a step that may publish to `out`.
fn input(events: usize) -> anyhow::Result<StepInput> {
    let at = TopicPartition { topic: TopicId([1; 16]), partition: Partition(0) };
    let event = |offset: usize| Event {
        input: 0,
        position: Position { at, offset: Offset(offset as u64) },
        timestamp_ms: 0,
        append_time: Timestamp(0),
        key: Some(format!("key-{offset}").into()),
        value: Some(Bytes::from(vec![b'x'; 1024])),
        headers: Vec::new(),
    };
    Ok(StepInput {
        partition: 0,
        attempt: 0,
        events: (0..events).map(event).collect(),
        inputs: [TopicName::new("in")?].into(),
        outputs: [TopicName::new("out")?].into(),
        config: Arc::new(BTreeMap::from([("to".to_owned(), "out".to_owned())])),
        limits: GuestLimits::default(),
        state: Arc::new(NoState),
    })
}

struct NoState;

impl StateView for NoState {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, Fault> {
        Ok(None)
    }

    fn scan(&self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        Ok(Vec::new())
    }
}

/// For a thread that does nothing but wait.
struct ThreadClock(Instant);

impl Clock for ThreadClock {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(async move { std::thread::sleep(duration) })
    }
}
