//! Where the records of one partition gather into batches.
//!
//! A batch is handed out when it has waited for `linger`, when it has reached `target` bytes, or when somebody
//! flushes; a full one is closed and the next one begun. As long as nobody takes it, because the stream is busy or
//! enough is under way, it goes on growing up to its limit: the slower the broker, the larger the batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::batch::{BatchBuilder, HEADER_BYTES};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::error::{ErrorCode, Outcome};

use super::batch::{Batch, OpenBatch, Room};
use super::delivery::Fate;
use super::sequence::{End, Entry};
use crate::error::Error;
use crate::limits::BATCH_RECORDS_MAX;
use crate::record::Record;
use crate::runtime::Instant;

/// How records become batches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gathering {
    pub linger: Duration,
    pub target_bytes: usize,
    pub limit_bytes: usize,
    pub lifetime: Duration,
    pub codec: Codec,
}

impl Gathering {
    /// Bytes that a record takes in a batch, at most.
    pub fn record_bytes(record: &Record) -> usize {
        let headers: Vec<_> =
            record.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref())).collect();
        BatchBuilder::record_bytes_max(record.key.as_deref(), record.value.as_deref(), &headers)
    }
}

/// The records of one partition that wait to be sent.
#[derive(Debug)]
pub(super) struct Accumulator {
    gathering: Gathering,
    open: Option<OpenBatch>,
    closed: VecDeque<Batch>,
    /// No more records.
    pub is_closing: bool,
    /// The batches that have not ended, those that were taken included; some ended ones among them.
    fates: VecDeque<Arc<Fate>>,
}

/// What became of a record that was to be added.
pub(super) enum Added {
    /// It is in. `wakes` when its batch's state changed in a way that the sender wants to know of.
    To { fate: Arc<Fate>, record: u32, wakes: bool },
    /// It would have begun a new batch, which was not wanted.
    NotBegun(Room),
    /// No batch can hold it.
    Refused(Error),
}

/// What there is to take.
#[derive(Debug)]
pub(super) enum Ready {
    Now,
    At(Instant),
    Nothing,
}

impl Accumulator {
    pub fn new(gathering: Gathering) -> Accumulator {
        Accumulator {
            gathering,
            open: None,
            closed: VecDeque::new(),
            is_closing: false,
            fates: VecDeque::new(),
        }
    }

    /// Adds a record, to a new batch only if `may_begin`.
    pub fn add(
        &mut self,
        record: &Record,
        timestamp_ms: i64,
        room: Room,
        now: Instant,
        may_begin: bool,
    ) -> Added {
        let bytes = Gathering::record_bytes(record);
        let is_full = self.open.as_ref().is_some_and(|open| {
            open.bytes() + bytes > self.gathering.limit_bytes || open.records() >= BATCH_RECORDS_MAX
        });
        let mut wakes = is_full;
        if is_full {
            self.close_open();
        }
        if self.open.is_none() && !may_begin {
            return Added::NotBegun(room);
        }
        let is_new = self.open.is_none();
        wakes |= is_new;
        let (codec, target) = (self.gathering.codec, self.gathering.target_bytes);
        let mut room = Some(room);
        let open = self
            .open
            .get_or_insert_with(|| OpenBatch::new(codec, room.take().expect("it was not used yet"), now));
        let before = open.bytes();
        let place = match open.push(record, timestamp_ms) {
            Ok(place) => place,
            Err(unwritable) => {
                if is_new {
                    self.open = None;
                }
                return Added::Refused(Error::refused_here(
                    ErrorCode::MESSAGE_TOO_LARGE,
                    unwritable.to_string(),
                ));
            }
        };
        if let Some(room) = room {
            open.widen(room);
        }
        wakes |= before < target && open.bytes() >= target;
        let fate = open.fate().clone();
        if is_new {
            while self.fates.front().is_some_and(|fate| fate.has_ended()) {
                self.fates.pop_front();
            }
            self.fates.push_back(fate.clone());
        }
        Added::To { fate, record: place, wakes }
    }

    /// Whether a record of so many bytes fits into some batch.
    pub fn fits(gathering: &Gathering, bytes: usize) -> bool {
        HEADER_BYTES + bytes <= gathering.limit_bytes
    }

    fn close_open(&mut self) {
        if let Some(open) = self.open.take() {
            let deadline = open.since + self.gathering.lifetime;
            self.closed.push_back(open.close(deadline));
        }
    }

    /// What there is to take.
    pub fn ready(&self, now: Instant) -> Ready {
        if !self.closed.is_empty() {
            return Ready::Now;
        }
        let Some(open) = &self.open else { return Ready::Nothing };
        let due = open.since + self.gathering.linger;
        let is_ready = self.is_closing || now >= due || open.bytes() >= self.gathering.target_bytes;
        if is_ready { Ready::Now } else { Ready::At(due) }
    }

