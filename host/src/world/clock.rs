//! The system's clock.
#![allow(clippy::disallowed_methods, reason = "this is the clock that everybody else is handed")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidemill_core::seams::{BoxFuture, Clock, Timestamp};

/// Wall clock and monotonic clock of the operating system; sleeps on tokio's timers.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    pub fn start() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
