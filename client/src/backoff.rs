//! Waiting longer after each failure, and never in step with others.

use std::time::Duration;

use crate::limits::{BACKOFF_FIRST, BACKOFF_MOST};
use crate::runtime;

/// Doubles from [`BACKOFF_FIRST`] to [`BACKOFF_MOST`]; each wait is between half and all of that.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff { next: BACKOFF_FIRST }
    }

    /// How long to wait this time.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(BACKOFF_MOST);
        let half = whole / 2;
        half + half.mul_f64((runtime::chance() % 1_000) as f64 / 1_000.0)
    }

    /// Something succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = BACKOFF_FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_start_again() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..10).map(|_| backoff.next()).collect();
        assert!(waits[0] >= BACKOFF_FIRST / 2 && waits[0] <= BACKOFF_FIRST);
        assert!(waits[9] >= BACKOFF_MOST / 2 && waits[9] <= BACKOFF_MOST);
        backoff.reset();
        assert!(backoff.next() <= BACKOFF_FIRST);
    }
}