    /// The oldest batch, if it is ready.
    pub fn take(&mut self, now: Instant) -> Option<Batch> {
        if self.closed.is_empty() && matches!(self.ready(now), Ready::Now) {
            self.close_open();
        }
        self.closed.pop_front()
    }

    /// Lets the open batch wait no longer, and returns what has not ended.
    pub fn flush(&mut self) -> Vec<Arc<Fate>> {
        self.close_open();
        self.fates.retain(|fate| !fate.has_ended());
        self.fates.iter().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.closed.is_empty()
    }

    /// When the next batch expires that nobody took.
    pub fn next_deadline(&self) -> Option<Instant> {
        let open = self.open.as_ref().map(|open| open.since + self.gathering.lifetime);
        self.closed.front().map(Entry::deadline).or(open)
    }

    /// Refuses what has passed its deadline untaken; `why` is said with it.
    pub fn expire(&mut self, now: Instant, why: &Error) {
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            if self.closed.is_empty() {
                self.close_open();
            }
            if let Some(mut batch) = self.closed.pop_front() {
                batch.end(End::Refused(why.clone().with_outcome(Outcome::NotApplied)));
            }
        }
    }

    /// Ends everything that nobody took, because the producer cannot go on.
    pub fn fail(&mut self, error: &Error) {
        self.close_open();
        for mut batch in self.closed.drain(..) {
            batch.end(End::Fatal(error.clone().with_outcome(Outcome::NotApplied)));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::runtime;

    const MS: Duration = Duration::from_millis(1);

    fn gathering() -> Gathering {
        Gathering {
            linger: 5 * MS,
            target_bytes: 500,
            limit_bytes: 1_000,
            lifetime: 100 * MS,
            codec: Codec::None,
        }
    }

    fn add(accumulator: &mut Accumulator, bytes: usize, now: Instant, may_begin: bool) -> Option<bool> {
        let record = Record::to("topic").value(vec![0; bytes]);
        let room = Room::new(Arc::new(Semaphore::new(0)), 1);
        match accumulator.add(&record, 0, room, now, may_begin) {
            Added::To { wakes, .. } => Some(wakes),
            Added::NotBegun(_) => None,
            Added::Refused(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_batch_is_ready_by_age_or_by_size_and_never_too_large() {
        let mut accumulator = Accumulator::new(gathering());
        let start = runtime::now();
        assert!(matches!(accumulator.ready(start), Ready::Nothing));
        assert_eq!(add(&mut accumulator, 10, start, false), None, "it would begin a batch");
        assert_eq!(add(&mut accumulator, 10, start, true), Some(true), "the sender is to see to its age");
        assert_eq!(add(&mut accumulator, 10, start, false), Some(false));
        assert!(matches!(accumulator.ready(start), Ready::At(due) if due == start + 5 * MS));
        assert!(accumulator.take(start).is_none());
        assert!(matches!(accumulator.ready(start + 5 * MS), Ready::Now), "old enough");

        assert_eq!(add(&mut accumulator, 450, start, false), Some(true), "large enough");
        assert!(matches!(accumulator.ready(start), Ready::Now));
        assert_eq!(
            add(&mut accumulator, 300, start, false),
            Some(false),
            "nobody takes it, so it goes on growing"
        );
        assert_eq!(add(&mut accumulator, 300, start, false), None, "it is full");
        assert_eq!(add(&mut accumulator, 300, start, true), Some(true));
        assert_eq!(accumulator.take(start).map(|batch| batch.records()), Some(4));
        assert!(matches!(accumulator.ready(start), Ready::At(_)), "the next one is young and small");
        accumulator.flush();
        assert_eq!(accumulator.take(start).map(|batch| batch.records()), Some(1));
        assert!(accumulator.is_empty());
    }

    #[test]
    fn what_nobody_takes_is_refused_in_time() {
        let mut accumulator = Accumulator::new(gathering());
        let start = runtime::now();
        add(&mut accumulator, 900, start, true);
        add(&mut accumulator, 900, start + 50 * MS, true);
        let fates = accumulator.flush();
        let why = Error::unanswered("nobody was there");
        assert_eq!(accumulator.next_deadline(), Some(start + 100 * MS));
        accumulator.expire(start + 100 * MS, &why);
        assert_eq!(fates.iter().map(|fate| fate.has_ended()).collect::<Vec<_>>(), [true, false]);
        assert_eq!(accumulator.next_deadline(), Some(start + 150 * MS));
        accumulator.expire(start + 150 * MS, &why);
        assert!(fates[1].has_ended() && accumulator.is_empty());
        assert!(accumulator.flush().is_empty(), "ended batches are forgotten");
    }
}
