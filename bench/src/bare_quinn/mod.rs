//! The bare rates of quinn: what the transport gives to whoever does nothing else.
//!
//! Two processes, as with a broker; one connection, one stream; the transport settings, socket, TLS, identities and
//! frames of our client and broker. Each message is answered by a frame of a few bytes, once all of it has arrived:
//! QUIC's own acknowledgements say nothing about the program at the other end.

pub mod peer;
mod tls;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime};
use tidemill_client::{Tls, transport};
use tidemill_protocol::frame::{self, FrameDecoder};
use tokio::sync::Semaphore;

use crate::row::Row;
use crate::stage::{RECORD_BYTES, Stage};
use crate::times::{Stretch, Times};

/// A message of the bulk rate.
const MESSAGE_BYTES: usize = 1 << 20;
/// Of them, how many may be unanswered: as many bytes as our producer's buffer has.
const IN_FLIGHT: usize = 64;
/// What answers a message.
const ANSWER: Bytes = Bytes::from_static(&[0; 8]);
/// Before the measurement.
const WARM_MESSAGES: u64 = 64;
const WARM_PINGS: u64 = 500;

/// This process and its peer.
pub struct Pair {
    connection: Connection,
    _endpoint: Endpoint,
    peer: Peer,
}

impl Pair {
    /// Starts the peer, and connects to it.
    pub fn connect(stage: &Stage<'_>) -> anyhow::Result<Pair> {
        let (peer, address) = Peer::start(stage)?;
        let mut config = ClientConfig::new(Arc::new(tls::client(&stage.data())?));
        config.transport_config(Arc::new(transport::transport_config()));
        stage.runtime.block_on(async {
            let (socket, _) = transport::bind(([127, 0, 0, 1], 0).into())?;
            let mut endpoint =
                Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))?;
            endpoint.set_default_client_config(config);
            let connection = endpoint.connect(address, Tls::SERVER_NAME)?.await?;
            Ok(Pair { connection, _endpoint: endpoint, peer })
        })
    }

    /// The other process.
    pub fn peer(&self) -> u32 {
        self.peer.id()
    }

    /// Messages of 1 MiB, as fast as the transport takes them.
    pub fn bulk(&self, stage: &Stage<'_>, time: Duration) -> anyhow::Result<Row> {
        stage.runtime.block_on(async {
            let (send, receive) = self.connection.open_bi().await?;
            let message = Bytes::from(vec![7; MESSAGE_BYTES]);
            let room = Arc::new(Semaphore::new(IN_FLIGHT));
            let answers = tokio::spawn(answers(receive, room.clone()));
            let mut outgoing = Outgoing { send, message, room };
            for _ in 0..WARM_MESSAGES {
                outgoing.one().await?;
            }
            outgoing.settle().await?;
            let (stretch, mut sent) = (Stretch::of(time), 0);
            while stretch.lasts() {
                outgoing.one().await?;
                sent += 1;
            }
            outgoing.settle().await?;
            let row =
                Row::new("quinn bulk, 1 MiB", stretch.elapsed()).amount(sent, "messages", MESSAGE_BYTES);
            outgoing.send.finish()?;
            answers.await??;
            Ok(row)
        })
    }

    /// A message of 1 KiB, its answer, the next.
    pub fn ping_pong(&self, stage: &Stage<'_>, time: Duration) -> anyhow::Result<Row> {
        stage.runtime.block_on(async {
            let (mut send, mut receive) = self.connection.open_bi().await?;
            let mut frames = FrameDecoder::new(MESSAGE_BYTES);
            let message = Bytes::from(vec![7; RECORD_BYTES]);
            let (mut stretch, mut times, mut number) = (Stretch::of(time), Times::default(), 0);
            while stretch.lasts() {
                let begun = Instant::now();
                send.write_all_chunks(&mut frame::encode(vec![message.clone()])).await?;
                next_frame(&mut receive, &mut frames).await?.context("the peer ended the stream")?;
                times.since(begun);
                number += 1;
                if number == WARM_PINGS {
                    (stretch, times) = (Stretch::of(time), Times::default());
                }
            }
            let row = Row::new("quinn ping-pong, 1 KiB", stretch.elapsed());
            Ok(row.amount(times.count(), "round trips", RECORD_BYTES).latency(times))
        })
    }
}

/// Messages on their way out.
struct Outgoing {
    send: SendStream,
    message: Bytes,
    room: Arc<Semaphore>,
}

impl Outgoing {
    async fn one(&mut self) -> anyhow::Result<()> {
        self.room.acquire().await?.forget();
        self.send.write_all_chunks(&mut frame::encode(vec![self.message.clone()])).await?;
        Ok(())
    }

    /// Waits until all are answered.
    async fn settle(&self) -> anyhow::Result<()> {
        drop(self.room.acquire_many(IN_FLIGHT as u32).await?);
        Ok(())
    }
}

/// Takes answers; each makes room for another message.
async fn answers(mut receive: RecvStream, room: Arc<Semaphore>) -> anyhow::Result<()> {
    let mut frames = FrameDecoder::new(MESSAGE_BYTES);
    let ended = async {
        while next_frame(&mut receive, &mut frames).await?.is_some() {
            room.add_permits(1);
        }
        anyhow::Ok(())
    };
    let ended = ended.await;
    // Nobody is to wait for what does not come.
    room.close();
    ended
}

/// The next frame; none when the stream has ended.
async fn next_frame(receive: &mut RecvStream, frames: &mut FrameDecoder) -> anyhow::Result<Option<Bytes>> {
    loop {
        if let Some(frame) = frames.next_frame()? {
            return Ok(Some(frame));
        }
        match receive.read_chunk(usize::MAX, true).await? {
            Some(chunk) => frames.feed(&chunk.bytes),
            None => return Ok(None),
        }
    }
}

/// This program once more. It ends when its standard input does, also when this process is killed.
struct Peer(Child);

impl Peer {
    fn id(&self) -> u32 {
        self.0.id()
    }

    fn start(stage: &Stage<'_>) -> anyhow::Result<(Peer, SocketAddr)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("quinn-peer").arg(stage.data()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut peer = Peer(command.spawn()?);
        let mut line = String::new();
        BufReader::new(peer.0.stdout.take().context("its output")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "quinn's peer did not start");
        let address = line.trim().parse().with_context(|| line.clone())?;
        Ok((peer, address))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
