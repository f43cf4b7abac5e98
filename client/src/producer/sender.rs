//! The task of one partition: takes batches when there is room for them, sends them in the order that the
//! [ledger](super::sequence) says, and finds the way to the leader again when it was lost.
//!
//! The task is one loop: do what can be done at once, then wait for whatever comes first. All rules about order,
//! repetition and what may be said of a batch are the ledger's; this file knows streams and time.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidemill_protocol::api::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidemill_protocol::api::messages::{ProduceRequest, TopicName};
use tidemill_protocol::api::{Request, Response, StrBytes};
use tidemill_protocol::error::{ErrorCode, Outcome};
use tidemill_protocol::ids::{Offset, Sequence};

use super::accumulator::Ready;
use super::batch::{Batch, NOBODY};
use super::identity;
use super::lane::Lane;
use super::sequence::{End, Entry, Identity, Ledger, Verdict};
use super::shared::{Acks, Shared};
use crate::backoff::Backoff;
use crate::connection::{Pipe, Reply};
use crate::error::Error;
use crate::runtime::{self, Instant};

/// Sends the batches of one partition.
pub(super) struct Sender {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    stream: u64,
    ledger: Ledger<Batch>,
    wire: Option<Wire>,
    /// On the way to the leader.
    reaching: Option<BoxFuture<'static, Result<Arc<Pipe>, Error>>>,
    /// Asking for another id.
    renewing: Option<BoxFuture<'static, Result<Identity, Error>>>,
    backoff: Backoff,
    /// Since when what is known of the leader is too old, if it is.
    misled: Option<Instant>,
    last_error: Option<Error>,
}

/// The stream in use.
struct Wire {
    pipe: Arc<Pipe>,
    /// Of the open attempts, in order.
    replies: VecDeque<Reply>,
    /// When there was an answer, or a first attempt, for the last time.
    progress: Instant,
}

enum Event {
    Reply(Option<Response>),
    Reached(Result<Arc<Pipe>, Error>),
    Renewed(Result<Identity, Error>),
    LookAgain,
}

impl Sender {
    pub fn new(shared: Arc<Shared>, lane: Arc<Lane>) -> Sender {
        let (identity, window) = shared.identity.unwrap_or((NOBODY, 1));
        let window = window.min(shared.settings.in_flight);
        Sender {
            stream: shared.core.next_produce_stream(),
            ledger: Ledger::new(identity, window, shared.settings.patience),
            wire: None,
            reaching: None,
            renewing: None,
            backoff: Backoff::new(),
            misled: None,
            last_error: None,
            shared,
            lane,
        }
    }

    /// Until the lane is closed and everything in it has ended.
    pub async fn run(mut self) {
        loop {
            let now = runtime::now();
            self.end_what_is_over(now);
            if self.lane.is_finished() && self.ledger.is_empty() {
                break;
            }
            self.send_what_can_be_sent(now);
            self.reach_out();
            match self.wait(now).await {
                Event::Reply(reply) => self.answered(reply),
                Event::Reached(Ok(pipe)) => {
                    self.reaching = None;
                    self.wire = Some(Wire { pipe, replies: VecDeque::new(), progress: runtime::now() });
                }
                Event::Reached(Err(error)) => {
                    self.reaching = None;
                    self.misled = Some(runtime::now());
                    self.last_error = Some(error);
                }
                Event::Renewed(renewed) => {
                    self.renewing = None;
                    match renewed {
                        Ok(identity) => self.ledger.begin(identity),
                        Err(error) if error.retriable => self.last_error = Some(error),
                        Err(error) => self.shared.fail(error),
                    }
                }
                Event::LookAgain => {}
            }
        }
        // Without answers, what was written is delivered only once the stream has ended.
        if let Some(pipe) = self.wire.and_then(|wire| Arc::into_inner(wire.pipe))
            && self.shared.settings.acks == Acks::None
        {
            pipe.finish().await;
        }
    }

