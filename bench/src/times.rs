//! Time as rows need it: a stretch to measure in, and how long each of many took.

use std::time::{Duration, Instant};

use crate::row::Latency;

/// A stretch of time in which something is done again and again.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    begun: Instant,
    length: Duration,
}

impl Stretch {
    /// Begins now.
    pub fn of(length: Duration) -> Stretch {
        Stretch { begun: Instant::now(), length }
    }

    /// Whether there is time for another one.
    pub fn lasts(&self) -> bool {
        self.begun.elapsed() < self.length
    }

    /// How long it has lasted: what was begun in it may end behind it.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// How long each took.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// One more, that began then and ends now.
    pub fn since(&mut self, begun: Instant) {
        self.0.push(begun.elapsed());
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// What most of them took.
    ///
    /// # Panics
    /// When there are none.
    pub fn latency(mut self) -> Latency {
        self.0.sort_unstable();
        let at = |percent: usize| self.0[(self.0.len() - 1) * percent / 100];
        Latency { p50: at(50), p99: at(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_them_took_no_longer() {
        let millis = |all: &[u64]| Times(all.iter().copied().map(Duration::from_millis).collect()).latency();
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(millis(&hundred).p50, Duration::from_millis(50));
        assert_eq!(millis(&hundred).p99, Duration::from_millis(99));
        assert_eq!(millis(&[7]).p99, Duration::from_millis(7));
    }
}
