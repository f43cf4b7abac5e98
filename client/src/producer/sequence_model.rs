//! The ledger against a broker that does its worst: it loses streams and goes on working on what lingers of them,
//! refuses for a while or for good, writes without an answer, answers without knowing, and forgets nobody.
//!
//! Each seed is one story; a failing one prints its seed, and `TIDEMILL_SEED=n` runs that one alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence};

use super::sequence::{End, Entry, Identity, Ledger, Verdict};
use crate::error::Error;
use crate::runtime::{self, Instant};

const WINDOW: u32 = 6;
const PATIENCE: Duration = Duration::from_millis(60);

/// xorshift64*: a story is a function of its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }

    fn once_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

type Ends = Rc<RefCell<BTreeMap<u64, End>>>;

/// Named by its place among all that were accepted.
struct Batch {
    name: u64,
    records: u32,
    deadline: Instant,
    ends: Ends,
}

impl Entry for Batch {
    fn records(&self) -> u32 {
        self.records
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn end(&mut self, end: End) {
        let before = self.ends.borrow_mut().insert(self.name, end);
        assert_eq!(before, None, "batch {} ended twice", self.name);
    }
}

#[derive(Debug, Clone)]
struct Frame {
    name: u64,
    records: u32,
    identity: Identity,
    sequence: Sequence,
}

/// The newest epoch of a producer, its last sequence, and its last batches.
type Row = (ProducerEpoch, Sequence, VecDeque<(Frame, Offset)>);

/// What a broker does with producers' batches, for one partition.
#[derive(Default)]
struct Broker {
    log: Vec<(u64, Offset)>,
    end: u64,
    producers: BTreeMap<ProducerId, Row>,
}

impl Broker {
    fn judge(&mut self, frame: &Frame) -> Result<Offset, ErrorCode> {
        let Frame { identity: Identity { id, epoch }, sequence, .. } = *frame;
        let row = self.producers.get(&id);
        let is_next = match row {
            None if sequence == Sequence(0) => true,
            None => return Err(ErrorCode::UNKNOWN_PRODUCER_ID),
            Some((newest, ..)) if epoch < *newest => return Err(ErrorCode::INVALID_PRODUCER_EPOCH),
            Some((newest, ..)) if epoch > *newest => sequence == Sequence(0),
            Some((_, last, _)) => sequence == last.plus(1),
        };
        if is_next {
            let offset = Offset(self.end);
            self.end += u64::from(frame.records);
            self.log.push((frame.name, offset));
            let row = self.producers.entry(id).or_insert((epoch, sequence, VecDeque::new()));
            (row.0, row.1) = (epoch, sequence.plus(frame.records - 1));
            row.2.push_back((frame.clone(), offset));
            if row.2.len() > WINDOW as usize {
                row.2.pop_front();
            }
            return Ok(offset);
        }
        let (_, last, recent) = row.expect("it is known");
        let same = |(known, _): &&(Frame, Offset)| {
            known.identity.epoch == epoch && known.sequence == sequence && known.records == frame.records
        };
        match recent.iter().find(same) {
            Some((known, offset)) => {
                assert_eq!(known.name, frame.name, "another batch is taken for this one");
                Ok(*offset)
            }
            None if epoch == row.expect("it is known").0 && sequence.0 <= last.0 => {
                Err(ErrorCode::DUPLICATE_SEQUENCE_NUMBER)
            }
            None => Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        }
    }
}

struct Story {
    dice: Dice,
    now: Instant,
    ledger: Ledger<Batch>,
    broker: Broker,
    /// What was written to the present stream and not worked on; answers come at once.
    stream: VecDeque<Frame>,
    has_stream: bool,
    /// What lingers of lost streams.
    lingering: Vec<VecDeque<Frame>>,
    names: u64,
    ends: Ends,
    lifetime: Duration,
    /// Of a hundred answers, how many are faulty.
    faults: u64,
    /// What the broker refuses for good, by name.
    hated: u64,
    /// Nothing expires and nothing is refused for good: everything must get through.
    is_gentle: bool,
}

impl Story {
    fn new(seed: u64) -> Story {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let near_the_end = dice.once_in(3);
        let epoch = ProducerEpoch(if near_the_end { i16::MAX - 2 } else { 0 });
        let identity = Identity { id: ProducerId(0), epoch };
        let is_gentle = dice.once_in(3);
        let lifetime = if is_gentle { 1 << 32 } else { 50 + dice.below(400) };
        let hated = if dice.once_in(2) && !is_gentle { 4 + dice.below(20) } else { u64::MAX };
        let (lifetime, faults) = (Duration::from_millis(lifetime), dice.below(40));
        Story {
            dice,
            now: runtime::now(),
            ledger: Ledger::new(identity, WINDOW, PATIENCE),
            broker: Broker::default(),
            stream: VecDeque::new(),
            has_stream: true,
            lingering: Vec::new(),
            names: 0,
            ends: Ends::default(),
            lifetime,
            faults,
            hated,
            is_gentle,
        }
    }