    fn end_what_is_over(&mut self, now: Instant) {
        if let Some(error) = self.shared.fatal() {
            self.ledger.fail(error);
            self.lane.fail(error);
            return;
        }
        let is_abandoned = self.shared.is_abandoned() || self.shared.core.is_closed();
        let until = if is_abandoned { now + self.shared.settings.gathering.lifetime } else { now };
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= until);
        if is_due(self.ledger.next_deadline()) || is_due(self.lane.next_deadline()) {
            let why = self.why_over(is_abandoned);
            self.ledger.expire(until, &why);
            self.lane.expire(until, &why);
        }
        let patience = self.shared.core.config.request_timeout;
        let is_silent = |wire: &Wire| !wire.replies.is_empty() && now >= wire.progress + patience;
        if let Some(wire) = self.wire.as_ref().filter(|wire| is_silent(wire)) {
            wire.pipe.abandon();
            self.lost(&format!("no answer within {patience:?}"));
        }
    }

    /// What is said with a batch whose time is over.
    fn why_over(&self, is_abandoned: bool) -> Error {
        let over = match is_abandoned {
            true => "the producer was closed before an answer came".to_owned(),
            false => format!("no acknowledgement within {:?}", self.shared.settings.gathering.lifetime),
        };
        let message = match &self.last_error {
            Some(last) => format!("{over}; last: {last}"),
            None => over,
        };
        let code = self.last_error.as_ref().and_then(|last| last.code);
        Error { code, retriable: true, outcome: Outcome::Unknown, message }
    }

    fn send_what_can_be_sent(&mut self, now: Instant) {
        while let Some(wire) = &mut self.wire {
            let Some(slot) = wire.pipe.slot() else {
                if !wire.pipe.is_open() {
                    self.lost("the stream ended");
                }
                return;
            };
            if self.shared.settings.acks == Acks::None {
                let Some(mut batch) = take(&self.lane, now, NOBODY, Sequence::NONE) else { return };
                let request = request(&self.shared, &self.lane, &mut batch, NOBODY, Sequence::NONE);
                match slot.send_unanswered(&request) {
                    Ok(()) => batch.end(End::Delivered(None)),
                    Err(error) => batch.end(End::Refused(error)),
                }
                continue;
            }
            if !self.ledger.has_next() {
                let Some((identity, sequence)) = self.ledger.upcoming() else { return };
                let Some(batch) = take(&self.lane, now, identity, sequence) else { return };
                self.ledger.push(batch);
            }
            let Some(attempt) = self.ledger.next() else { return };
            let request =
                request(&self.shared, &self.lane, attempt.batch, attempt.identity, attempt.sequence);
            match slot.send(&request) {
                Ok(reply) => {
                    if wire.replies.is_empty() {
                        wire.progress = now;
                    }
                    wire.replies.push_back(reply);
                }
                Err(error) => {
                    self.lost(&error.message);
                    return;
                }
            }
        }
    }

    /// Starts what is needed to go on: the way to the leader, another id.
    fn reach_out(&mut self) {
        let has_work = !self.ledger.is_empty() || !self.lane.is_empty();
        if self.wire.is_none() && self.reaching.is_none() && has_work {
            let pause = if self.misled.is_some() { self.backoff.next() } else { Duration::ZERO };
            let (shared, lane) = (self.shared.clone(), self.lane.clone());
            let reaching = reach(shared, lane, self.stream, pause, self.misled);
            self.reaching = Some(Box::pin(reaching));
        }
        if self.ledger.needs_id() && self.renewing.is_none() && has_work {
            // Another id does not shut out what lingers of this one, as a higher epoch does. So it must be gone.
            let pause = self.shared.settings.patience;
            let shared = self.shared.clone();
            self.renewing = Some(Box::pin(async move {
                runtime::sleep(pause).await;
                identity::obtain(&shared.core).await.map(|(identity, _)| identity)
            }));
        }
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self, now: Instant) -> Event {
        let is_unacknowledged = self.shared.settings.acks == Acks::None;
        let may_take = is_unacknowledged || self.ledger.upcoming().is_some();
        let ready = if may_take { self.lane.ready(now) } else { Ready::Nothing };
        let wants_room = self.ledger.has_next() || matches!(ready, Ready::Now);
        let silence = self.shared.core.config.request_timeout;
        let silent = self.wire.as_ref().filter(|wire| !wire.replies.is_empty());
        let linger = match ready {
            Ready::At(due) => Some(due),
            Ready::Now | Ready::Nothing => None,
        };
        let deadlines = [
            linger,
            silent.map(|wire| wire.progress + silence),
            self.ledger.next_deadline(),
            self.lane.next_deadline(),
        ];
        let next = deadlines.into_iter().flatten().min().unwrap_or(now + runtime::LONG);

        let (reply, pipe) = match &mut self.wire {
            Some(wire) => (wire.replies.front_mut(), Some(wire.pipe.clone()).filter(|_| wants_room)),
            None => (None, None),
        };
        let room = async {
            match pipe {
                Some(pipe) => drop(pipe.room().await),
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            reply = present(reply) => Event::Reply(reply.ok()),
            reached = present(self.reaching.as_mut()) => Event::Reached(reached),
            renewed = present(self.renewing.as_mut()) => Event::Renewed(renewed),
            () = room => Event::LookAgain,
            () = self.lane.changed() => Event::LookAgain,
            () = runtime::sleep_until(next) => Event::LookAgain,
        }
    }

    /// Takes the answer to the oldest open attempt, and those behind it that are there too.
    fn answered(&mut self, mut reply: Option<Response>) {
        let now = runtime::now();
        loop {
            let Some(response) = reply else { return self.lost("the stream ended before the answer came") };
            let Some(wire) = &mut self.wire else { return };
            wire.replies.pop_front();
            wire.progress = now;
            let verdict = verdict(response);
            match &verdict {
                Verdict::Written(_) => {
                    self.backoff.reset();
                    self.last_error = None;
                }
                Verdict::Refused(error) => {
                    tracing::debug!(topic = %self.lane.topic, partition = self.lane.partition.0, %error, "refused");
                    self.last_error = Some(error.clone());
                }
            }
            if let Err(error) = self.ledger.answer(verdict, now) {
                return self.shared.fail(error);
            }
            if self.ledger.take_settled() {
                // Every answer is there. The way to the leader is looked for anew, after a pause.
                self.wire = None;
                self.misled = Some(now);
                return;
            }
            reply = match wire.replies.front_mut().map(|next| next.try_recv()) {
                Some(Ok(response)) => Some(response),
                Some(Err(tokio::sync::oneshot::error::TryRecvError::Closed)) => None,
                Some(Err(tokio::sync::oneshot::error::TryRecvError::Empty)) | None => return,
            };
        }
    }

    fn lost(&mut self, why: &str) {
        self.ledger.lost();
        self.wire = None;
        self.misled = Some(runtime::now());
        self.last_error = Some(Error::unanswered(why));
    }
}

