//! A broker of real QUIC on loopback and a log in memory, which does its worst.
//!
//! It runs on threads of its own, so that it can be killed as a process is: without a word to anybody. What it has
//! written stays, as on a disk.

pub mod faults;
mod listener;
pub mod log;
mod requests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_client::{Client, Config};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use xtask::ports;

use super::certificates::Certificates;
use super::harness::{BoxFuture, Harness};
use faults::Faults;
use log::Log;

pub struct FaultBroker {
    inside: Arc<Inside>,
    certificates: Certificates,
    address: SocketAddr,
    running: Mutex<Option<Runtime>>,
}

/// What outlives a kill.
pub struct Inside {
    log: Mutex<Log>,
    faults: Mutex<Faults>,
    /// Changes with every append, and with every change of the faults.
    changes: watch::Sender<u64>,
    connections: Mutex<Vec<quinn::Connection>>,
}

impl Inside {
    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, Vec<quinn::Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl FaultBroker {
    pub fn start(seed: u64) -> FaultBroker {
        let inside = Arc::new(Inside {
            log: Mutex::default(),
            faults: Mutex::new(Faults::none(seed)),
            changes: watch::channel(0).0,
            connections: Mutex::default(),
        });
        let certificates = Certificates::make();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::lasting()));
        let runtime = listener::run(&inside, &certificates, address).unwrap();
        FaultBroker { inside, certificates, address, running: Mutex::new(Some(runtime)) }
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.inside.log()
    }

    /// Changes what goes wrong from now on.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.inside.faults());
        self.inside.changed();
    }

    /// Nothing goes wrong any more.
    pub fn peace(&self) {
        self.faults(|faults| *faults = Faults { dice: faults.dice.clone(), ..Faults::none(0) });
    }

    fn kill(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = running {
            runtime.shutdown_background();
        }
        self.inside.connections().clear();
    }
}

impl Harness for FaultBroker {
    fn config(&self) -> Config {
        let mut config = Config::new([self.address.to_string()], self.certificates.client());
        config.topic_patience = Duration::from_millis(300);
        config
    }

    fn cut<'a>(&'a self, _client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.inside.connections().drain(..).for_each(|connection| connection.close(1u8.into(), b"cut"));
        })
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.kill();
            // The port is free once all threads have noticed.
            for _ in 0..500 {
                match listener::run(&self.inside, &self.certificates, self.address) {
                    Ok(runtime) => {
                        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
                        return;
                    }
                    Err(_) => {
                        // One that was just coming in holds the port, too.
                        self.inside.connections().clear();
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
            panic!("the port {} does not become free", self.address);
        })
    }
}

impl Drop for FaultBroker {
    fn drop(&mut self) {
        self.kill();
    }
}
