//! One life of a broker: from opening what a disk holds to the moment at which the power is cut, or to its rest.
//!
//! The power is cut inside an operation of the disk, before it happens, and the disk draws what that leaves. The broker is
//! heard out for a moment on a disk on which every sync fails: whatever it acknowledges then, it must have made durable
//! before. (On one thread nobody hears an acknowledgement before the turn that it is for is over; so this is what makes
//! one that comes too early be heard at all.)

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_core::fault::Fault;
use tidemill_core::ids::BrokerId;
use tidemill_core::seams::Clock as _;
use tidemill_host::broker::{Broker, BrokerOptions};
use tidemill_host::metrics::Metrics;
use tidemill_sim::broker::SimBroker;
use tidemill_sim::chance::SimChance;
use tidemill_sim::clock::SimClock;
use tidemill_sim::disk::{Operation, SimDisk};
use tidemill_sim::net::SimNet;
use tokio::sync::Notify;

use crate::chain::chain;
use crate::story::Broken;

/// How long anything may take, in simulated time.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often those that are ready may go on after the power was cut.
const LAST_TURNS: usize = 200;

/// When the power is cut.
#[derive(Debug)]
pub enum Moment {
    /// After so many operations of its disk: while it opens, that is.
    Opening(u64),
    /// After so many operations with steps in flight.
    Stepping(u64),
    /// At the first operation, with steps in flight, after the producer has heard so many answers: what it was told last
    /// may be all that is not written yet.
    Answered(Arc<AtomicU64>, u64),
}

/// How the power was cut.
pub struct Cut {
    /// One of the disks that it could leave.
    pub left: SimDisk,
    /// Steps that were begun and not committed.
    pub steps_in_flight: u64,
    /// What it happened in.
    pub during: String,
}

/// What a life ends in.
pub enum End<T> {
    /// In darkness.
    Cut(Cut),
    /// In peace, with the disk as it is.
    Rest(T, SimDisk),
}

/// A broker's life, as the story sees it.
pub struct Life {
    /// Its place in the world.
    place: SimBroker,
    plan: Arc<Plan>,
    metrics: Arc<Metrics>,
    faults: Arc<Mutex<Vec<Fault>>>,
    options: BrokerOptions,
}

/// What watches the disk.
struct Plan {
    moment: Mutex<Option<Moment>>,
    chance: SimChance,
    cut: Mutex<Option<Cut>>,
    is_over: Notify,
}

impl Plan {
    /// An operation is about to happen.
    fn consider(&self, disk: &SimDisk, operation: Operation, path: &Path, steps_in_flight: u64) {
        let mut moment = self.moment.lock();
        let is_now = match &mut *moment {
            Some(Moment::Opening(left)) => count_down(left),
            Some(Moment::Stepping(left)) => steps_in_flight > 0 && count_down(left),
            Some(Moment::Answered(heard, until)) => steps_in_flight > 0 && heard.load(Relaxed) >= *until,
            None => false,
        };
        if is_now {
            *moment = None;
            let left = disk.after_power_cut(&self.chance);
            disk.darken();
            let during = format!("{operation:?} of {}", path.display());
            *self.cut.lock() = Some(Cut { left, steps_in_flight, during });
            self.is_over.notify_one();
        }
    }
}

/// Whether nothing is left to count.
fn count_down(left: &mut u64) -> bool {
    let is_over = *left == 0;
    *left = left.saturating_sub(1);
    is_over
}

impl Life {
    /// A life on this disk.
    pub fn on(
        disk: SimDisk,
        options: BrokerOptions,
        clock: &SimClock,
        net: &SimNet,
        chance: &SimChance,
    ) -> Life {
        let place = SimBroker::new(BrokerId(1), disk, clock.clone(), chance.fork(), net);
        let plan = Arc::new(Plan {
            moment: Mutex::default(),
            chance: chance.fork(),
            cut: Mutex::default(),
            is_over: Notify::new(),
        });
        let metrics = Arc::new(Metrics::default());
        let (watching, disk, counting) = (plan.clone(), place.disk.clone(), metrics.clone());
        place.disk.watch(move |operation, path| {
            watching.consider(&disk, operation, path, counting.steps_in_flight());
        });
        Life { place, plan, metrics, faults: Arc::default(), options }
    }

    /// Has the power cut.
    pub fn plan(&self, moment: Moment) {
        *self.plan.moment.lock() = Some(moment);
    }

    /// Waits in simulated time.
    pub async fn pause(&self, pause: Duration) {
        self.place.clock.sleep(pause).await;
    }

    /// Opens the broker.
    pub async fn open(&self) -> Result<Arc<Broker>, Broken> {
        let (faults, plan) = (self.faults.clone(), self.plan.clone());
        let on_fault = move |fault| {
            faults.lock().push(fault);
            plan.is_over.notify_one();
        };
        let (options, world) = (self.options.clone(), self.place.world.clone());
        let opened =
            Broker::open(options, world, chain().tools(), self.metrics.clone(), Arc::new(on_fault)).await;
        opened.map_err(|error| Broken::Fault(error.to_string()))
    }

    /// Lives, until the power is cut or `living` is over.
    pub async fn live<T>(
        self,
        living: impl AsyncFnOnce(&Life) -> Result<T, Broken>,
    ) -> Result<End<T>, Broken> {
        let over = async {
            self.plan.is_over.notified().await;
            for _ in 0..LAST_TURNS {
                tokio::task::yield_now().await;
            }
        };
        let lived = tokio::select! {
            biased;
            lived = living(&self) => Some(lived),
            () = over => None,
            () = self.pause(PATIENCE) => None,
        };
        let (cut, faults) = (self.plan.cut.lock().take(), std::mem::take(&mut *self.faults.lock()));
        self.place.spawner.check();
        let disk = self.place.kill();
        // Those that were killed let go of what they held.
        for _ in 0..LAST_TURNS {
            tokio::task::yield_now().await;
        }
        match (cut, lived, faults.first()) {
            // These are what they are, in darkness, too.
            (_, Some(Err(broken @ (Broken::Refused(_) | Broken::Lost(_) | Broken::Vanished(_)))), _) => {
                Err(broken)
            }
            (Some(cut), _, _) => Ok(End::Cut(cut)),
            (None, _, Some(fault)) => Err(Broken::Fault(fault.to_string())),
            (None, Some(lived), None) => Ok(End::Rest(lived?, disk)),
            (None, None, None) => Err(Broken::Stuck(PATIENCE)),
        }
    }
}
