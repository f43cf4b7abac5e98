//! What a guest uses of the processor, and its deadline.
//!
//! With [`Metering::Epoch`] it is the processor time of the thread, measured from where the guest is let run to
//! where it lets others run, and summed over one step: what it costs, whoever else is busy. Waiting for the
//! executor, for the disk or for another process does not count. The guest itself looks at the sum whenever the
//! engine ticks, so it is stopped up to one tick late.
//!
//! With [`Metering::Fuel`] no clock is read: a step ends after so many instructions, at the same one each time.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tidemill_core::limits;
use wasmtime::{Store, UpdateDeadline};

use crate::engine::Metering;
use crate::failure::{LimitReached, Stop};
use crate::step::Step;

/// Counts for one step.
pub(crate) struct Meter {
    metering: Metering,
    limit_ms: u64,
    spent_ns: AtomicU64,
    /// The thread's processor time when the guest was last let run.
    let_run_ns: AtomicU64,
}

impl Meter {
    /// For a step that may take `limit_ms`.
    pub(crate) fn new(metering: Metering, limit_ms: u64) -> Arc<Meter> {
        Arc::new(Meter { metering, limit_ms, spent_ns: AtomicU64::new(0), let_run_ns: AtomicU64::new(0) })
    }

    /// Sets the deadline of the instance that `store` is for, and has it yield at each tick.
    pub(crate) fn arm(self: &Arc<Self>, store: &mut Store<Step>) {
        let armed = "the engine counts as the meter does";
        match self.metering {
            Metering::Epoch => {
                let meter = Arc::clone(self);
                store.set_epoch_deadline(1);
                store.epoch_deadline_callback(move |_| {
                    if meter.so_far() < Duration::from_millis(meter.limit_ms) {
                        return Ok(UpdateDeadline::Yield(1));
                    }
                    Err(Stop::Limit(LimitReached::cpu(meter.limit_ms)).into())
                });
            }
            Metering::Fuel => {
                let tick_ms = limits::GUEST_TICK.as_millis() as u64;
                store.set_fuel(self.fuel()).expect(armed);
                store.fuel_async_yield_interval(Some(tick_ms * limits::GUEST_FUEL_PER_MS)).expect(armed);
            }
        }
    }

    /// Polls `call` to its end, and measures the time that the polls take.
    pub(crate) async fn measure<F: Future>(&self, call: F) -> F::Output {
        let mut call = pin!(call);
        std::future::poll_fn(|context| {
            if self.metering == Metering::Fuel {
                return call.as_mut().poll(context);
            }
            self.let_run_ns.store(thread_ns(), Relaxed);
            let polled: Poll<F::Output> = call.as_mut().poll(context);
            self.spent_ns.store(self.so_far().as_nanos() as u64, Relaxed);
            polled
        })
        .await
    }

    /// What the guest used, once it is done.
    pub(crate) fn used(&self, store: &Store<Step>) -> Duration {
        match self.metering {
            Metering::Epoch => Duration::from_nanos(self.spent_ns.load(Relaxed)),
            Metering::Fuel => {
                let burnt = self.fuel() - store.get_fuel().unwrap_or_default();
                Duration::from_nanos(burnt.saturating_mul(1_000_000) / limits::GUEST_FUEL_PER_MS)
            }
        }
    }

    fn fuel(&self) -> u64 {
        self.limit_ms.saturating_mul(limits::GUEST_FUEL_PER_MS)
    }

    /// While it runs: what was spent before, and since it was last let run. A guest stays on one thread from there
    /// to where it yields.
    fn so_far(&self) -> Duration {
        let running = thread_ns().saturating_sub(self.let_run_ns.load(Relaxed));
        Duration::from_nanos(self.spent_ns.load(Relaxed) + running)
    }
}

/// The processor time that this thread has used, in nanoseconds. It says nothing of what time it is.
fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32).as_nanos() as u64
}
