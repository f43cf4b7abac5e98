//! The broker, as the rest of this crate sees it.
//!
//! Two implement it: `guest`, which calls the imports of the component, and `testing`, which holds everything in
//! memory. It is private, and its shape follows `wit/` method by method: what a plugin enjoys is built on top.

use crate::log::Level;
use crate::{Event, FileError, Record, Refusal, Timer, TimerKind};

/// A key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// What a step can ask its broker.
pub(crate) trait Host {
    fn partition(&self) -> u32;
    fn attempt(&self) -> u32;
    fn time_ms(&self) -> u64;
    fn event_time_watermark_ms(&self) -> Option<i64>;
    fn set_timer(&self, parent: u32, timer: Timer) -> Result<(), Refusal>;
    fn cancel_timer(&self, kind: TimerKind, name: &[u8]) -> Result<(), Refusal>;
    fn emit(&self, parent: u32, topic: &str, records: Vec<Record>) -> Result<(), Refusal>;
    fn state_get(&self, key: &[u8]) -> Option<Vec<u8>>;
    fn state_put(&self, key: &[u8], value: &[u8]) -> Result<(), Refusal>;
    fn state_delete(&self, key: &[u8]) -> Result<(), Refusal>;
    fn state_scan(&self, start: &[u8], end: Option<&[u8]>, limit: u32) -> Vec<Pair>;
    fn config_get(&self, key: &str) -> Option<String>;
    fn config_all(&self) -> Vec<(String, String)>;
    fn file(&self, path: &str) -> Result<Vec<u8>, FileError>;
    fn folder(&self, path: &str) -> Result<Vec<String>, FileError>;
}

/// Hands a line to the broker's log. It needs no step, so it is no part of [`Host`].
pub(crate) fn write_log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::guest::write_log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::write_log(level, message);
}

/// The events of a step, each of which knows its place in it.
pub(crate) fn numbered(events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let numbered = (0..).zip(events);
    numbered.map(|(index, event)| Event { index, ..event }).collect()
}

/// The due timers of a step, likewise.
pub(crate) fn due(timers: impl IntoIterator<Item = Timer>) -> Vec<Timer> {
    let numbered = (0..).zip(timers);
    numbered.map(|(index, timer)| Timer { index, ..timer }).collect()
}
