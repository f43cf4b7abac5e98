//! The network between the brokers of a simulation.
//!
//! ```text
//!   call ──▶ delay ──▶ [lost? cut off?] ──▶ answered by a task of the receiver ──▶ delay ──▶ [lost? cut off?] ──▶ answer
//!                └──▶ doubled: delivered once more, later; that answer is nobody's
//! ```
//!
//! What is lost is not told to anybody: the caller gives up after [`Weather::patience`], as it would in real life.
//! Whether a way is cut is looked at when a message would arrive, so cutting it takes what is under way, too. A way
//! has a direction, and lots of its own: tokio wakes those who wait for the same thing in an order that no seed decides,
//! and so who speaks first to whom must not matter.
#![allow(clippy::disallowed_methods, reason = "what passes between brokers takes simulated time")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_core::ids::BrokerId;
use tidemill_core::seams::{BoxFuture, Chance, PeerService, Spawner, Transport, Unreachable};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use crate::chance::SimChance;

/// How well messages travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weather {
    /// How long a message takes, one way.
    pub delay: Range<Duration>,
    /// How many of 1,000 messages are lost; questions and answers alike.
    pub lost_per_mille: u64,
    /// How many of 1,000 questions arrive twice.
    pub doubled_per_mille: u64,
    /// How long a caller waits for an answer.
    pub patience: Duration,
}

impl Weather {
    /// Nothing is lost, and messages take between half a millisecond and two.
    pub fn fair() -> Weather {
        Weather {
            delay: Duration::from_micros(500)..Duration::from_millis(2),
            lost_per_mille: 0,
            doubled_per_mille: 0,
            patience: Duration::from_secs(2),
        }
    }

    /// One message in fifty is lost, one question in fifty doubled, and some take 30 ms.
    pub fn rough() -> Weather {
        Weather {
            delay: Duration::from_micros(500)..Duration::from_millis(30),
            lost_per_mille: 20,
            doubled_per_mille: 20,
            ..Weather::fair()
        }
    }
}

/// The network. Cheap to clone; all clones are the same network.
#[derive(Clone)]
pub struct SimNet {
    state: Arc<Mutex<State>>,
}

struct State {
    seed: u64,
    lots: BTreeMap<(BrokerId, BrokerId), SimChance>,
    weather: Weather,
    brokers: BTreeMap<BrokerId, Served>,
    cuts: BTreeSet<(BrokerId, BrokerId)>,
}

#[derive(Clone)]
struct Served {
    service: Arc<dyn PeerService>,
    spawner: Arc<dyn Spawner>,
}

impl SimNet {
    /// A network without brokers, in fair weather.
    pub fn new(chance: SimChance) -> SimNet {
        let state = State {
            seed: chance.number(),
            lots: BTreeMap::new(),
            weather: Weather::fair(),
            brokers: BTreeMap::new(),
            cuts: BTreeSet::new(),
        };
        SimNet { state: Arc::new(Mutex::new(state)) }
    }

    /// How a broker reaches the others, as long as it lives.
    pub fn plug(&self, from: BrokerId) -> Plug {
        Plug { net: self.clone(), from, is_pulled: Arc::default() }
    }

    /// Has a broker's questions answered by `service`, in tasks of `spawner`.
    pub fn serve(&self, broker: BrokerId, service: Arc<dyn PeerService>, spawner: Arc<dyn Spawner>) {
        self.state.lock().brokers.insert(broker, Served { service, spawner });
    }

    fn remove(&self, broker: BrokerId) {
        // Dropped outside the lock: it may hold the last handle of much.
        let served = self.state.lock().brokers.remove(&broker);
        drop(served);
    }

    /// Changes how messages travel.
    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// Cuts the way from one broker to another; not the way back.
    pub fn cut(&self, from: BrokerId, to: BrokerId) {
        self.state.lock().cuts.insert((from, to));
    }

    /// Parts these brokers from all others, both ways; among themselves they are not parted.
    pub fn part(&self, some: &BTreeSet<BrokerId>) {
        let mut state = self.state.lock();
        let others: Vec<BrokerId> =
            state.brokers.keys().copied().filter(|broker| !some.contains(broker)).collect();
        for one in some {
            for other in &others {
                state.cuts.insert((*one, *other));
                state.cuts.insert((*other, *one));
            }
        }
    }

    /// Opens all ways.
    pub fn heal(&self) {
        self.state.lock().cuts.clear();
    }
}

impl State {
    /// Draws lots for a message of a way.
    fn draw<T>(&mut self, from: BrokerId, to: BrokerId, draw: impl FnOnce(&SimChance, &Weather) -> T) -> T {
        let seed = self.seed;
        let of_way = || SimChance::new(seed ^ from.0.rotate_left(32) ^ to.0).fork();
        draw(self.lots.entry((from, to)).or_insert_with(of_way), &self.weather)
    }
}

/// One broker's way to the others. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Plug {
    net: SimNet,
    from: BrokerId,
    is_pulled: Arc<AtomicBool>,
}

impl Plug {
    /// Nothing that is sent from now on arrives, and nobody answers for this broker.
    pub fn pull(&self) {
        self.is_pulled.store(true, Ordering::Relaxed);
        self.net.remove(self.from);
    }

    /// Lets a message travel; whether it arrives.
    async fn travel(&self, from: BrokerId, to: BrokerId) -> bool {
        let (delay, is_lost) = self.net.state.lock().draw(from, to, |lots, weather| {
            let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
            let delay = lots.between(micros(weather.delay.start), micros(weather.delay.end));
            (Duration::from_micros(delay), lots.happens(weather.lost_per_mille))
        });
        sleep(delay).await;
        !is_lost && !self.net.state.lock().cuts.contains(&(from, to))
    }

    /// Brings a question to its receiver, and has it answered there. Nobody waits for it.
    fn ask(&self, to: BrokerId, message: Bytes, answer: oneshot::Sender<Bytes>) {
        let from = self.from;
        let served = self.net.state.lock().brokers.get(&to).cloned();
        let Some(Served { service, spawner }) = served else { return };
        // The receiver works on it, whether the sender still lives or not.
        let work = async move { drop(answer.send(service.answer(from, message).await)) };
        spawner.task("answer", Box::pin(work));
    }

    async fn call(self, to: BrokerId, message: Bytes) -> Result<Bytes, Unreachable> {
        let from = self.from;
        let (patience, is_doubled) = self
            .net
            .state
            .lock()
            .draw(from, to, |lots, weather| (weather.patience, lots.happens(weather.doubled_per_mille)));
        let gives_up = Instant::now() + patience;
        let is_pulled = self.is_pulled.load(Ordering::Relaxed);
        if is_doubled && !is_pulled {
            let (plug, message) = (self.clone(), message.clone());
            tokio::spawn(async move {
                if plug.travel(from, to).await && plug.travel(from, to).await {
                    plug.ask(to, message, oneshot::channel().0);
                }
            });
        }
        let called = async {
            if !is_pulled && self.travel(from, to).await {
                let (tell, told) = oneshot::channel();
                self.ask(to, message, tell);
                if let Ok(answer) = told.await
                    && self.travel(to, from).await
                {
                    return answer;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            answer = called => Ok(answer),
            () = sleep_until(gives_up) => Err(Unreachable(to)),
        }
    }
}

impl Transport for Plug {
    fn call(&self, to: BrokerId, message: Bytes) -> BoxFuture<Result<Bytes, Unreachable>> {
        Box::pin(self.clone().call(to, message))
    }
}
