//! Time that stands still while anybody works, and jumps when all wait.
//!
//! It is tokio's own paused time, so that a library that sleeps on tokio's timers (openraft does) lives in the same
//! time as the rest.
#![allow(clippy::disallowed_methods, reason = "this is the clock that everybody else is handed")]

use std::time::Duration;

use tidemill_core::seams::{BoxFuture, Clock, Timestamp};
use tokio::time::Instant;

/// What a simulated wall clock shows at the start: 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp(1_767_225_600_000);

/// The clock of all brokers. Cheap to clone; all clones are the same clock.
#[derive(Debug, Clone)]
pub struct SimClock {
    start: Instant,
}

impl SimClock {
    /// A clock that shows [`START`] now. To be called within the simulation, and once for all brokers.
    pub fn start() -> SimClock {
        SimClock { start: Instant::now() }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.monotonic().as_millis()).unwrap_or(u64::MAX);
        Timestamp(START.0.saturating_add(elapsed))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
