//! Kafka's protocol over plain TCP, as any of its clients speaks it. On loopback only, and off unless asked for: it
//! has neither TLS nor identity.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tidemill_core::seams::Spawner;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

use super::stream::{self, Streams};
use crate::addresses::Transport;
use crate::requests::{Requests, Session};

/// Connections at once.
const CONNECTIONS_MAX: usize = 1_024;

/// A bound listener.
#[derive(Debug)]
pub struct Tcp {
    listener: TcpListener,
}

impl Tcp {
    /// Binds it.
    ///
    /// # Errors
    /// As the operating system's.
    pub async fn bind(address: SocketAddr) -> io::Result<Tcp> {
        Ok(Tcp { listener: TcpListener::bind(address).await? })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As the operating system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves connections until `stop` says so.
    pub async fn serve(
        self,
        requests: Arc<Requests>,
        spawner: Arc<dyn Spawner>,
        mut stop: watch::Receiver<bool>,
        open: mpsc::Sender<()>,
    ) {
        let streams = Streams { requests, spawner: spawner.clone(), stop: stop.clone(), open };
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let connection = match accepted {
                Ok((connection, _)) => connection,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            // One too many is closed at once.
            let Ok(place) = room.clone().try_acquire_owned() else { continue };
            // Answers are small and wait for nobody.
            let _ = connection.set_nodelay(true);
            let streams = streams.clone();
            let serving = async move {
                let metrics = streams.requests.metrics.clone();
                metrics.connections("tcp", 1);
                let (receive, send) = connection.into_split();
                stream::serve(streams, Session::of(Transport::Tcp), receive, send).await;
                metrics.connections("tcp", -1);
                drop(place);
            };
            spawner.task("connection", Box::pin(serving));
        }
    }
}
