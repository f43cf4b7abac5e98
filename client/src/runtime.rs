//! What this crate takes from outside: the clock, tasks, chance and files.
//!
//! A client is part of a program of its user, which runs on tokio; there is no world to hand in. So that this can
//! be seen at a glance, everything that waits, starts a task, draws a number or opens a file goes through here.
#![allow(clippy::disallowed_methods, reason = "this is the one place of this crate that takes them")]

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
pub(crate) use tokio::time::Instant;

/// For those who wait for nothing in particular.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);

/// A time that never goes back.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The wall clock, in milliseconds since 1970.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

pub(crate) async fn sleep_until(moment: Instant) {
    tokio::time::sleep_until(moment).await;
}

/// What `future` gives, if it does so within `limit`.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}

pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(future)
}

/// A number that nobody could have guessed; 0 where the system has none, for nothing here depends on it.
pub(crate) fn chance() -> u64 {
    getrandom::u64().unwrap_or_default()
}

pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}
