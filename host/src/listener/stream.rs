//! One stream of frames, from a QUIC connection or a whole TCP connection: requests in, answers out, in order.
//!
//! Requests are begun in the order in which they come; up to [`limits::STREAM_REQUESTS_MAX`] of them are under way, of
//! [`limits::STREAM_PENDING_BYTES_MAX`] bytes together. When that many are, or when there is no room for their batches,
//! nothing more is read, and the client's own flow control does the rest. A client that does not take its answers has its
//! stream ended.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tidemill_core::limits;
use tidemill_core::seams::{Clock, Spawner};
use tidemill_protocol::frame::{self, FrameDecoder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::requests::{Answer, Begun, Requests, Session};

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// An answer to come, and the room of its request.
type Pending = (Answer, OwnedSemaphorePermit);

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
    let (is_lost, lost) = watch::channel(false);
    spawner.task("answers", Box::pin(answer(pending, send, requests.world.clock.clone(), lost, open)));
    let room = Arc::new(Semaphore::new(limits::STREAM_PENDING_BYTES_MAX));
    let mut frames = FrameDecoder::new(limits::FRAME_BYTES_MAX);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = tokio::select! {
            read = receive.read(&mut buffer) => read,
            _ = stop.wait_for(|stop| *stop) => return,
            () = begun.closed() => return,
            // Between frames a client may be silent as long as it likes.
            () = requests.world.clock.sleep(limits::FRAME_SILENCE_MAX), if frames.pending() > 0 => {
                let (bytes, transport) = (frames.pending(), session.transport.name());
                tracing::warn!(bytes, transport, "ends a stream: the rest of a frame does not come");
                return;
            }
        };
        let read = match read {
            Ok(0) => return,
            Ok(read) => read,
            Err(_) => {
                is_lost.send_replace(true);
                return;
            }
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
            let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            // The room is never closed, and larger than any frame.
            let Ok(held) = room.clone().acquire_many_owned(bytes).await else { return };
            let answer = match requests.begin(&session, frame).await {
                Begun::Answer(answer) => answer,
                Begun::Silent(end) => {
                    let end = async move {
                        end.await;
                        drop(held);
                    };
                    spawner.task("request without an answer", Box::pin(end));
                    continue;
                }
                Begun::End(error) => {
                    tracing::warn!(%error, transport = session.transport.name(), "ends a stream");
                    return;
                }
            };
            if begun.send((answer, held)).await.is_err() {
                return;
            }
        }
    }
}

/// Sends answers in the order of their requests. What changes something is finished also when nobody takes its answer
/// any more; what only reads is let go then.
async fn answer(
    mut pending: mpsc::Receiver<Pending>,
    mut send: impl AsyncWrite + Send + Unpin,
    clock: Arc<dyn Clock>,
    mut lost: watch::Receiver<bool>,
    open: mpsc::Sender<()>,
) {
    let mut is_open = true;
    while let Some((Answer { parts, only_reads }, _held)) = pending.recv().await {
        let parts = match only_reads {
            true if !is_open => continue,
            true => tokio::select! {
                biased;
                parts = parts => parts,
                () = is_lost(&mut lost) => None,
            },
            false => parts.await,
        };
        if !is_open {
            continue;
        }
        is_open = match parts {
            Some(parts) => write(&mut send, parts, pending.is_empty(), &*clock).await.is_ok(),
            // The client waits for an answer that will not come: its stream ends here.
            None => false,
        };
        if !is_open {
            // Nor is anything read of it any more.
            pending.close();
        }
    }
    // The client may be gone, or may still read the last answer.
    let _ = send.shutdown().await;
    drop(open);
}

/// Ready once the connection is lost. A client that only sends no more may still read.
async fn is_lost(lost: &mut watch::Receiver<bool>) {
    let is_lost = lost.wait_for(|lost| *lost).await.is_ok();
    if !is_lost {
        std::future::pending::<()>().await;
    }
}