    fn accept(&mut self) {
        if self.ledger.upcoming().is_none() {
            return;
        }
        let batch = Batch {
            name: self.names,
            records: 1 + self.dice.below(3) as u32,
            deadline: self.now + self.lifetime,
            ends: self.ends.clone(),
        };
        self.names += 1;
        self.ledger.push(batch);
    }

    fn send(&mut self) {
        if !self.has_stream {
            return;
        }
        if let Some(attempt) = self.ledger.next() {
            self.stream.push_back(Frame {
                name: attempt.batch.name,
                records: attempt.batch.records,
                identity: attempt.identity,
                sequence: attempt.sequence,
            });
        }
    }

    /// The broker works on the next request of the present stream, and answers.
    fn work(&mut self) {
        let Some(frame) = self.stream.pop_front() else { return };
        let refused = |code| Verdict::Refused(Error::told(code, None));
        let faulty = self.dice.below(100) < self.faults;
        let verdict = match (faulty, self.dice.below(5)) {
            (true, 0) => refused(ErrorCode::NOT_ENOUGH_REPLICAS),
            (true, 1) => refused(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            (true, 2) => {
                let _ = self.broker.judge(&frame);
                refused(ErrorCode::REQUEST_TIMED_OUT)
            }
            (true, 3) if !self.is_gentle => {
                let _ = self.broker.judge(&frame);
                refused(ErrorCode::UNKNOWN_SERVER_ERROR)
            }
            // A leader that was replaced, and does not know what its successor wrote.
            (true, 4) if !self.is_gentle => refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
            _ if frame.name % self.hated == self.hated - 1 => refused(ErrorCode::MESSAGE_TOO_LARGE),
            _ => match self.broker.judge(&frame) {
                Ok(offset) => Verdict::Written(Some(offset)),
                Err(code) => refused(code),
            },
        };
        if let Verdict::Refused(error) = &verdict {
            assert!(!error.is(ErrorCode::DUPLICATE_SEQUENCE_NUMBER), "more under way than the window holds");
        }
        self.ledger.answer(verdict, self.now).expect("nobody else writes under this name");
        if self.ledger.take_settled() && self.faults > 0 && self.dice.once_in(2) {
            self.lose();
        }
    }

    fn lose(&mut self) {
        self.has_stream = false;
        let mut rest = std::mem::take(&mut self.stream);
        rest.truncate(self.dice.below(rest.len() as u64 + 1) as usize);
        self.lingering.push(rest);
        self.ledger.lost();
    }

    /// The broker works on something that lingers; nobody hears of it.
    fn linger(&mut self) {
        if self.lingering.is_empty() {
            return;
        }
        let which = self.dice.below(self.lingering.len() as u64) as usize;
        match self.lingering[which].pop_front() {
            Some(frame) if frame.name % self.hated != self.hated - 1 => drop(self.broker.judge(&frame)),
            Some(_) => {}
            None => drop(self.lingering.swap_remove(which)),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let why = Error::unanswered("not answered in time");
        self.ledger.expire(self.now, &why);
        if self.ledger.needs_id() {
            // The sender waits until nothing can linger before it goes on under another id.
            while !self.lingering.is_empty() {
                self.linger();
            }
            if self.stream.is_empty() {
                let id = ProducerId(self.broker.producers.len() as i64 + 100);
                self.ledger.begin(Identity { id, epoch: ProducerEpoch(0) });
            }
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..25 => self.accept(),
            25..55 => self.send(),
            55..80 => self.work(),
            80..88 => self.linger(),
            88..90 => self.lose(),
            90..95 => self.has_stream = true,
            _ => {
                let time = Duration::from_millis(self.dice.below(40));
                self.pass(time);
            }
        }
        self.ledger.check();
    }

    /// No more faults: everything comes to its end.
    fn finish(&mut self) {
        self.faults = 0;
        self.hated = u64::MAX;
        self.has_stream = true;
        let mut rounds = 0;
        while !self.ledger.is_empty() {
            self.send();
            self.work();
            self.pass(Duration::from_millis(1));
            rounds += 1;
            assert!(rounds < 10_000, "it does not come to an end");
        }
        // What is accepted now gets through.
        let first = self.names;
        for _ in 0..20 {
            self.pass(Duration::ZERO);
            self.accept();
            self.send();
            self.work();
        }
        for round in 0.. {
            if self.ledger.is_empty() {
                break;
            }
            self.send();
            self.work();
            assert!(round < 1_000, "what was accepted in peace does not get through");
        }
        for (name, end) in self.ends.borrow().range(first..) {
            assert!(matches!(end, End::Delivered(_)), "batch {name}, accepted in peace: {end:?}");
        }
        assert!(self.names > first, "nothing was accepted in peace");
        while !self.lingering.is_empty() {
            self.linger();
        }
    }

    fn check(&self) {
        let written: BTreeMap<u64, Offset> = self.broker.log.iter().copied().collect();
        assert_eq!(written.len(), self.broker.log.len(), "doubled: {:?}", self.broker.log);
        assert!(self.broker.log.is_sorted(), "reordered: {:?}", self.broker.log);
        let ends = self.ends.borrow();
        assert_eq!(ends.len() as u64, self.names, "each batch ends");
        for (name, end) in ends.iter() {
            match end {
                End::Delivered(offset) => assert_eq!(written.get(name), offset.as_ref(), "delivered: {name}"),
                End::Refused(_) => assert!(!written.contains_key(name), "refused, and written: {name}"),
                End::Expired(_) => {}
                End::Fatal(_) => panic!("fatal: {name}"),
            }
            assert!(
                !self.is_gentle || matches!(end, End::Delivered(_)),
                "it should get through: {name} {end:?}"
            );
        }
    }
}

#[test]
fn nothing_is_doubled_reordered_or_misreported() {
    let stories = 6_000;
    let start: u64 = std::env::var("TIDEMILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let seeds = if start > 0 { start..start + 1 } else { 1..stories };
    let mut totals = [0usize; 3];
    for seed in seeds {
        let told = std::panic::catch_unwind(|| {
            let mut story = Story::new(seed);
            (0..600).for_each(|_| story.step());
            story.finish();
            story.check();
            let ends = story.ends.borrow();
            let count = |is: fn(&End) -> bool| ends.values().filter(|end| is(end)).count();
            [
                count(|end| matches!(end, End::Delivered(_))),
                count(|end| matches!(end, End::Refused(_))),
                count(|end| matches!(end, End::Expired(_))),
            ]
        });
        let counts = told.unwrap_or_else(|_| panic!("run it again with TIDEMILL_SEED={seed}"));
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
    }
    println!("delivered, refused, expired: {totals:?}");
    if start == 0 {
        assert!(totals.iter().all(|total| *total > 1_000), "the stories are too tame: {totals:?}");
    }
}
