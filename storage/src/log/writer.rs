//! The writer: the one thread that writes a group's segments, mark and promises.
//!
//! ```text
//!   append ──▶ ┌───────┐  take: all that waits, one chunk    ┌────────┐  one sync   ┌──────┐
//!   vote   ──▶ │ queue │ ──────────────────────────────────▶ │ commit │ ──────────▶ │ mark │ ──▶ done
//!   cut    ──▶ └───────┘  while one is synced, more gathers  └────────┘             └──────┘
//! ```
//!
//! Whatever order Raft asked for is the order in which it becomes durable. The first error of a write or a sync ends
//! everything: it is never retried, because after a failed sync nobody knows what is on the disk.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select;
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;

use super::Planted;
use super::chunk;
use super::directory::{Held, Listed};
use super::entry::{LogEntry, LogId};
use super::line::{Line, OpenSegment, after};
use super::mark::{Mark, MarkFile};
use super::promises::{Floor, PromiseFile};
use super::segment::{self, Birth, Segment};
use super::shared::{Memory, Shared};
use super::work::{self, Next, Reply, Work};
use crate::database;

/// How often others may go on between [`Planted::EarlyAck`] and the write that it should have waited for.
const EARLY_BY_TURNS: usize = 16;

/// How long a turn that somebody waits for may wait for those who run ahead: such a part of what one takes.
const AHEAD_SHARE: u32 = 4;
/// How long a turn of which nobody is told may: what so many take. A turn that ends before the chain does is followed by
/// another, and slows the chain down meanwhile where processors are few.
const AHEAD_TURNS: u32 = 2;
/// How often it looks at most whether they are done: some milliseconds, where a look takes half a microsecond.
const AHEAD_LOOKS_MAX: usize = 20_000;

/// The writer's own.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) promises: PromiseFile,
    pub(super) mark: MarkFile,
    /// The last turn.
    pub(super) turn: u64,
    /// What a turn took lately, on average.
    pub(super) turn_time: Duration,
}