/// What `future` gives, if there is one; else nothing, ever.
async fn present<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// A stream to the leader of the partition, by what is known since `misled`.
async fn reach(
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    stream: u64,
    pause: Duration,
    misled: Option<Instant>,
) -> Result<Arc<Pipe>, Error> {
    if !pause.is_zero() {
        runtime::sleep(pause).await;
    }
    let core = &shared.core;
    let leader = core.leader(&lane.topic, lane.partition, misled).await?;
    let live = core.live(&leader).await?;
    live.speaks(&Request::Produce(ProduceRequest::default()))?;
    match shared.settings.acks {
        Acks::All => live.produce_pipe(stream).await,
        Acks::None => live.pipe().await.map(Arc::new),
    }
}

/// The next batch that can be built.
fn take(lane: &Lane, now: Instant, identity: Identity, sequence: Sequence) -> Option<Batch> {
    loop {
        let mut batch = lane.take(now)?;
        match batch.build(identity, sequence) {
            Ok(()) => return Some(batch),
            Err(unwritable) => {
                let error = Error::refused_here(ErrorCode::INVALID_RECORD, unwritable.to_string());
                batch.end(End::Refused(error));
            }
        }
    }
}

fn request(
    shared: &Shared,
    lane: &Lane,
    batch: &mut Batch,
    identity: Identity,
    sequence: Sequence,
) -> Request {
    // The broker is to give up first, and say so.
    let timeout = (shared.core.config.request_timeout / 2).as_millis();
    let data = PartitionProduceData::default()
        .with_index(lane.partition.0 as i32)
        .with_records(Some(batch.bytes(identity, sequence)));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(lane.topic.to_string())))
        .with_partition_data(vec![data]);
    Request::Produce(
        ProduceRequest::default()
            .with_acks(shared.settings.acks.number())
            .with_timeout_ms(i32::try_from(timeout).unwrap_or(i32::MAX))
            .with_topic_data(vec![topic]),
    )
}

fn verdict(response: Response) -> Verdict {
    let Response::Produce(response) = response else {
        return Verdict::Refused(Error::unanswered("the broker answered another question"));
    };
    let answer = response.responses.first().and_then(|topic| topic.partition_responses.first());
    let Some(answer) = answer else {
        return Verdict::Refused(Error::unanswered("the broker's answer lacks the partition"));
    };
    match ErrorCode(answer.error_code) {
        ErrorCode::NONE => Verdict::Written(u64::try_from(answer.base_offset).ok().map(Offset)),
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Verdict::Written(None),
        code => Verdict::Refused(Error::told(code, answer.error_message.as_deref())),
    }
}
