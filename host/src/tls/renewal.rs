//! A broker's certificate, taken anew while it runs: from its files, or made again before it ends.
//!
//! ```text
//!   each minute, or when told to ──▶ the files differ from what is shown? ──▶ a pair that could be shown? ──▶ shown
//!                                    │ no, it is the broker's own, and ends soon ──▶ made anew ──▶ files     │ no
//!                                    └ no ──▶ nothing                                         told; the old one stays
//! ```
//!
//! Files are compared by what they hold, not by their times: whoever copies them may keep those. Two files are never
//! replaced at once, so a pair that does not belong together may be met for a moment; the next minute mends it.

use std::sync::Arc;
use std::time::Duration;

use tidemill_core::seams::{Timestamp, World};
use tokio::sync::watch;

use super::{Pair, Tls, TlsError, WARN_BEFORE, expiry, lying, write};
use crate::metrics::Metrics;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(60);
/// How often it is said that a certificate will end.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What looking at the files came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// They hold what is shown.
    Unchanged,
    /// They held another pair, which is shown from now on.
    Taken,
    /// The broker's own would have ended soon; it made another.
    Renewed,
}

/// A certificate of the broker, as status and metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Which: `authority` or `broker`.
    pub name: &'static str,
    /// When it ends.
    pub at: Timestamp,
}

impl End {
    /// Whether it is time to warn of it.
    pub fn is_soon(&self, now: Timestamp) -> bool {
        self.at.since(now) < WARN_BEFORE
    }
}

impl Tls {
    /// Looks at the broker's files, and shows what they hold.
    ///
    /// # Errors
    /// [`TlsError`] when what they hold could not be shown: the old pair stays.
    pub fn reload(&self, world: &World) -> Result<Looked, TlsError> {
        let looked = self.look(world);
        let trouble = looked.as_ref().err().map(ToString::to_string);
        match (&looked, &trouble) {
            (Ok(Looked::Unchanged), _) => {}
            (Ok(looked), _) => {
                tracing::info!(?looked, ends = %self.shown.get().ends, "the broker's certificate")
            }
            (_, Some(why)) if self.trouble.lock().as_ref() != Some(why) => {
                tracing::error!(why, "the broker's certificate cannot be taken; the old one is shown");
            }
            _ => {}
        }
        *self.trouble.lock() = trouble;
        looked
    }

    fn look(&self, world: &World) -> Result<Looked, TlsError> {
        let shown = self.shown.get();
        let now = world.clock.now();
        let found = lying(world, &self.files)?;
        if found != shown.pem {
            self.shown.set(Pair::read(found, now)?);
            return Ok(Looked::Taken);
        }
        let is_own = self.own.lock().as_ref() == Some(&shown.pem);
        if !is_own || shown.ends.since(now) > WARN_BEFORE {
            return Ok(Looked::Unchanged);
        }
        self.renew(world, now)?;
        Ok(Looked::Renewed)
    }

    /// Makes the broker's own pair anew, and shows it.
    fn renew(&self, world: &World, now: Timestamp) -> Result<(), TlsError> {
        let made = self.authority.broker(now, &self.addresses, &self.names)?;
        let pair = Pair::read(made.clone(), now)?;
        write(world, &self.files.key, &made.key)?;
        write(world, &self.files.certificate, &made.certificate)?;
        *self.own.lock() = Some(made);
        self.shown.set(pair);
        Ok(())
    }

    /// When the certificates end.
    pub fn ends(&self) -> [End; 2] {
        // It was read when it was opened.
        let authority = expiry(self.authority.certificate()).unwrap_or(Timestamp(0));
        [End { name: "authority", at: authority }, End { name: "broker", at: self.shown.get().ends }]
    }

