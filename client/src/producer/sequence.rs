//! One partition's batches from their first sending to their end: who they are, in which order they go, and what may
//! be said of them. Pure: no clock, no stream; the [`sender`](super::sender) asks it what to send and tells it what
//! came back, and `sequence_model.rs` runs it against a broker that does its worst.
//!
//! A broker knows a batch by (producer id, epoch, partition, sequence). It writes the one whose sequence is next,
//! answers one of the last `window` batches again with the offset that it has, and refuses everything else; the first
//! batch of a higher epoch must have sequence 0, and from then on nothing of a lower epoch is written.
//!
//! An attempt is *open* until its answer comes. An attempt whose stream was lost, or whose answer says that its
//! outcome is not known, may still be written at any later time: bytes can linger in a broker after their connection
//! is gone. A batch with such an attempt is *in doubt*. So these hold, for each partition by itself:
//!
//! 1. Batches under way (`sent`) are under one identity, in the order in which they were accepted, and every one that
//!    was sent behind another has a higher sequence. They are sent, and sent again, in that order.
//! 2. **A batch gets another identity only when it cannot have been written under the old one, and never will be.**
//!    That is known of a batch that is neither open nor in doubt, for each attempt was answered with a refusal. And
//!    it is known of all batches behind one of which it is known and which is not sent again: their turn never comes.
//! 3. The first batch of a new identity is sent only when no batch of the old one is under way. From the moment when
//!    it is written the higher epoch shuts out whatever lingers of the old one; until then what lingers belongs before
//!    it anyway. (Another producer id shuts nothing out. One is taken when all epochs are used up, and only after a
//!    while in which nothing was sent.)
//! 4. The oldest batch under way and the newest are less than `window` batches apart: so each of them is recognised.
//! 5. A batch ends once: *delivered*; *refused*, and then it is not written and never will be; *expired*, and then
//!    that is not known; or *fatal*.
//!
//! The surprising part is what becomes of a batch that ends as expired while batches behind it are under way. They
//! have its sequence before theirs, so whether they can be written hangs on whether it was. It stays in the line, as a
//! *ghost*: its sender was told, and it is sent again only in front of the others, until they are through or each of
//! them is known not to be written. Without a ghost, either they would all have to be given up, or be sent under a new
//! epoch while their old selves may yet be written. No new batch joins a line that a ghost leads.

use std::collections::VecDeque;
use std::time::Duration;

use tidemill_protocol::error::{ErrorCode, Outcome};
use tidemill_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence};

use crate::error::Error;
use crate::runtime::Instant;

/// Under which name a producer writes to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

/// What a ledger needs to know of a batch.
pub(super) trait Entry {
    fn records(&self) -> u32;
    /// When it ends, whatever is known of it. Batches are accepted in the order of their deadlines.
    fn deadline(&self) -> Instant;
    /// Told once.
    fn end(&mut self, end: End);
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// Written, at this offset where the broker still knew it.
    Delivered(Option<Offset>),
    /// Not written.
    Refused(Error),
    /// Nobody knows.
    Expired(Error),
    /// The producer cannot go on.
    Fatal(Error),
}

/// A broker's answer to an attempt.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    Written(Option<Offset>),
    Refused(Error),
}

/// A batch that is to be written to the stream.
pub(super) struct Attempt<'a, B> {
    pub batch: &'a mut B,
    pub identity: Identity,
    pub sequence: Sequence,
}

/// The batches of one partition that are under way, or wait to be sent.
#[derive(Debug)]
pub(super) struct Ledger<B> {
    identity: Identity,
    /// The sequence of the next batch that is sent for the first time.
    next: Sequence,
    /// The identity is used up: the next batch that is sent for the first time gets another.
    spoiled: bool,
    window: u64,
    patience: Duration,
    /// Batches that got a sequence so far.
    numbered: u64,
    sent: VecDeque<Sent<B>>,
    /// How many of them were handed to the present stream, or need not be.
    cursor: usize,
    /// Batches without a sequence; those that had one before stand in front.
    waiting: VecDeque<B>,
    /// Attempts on the present stream, in order, by the numbers of their batches. One whose batch is not under way any
    /// more does not matter.
    open: VecDeque<u64>,
    /// Something is to be sent again: first all answers are awaited.
    settling: bool,
    settled: bool,
    /// Since when the front is refused and in doubt.
    stuck_since: Option<Instant>,
}

