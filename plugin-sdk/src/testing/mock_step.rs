//! One task in a test: its events, its state from step to step, and what a step made of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use serde::de::DeserializeOwned;

use super::manifest;
use super::mock_host::{Emitted, MockHost, Origin, Pairs, Timers, listening};
use crate::host::{due, numbered};
use crate::log::Level;
use crate::{Event, Failure, Plugin, Record, Step, Timer, TimerKind};

/// A task without a broker. Give it events, run the plugin, look at what it did; then give it more.
#[derive(Debug, Clone, Default)]
pub struct MockStep {
    partition: u32,
    attempt: u32,
    subscribe: Option<BTreeSet<String>>,
    publish: Option<BTreeSet<String>>,
    config: BTreeMap<String, String>,
    files: BTreeMap<String, Vec<u8>>,
    state: Pairs,
    events: Vec<Event>,
    offsets: BTreeMap<String, u64>,
    time_ms: u64,
    event_time_watermark_ms: Option<i64>,
    timers: Timers,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the plugin returned.
    pub result: Result<(), Failure>,
    /// What it derived, in order. Nothing when it failed.
    pub emitted: Vec<Emitted>,
    /// The lines that it logged. They stay even when it failed.
    pub log: Vec<(Level, String)>,
}

impl MockStep {
    /// A task of partition 0 that may publish to any topic, without configuration or state.
    pub fn new() -> MockStep {
        MockStep::default()
    }

    /// A task that is configured as `manifest` says, and granted nothing else: hand it
    /// `include_str!("../plugin.toml")`, and the tests also prove the manifest.
    ///
    /// # Panics
    /// When the text is no manifest.
    #[track_caller]
    pub fn from_manifest(manifest: &str) -> MockStep {
        let granted = manifest::read(manifest);
        MockStep {
            subscribe: Some(granted.subscribe),
            publish: Some(granted.publish),
            config: granted.config,
            ..MockStep::default()
        }
    }

    /// Sets a value of the configuration, by its dotted key.
    #[must_use]
    pub fn with_config(mut self, key: &str, value: impl ToString) -> MockStep {
        self.config.insert(key.to_owned(), value.to_string());
        self
    }

    /// Gives the task a file, by its whole path: what a bundle of the manifest holds, or something else.
    #[must_use]
    pub fn with_file(mut self, path: &str, bytes: impl AsRef<[u8]>) -> MockStep {
        self.files.insert(path.to_owned(), bytes.as_ref().to_vec());
        self
    }

    /// Sets a value of the state.
    #[must_use]
    pub fn with_state(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> MockStep {
        self.state.insert(key.as_ref().to_vec(), value.as_ref().to_vec());
        self
    }

    /// Sets the number of the partitions that the task reads.
    #[must_use]
    pub fn with_partition(self, partition: u32) -> MockStep {
        MockStep { partition, ..self }
    }

    /// Sets how often the first event was tried before.
    #[must_use]
    pub fn with_attempt(self, attempt: u32) -> MockStep {
        MockStep { attempt, ..self }
    }

    /// Adds an event to the next step. Its offset is the next of its topic, its append time that of the task; without
    /// a time of its own it has the time 0.
    ///
    /// # Panics
    /// When the manifest does not subscribe to the topic.
    #[track_caller]
    pub fn event(&mut self, topic: &str, record: Record) -> &mut MockStep {
        let reads = self.subscribe.as_ref().is_none_or(|subscribe| subscribe.contains(topic));
        assert!(reads, "the manifest does not subscribe to {topic}");
        let next = self.offsets.entry(topic.to_owned()).or_default();
        let offset = *next;
        *next += 1;
        let Record { key, value, headers, timestamp_ms } = record;
        self.events.push(Event {
            index: 0,
            topic: topic.to_owned(),
            partition: self.partition,
            offset,
            timestamp_ms: timestamp_ms.unwrap_or(0),
            append_time_ms: self.time_ms,
            key,
            value,
            headers,
        });
        self
    }

    /// Moves the task's time. It starts with 0.
    pub fn at_ms(&mut self, time_ms: u64) -> &mut MockStep {
        self.time_ms = time_ms;
        self
    }

    /// Moves the task's event-time watermark. There is none at first.
    pub fn event_time_watermark_ms(&mut self, watermark_ms: i64) -> &mut MockStep {
        self.event_time_watermark_ms = Some(watermark_ms);
        self
    }

    /// Runs `P` on the timers that are due, those of append time first, each kind in the order of their times; on none, when none is. If it succeeds, they
    /// are gone.
    pub fn run_timers<P: Plugin>(&mut self) -> Option<Outcome> {
        let now = |kind| match kind {
            TimerKind::AppendTime => i64::try_from(self.time_ms).ok(),
            TimerKind::EventTime => self.event_time_watermark_ms,
        };
        let mut timers: Vec<Timer> = self
            .timers()
            .filter(|(kind, _, at_ms)| now(*kind).is_some_and(|now| *at_ms <= now))
            .map(|(kind, name, at_ms)| Timer { index: 0, kind, name: name.to_vec(), at_ms })
            .collect();
        timers.sort_by_key(|timer| (timer.kind, timer.at_ms));
        (!timers.is_empty()).then(|| self.step::<P>(Vec::new(), due(timers)))
    }

    /// The timers that are set: kind, name, and when they are due.
    pub fn timers(&self) -> impl Iterator<Item = (TimerKind, &[u8], i64)> {
        self.timers.iter().map(|((kind, name), (at_ms, _))| (*kind, name.as_slice(), *at_ms))
    }

    /// Runs `P` on the events that were added. If it succeeds, the next run finds the state that it left.
    ///
    /// # Panics
    /// When there is no event, and wherever the plugin panics.
    #[track_caller]
    pub fn run<P: Plugin>(&mut self) -> Outcome {
        let events = numbered(mem::take(&mut self.events));
        assert!(!events.is_empty(), "a step has at least one event");
        self.step::<P>(events, Vec::new())
    }

    fn step<P: Plugin>(&mut self, events: Vec<Event>, timers: Vec<Timer>) -> Outcome {
        let mut left = self.timers.clone();
        let mut parents: Vec<Origin> =
            events.iter().map(|event| (event.topic.clone(), event.offset)).collect();
        for timer in &timers {
            parents.extend(left.remove(&(timer.kind, timer.name.clone())).map(|(_, origin)| origin));
        }
        let host = MockHost {
            partition: self.partition,
            attempt: self.attempt,
            parents,
            time_ms: self.time_ms,
            event_time_watermark_ms: self.event_time_watermark_ms,
            timers: RefCell::new(left),
            publish: self.publish.as_ref(),
            config: &self.config,
            files: &self.files,
            state: RefCell::new(mem::take(&mut self.state)),
            found: RefCell::default(),
            emitted: RefCell::default(),
        };
        let (result, log) = listening(|| P::step(&Step { host: &host, events, timers }));
        let mut emitted = Vec::new();
        if result.is_ok() {
            emitted = host.emitted.take();
            self.timers = host.timers.take();
        }
        self.state = host.into_state(result.is_ok());
        Outcome { result, emitted, log }
    }

    /// The configuration, by dotted key.
    pub fn config(&self) -> &BTreeMap<String, String> {
        &self.config
    }

    /// The state, by key.
    pub fn state(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.state
    }

    /// A value of the state, read as JSON.
    ///
    /// # Panics
    /// When it is there and no such JSON.
    #[track_caller]
    pub fn state_json<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> Option<T> {
        let value = self.state.get(key.as_ref())?;
        Some(serde_json::from_slice(value).expect("a value of the state that is such JSON"))
    }
}
