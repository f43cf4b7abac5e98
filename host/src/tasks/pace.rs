//! How many events a step is given: as many as their processor time allows, so that batches stay well within the
//! deadline of a step, however slow the plugin is. And whether the task's steps are quick.

use std::time::Duration;

use tidemill_core::task::TaskSpec;

/// Of a step's processor time, what its events should take: then the deadline is for what goes wrong.
const CPU_SHARE: u32 = 4;

/// The processor time of a quick step: about what a way to another thread and back takes, ten times over.
const QUICK: Duration = Duration::from_millis(1);
/// As many steps in a row have to be quick before the next is taken to be: whoever pretends pays for it.
const QUICK_STEPS: u32 = 16;

/// The pace of one task.
pub struct Pace {
    most: usize,
    budget: Duration,
    events: usize,
    quick_steps: u32,
}

impl Pace {
    /// A few at first.
    pub fn new(spec: &TaskSpec) -> Pace {
        let most = spec.limits.step_events as usize;
        Pace {
            most,
            budget: Duration::from_millis(spec.limits.cpu_ms) / CPU_SHARE,
            events: most.min(64),
            quick_steps: 0,
        }
    }

    /// How many the next step is given, at most.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Whether the next step is likely to be over soon.
    pub fn is_quick(&self) -> bool {
        self.quick_steps >= QUICK_STEPS
    }

    /// A step with so many took so long.
    pub fn took(&mut self, events: usize, cpu: Duration) {
        self.quick_steps = if cpu <= QUICK { self.quick_steps.saturating_add(1) } else { 0 };
        self.events = if cpu > self.budget {
            (events / 2).max(1)
        } else if events >= self.events {
            (self.events * 2).min(self.most)
        } else {
            self.events
        };
    }
}