    /// Why the files that lie there now are not shown, if they are not.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Looks at the files each minute, and warns of what ends soon, until `stop` says so.
    pub async fn watch(
        self: Arc<Self>,
        world: World,
        metrics: Arc<Metrics>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut warned = None::<Timestamp>;
        loop {
            let now = world.clock.now();
            for end in self.ends() {
                metrics.certificate_ends(end.name, end.at);
            }
            let soon = self.ends().into_iter().filter(|end| end.is_soon(now));
            let is_due = warned.is_none_or(|before| now.since(before) >= WARN_EVERY);
            for end in soon.filter(|_| is_due) {
                tracing::warn!(certificate = end.name, ends = %end.at, "a certificate ends within 30 days");
                warned = Some(now);
            }
            tokio::select! {
                () = world.clock.sleep(EVERY) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            // What is wrong was said.
            let _ = self.reload(&world);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tidemill_core::ids::BrokerId;
    use tidemill_sim::broker::SimBroker;
    use tidemill_sim::chance::SimChance;
    use tidemill_sim::clock::SimClock;
    use tidemill_sim::disk::SimDisk;
    use tidemill_sim::net::SimNet;

    use super::*;
    use crate::files;

    /// To be called within the simulation.
    fn place() -> SimBroker {
        let net = SimNet::new(SimChance::new(1));
        SimBroker::new(BrokerId(1), SimDisk::new(), SimClock::start(), SimChance::new(2), &net)
    }

    fn put(world: &World, name: &str, text: &str) {
        files::replace(&*world.disk, &Path::new("/tls").join(name), text.as_bytes()).unwrap();
    }

    #[test]
    fn files_that_were_replaced_are_shown_within_a_minute_and_broken_ones_never() {
        tidemill_sim::run(async {
            let place = place();
            let world = place.world.clone();
            let tls = Arc::new(Tls::open(&world, Path::new("/tls"), &[], &[], None).unwrap());
            let (_stopping, stop) = watch::channel(false);
            let metrics = Arc::new(Metrics::default());
            world.spawner.task("watch", Box::pin(tls.clone().watch(world.clone(), metrics.clone(), stop)));
            let first = tls.shown.get().pem;
            let second = tls.authority.broker(world.clock.now(), &[], &[]).unwrap();
            put(&world, "broker.pem", &second.certificate);
            world.clock.sleep(EVERY * 2).await;
            assert_eq!(tls.shown.get().pem, first, "a key that is not that of the certificate");
            assert!(tls.trouble().is_some());
            put(&world, "broker-key.pem", &second.key);
            world.clock.sleep(EVERY * 2).await;
            assert_eq!(tls.shown.get().pem, second);
            assert_eq!(tls.trouble(), None);
            assert!(
                metrics
                    .text()
                    .contains("tidemill_certificate_expiry_timestamp_seconds{certificate=\"broker\"}")
            );
            put(&world, "broker.pem", "no certificate");
            assert!(tls.reload(&world).is_err());
            assert_eq!(tls.shown.get().pem, second);
        });
    }

    #[test]
    fn an_end_is_warned_of_from_thirty_days_on() {
        let days = |days: u64| Timestamp(days * 24 * 3_600_000);
        let end = End { name: "broker", at: days(100) };
        let warned = [0, 69, 71, 99, 100, 101].map(|day| end.is_soon(days(day)));
        assert_eq!(warned, [false, false, true, true, true, true]);
    }

    #[test]
    fn the_brokers_own_is_made_anew_before_it_ends_and_that_of_others_is_not() {
        tidemill_sim::run(async {
            let place = place();
            let world = place.world.clone();
            let tls = Tls::open(&world, Path::new("/tls"), &[], &[], None).unwrap();
            let first = tls.ends()[1].at;
            assert_eq!(tls.reload(&world).unwrap(), Looked::Unchanged);
            world.clock.sleep(Duration::from_secs(340 * 24 * 3600)).await;
            assert_eq!(tls.reload(&world).unwrap(), Looked::Renewed);
            assert!(tls.ends()[1].at > first);
            assert_eq!(tls.reload(&world).unwrap(), Looked::Unchanged);

            let other = tls.authority.broker(world.clock.now(), &[], &[]).unwrap();
            put(&world, "broker-key.pem", &other.key);
            put(&world, "broker.pem", &other.certificate);
            assert_eq!(tls.reload(&world).unwrap(), Looked::Taken);
            world.clock.sleep(Duration::from_secs(340 * 24 * 3600)).await;
            assert_eq!(tls.reload(&world).unwrap(), Looked::Unchanged, "it is somebody else's");
        });
    }
}