#[derive(Debug)]
struct Sent<B> {
    batch: B,
    number: u64,
    sequence: Sequence,
    is_open: bool,
    in_doubt: bool,
    is_ghost: bool,
}

impl<B> Sent<B> {
    /// Whether no attempt was written or can be, as far as its own attempts go.
    fn is_certain(&self) -> bool {
        !self.is_open && !self.in_doubt
    }
}

impl<B: Entry> Ledger<B> {
    /// A ledger without batches. `window` is how many of its last batches the broker recognises; `patience` how long
    /// a refusal is asked for again that contradicts what is not known.
    pub fn new(identity: Identity, window: u32, patience: Duration) -> Ledger<B> {
        Ledger {
            identity,
            next: Sequence(0),
            spoiled: false,
            window: u64::from(window.max(1)),
            patience,
            numbered: 0,
            sent: VecDeque::new(),
            cursor: 0,
            waiting: VecDeque::new(),
            open: VecDeque::new(),
            settling: false,
            settled: false,
            stuck_since: None,
        }
    }

    /// Whether nothing is under way or waits.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.waiting.is_empty()
    }

    /// The identity and sequence that a batch pushed now would be sent with at once; `None` when none should be
    /// pushed just now.
    pub fn upcoming(&mut self) -> Option<(Identity, Sequence)> {
        (self.waiting.is_empty() && self.admits()).then_some((self.identity, self.next))
    }

    /// Adds a batch behind all others.
    pub fn push(&mut self, batch: B) {
        self.waiting.push_back(batch);
    }

    /// Whether there is something to write to the stream.
    pub fn has_next(&mut self) -> bool {
        !self.settling && (self.cursor < self.sent.len() || (!self.waiting.is_empty() && self.admits()))
    }

    /// What to write to the stream next. It counts as written.
    pub fn next(&mut self) -> Option<Attempt<'_, B>> {
        if !self.has_next() {
            return None;
        }
        if self.cursor == self.sent.len() {
            let batch = self.waiting.pop_front()?;
            let records = batch.records();
            let (number, sequence) = (self.numbered, self.next);
            self.sent.push_back(Sent {
                batch,
                number,
                sequence,
                is_open: false,
                in_doubt: false,
                is_ghost: false,
            });
            self.numbered += 1;
            self.next = sequence.plus(records);
        }
        let sent = &mut self.sent[self.cursor];
        self.cursor += 1;
        sent.is_open = true;
        self.open.push_back(sent.number);
        Some(Attempt { batch: &mut sent.batch, identity: self.identity, sequence: sent.sequence })
    }

    /// Whether a batch may be sent for the first time. Takes a new epoch where one is due and can be had.
    fn admits(&mut self) -> bool {
        if self.settling || self.cursor < self.sent.len() {
            return false;
        }
        if self.spoiled {
            let Some(epoch) = self.identity.epoch.0.checked_add(1) else { return false };
            if !self.sent.is_empty() {
                return false;
            }
            self.begin(Identity { id: self.identity.id, epoch: ProducerEpoch(epoch) });
        }
        match self.sent.front() {
            Some(front) => !front.is_ghost && self.numbered - front.number < self.window,
            None => true,
        }
    }

    /// Whether nothing can be sent before the producer has another id: all epochs of this one are used up.
    pub fn needs_id(&self) -> bool {
        self.spoiled && self.sent.is_empty() && self.identity.epoch.0 == i16::MAX
    }

    /// Goes on under a new id.
    pub fn begin(&mut self, identity: Identity) {
        self.identity = identity;
        self.next = Sequence(0);
        self.spoiled = false;
    }

    /// Takes the answer to the oldest open attempt.
    ///
    /// # Errors
    /// When the producer cannot go on.
    pub fn answer(&mut self, verdict: Verdict, now: Instant) -> Result<(), Error> {
        if let Some(number) = self.open.pop_front()
            && let Ok(at) = self.sent.binary_search_by_key(&number, |sent| sent.number)
        {
            self.sent[at].is_open = false;
            match verdict {
                Verdict::Written(offset) => {
                    let mut written = self.remove(at);
                    if !written.is_ghost {
                        written.batch.end(End::Delivered(offset));
                    }
                    self.stuck_since = None;
                }
                Verdict::Refused(error) => self.refused(at, error, now)?,
            }
            self.lay_ghosts();
        }
        if self.settling && self.open.is_empty() {
            self.settling = false;
            self.settled = true;
            self.cursor = 0;
            self.pass_by_ghosts();
        }
        Ok(())
    }

    /// Whether, since this was last asked, all answers came that were awaited before sending again.
    pub fn take_settled(&mut self) -> bool {
        std::mem::take(&mut self.settled)
    }

    fn refused(&mut self, at: usize, error: Error, now: Instant) -> Result<(), Error> {
        if error.is(ErrorCode::INVALID_PRODUCER_EPOCH) {
            return Err(error);
        }
        let is_gap =
            error.is(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER) || error.is(ErrorCode::UNKNOWN_PRODUCER_ID);
        let sent = &mut self.sent[at];
        sent.in_doubt |= error.outcome != Outcome::NotApplied;
        let is_passing = error.retriable || (is_gap && at > 0);
        if is_passing {
            self.settling = true;
        } else if is_gap && !sent.in_doubt {
            // The broker has lost what was written before: nothing here can ever be next for it.
            self.settling = true;
            self.send_anew(0);
        } else if is_gap || sent.is_ghost {
            let since = *self.stuck_since.get_or_insert(now);
            self.settling = true;
            if now.saturating_duration_since(since) >= self.patience {
                self.give_up(&error);
            }
        } else if sent.in_doubt {
            sent.batch.end(End::Expired(error));
            sent.is_ghost = true;
        } else {
            sent.batch.end(End::Refused(error));
            self.drop_certain(at);
        }
        Ok(())
    }

    /// The stream is lost, and with it the answers to all open attempts.
    pub fn lost(&mut self) {
        for number in std::mem::take(&mut self.open) {
            if let Ok(at) = self.sent.binary_search_by_key(&number, |sent| sent.number) {
                self.sent[at].is_open = false;
                self.sent[at].in_doubt = true;
            }
        }
        self.cursor = 0;
        self.settling = false;
    }

    /// When the next batch expires.
    pub fn next_deadline(&self) -> Option<Instant> {
        let sent = self.sent.iter().find(|sent| !sent.is_ghost).map(|sent| sent.batch.deadline());
        sent.into_iter().chain(self.waiting.front().map(Entry::deadline)).min()
    }

    /// Ends what has passed its deadline; `why` is said with it.
    pub fn expire(&mut self, now: Instant, why: &Error) {
        let mut at = 0;
        while at < self.sent.len() {
            let sent = &mut self.sent[at];
            if sent.is_ghost || sent.batch.deadline() > now {
                at += 1;
            } else if sent.is_certain() {
                sent.batch.end(End::Refused(why.clone().with_outcome(Outcome::NotApplied)));
                self.drop_certain(at);
            } else {
                sent.batch.end(End::Expired(why.clone().with_outcome(Outcome::Unknown)));
                sent.in_doubt = true;
                sent.is_ghost = true;
                at += 1;
            }
        }
        while let Some(batch) = self.waiting.front_mut().filter(|batch| batch.deadline() <= now) {
            batch.end(End::Refused(why.clone().with_outcome(Outcome::NotApplied)));
            self.waiting.pop_front();
        }
        self.lay_ghosts();
    }

    /// Ends everything, because the producer cannot go on.
    pub fn fail(&mut self, error: &Error) {
        for mut sent in self.sent.drain(..).filter(|sent| !sent.is_ghost) {
            let outcome = if sent.is_certain() { Outcome::NotApplied } else { Outcome::Unknown };
            sent.batch.end(End::Fatal(error.clone().with_outcome(outcome)));
        }
        for mut batch in self.waiting.drain(..) {
            batch.end(End::Fatal(error.clone().with_outcome(Outcome::NotApplied)));
        }
        self.cursor = 0;
        self.spoiled = true;
    }

    /// Removes a batch that was not written and will not be, and with it the chance of those behind it.
    fn drop_certain(&mut self, at: usize) {
        let dropped = self.remove(at);
        if at == self.sent.len() {
            // Nobody was behind it: its sequence was never used, and is free.
            self.next = dropped.sequence;
        } else {
            self.send_anew(at);
        }
    }

    /// Takes the batches from `from` on out of the line: they go on under the next identity. Ghosts among them are
    /// done with.
    fn send_anew(&mut self, from: usize) {
        for sent in self.sent.drain(from..).rev() {
            if !sent.is_ghost {
                self.waiting.push_front(sent.batch);
            }
        }
        self.cursor = self.cursor.min(from);
        self.spoiled = true;
        self.stuck_since = None;
    }

    /// Lets go of ghosts that lead nobody.
    fn lay_ghosts(&mut self) {
        let live = self.sent.iter().rposition(|sent| !sent.is_ghost).map_or(0, |last| last + 1);
        if live < self.sent.len() {
            self.send_anew(live);
        }
    }

    /// Behind a ghost, once all answers are there: if every batch is known not to be written, none needs the ghost.
    fn pass_by_ghosts(&mut self) {
        let is_led = self.sent.front().is_some_and(|front| front.is_ghost);
        if is_led && self.sent.iter().all(|sent| sent.is_ghost || sent.is_certain()) {
            self.send_anew(0);
        }
    }

    /// The broker contradicts what is not known, and goes on doing so: says so of each batch of which it is true.
    fn give_up(&mut self, error: &Error) {
        for sent in self.sent.iter_mut().filter(|sent| !sent.is_ghost && !sent.is_certain()) {
            sent.batch.end(End::Expired(error.clone().with_outcome(Outcome::Unknown)));
            sent.is_ghost = true;
        }
        self.send_anew(0);
    }

    /// The invariants, as far as they can be seen from here.
    #[cfg(test)]
    pub fn check(&self) {
        let pairs = || self.sent.iter().zip(self.sent.iter().skip(1));
        assert!(pairs().all(|(one, next)| one.number < next.number), "in the order of their numbers");
        let after = |sent: &Sent<B>| i64::from(sent.sequence.0) + i64::from(sent.batch.records());
        assert!(
            pairs().all(|(one, next)| after(one) <= i64::from(next.sequence.0)),
            "and of their sequences"
        );
        if let (Some(first), Some(last)) = (self.sent.front(), self.sent.back()) {
            assert!(last.number - first.number < self.window, "within the window");
            assert!(!last.is_ghost, "a ghost leads somebody");
        }
        assert!(self.cursor <= self.sent.len());
        assert!(self.sent.iter().skip(self.cursor).all(|sent| !sent.is_open), "what is open was sent");
        assert!(self.sent.iter().all(|sent| !sent.is_ghost || sent.in_doubt), "a ghost is in doubt");
        assert!(!self.settling || !self.open.is_empty(), "answers are awaited only while there are some");
    }

    fn remove(&mut self, at: usize) -> Sent<B> {
        self.cursor -= usize::from(at < self.cursor);
        self.sent.remove(at).expect("it was found there")
    }
}
