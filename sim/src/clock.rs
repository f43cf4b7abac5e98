//! Time that stands still while anybody works, and jumps when all wait.
//!
//! It is tokio's own paused time, so that a library that sleeps on tokio's timers (openraft does) lives in the same
//! time as the rest. Each broker has a clock of its own, whose wall may be wrong.
#![allow(clippy::disallowed_methods, reason = "this is the clock that everybody else is handed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidemill_core::seams::{BoxFuture, Clock, Timestamp};
use tokio::time::Instant;

/// What a simulated wall clock shows at the start: 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp(1_767_225_600_000);

/// A broker's clock. Cheap to clone; all clones are the same clock.
#[derive(Debug, Clone)]
pub struct SimClock {
    start: Instant,
    offset_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// A clock that shows [`START`] now. To be called within the simulation, and once for all brokers: their clocks
    /// are its [`SimClock::another`].
    pub fn start() -> SimClock {
        SimClock { start: Instant::now(), offset_ms: Arc::default() }
    }

    /// Another broker's clock, which shows the same until its wall is moved.
    pub fn another(&self) -> SimClock {
        SimClock { start: self.start, offset_ms: Arc::default() }
    }

    /// Makes the wall clock wrong by so many milliseconds; negative ones let it lag.
    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.monotonic().as_millis()).unwrap_or(u64::MAX);
        let right = START.0.saturating_add(elapsed);
        Timestamp(right.saturating_add_signed(self.offset_ms.load(Ordering::Relaxed)))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