impl Writer {
    /// Works until the log is closed.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            // Lets those who have more to append do so before this turn is gathered; between threads it costs nothing.
            tokio::task::yield_now().await;
            self.wait_for_who_runs_ahead().await;
            let (next, line, is_over) = {
                let mut memory = shared.memory();
                let is_over = memory.is_closing || memory.fault.is_some();
                (work::take(&mut memory.queue), memory.line.number, is_over)
            };
            let result = match next {
                Some(Next::Turn { entries, done }) => {
                    let done = self.tell_too_early(done).await;
                    self.write_turn(line, &entries, done)
                }
                Some(Next::Other(work)) => self.perform(work),
                None if is_over => break,
                None => match self.active_age_left() {
                    Some(Duration::ZERO) => {
                        self.roll();
                        Ok(())
                    }
                    Some(left) => {
                        let (work, sleep) = (pin!(shared.work.notified()), shared.clock.sleep(left));
                        select(work, sleep).await;
                        Ok(())
                    }
                    None => {
                        shared.work.notified().await;
                        Ok(())
                    }
                },
            };
            if let Err(fault) = result {
                shared.fail(&fault);
            }
        }
        let result = self.close().await;
        shared.closed.send_replace(Some(result));
    }

    /// Lets what is about to follow from the next turn come into it, so that a chain of tasks does not end just behind a
    /// turn; not at all when nothing follows, or it is not expected in time.
    async fn wait_for_who_runs_ahead(&mut self) {
        let clock = &self.shared.clock;
        let Some(patience) = self.patience() else { return };
        let Some(mut settled) = self.shared.options.ahead.settled(patience) else { return };
        let start = clock.monotonic();
        // Timers are too coarse for this. A clock that stands still, as a simulated one may, ends it, too.
        for _ in 0..AHEAD_LOOKS_MAX {
            if (&mut settled).now_or_never().is_some() {
                return;
            }
            if clock.monotonic().saturating_sub(start) >= patience {
                break;
            }
            // Who is waited for may wait for this processor, or, in a simulation, for this thread.
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
    }

    /// How long the next turn may wait for what follows from its entries; `None` when it has none.
    fn patience(&self) -> Option<Duration> {
        let is_derived = work::is_next_turn_derived(&self.shared.memory().queue)?;
        Some(if is_derived { self.turn_time * AHEAD_TURNS } else { self.turn_time / AHEAD_SHARE })
    }

    /// The mistake that is planted for tests: those who wait are told before anything is durable, and have time to act on
    /// it. Without it, nothing happens here. Returns those who are still to be told.
    async fn tell_too_early(&self, done: Vec<Reply>) -> Vec<Reply> {
        if self.shared.options.planted != Some(Planted::EarlyAck) {
            return done;
        }
        done.into_iter().for_each(|done| done(Ok(())));
        for _ in 0..EARLY_BY_TURNS {
            tokio::task::yield_now().await;
        }
        Vec::new()
    }

    /// Writes entries appended to `line`, which was the log then; `done` is told when they are durable.
    fn write_turn(&mut self, line: u32, entries: &[LogEntry], done: Vec<Reply>) -> Result<(), Fault> {
        let result = if entries.is_empty() { Ok(true) } else { self.write_chunk(line, entries) };
        let result = match result {
            Ok(true) => Ok(()),
            Ok(false) => return self.wait_for_replacement(done),
            Err(fault) => Err(fault),
        };
        if result.is_ok() {
            self.shared.memory().synced(line, entries);
            self.shared.room.notify_waiters();
        }
        done.into_iter().for_each(|done| done(result.clone()));
        result
    }

    /// Another line has taken the log's place: what was appended before is durable when that is.
    fn wait_for_replacement(&self, waiting: Vec<Reply>) -> Result<(), Fault> {
        let mut memory = self.shared.memory();
        let replacement = memory.queue.iter_mut().find_map(|work| match work {
            Work::Replace { done, .. } => Some(done),
            _ => None,
        });
        match replacement {
            Some(done) => done.extend(waiting),
            None => drop(waiting),
        }
        Ok(())
    }

    /// Writes one chunk behind a line, in its active segment or in a new one, and marks the turn. False when there is
    /// no such line any more.
    fn write_chunk(&mut self, line: u32, entries: &[LogEntry]) -> Result<bool, Fault> {
        let last = entries[entries.len() - 1].id;
        let segment = match self.active_for(line, entries) {
            Some(segment) => Some(segment),
            None => self.begin_segment(line, entries[0].id.index)?,
        };
        let Some(segment) = segment else { return Ok(false) };
        let committed = self.shared.memory().committed;
        self.turn += 1;
        let start = self.shared.clock.monotonic();
        let bytes = segment.write(entries, self.turn, committed)?;
        let took = self.shared.clock.monotonic().saturating_sub(start);
        self.turn_time = (self.turn_time * 7 + took) / 8;
        self.shared.options.on_turn.tell(bytes, took);
        let mut memory = self.shared.memory();
        let is_log = memory.line.number == line;
        if let Some(active) = memory.line_mut(line).and_then(Line::active) {
            active.chunks.push(entries[0].id.index);
            active.bytes += bytes;
            (active.last, active.turn) = (Some(last), self.turn);
        }
        drop(memory);
        if is_log {
            self.mark.write(Mark { turn: self.turn, segment: segment.birth.number, last: Some(last) })?;
        }
        Ok(true)
    }

    /// The active segment, if these entries follow what is in it, and fit.
    fn active_for(&self, line: u32, entries: &[LogEntry]) -> Option<Arc<Segment>> {
        let bytes: usize = entries.iter().map(chunk::bytes_of).sum();
        let mut memory = self.shared.memory();
        let active = memory.line_mut(line)?.active()?;
        let next = active.last.map_or(active.segment.birth.first, |last| after(last.index));
        let is_full = active.bytes > 0 && active.bytes + bytes as u64 > self.shared.options.segment_bytes;
        let is_old = active.bytes > 0 && self.age_left(&active.segment).is_zero();
        (next == entries[0].id.index && !is_full && !is_old).then(|| active.segment.clone())
    }

    /// Begins a segment; the one before it takes no more entries. None when there is no such line any more.
    fn begin_segment(&mut self, line: u32, first: LogIndex) -> Result<Option<Arc<Segment>>, Fault> {
        let (previous, committed, unused) = {
            let mut memory = self.shared.memory();
            let (committed, purged) = (memory.committed, memory.promises.purged);
            let Some(line) = memory.line_mut(line) else { return Ok(None) };
            let is_unused = line.active().is_some_and(|active| active.last.is_none());
            let unused = if is_unused { line.open.pop_back() } else { None };
            line.has_active = false;
            let follows = |id: &LogId| after(id.index) == first;
            (line.last_on_disk().filter(follows).or(purged.filter(follows)), committed, unused)
        };
        if let Some(unused) = unused {
            self.remove_segments(&[unused.segment.birth.number])?;
        }
        let (number, made) = (self.shared.memory().number_segment(), self.shared.clock.now());
        let birth = Birth { number, line, first, previous, committed, turn: self.turn, made };
        let segment = Arc::new(Segment::create(
            &*self.shared.disk,
            &self.shared.folder,
            birth,
            self.shared.options.zeros_ahead,
        )?);
        if let Some(line) = self.shared.memory().line_mut(line) {
            line.open.push_back(OpenSegment::new(segment.clone()));
            line.has_active = true;
        }
        self.shared.sealing.notify_one();
        Ok(Some(segment))
    }

    fn perform(&mut self, work: Work) -> Result<(), Fault> {
        let (result, done) = match work {
            Work::Append { .. } => unreachable!("appends are gathered into turns"),
            Work::Truncate { last, done } => (self.truncate(last), vec![done]),
            Work::Promise { change, done } => (self.promise(change), vec![done]),
            Work::Install { entries, done } => (self.install(entries), vec![done]),
            Work::Discard { done } => (self.discard(), vec![done]),
            Work::Roll { at_least, done } => {
                let bytes = self.shared.memory().line.active().map_or(0, |active| active.bytes);
                if bytes >= at_least.max(1) {
                    self.roll();
                }
                (Ok(()), vec![done])
            }
            Work::Exchange { old, new, done } => (self.exchange(&old, new.as_deref()), vec![done]),
            Work::Relist { held, done } => (self.relist(&held), vec![done]),
            Work::Replace { upto, number, old, done } => (self.replace(upto, number, &old), done),
        };
        done.into_iter().for_each(|done| done(result.clone()));
        result
    }

    fn promise(&mut self, change: work::Change) -> Result<(), Fault> {
        self.promises.change(change)?;
        self.shared.memory().promises = self.promises.promises().clone();
        Ok(())
    }

    /// Removes everything above `last` from the disk: whole segments from the newest on, so that what is left never
    /// has a gap, then the rest of the one in which `last` lies.
    fn truncate(&mut self, last: Option<LogId>) -> Result<(), Fault> {
        let is_above = |index: LogIndex| last.is_none_or(|last| index > last.index);
        let (whole, part, committed, kept) = {
            let memory = self.shared.memory();
            if memory.line.sealed.values().any(|listed| is_above(listed.seal.last.index)) {
                return Err(Fault::Raft(format!("committed entries were to be cut off, above {last:?}")));
            }
            let open = memory.line.open.iter();
            let whole: Vec<u64> = open
                .clone()
                .filter(|open| is_above(open.segment.birth.first))
                .map(|open| open.segment.birth.number)
                .collect();
            let part = open.rev().find(|open| !is_above(open.segment.birth.first));
            let part = part.filter(|open| open.last.is_some_and(|last| is_above(last.index)));
            let kept = last.map_or(0, |last| memory.line.turn_upto(last.index));
            (whole, part.map(|open| open.segment.clone()), memory.committed, kept)
        };
        if !whole.is_empty() || part.is_some() {
            self.turn += 1;
        }
        if !whole.is_empty() {
            let floor = Floor { turn: self.turn, kept, last };
            self.promise(Box::new(move |promises| promises.floor = Some(floor)))?;
            let mut memory = self.shared.memory();
            let kept = memory.line.open.len() - whole.len();
            let gone = memory.line.open.split_off(kept);
            memory.line.has_active = false;
            drop(memory);
            self.remove_segments(&whole.into_iter().rev().collect::<Vec<_>>())?;
            drop(gone);
        }
        if let (Some(segment), Some(last)) = (&part, last) {
            segment.cut(last.index, self.turn, committed)?;
            self.mark.write(Mark { turn: self.turn, segment: segment.birth.number, last: Some(last) })?;
        }
        self.shared.chunks.clear();
        let mut memory = self.shared.memory();
        if let (Some(open), Some(_)) = (memory.line.open.back_mut(), &part) {
            open.chunks.retain(|first| !is_above(*first));
            (open.last, open.turn) = (last, self.turn);
        }
        let cut = memory.cuts.pop_front();
        memory.next_durable = memory.next_durable.min(cut.unwrap_or(memory.next_durable));
        drop(memory);
        self.shared.sealing.notify_one();
        Ok(())
    }

    fn install(&mut self, entries: Vec<LogEntry>) -> Result<(), Fault> {
        let number = {
            let mut memory = self.shared.memory();
            let Memory { line, incoming, .. } = &mut *memory;
            let incoming = incoming.get_or_insert_with(|| line.next_line_from(entries[0].id.index));
            for entry in &entries {
                incoming.index.add(entry)?;
            }
            incoming.number
        };
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let chunk = &rest[..work::fitting(rest)];
            self.write_chunk(number, chunk)?;
            rest = &rest[chunk.len()..];
            if let Some(incoming) = &mut self.shared.memory().incoming {
                incoming.last = chunk.last().map(|entry| entry.id);
            }
        }
        self.shared.sealing.notify_one();
        Ok(())
    }

    fn discard(&mut self) -> Result<(), Fault> {
        let (line, incoming) = {
            let mut memory = self.shared.memory();
            (memory.line.number, memory.incoming.take())
        };
        let Some(incoming) = incoming else { return Ok(()) };
        self.remove_segments(&incoming.numbers())?;
        self.shared.directory.keep_lines(&[line])
    }

    fn replace(&mut self, upto: LogId, number: u32, old: &Line) -> Result<(), Fault> {
        self.turn += 1;
        let (kept, last) = {
            let line = &self.shared.memory().line;
            (line.turn_upto(LogIndex(u64::MAX)), line.last_on_disk().max(Some(upto)))
        };
        let floor = Floor { turn: self.turn, kept, last };
        self.promise(Box::new(move |promises| {
            promises.line = number;
            promises.purged = Some(upto);
            promises.floor = Some(floor);
            promises.holes.clear();
        }))?;
        self.remove_segments(&old.numbers())?;
        self.shared.directory.keep_lines(&[number])
    }

    /// Unlinks a sealed segment, and names the one that was made to take its place, if one was; unless the log was
    /// replaced meanwhile. Of two that hold the same stretch a start takes the newer.
    fn exchange(&mut self, old: &Held, new: Option<&Held>) -> Result<(), Fault> {
        let (disk, folder) = (&*self.shared.disk, &self.shared.folder);
        let is_there = {
            let line = &self.shared.memory().line;
            line.number == old.listed.line && line.sealed.get(&old.listed.first) == Some(&old.listed)
        };
        if !is_there {
            return Ok(());
        }
        if let Some(new) = new {
            database::show(disk, &segment::path(folder, new.listed.number))?;
        }
        self.shared.directory.exchange(old, new)?;
        let mut memory = self.shared.memory();
        memory.line.sealed.remove(&old.listed.first);
        memory.line.sealed.extend(new.map(|new| (new.listed.first, new.listed)));
        memory.line.first = memory.line.lowest().unwrap_or(memory.line.first);
        drop(memory);
        self.shared.chunks.clear();
        self.remove_segments(&[old.listed.number])
    }

    /// Lists a sealed segment anew; unless the log was replaced meanwhile.
    fn relist(&self, held: &Held) -> Result<(), Fault> {
        let (line, first) = (held.listed.line, held.listed.first);
        let is_it = |listed: &Listed| listed.number == held.listed.number;
        let is_there =
            |memory: &Memory| memory.line.number == line && memory.line.sealed.get(&first).is_some_and(is_it);
        if !is_there(&self.shared.memory()) {
            return Ok(());
        }
        self.shared.directory.add(held)?;
        self.shared.memory().line.sealed.insert(first, held.listed);
        Ok(())
    }

    fn remove_segments(&self, numbers: &[u64]) -> Result<(), Fault> {
        let (disk, folder) = (&*self.shared.disk, &self.shared.folder);
        let remove = |number: &u64| {
            let removed = disk.remove(&segment::path(folder, *number));
            self.shared.sealed.forget(*number);
            removed
        };
        let removed = numbers.iter().try_for_each(remove).and_then(|()| disk.sync_directory(folder));
        removed.map_err(|error| Fault::disk(format!("removing segments of {}", folder.display()), error))?;
        self.shared.forget_gone(numbers)
    }

    /// How long the active segment may still be written; `None` when there is nothing in it.
    fn active_age_left(&self) -> Option<Duration> {
        let mut memory = self.shared.memory();
        let active = memory.line.active().filter(|active| active.bytes > 0)?;
        Some(self.age_left(&active.segment))
    }

    fn age_left(&self, segment: &Segment) -> Duration {
        let age = self.shared.clock.now().since(segment.birth.made);
        self.shared.options.segment_age.saturating_sub(age)
    }

    /// Ends the active segment of the log; the next append begins another.
    fn roll(&self) {
        self.shared.memory().line.has_active = false;
        self.shared.sealing.notify_one();
    }

    /// Closes all files, cleanly if nothing has failed.
    async fn close(self) -> Result<(), Fault> {
        let shared = &self.shared;
        let mut ended = shared.sealer_ended.subscribe();
        shared.sealing.notify_one();
        // An error would mean that the sender is gone, and we hold it.
        ended.wait_for(|ended| *ended).await.ok();
        let open: Vec<Arc<Segment>> = {
            let Memory { line, incoming, fault, .. } = &mut *shared.memory();
            if let Some(fault) = fault {
                return Err(fault.clone());
            }
            let open = line.open.iter().chain(incoming.iter().flat_map(|line| &line.open));
            open.map(|open| open.segment.clone()).collect()
        };
        open.iter().try_for_each(|segment| segment.file.close())?;
        self.mark.sync()?;
        shared.sealed.forget_all();
        shared.directory.close()?;
        let gone = shared.gone_file.lock().close();
        self.promises.close().and(gone)
    }
}
