//! Time, from outside.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BoxFuture;

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds as Kafka's messages hold them.
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// This moment, `later` on.
    pub fn plus(self, later: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(later.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// What time it is, and how to wait.
pub trait Clock: Send + Sync {
    /// The wall clock. It may jump, also backwards: stamp with it, never measure with it.
    fn now(&self) -> Timestamp;

    /// Time since some start, which never goes back: measure with it.
    fn monotonic(&self) -> Duration;

    /// Ready once `duration` has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<()>;
}
