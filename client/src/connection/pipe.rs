//! A long-lived stream on which many requests are under way at once.
//!
//! Invariants:
//! 1. Requests reach the broker in the order in which they were sent here, and answers come in that order.
//! 2. Every request that expects an answer gets one or is lost, and learns of it: its [`Reply`] is dropped by
//!    whatever ends the stream.
//! 3. No more than [`STREAM_REQUESTS_MAX`] requests wait for their answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tidemill_protocol::api::{
    Envelope, Request, Response, correlation_id, decode_response, encode_request_parts,
};
use tidemill_protocol::frame::{self, FrameDecoder};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::versions::Versions;
use crate::error::Error;
use crate::limits::{FINISH_WAIT, RESPONSE_BYTES_MAX, STREAM_QUEUE, STREAM_REQUESTS_MAX};
use crate::runtime;

/// The answer to one request, once it is there; an error when the stream ended before.
pub(crate) type Reply = oneshot::Receiver<Response>;

/// The near end of such a stream.
#[derive(Debug)]
pub(crate) struct Pipe {
    outgoing: mpsc::Sender<Outgoing>,
    versions: Arc<Versions>,
    client_id: Arc<str>,
    correlation: AtomicI32,
    task: JoinHandle<()>,
}

struct Outgoing {
    parts: Vec<Bytes>,
    expected: Option<Expected>,
}

/// What is to come back.
struct Expected {
    key: i16,
    version: i16,
    correlation_id: i32,
    reply: oneshot::Sender<Response>,
}

/// A stream that takes nothing more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended;

impl Pipe {
    pub(super) fn new(
        send: SendStream,
        receive: RecvStream,
        versions: Arc<Versions>,
        client_id: Arc<str>,
    ) -> Pipe {
        let (outgoing, requests) = mpsc::channel(STREAM_QUEUE);
        let task = runtime::spawn(async move {
            let (expect, expected) = mpsc::channel(STREAM_REQUESTS_MAX);
            // Whichever fails ends both, and with them every reply that is still expected.
            let ended =
                futures_util::future::try_join(write(send, requests, expect), read(receive, expected));
            if let Err(why) = ended.await {
                tracing::debug!(why, "a stream ended");
            }
        });
        Pipe { outgoing, versions, client_id, correlation: AtomicI32::new(0), task }
    }

    /// Whether it still takes requests.
    pub(crate) fn is_open(&self) -> bool {
        !self.outgoing.is_closed()
    }

    /// Waits until there may be room for a request.
    pub(crate) async fn room(&self) -> Result<(), Ended> {
        self.outgoing.reserve().await.map(drop).map_err(|_| Ended)
    }

    /// Room for one request, if there is any now.
    pub(crate) fn slot(&self) -> Option<Slot<'_>> {
        self.outgoing.try_reserve().ok().map(|permit| Slot { pipe: self, permit })
    }

    /// Sends a request, and waits for its answer. Dropped, it is not taken back.
    pub(crate) async fn call(&self, request: &Request) -> Result<Response, Error> {
        loop {
            let ended = |Ended| Error::unsent("the stream ended");
            self.room().await.map_err(ended)?;
            if let Some(slot) = self.slot() {
                let reply = slot.send(request)?;
                return reply.await.map_err(|_| Error::unanswered("the stream ended before the answer came"));
            }
        }
    }

    /// Ends it once everything is written and delivered, within reason.
    pub(crate) async fn finish(self) {
        let Pipe { outgoing, mut task, .. } = self;
        drop(outgoing);
        if runtime::within(FINISH_WAIT, &mut task).await.is_none() {
            task.abort();
        }
    }

    /// Ends it now. What was sent may still arrive.
    pub(crate) fn abandon(&self) {
        self.task.abort();
    }

    fn encode(&self, request: &Request) -> Result<(Envelope, Vec<Bytes>), Error> {
        let head = Envelope {
            key: request.spoken().key,
            version: self.versions.of(request)?,
            correlation_id: self.correlation.fetch_add(1, Ordering::Relaxed),
            client_id: Some(self.client_id.to_string()),
        };
        let parts = encode_request_parts(&head, request)?;
        Ok((head, parts))
    }
}