/// Writes an answer, as long as its client takes something of it; the last for now is flushed.
async fn write(
    send: &mut (impl AsyncWrite + Send + Unpin),
    parts: Vec<Bytes>,
    is_last: bool,
    clock: &dyn Clock,
) -> io::Result<()> {
    for mut part in frame::encode(parts) {
        while !part.is_empty() {
            let written = tokio::select! {
                biased;
                written = send.write(&part) => written?,
                () = clock.sleep(limits::ANSWER_SILENCE_MAX) => {
                    tracing::warn!(bytes = part.len(), "ends a stream: its client does not take an answer");
                    return Err(io::ErrorKind::TimedOut.into());
                }
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            part.advance(written);
        }
    }
    if is_last { send.flush().await } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tidemill_core::seams::{BoxFuture, Timestamp};
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// A clock on which what is waited for is over at once, or never.
    struct Fixed {
        is_over: bool,
    }

    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }

        fn sleep(&self, _: Duration) -> BoxFuture<()> {
            if self.is_over { Box::pin(async {}) } else { Box::pin(std::future::pending()) }
        }
    }

    /// An answer of so many bytes.
    fn read(bytes: usize) -> Answer {
        Answer { parts: Box::pin(async move { Some(vec![Bytes::from(vec![7; bytes])]) }), only_reads: true }
    }

    /// A fetch of what does not come.
    fn waits() -> Answer {
        Answer { parts: Box::pin(std::future::pending()), only_reads: true }
    }

    /// A change that is counted when it is finished.
    fn changes(finished: &Arc<AtomicUsize>) -> Answer {
        let finished = finished.clone();
        let parts = async move {
            finished.fetch_add(1, Ordering::SeqCst);
            Some(vec![Bytes::from_static(b"done")])
        };
        Answer { parts: Box::pin(parts), only_reads: false }
    }

    fn pending(answer: Answer) -> Pending {
        (answer, Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap())
    }

    /// Answers these, until nobody takes them; returns what would begin more.
    async fn answered(
        answers: impl IntoIterator<Item = Answer>,
        send: DuplexStream,
        is_over: bool,
        lost: watch::Receiver<bool>,
    ) -> mpsc::Sender<Pending> {
        let (begun, to_send) = mpsc::channel(limits::STREAM_REQUESTS_MAX);
        for one in answers {
            assert!(begun.try_send(pending(one)).is_ok());
        }
        let (open, _all_sent) = mpsc::channel(1);
        answer(to_send, send, Arc::new(Fixed { is_over }), lost, open).await;
        begun
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_let_go_and_what_changes_something_is_done() {
        let (send, receive) = duplex(64);
        let (_lost, lost) = watch::channel(false);
        let finished = Arc::new(AtomicUsize::new(0));
        let answers = [read(1_000), waits(), changes(&finished), waits(), changes(&finished)];
        let begun = answered(answers, send, true, lost).await;
        assert_eq!(finished.load(Ordering::SeqCst), 2);
        assert!(begun.is_closed(), "nothing more is begun");
        drop(receive);
    }

    #[tokio::test]
    async fn of_a_lost_connection_nothing_is_read() {
        let (send, receive) = duplex(64);
        let (is_lost, lost) = watch::channel(false);
        is_lost.send_replace(true);
        drop(is_lost);
        let finished = Arc::new(AtomicUsize::new(0));
        let begun = answered([waits(), changes(&finished), waits()], send, false, lost).await;
        assert_eq!((finished.load(Ordering::SeqCst), begun.is_closed()), (1, true));
        drop(receive);
    }

    #[tokio::test]
    async fn a_client_that_sends_no_more_gets_its_answers() {
        let (send, mut receive) = duplex(1 << 20);
        let (is_lost, lost) = watch::channel(false);
        drop(is_lost);
        let (begun, to_send) = mpsc::channel(2);
        for bytes in [1_000, 100_000] {
            assert!(begun.try_send(pending(read(bytes))).is_ok());
        }
        drop(begun);
        let (open, _all_sent) = mpsc::channel(1);
        answer(to_send, send, Arc::new(Fixed { is_over: false }), lost, open).await;
        let mut taken = Vec::new();
        receive.read_to_end(&mut taken).await.unwrap();
        assert_eq!(taken.len(), 4 + 1_000 + 4 + 100_000);
    }
}
