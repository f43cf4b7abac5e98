//! A broker in memory, for the length of one step.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::host::{Host, Pair};
use crate::log::Level;
use crate::{FileError, Record, Refusal, Timer, TimerKind};

/// A record that a plugin derived in a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// Which event, or due timer, of the step it derives from.
    pub parent: usize,
    /// The record that it descends from: its topic and offset. That of a timer is the record that last set it.
    pub origin: (String, u64),
    /// The topic.
    pub topic: String,
    /// The record.
    pub record: Record,
}

impl Emitted {
    /// The value, read as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let value = self.record.value.as_deref().expect("a record with a value");
        serde_json::from_slice(value).expect("a value that is JSON")
    }

    /// The key as text; none also when it is not UTF-8.
    pub fn key(&self) -> Option<&str> {
        std::str::from_utf8(self.record.key.as_deref()?).ok()
    }
}

pub(super) type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;
/// When each timer is due, and the record that last set it.
pub(super) type Timers = BTreeMap<(TimerKind, Vec<u8>), (i64, Origin)>;
/// The topic and the offset of a record.
pub(super) type Origin = (String, u64);

/// What a step is given, and what it stages.
pub(super) struct MockHost<'a> {
    pub(super) partition: u32,
    pub(super) attempt: u32,
    /// The records that the events are, or that set the due timers.
    pub(super) parents: Vec<Origin>,
    pub(super) time_ms: u64,
    pub(super) event_time_watermark_ms: Option<i64>,
    /// None grants every topic.
    pub(super) publish: Option<&'a BTreeSet<String>>,
    pub(super) config: &'a BTreeMap<String, String>,
    /// By their whole paths.
    pub(super) files: &'a BTreeMap<String, Vec<u8>>,
    pub(super) state: RefCell<Pairs>,
    /// What the step found under the keys that it changed.
    pub(super) found: RefCell<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    pub(super) emitted: RefCell<Vec<Emitted>>,
    pub(super) timers: RefCell<Timers>,
}

impl MockHost<'_> {
    /// The state as the step left it, or as it found it.
    pub(super) fn into_state(self, kept: bool) -> Pairs {
        let mut state = self.state.into_inner();
        if !kept {
            for (key, value) in self.found.into_inner() {
                match value {
                    Some(value) => state.insert(key, value),
                    None => state.remove(&key),
                };
            }
        }
        state
    }

    fn change(&self, key: &[u8], value: Option<&[u8]>) {
        let mut state = self.state.borrow_mut();
        let found = match value {
            Some(value) => state.insert(key.to_vec(), value.to_vec()),
            None => state.remove(key),
        };
        self.found.borrow_mut().entry(key.to_vec()).or_insert(found);
    }
}

impl MockHost<'_> {
    fn origin(&self, parent: usize) -> Result<Origin, Refusal> {
        let nobody = || Refusal::Invalid(format!("the step has no event or timer {parent}"));
        self.parents.get(parent).cloned().ok_or_else(nobody)
    }
}

impl Host for MockHost<'_> {
    fn partition(&self) -> u32 {
        self.partition
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn time_ms(&self) -> u64 {
        self.time_ms
    }

    fn event_time_watermark_ms(&self) -> Option<i64> {
        self.event_time_watermark_ms
    }

    fn set_timer(&self, parent: u32, timer: Timer) -> Result<(), Refusal> {
        let origin = self.origin(parent as usize)?;
        self.timers.borrow_mut().insert((timer.kind, timer.name), (timer.at_ms, origin));
        Ok(())
    }

    fn cancel_timer(&self, kind: TimerKind, name: &[u8]) -> Result<(), Refusal> {
        self.timers.borrow_mut().remove(&(kind, name.to_vec()));
        Ok(())
    }

    fn emit(&self, parent: u32, topic: &str, records: Vec<Record>) -> Result<(), Refusal> {
        let parent = parent as usize;
        let origin = self.origin(parent)?;
        if self.publish.is_some_and(|publish| !publish.contains(topic)) {
            return Err(Refusal::NotGranted(topic.to_owned()));
        }
        let emitted = |record| Emitted { parent, origin: origin.clone(), topic: topic.to_owned(), record };
        let records = records.into_iter().map(emitted);
        self.emitted.borrow_mut().extend(records);
        Ok(())
    }

    fn state_get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state.borrow().get(key).cloned()
    }

    fn state_put(&self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        self.change(key, Some(value));
        Ok(())
    }

    fn state_delete(&self, key: &[u8]) -> Result<(), Refusal> {
        self.change(key, None);
        Ok(())
    }

    fn state_scan(&self, start: &[u8], end: Option<&[u8]>, limit: u32) -> Vec<Pair> {
        let state = self.state.borrow();
        let behind = state.range(start.to_vec()..);
        let inside = behind.take_while(|(key, _)| end.is_none_or(|end| key.as_slice() < end));
        inside.take(limit as usize).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn config_get(&self, key: &str) -> Option<String> {
        self.config.get(key).cloned()
    }

    fn config_all(&self) -> Vec<(String, String)> {
        self.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, FileError> {
        let found = self.files.get(path).cloned();
        found.ok_or_else(|| FileError::new(path, "the test gave the step no such file"))
    }

    fn folder(&self, path: &str) -> Result<Vec<String>, FileError> {
        let below = self.files.keys().filter_map(|file| file.strip_prefix(path)?.strip_prefix('/'));
        let names: BTreeSet<String> =
            below.map(|file| file.split_inclusive('/').next().unwrap_or_default().to_owned()).collect();
        match names.is_empty() {
            true => Err(FileError::new(path, "the test gave the step no such folder")),
            false => Ok(names.into_iter().collect()),
        }
    }
}

thread_local! {
    /// The lines of the step that this thread runs, if it runs one.
    static LOG: RefCell<Option<Vec<(Level, String)>>> = const { RefCell::new(None) };
}

/// Runs `step`, and gives what was logged meanwhile.
pub(super) fn listening<T>(step: impl FnOnce() -> T) -> (T, Vec<(Level, String)>) {
    LOG.set(Some(Vec::new()));
    let result = step();
    (result, LOG.take().unwrap_or_default())
}

pub(crate) fn write_log(level: Level, message: &str) {
    LOG.with_borrow_mut(|log| match log {
        Some(lines) => lines.push((level, message.to_owned())),
        None => eprintln!("{level:?}: {message}"),
    });
}
