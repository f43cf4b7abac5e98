//! The log of a group: what Raft appends, and what readers of records read. It is both in one.
//!
//! ```text
//!   append ──▶ tail (readable at once) ──▶ turn ──▶ chunk in the active segment, one sync ──▶ done
//!                                                           │ full, or an hour old
//!                                                           ▼
//!                                     rolled ──▶ all in it committed ──▶ sealed, with its index
//! ```
//!
//! Above the purge mark the log is Raft's: it is appended to, and may be cut. Below it lie *record segments*, which
//! Raft never asks for again and readers do; a purge is a durable mark and removes nothing. What readers do not want any
//! more either goes back to the disk when that is asked for (`reclaim.rs`).
//!
//! A [`GroupLog`] is a handle: cheap to clone, to be used from any thread. Reading may wait for the disk; nothing else
//! but what is `async` waits for anything. Two threads belong to a log, the writer and the sealer; they end when it is
//! closed or its last handle is dropped.

mod apart;
mod cache;
mod chunk;
mod copy;
mod cut;
mod descendants;
mod descents;
mod directory;
mod entry;
mod foreseen;
mod frame;
mod gone;
#[doc(hidden)]
pub mod hostile;
mod index;
mod line;
mod mark;
pub mod offline;
mod options;
mod promises;
mod punch;
mod reader;
mod reclaim;
mod recovery;
mod sealed;
mod sealer;
mod segment;
mod shared;
mod spans;
mod tail;
mod work;
mod writer;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;
use tidemill_core::entry::PlacedBatch;
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;
use tidemill_core::seams::World;
use tidemill_protocol::ids::{Offset, Position, TopicPartition};
use tokio::sync::oneshot;

use line::after;
use shared::{Memory, Shared};
use work::{Reply, Work};
use writer::Writer;

pub(crate) use copy::LogCopy;
pub use copy::SealedFile;
pub use entry::{EncodedEntry, LogEntry, LogId, Payload, Vote};
pub use options::{Ahead, Done, LogOptions, OnFault, OnTurn, Planted, ReadError, RunsAhead};
pub(crate) use promises::promised;
pub use reclaim::Reclaimed;
pub use recovery::{Loss, Recovery};

/// The log of a group. Cheap to clone; all clones are the same log.
#[derive(Clone)]
pub struct GroupLog {
    handle: Arc<Handle>,
}

/// Ends the threads when the last handle is dropped.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.memory().is_closing = true;
        self.shared.work.notify_one();
    }
}

impl GroupLog {
    /// Opens the log in `folder`, or makes an empty one there, and starts its threads. The folder must be this
    /// process's alone.
    ///
    /// # Errors
    /// [`Fault::Disk`]; [`Fault::Damaged`] when something is wrong that no crash explains; [`Fault::Newer`]. What a
    /// crash explains is repaired, and what is lost beyond that is told in [`Recovery`].
    pub fn open(
        world: &World,
        folder: PathBuf,
        options: LogOptions,
        on_fault: OnFault,
    ) -> Result<(GroupLog, Recovery), Fault> {
        let opened = recovery::open(&*world.disk, &folder, &options)?;
        let memory = Memory {
            next_durable: opened.line.next(),
            line: opened.line,
            incoming: opened.incoming,
            promises: opened.promises.promises().clone(),
            committed: opened.committed,
            next_applied: None,
            cuts: VecDeque::new(),
            unsynced_bytes: 0,
            next_segment: opened.next_segment,
            queue: VecDeque::new(),
            fault: None,
            is_closing: false,
        };
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let seams = (world.disk.clone(), world.clock.clone());
        let lists = (opened.directory, opened.gone_file, opened.gone);
        let shared = Arc::new(Shared::new(seams, folder, (options, on_fault), lists, memory));
        let writer = Writer {
            shared: shared.clone(),
            promises: opened.promises,
            mark: opened.mark,
            turn: opened.turn,
            turn_time: Duration::ZERO,
        };
        world.spawner.thread(format!("{name}-writer"), Box::pin(writer.run()));
        world.spawner.thread(format!("{name}-sealer"), Box::pin(sealer::run(shared.clone())));
        Ok((GroupLog { handle: Arc::new(Handle { shared }) }, opened.recovery))
    }