/// Room for one request.
pub(crate) struct Slot<'a> {
    pipe: &'a Pipe,
    permit: mpsc::Permit<'a, Outgoing>,
}

impl Slot<'_> {
    /// Sends a request.
    ///
    /// # Errors
    /// When it cannot be said to this broker; nothing is sent then.
    pub(crate) fn send(self, request: &Request) -> Result<Reply, Error> {
        let (head, parts) = self.pipe.encode(request)?;
        let (reply, receiver) = oneshot::channel();
        let expected =
            Expected { key: head.key, version: head.version, correlation_id: head.correlation_id, reply };
        self.permit.send(Outgoing { parts, expected: Some(expected) });
        Ok(receiver)
    }

    /// Sends a request that gets no answer.
    ///
    /// # Errors
    /// As [`Slot::send`].
    pub(crate) fn send_unanswered(self, request: &Request) -> Result<(), Error> {
        let (_, parts) = self.pipe.encode(request)?;
        self.permit.send(Outgoing { parts, expected: None });
        Ok(())
    }
}

/// Writes requests until there are no more.
async fn write(
    mut stream: SendStream,
    mut requests: mpsc::Receiver<Outgoing>,
    expect: mpsc::Sender<Expected>,
) -> Result<(), &'static str> {
    let mut gathered = Vec::new();
    while requests.recv_many(&mut gathered, STREAM_QUEUE).await > 0 {
        let mut chunks = Vec::new();
        for Outgoing { parts, expected } in gathered.drain(..) {
            if let Some(expected) = expected {
                if expect.capacity() == 0 {
                    // What was gathered must not wait for the answers to what came before it.
                    stream.write_all_chunks(&mut chunks).await.map_err(|_| "the broker reads no more")?;
                    chunks.clear();
                }
                expect.send(expected).await.map_err(|_| "the answers ended")?;
            }
            chunks.extend(frame::encode(parts));
        }
        stream.write_all_chunks(&mut chunks).await.map_err(|_| "the broker reads no more")?;
    }
    drop(expect);
    let _ = stream.finish();
    // What is written is not delivered yet, and closing the connection would drop it.
    let _ = stream.stopped().await;
    Ok(())
}

/// Hands out answers until all are there.
async fn read(mut stream: RecvStream, mut expected: mpsc::Receiver<Expected>) -> Result<(), &'static str> {
    let mut frames = FrameDecoder::new(RESPONSE_BYTES_MAX);
    let mut whole = VecDeque::new();
    loop {
        // The next answer's request: it was written before its answer could come.
        while let Some(frame) = whole.pop_front() {
            answer(&mut expected, frame)?;
        }
        match stream.read_chunk(usize::MAX, true).await {
            Err(_) => return Err("the connection was lost"),
            Ok(None) if expected.is_closed() && expected.is_empty() => return Ok(()),
            Ok(None) => return Err("the broker ended the stream"),
            Ok(Some(chunk)) => frames.feed(&chunk.bytes),
        }
        while let Some(frame) = frames.next_frame().map_err(|_| "an answer is too long")? {
            whole.push_back(frame);
        }
    }
}

fn answer(expected: &mut mpsc::Receiver<Expected>, frame: Bytes) -> Result<(), &'static str> {
    let Expected { key, version, correlation_id: asked, reply } =
        expected.try_recv().map_err(|_| "an answer that nothing asked for")?;
    if correlation_id(&frame) != Ok(asked) {
        return Err("an answer to another request");
    }
    let response = decode_response(key, version, frame).map_err(|_| "an answer that is none")?;
    // Who asked may not care any more.
    let _ = reply.send(response);
    Ok(())
}
