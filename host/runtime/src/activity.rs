//! Whether guests run, for the ticker: a broker that has nothing to do should not wake two hundred times a second.
//!
//! The ticker rests only after it has found nothing for a while, so that a step between others costs two additions and no
//! way to another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// What the ticker knows of the guests.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Steps that were begun, ever.
    begun: AtomicU64,
    /// Steps that were over, ever.
    ended: AtomicU64,
    /// What `begun` was at the last look.
    seen: AtomicU64,
    /// Whether the ticker waits for the next step.
    rests: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

/// A step at work, for as long as this lives.
pub(crate) struct AtWork<'a>(&'a Activity);

impl Activity {
    /// A step begins: the ticker ticks from now on.
    pub(crate) fn begins(&self) -> AtWork<'_> {
        // In one order with what the ticker does before it rests: one of the two sees the other.
        self.begun.fetch_add(1, Ordering::SeqCst);
        if self.rests.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
        AtWork(self)
    }

    /// Whether nothing ran since the last look, nor runs now.
    pub(crate) fn was_quiet(&self) -> bool {
        let begun = self.begun.load(Ordering::SeqCst);
        let had_begun = self.seen.swap(begun, Ordering::Relaxed);
        begun == had_begun && self.ended.load(Ordering::SeqCst) == begun
    }

    /// The ticker rests; ready once a step begins, or this is gone.
    pub(crate) fn rest(&self) -> impl Future<Output = ()> + Send + 'static {
        self.rests.store(true, Ordering::SeqCst);
        if !self.was_quiet() {
            self.wake.notify_one();
        }
        let (rests, wake) = (self.rests.clone(), self.wake.clone());
        async move {
            wake.notified().await;
            rests.store(false, Ordering::SeqCst);
        }
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Waker};

    use super::*;

    fn is_ready(future: Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_ticker_rests_until_a_step_begins() {
        let activity = Activity::default();
        assert!(activity.was_quiet());
        let step = activity.begins();
        assert!(!activity.was_quiet(), "it has begun");
        assert!(!activity.was_quiet(), "it is not over");
        drop(step);
        assert!(activity.was_quiet());
        drop(activity.begins());
        assert!(!activity.was_quiet(), "one was over before anybody looked");

        let mut begins = pin!(activity.rest());
        assert!(!is_ready(begins.as_mut()));
        drop(activity.begins());
        assert!(is_ready(begins));
    }

    #[test]
    fn a_step_that_begins_while_the_ticker_lies_down_is_seen() {
        let activity = Activity::default();
        assert!(activity.was_quiet());
        let step = activity.begins();
        assert!(is_ready(pin!(activity.rest())));
        drop(step);
    }

    #[test]
    fn the_ticker_ends_with_the_last_runtime() {
        let activity = Activity::default();
        let mut rests = pin!(activity.rest());
        assert!(!is_ready(rests.as_mut()));
        drop(activity);
        assert!(is_ready(rests));
    }
}
