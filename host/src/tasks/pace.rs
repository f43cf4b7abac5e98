//! How many events a step is given: as many as their processor time allows, so that batches stay well within the
//! deadline of a step, however slow the plugin is.

use std::time::Duration;

use tidemill_core::task::TaskSpec;

/// Of a step's processor time, what its events should take: then the deadline is for what goes wrong.
const CPU_SHARE: u32 = 4;

/// The pace of one task.
pub struct Pace {
    most: usize,
    budget: Duration,
    events: usize,
}

impl Pace {
    /// A few at first.
    pub fn new(spec: &TaskSpec) -> Pace {
        let most = spec.limits.step_events as usize;
        Pace { most, budget: Duration::from_millis(spec.limits.cpu_ms) / CPU_SHARE, events: most.min(64) }
    }

    /// How many the next step is given, at most.
    pub fn events(&self) -> usize {
        self.events
    }

    /// A step with so many took so long.
    pub fn took(&mut self, events: usize, cpu: Duration) {
        self.events = if cpu > self.budget {
            (events / 2).max(1)
        } else if events >= self.events {
            (self.events * 2).min(self.most)
        } else {
            self.events
        };
    }
}