    /// Appends entries: readable when this returns; `done` is called once they are durable, in order.
    ///
    /// # Panics
    /// When they do not follow the last entry without a gap: whoever asked for that has lost count, and what it would
    /// write is worth nothing.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        let mut memory = self.memory();
        if let Some(fault) = memory.refusal() {
            drop(memory);
            return done(Err(fault));
        }
        let mut unforeseen = entries.len();
        for (number, entry) in entries.iter().enumerate() {
            assert_eq!(entry.id.index, memory.line.next(), "entries are appended without gaps");
            if !memory.line.foreseen.arrives(entry.id) {
                unforeseen = unforeseen.min(number);
            }
            if let Err(fault) = memory.line.index.add(entry) {
                drop(memory);
                self.shared().fail(&fault);
                return done(Err(fault));
            }
            memory.line.last = Some(entry.id);
            memory.line.tail.push(entry.clone());
            memory.unsynced_bytes += chunk::bytes_of(entry);
        }
        memory.trim();
        // Told first: the writer asks whether somebody works on what it is about to take.
        self.shared().options.ahead.readable(&entries[unforeseen..]);
        self.shared().options.ahead.appended(&entries);
        self.shared().queue(memory, Work::Append { entries: entries.into(), done });
    }

    /// Waits until less than [`limits::UNSYNCED_BYTES_MAX`] is appended and not durable. Returns at once when the log
    /// has failed.
    pub async fn wait_for_room(&self) {
        loop {
            let room = self.shared().room.notified();
            let has_room = {
                let memory = self.memory();
                memory.unsynced_bytes < limits::UNSYNCED_BYTES_MAX || memory.fault.is_some()
            };
            if has_room {
                return;
            }
            room.await;
        }
    }

    /// Removes all entries above `last` (all, if `None`), durably. Readers no longer see them once this was polled.
    ///
    /// # Errors
    /// The [`Fault`] that ended the log. [`Fault::Raft`] when committed entries were to be removed: that ends it, too.
    pub async fn truncate_after(&self, last: Option<LogId>) -> Result<(), Fault> {
        let waiting = {
            let mut memory = self.memory();
            let index = last.map(|last| last.index);
            if memory.committed.is_some_and(|committed| index.is_none_or(|index| index < committed.index)) {
                let fault = Fault::Raft(format!(
                    "entries above {last:?} were to be cut off, up to {:?} are committed",
                    memory.committed
                ));
                drop(memory);
                self.shared().fail(&fault);
                return Err(fault);
            }
            if memory.line.last.is_none_or(|newest| index.is_some_and(|index| newest.index <= index)) {
                None
            } else {
                memory.line.last = last;
                memory.line.tail.truncate_after(index);
                memory.line.foreseen.clear();
                memory.line.index.truncate_after(index);
                memory.cuts.push_back(index.map_or(LogIndex(0), after));
                Some(self.ask(memory, |done| Work::Truncate { last, done }))
            }
        };
        wait(waiting).await
    }

    /// Raft no longer needs entries up to `upto`. Only a durable mark: what lies below stays readable.
    ///
    /// When the log does not reach `upto`, a state that has gone further takes its place. If a snapshot's records were
    /// installed up to there, they are the log now, as [`GroupLog::reset_to`] says. If not, the end of the log was
    /// lost: it goes on behind `upto`, and what is missing is remembered as a hole.
    ///
    /// # Errors
    /// The [`Fault`] that ended the log.
    pub async fn purge(&self, upto: LogId) -> Result<(), Fault> {
        let is_installed = {
            let memory = self.memory();
            let is_behind = memory.line.last.is_none_or(|last| last.index < upto.index);
            is_behind && memory.incoming.as_ref().and_then(|line| line.last).is_some_and(|last| last >= upto)
        };
        if is_installed {
            return self.reset_to(upto).await;
        }
        let waiting = {
            let mut memory = self.memory();
            let mut hole = None;
            if memory.line.last.is_none_or(|last| last.index < upto.index) {
                hole = memory.line.last.map(|last| (last.index.0 + 1, upto.index.0));
                memory.line.tail.truncate_after(None);
                memory.line.foreseen.clear();
                memory.line.last = Some(upto);
                memory.next_durable = after(upto.index);
                if hole.is_none() {
                    memory.line.first = after(upto.index);
                }
            }
            self.ask(memory, |done| {
                let change = move |promises: &mut promises::Promises| {
                    promises.purged = promises.purged.max(Some(upto));
                    promises.holes.extend(hole);
                };
                Work::Promise { change: Box::new(change), done }
            })
        };
        wait(Some(waiting)).await
    }

    /// Makes a vote durable, behind all that was asked for before and before all that is asked for later.
    ///
    /// # Errors
    /// The [`Fault`] that ended the log.
    pub async fn save_vote(&self, vote: Vote) -> Result<(), Fault> {
        self.promise(move |promises| promises.vote = Some(vote)).await
    }

    /// The last durable vote.
    pub fn vote(&self) -> Option<Vote> {
        self.memory().promises.vote
    }

    /// The last entry appended or, when there is none above it, the purge mark.
    pub fn last_id(&self) -> Option<LogId> {
        self.memory().line.last
    }

    /// The last entry that is durable.
    pub fn durable_id(&self) -> Option<LogId> {
        let memory = self.memory();
        let newest = memory.line.last?;
        let durable = LogIndex(memory.next_durable.0.checked_sub(1)?);
        if newest.index <= durable {
            return Some(newest);
        }
        let in_tail = memory.line.tail.get(durable).map(|entry| entry.id);
        in_tail
            .or_else(|| memory.line.last_on_disk().filter(|last| last.index == durable))
            .or(memory.promises.purged)
    }

    /// Waits until entry `index` is durable. Returns at once when the log has failed, or does not reach so far.
    pub async fn wait_durable(&self, index: LogIndex) {
        loop {
            let room = self.shared().room.notified();
            let is_over = {
                let memory = self.memory();
                let is_beyond = memory.line.last.is_none_or(|last| last.index < index);
                memory.next_durable > index || is_beyond || memory.refusal().is_some()
            };
            if is_over {
                return;
            }
            room.await;
        }
    }

    /// The durable purge mark.
    pub fn purged(&self) -> Option<LogId> {
        self.memory().promises.purged
    }

    /// The lowest entry that is still held, purged or not.
    pub fn first_index(&self) -> Option<LogIndex> {
        self.memory().line.lowest()
    }

    /// The highest entry known to be committed. After a start, as of a recent turn.
    pub fn committed_hint(&self) -> Option<LogId> {
        self.memory().committed
    }

    /// Tells that an entry of this log is committed, and all before it. Remembered with the next turn, and never
    /// synced for itself; it lets segments be sealed.
    pub fn set_committed(&self, committed: LogId) {
        let mut memory = self.memory();
        if memory.committed.is_none_or(|known| known < committed) {
            memory.committed = Some(committed);
            let has_rolled = memory.line.oldest_rolled().is_some();
            drop(memory);
            if has_rolled {
                self.shared().sealing.notify_one();
            }
        }
    }

    /// Has the next append begin a new segment, so that what was written until now can be sealed; unless the newest
    /// segment takes less than `at_least` bytes.
    ///
    /// # Errors
    /// The [`Fault`] that ended the log.
    pub async fn roll(&self, at_least: u64) -> Result<(), Fault> {
        let waiting = self.ask(self.memory(), |done| Work::Roll { at_least, done });
        wait(Some(waiting)).await
    }

    /// Where the newest batches of a partition begin that take at least so many bytes together, at the end of a sealed
    /// segment; `None` when nothing sealed lies before them.
    ///
    /// # Errors
    /// A [`Fault`] of the disk, or one that names a damaged index.
    pub fn newest(&self, at: TopicPartition, bytes: u64) -> Result<Option<Offset>, Fault> {
        self.shared().newest(at, bytes)
    }

    /// Whether it holds all that was ever in it: nothing was given back to the disk, or left out by a snapshot.
    pub fn is_whole(&self) -> bool {
        let memory = self.memory();
        let is_rest = memory.line.sealed.values().any(|listed| listed.seal.is_rest);
        memory.line.lowest().is_none_or(|first| first == LogIndex(0)) && !is_rest
    }

    /// Tells that an entry of this log is applied, and all before it: nobody has to read it soon.
    pub fn set_applied(&self, applied: LogIndex) {
        let mut memory = self.memory();
        memory.next_applied = Some(after(applied));
        memory.trim();
    }

    /// Declares that what was lost is made good.
    ///
    /// # Errors
    /// The [`Fault`] that ended the log.
    pub async fn clear_amnesia(&self) -> Result<(), Fault> {
        self.promise(|promises| promises.amnesia = None).await
    }

    /// Entries of `range` in order, as many as fit `max_bytes`, at least one if there is any. Where the log has a hole
    /// they go on behind it; where it ends, with what is foreseen.
    ///
    /// # Errors
    /// A [`Fault`] of the disk, or one that names a damaged chunk.
    pub fn entries(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, Fault> {
        self.shared().entries(range, max_bytes)
    }

    /// The lowest entry in `from..upto`, foreseen ones included, that holds a batch of one of these partitions (batches
    /// that wait to be shipped elsewhere do not count).
    ///
    /// # Errors
    /// A [`Fault`] of the disk, or one that names a damaged chunk or index.
    pub fn next_with(
        &self,
        from: LogIndex,
        upto: LogIndex,
        at: &[TopicPartition],
    ) -> Result<Option<LogIndex>, Fault> {
        self.shared().next_with(from, upto, at)
    }

    /// The batches of a partition in entries below `upto`, from the one that holds `from` (or the next behind it) on,
    /// as many as fit `max_bytes`, at least one if there is any.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn batches(
        &self,
        at: TopicPartition,
        from: Offset,
        upto: LogIndex,
        max_bytes: usize,
    ) -> Result<Vec<(LogIndex, PlacedBatch)>, ReadError> {
        Ok(self.shared().batches(at, from, upto, max_bytes)?)
    }

    /// The entry that holds an offset of a partition, or the next one that holds a later one.
    ///
    /// # Errors
    /// A [`Fault`] of the disk, or one that names a damaged chunk or index.
    pub fn index_of(&self, at: TopicPartition, offset: Offset) -> Result<Option<LogIndex>, Fault> {
        self.shared().index_of(at, offset)
    }

    /// The entries below `upto` that may hold records which descend from one, in order: all that do (of partitions of
    /// this group, as far as they are not given back), and few that do not. No more than `most` of them are looked for;
    /// which ones that are, if there are more, is not said.
    ///
    /// # Errors
    /// A [`Fault`] of the disk, or one that names a damaged index.
    pub fn descendants(&self, of: Position, upto: LogIndex, most: usize) -> Result<Vec<LogIndex>, Fault> {
        self.shared().descendants(of, upto, most)
    }

    /// The first batch of a partition in entries below `upto` whose latest timestamp is not below `timestamp_ms`
    /// (milliseconds since 1970).
    ///
    /// # Errors
    /// A [`Fault`] of the disk, or one that names a damaged chunk or index.
    pub fn batch_for_time(
        &self,
        at: TopicPartition,
        timestamp_ms: i64,
        upto: LogIndex,
    ) -> Result<Option<(LogIndex, PlacedBatch)>, Fault> {
        self.shared().batch_for_time(at, timestamp_ms, upto)
    }

    /// Takes over entries that lie below a snapshot, as record segments beside the log. Ranges arrive in order and
    /// without gaps; the first decides where they begin. They are durable when this returns, a restart keeps them, and
    /// [`GroupLog::installing`] says where to go on. [`GroupLog::purge`] or [`GroupLog::reset_to`] puts them in the
    /// log's place, once the tables of the snapshot are durable: a log may be behind its tables, never before them.
    ///
    /// # Errors
    /// The [`Fault`] that ended the log.
    ///
    /// # Panics
    /// When a range does not follow the one before.
    pub async fn install_range(&self, entries: Vec<LogEntry>) -> Result<(), Fault> {
        let Some(first) = entries.first() else { return Ok(()) };
        let waiting = {
            let memory = self.memory();
            let expected = memory.incoming.as_ref().and_then(|line| line.last);
            assert!(
                expected.is_none_or(|last| after(last.index) == first.id.index),
                "ranges follow one another"
            );
            self.ask(memory, |done| Work::Install { entries, done })
        };
        wait(Some(waiting)).await
    }

    /// What an install that is not finished has: its first entry and its last.
    pub fn installing(&self) -> Option<(LogIndex, LogId)> {
        let memory = self.memory();
        let line = memory.incoming.as_ref()?;
        Some((line.lowest()?, line.last?))
    }

    /// Drops what [`GroupLog::install_range`] has gathered.
    ///
    /// # Errors
    /// The [`Fault`] that ended the log.
    pub async fn discard_install(&self) -> Result<(), Fault> {
        let waiting = self.ask(self.memory(), |done| Work::Discard { done });
        wait(Some(waiting)).await
    }

    /// Puts a snapshot that reaches to `upto` in the log's place: what was installed, if anything was, is the log now,
    /// and the rest of the old log is removed. The next entry to be appended is the one behind the last. Appends may
    /// be asked for as soon as this was polled.
    ///
    /// # Errors
    /// The [`Fault`] that ended the log. [`Fault::Raft`] when what was installed does not reach `upto`.
    pub async fn reset_to(&self, upto: LogId) -> Result<(), Fault> {
        let waiting = {
            let mut memory = self.memory();
            let number = memory.line.number + 1;
            let incoming = memory.incoming.take();
            if incoming.as_ref().is_some_and(|line| line.last.is_none_or(|last| last < upto)) {
                let reached = incoming.as_ref().and_then(|line| line.last);
                memory.incoming = incoming;
                return Err(Fault::Raft(format!(
                    "a snapshot reaches to {upto:?}, and its records to {reached:?}"
                )));
            }
            let mut line = incoming.unwrap_or_else(|| memory.line.next_line(upto));
            // What a restart read of an install is not the newest of it.
            line.tail = line.tail.emptied();
            let old = Box::new(std::mem::replace(&mut memory.line, line));
            memory.next_durable = memory.line.next();
            memory.unsynced_bytes = 0;
            memory.cuts.clear();
            memory.committed = memory.committed.max(Some(upto));
            self.shared().chunks.clear();
            // What was queued for the old log need not be done any more, but must not be called durable before this.
            let (dropped, kept): (Vec<Work>, Vec<Work>) = std::mem::take(&mut memory.queue)
                .into_iter()
                .partition(|work| matches!(work, Work::Append { .. } | Work::Truncate { .. }));
            memory.queue = kept.into();
            let mut replies: Vec<Reply> = dropped.into_iter().flat_map(Work::into_replies).collect();
            self.ask(memory, |done| {
                replies.push(done);
                Work::Replace { upto, number, old, done: replies }
            })
        };
        self.shared().room.notify_waiters();
        wait(Some(waiting)).await
    }

    /// Finishes what is queued and closes the files, so that they open fast. Everything later is refused, and so is
    /// reading what is not in memory.
    ///
    /// # Errors
    /// The [`Fault`] that ended the log, or that closing met.
    pub async fn close(&self) -> Result<(), Fault> {
        let mut closed = self.shared().closed.subscribe();
        self.memory().is_closing = true;
        self.shared().work.notify_one();
        let result = closed.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
        result.unwrap_or_else(|| Err(gone()))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.handle.shared.memory()
    }

    async fn promise(
        &self,
        change: impl FnOnce(&mut promises::Promises) + Send + 'static,
    ) -> Result<(), Fault> {
        let work = |done| Work::Promise { change: Box::new(change), done };
        let waiting = self.ask(self.memory(), work);
        wait(Some(waiting)).await
    }

    /// Queues work; what is returned tells how it went.
    fn ask(
        &self,
        memory: MutexGuard<'_, Memory>,
        work: impl FnOnce(Reply) -> Work,
    ) -> oneshot::Receiver<Result<(), Fault>> {
        let (tell, told) = oneshot::channel();
        // Whoever asked may have gone away; then nobody needs to know.
        let reply: Reply = Box::new(move |result| drop(tell.send(result)));
        self.shared().queue(memory, work(reply));
        told
    }
}

async fn wait(waiting: Option<oneshot::Receiver<Result<(), Fault>>>) -> Result<(), Fault> {
    match waiting {
        Some(waiting) => waiting.await.unwrap_or_else(|_| Err(gone())),
        None => Ok(()),
    }
}

fn gone() -> Fault {
    Fault::disk("the log", "its writer has ended")
}
