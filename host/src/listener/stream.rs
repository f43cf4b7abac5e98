//! One stream of frames, from a QUIC connection or a whole TCP connection: requests in, answers out, in order.
//!
//! Requests are begun in the order in which they come; up to [`limits::STREAM_REQUESTS_MAX`] of them are under way.
//! When that many are, or when there is no room for their batches, nothing more is read, and the client's own flow
//! control does the rest.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::limits;
use tidemill_core::seams::{BoxFuture, Spawner};
use tidemill_protocol::frame::{self, FrameDecoder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use crate::requests::{Begun, Requests, Session};

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// What the streams of a listener share.
#[derive(Clone)]
pub struct Streams {
    /// Who answers.
    pub requests: Arc<Requests>,
    /// Who starts tasks.
    pub spawner: Arc<dyn Spawner>,
    /// Turns true when no more requests are to be read.
    pub stop: watch::Receiver<bool>,
    /// Held until the last answer is sent.
    pub open: mpsc::Sender<()>,
}

/// Serves a stream until it ends, until something on it cannot be understood, or until the broker stops.
pub async fn serve(
    streams: Streams,
    session: Session,
    mut receive: impl AsyncRead + Send + Unpin + 'static,
    send: impl AsyncWrite + Send + Unpin + 'static,
) {
    let Streams { requests, spawner, mut stop, open } = streams;
    let (begun, pending) = mpsc::channel(limits::STREAM_REQUESTS_MAX);
    spawner.task("answers", Box::pin(answer(pending, send, open)));
    let mut frames = FrameDecoder::new(limits::FRAME_BYTES_MAX);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = tokio::select! {
            read = receive.read(&mut buffer) => read,
            _ = stop.wait_for(|stop| *stop) => return,
            // Between frames a client may be silent as long as it likes.
            () = requests.world.clock.sleep(limits::FRAME_SILENCE_MAX), if frames.pending() > 0 => {
                let (bytes, transport) = (frames.pending(), session.transport.name());
                tracing::warn!(bytes, transport, "ends a stream: the rest of a frame does not come");
                return;
            }
        };
        let read = match read {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        frames.feed(&buffer[..read]);
        loop {
            let frame = match frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, transport = session.transport.name(), "ends a stream");
                    return;
                }
            };
            let answer = match requests.begin(&session, frame).await {
                Begun::Answer(answer) => answer,
                Begun::Silent(end) => {
                    spawner.task("request without an answer", end);
                    continue;
                }
                Begun::End(error) => {
                    tracing::warn!(%error, transport = session.transport.name(), "ends a stream");
                    return;
                }
            };
            if begun.send(answer).await.is_err() {
                return;
            }
        }
    }
}

/// Sends answers in the order of their requests. What was begun is finished, also when the client is gone.
async fn answer(
    mut pending: mpsc::Receiver<BoxFuture<Option<Vec<Bytes>>>>,
    mut send: impl AsyncWrite + Send + Unpin,
    open: mpsc::Sender<()>,
) {
    let mut is_open = true;
    while let Some(answer) = pending.recv().await {
        let Some(parts) = answer.await else {
            // The client waits for an answer that will not come: its stream ends here.
            is_open = false;
            continue;
        };
        if is_open {
            let sent = async {
                for part in frame::encode(parts) {
                    send.write_all(&part).await?;
                }
                if pending.is_empty() { send.flush().await } else { Ok(()) }
            };
            is_open = sent.await.is_ok();
        }
    }
    // The client may be gone, or may still read the last answer.
    let _ = send.shutdown().await;
    drop(open);
}
