//! Giving back the disk of records that nobody may read any more.
//!
//! ```text
//!   segment 3          segment 4             segment 5                    segment 6
//!   all dead, first    dead in its own pages  dead among what is alive     newest
//!   ─▶ unlinked        ─▶ punched            ─▶ rewritten as 17, if half  ─▶ left
//! ```
//!
//! A batch is dead below the log start of its partition, with all of the partition that was written in the same turn, and a
//! batch for another shard once it arrived there. What lies apart (`apart.rs`) is given back where it lies (`punch.rs`),
//! and nothing is written for it. What does not, small batches among others or on a file system without holes, goes when
//! most of its segment is dead: that is written anew without it, under a new number, with the same entries, turns and
//! seal, so that neither Raft's order nor the log's end ever depends on what was given back. Entries keep their place
//! and what they say beside their batches; those of a segment that is the log's first, and all dead, go with it. That
//! at least half of a segment must be dead bounds what is written: at most as much as is freed.
//!
//! The new file is made out of sight, by whoever asks; the writer names it, has the directory list it instead of the
//! old one, and unlinks that. A power cut in between leaves both, of which a start takes the newer (`recovery.rs`): both
//! hold all that anybody may read.

use std::collections::BTreeMap;
use std::path::Path;

use tidemill_core::entry::{Entry, PlacedBatch};
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;
use tidemill_core::seams::OpenMode;
use tidemill_protocol::ids::{Offset, TopicPartition};

use super::descents;
use super::directory::{Held, Listed};
use super::entry::{EncodedEntry, LogEntry, Payload};
use super::gone::Gone;
use super::index::Index;
use super::line::after;
use super::punch::Punch;
use super::sealed;
use super::segment::{self, Birth, Seal, Segment};
use super::shared::Shared;
use super::spans::Span;
use super::work::Work;
use super::{GroupLog, wait};
use crate::database::{self, DatabaseFile};

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Segments that are no more.
    pub unlinked: u64,
    /// Segments that were written anew.
    pub rewritten: u64,
    /// Segments of which parts were given back where they lie.
    pub punched: u64,
    /// Bytes of files, and of parts of them, that are gone.
    pub freed_bytes: u64,
    /// Bytes of files that were written.
    pub written_bytes: u64,
}

/// A segment that is to go, and the one that was made to take its place.
pub(super) struct Exchange {
    pub(super) old: Box<Held>,
    pub(super) new: Option<Box<Held>>,
    freed_bytes: u64,
    written_bytes: u64,
}

/// What is to be done about a segment.
pub(super) enum Action {
    Exchange(Exchange),
    Punch(Box<Punch>),
}

impl Reclaimed {
    pub(super) fn count(&mut self, exchange: &Exchange) {
        self.unlinked += u64::from(exchange.new.is_none());
        self.rewritten += u64::from(exchange.new.is_some());
        self.freed_bytes += exchange.freed_bytes;
        self.written_bytes += exchange.written_bytes;
    }
}

/// What is to stay of a segment.
pub(super) struct Plan {
    /// Per partition that stays, the first entry of which batches are kept; beyond all when none is.
    kept_from: BTreeMap<TopicPartition, LogIndex>,
    /// Per partition of which any is kept, the chunk in which that begins.
    kept_chunks: BTreeMap<TopicPartition, LogIndex>,
    /// What is dead, and not gone yet.
    pub(super) fresh: Vec<(TopicPartition, Span)>,
    /// What batches take, and what those that are dead do.
    bytes: u64,
    dead: u64,
}

impl Plan {
    /// Of these rows; `left` bytes of the segment are gone, and yet there.
    fn of(
        rows: &[(TopicPartition, Span)],
        left: u64,
        log_start: &dyn Fn(TopicPartition) -> Result<Option<Offset>, Fault>,
    ) -> Result<Plan, Fault> {
        let (kept_from, kept_chunks) = (BTreeMap::new(), BTreeMap::new());
        let mut plan = Plan { kept_from, kept_chunks, fresh: Vec::new(), bytes: left, dead: left };
        let mut starts = BTreeMap::new();
        for (at, span) in rows.iter().filter(|(_, span)| !span.is_gone()) {
            let start = match starts.get(at) {
                Some(start) => *start,
                None => *starts.entry(*at).or_insert(log_start(*at)?),
            };
            plan.bytes += span.bytes;
            let is_dead = start.is_none_or(|start| span.end <= start);
            if is_dead {
                plan.dead += span.bytes;
                plan.fresh.push((*at, *span));
            } else {
                plan.kept_chunks.entry(*at).or_insert(LogIndex(span.place));
            }
            if start.is_some() {
                let kept_from = plan.kept_from.entry(*at).or_insert(LogIndex(u64::MAX));
                *kept_from = if is_dead { *kept_from } else { (*kept_from).min(span.first) };
            }
        }
        Ok(plan)
    }

    /// What batches take that are dead, and not gone yet.
    pub(super) fn fresh_bytes(&self) -> u64 {
        self.fresh.iter().map(|(_, span)| span.bytes).sum()
    }

    /// For each partition of which anything is dead, the entry below which all of it is.
    pub(super) fn below(&self, listed: &Listed) -> BTreeMap<TopicPartition, LogIndex> {
        let below = |at| self.kept_chunks.get(at).copied().unwrap_or(after(listed.seal.last.index));
        self.fresh.iter().map(|(at, _)| (*at, below(at))).collect()
    }

    fn is_worth_it(&self) -> bool {
        self.dead > 0 && self.dead * 2 >= self.bytes
    }

    fn keeps(&self, index: LogIndex, placed: &PlacedBatch) -> bool {
        placed.away.is_none() && self.kept_from.get(&placed.at).is_some_and(|from| index >= *from)
    }

    /// An entry without what is dead in it.
    fn rest_of(&self, logged: LogEntry) -> LogEntry {
        let LogEntry { id, payload: Payload::Entry(entry) } = &logged else { return logged };
        if entry.batches.iter().all(|placed| self.keeps(id.index, placed)) {
            return logged;
        }
        let kept = entry.batches.iter().filter(|placed| self.keeps(id.index, placed)).cloned().collect();
        let rest = Entry {
            kind: entry.kind,
            append_time: entry.append_time,
            meta: entry.meta.clone(),
            batches: kept,
        };
        LogEntry { id: *id, payload: Payload::Entry(EncodedEntry::new(rest)) }
    }
}

/// What batches take that the directory lists, and about how much of that lies below log starts.
fn bytes_and_dead(
    held: &[(TopicPartition, Span)],
    log_start: &dyn Fn(TopicPartition) -> Result<Option<Offset>, Fault>,
) -> Result<(u64, u64), Fault> {
    let (mut bytes, mut dead) = (0, 0);
    for (at, span) in held {
        bytes += span.bytes;
        dead += log_start(*at)?.map_or(span.bytes, |start| span.bytes_below(start));
    }
    Ok((bytes, dead))
}

impl GroupLog {
    /// As [`GroupLog::roll`], if something is dead that is not sealed: lies below the log start of its partition
    /// (`None`: there is no such partition any more). A segment that ended for anything else would only be small.
    ///
    /// # Errors
    /// A [`Fault`] that ended the log, or of `log_start`.
    pub async fn roll_dead(
        &self,
        at_least: u64,
        log_start: impl Fn(TopicPartition) -> Result<Option<Offset>, Fault> + Send + Sync,
    ) -> Result<(), Fault> {
        let ends = self.memory().line.index.first_ends();
        let mut is_any_dead = false;
        for (at, end) in ends {
            is_any_dead |= log_start(at)?.is_none_or(|start| end <= start);
        }
        if is_any_dead { self.roll(at_least).await } else { Ok(()) }
    }

    /// Whether [`GroupLog::reclaim`] might find anything, if all of the log were purged.
    ///
    /// # Errors
    /// A [`Fault`] of the disk, or of `log_start`.
    pub fn may_reclaim(
        &self,
        below: LogIndex,
        log_start: impl Fn(TopicPartition) -> Result<Option<Offset>, Fault>,
    ) -> Result<bool, Fault> {
        Ok(!self.shared().reclaimable(below, &log_start)?.is_empty())
    }

    /// Gives back the disk of what nobody wants any more below entry `below`: of batches that lie below the log start of
    /// their partition (`None`: there is no such partition any more), and of those that were to be shipped elsewhere. Only
    /// what is sealed and below the purge mark is looked at, segment by segment: see `reclaim.rs`. Reads and writes on the
    /// thread that polls it.
    ///
    /// # Errors
    /// A [`Fault`] of the disk, or of `log_start`. The log goes on, unless it was the log's own.
    pub async fn reclaim(
        &self,
        below: LogIndex,
        log_start: impl Fn(TopicPartition) -> Result<Option<Offset>, Fault> + Send + Sync,
    ) -> Result<Reclaimed, Fault> {
        let _alone = self.shared().reclaiming.lock().await;
        let below = self.purged().map_or(LogIndex(0), |purged| below.min(after(purged.index)));
        let (mut reclaimed, mut failed) = (Reclaimed::default(), Ok(()));
        for listed in self.shared().reclaimable(below, &log_start)? {
            match self.shared().prepare(&listed, &log_start)? {
                None => {}
                Some(Action::Exchange(exchange)) => {
                    reclaimed.count(&exchange);
                    let work = |done| Work::Exchange { old: exchange.old, new: exchange.new, done };
                    wait(Some(self.ask(self.memory(), work))).await?;
                    self.shared().forget_gone(&[listed.number])?;
                }
                // Those behind it may give room without a byte being written.
                Some(Action::Punch(punch)) => failed = failed.and(self.punch(*punch, &mut reclaimed).await),
            }
        }
        failed.map(|()| reclaimed)
    }
}

impl Shared {
    /// The segments below an entry that may be worth looking at, oldest first.
    pub(super) fn reclaimable(
        &self,
        below: LogIndex,
        log_start: &dyn Fn(TopicPartition) -> Result<Option<Offset>, Fault>,
    ) -> Result<Vec<Listed>, Fault> {
        let (line, segments) = {
            let memory = self.memory();
            let sealed = memory.line.sealed.values().filter(|listed| listed.seal.last.index < below);
            (memory.line.number, sealed.copied().collect::<Vec<_>>())
        };
        let held = self.directory.held(line)?;
        let punch_bytes = self.options.punch_bytes;
        let (mut worth, mut bare, mut is_front) = (Vec::new(), Vec::new(), true);
        for listed in segments {
            let (bytes, dead) = match held.get(&listed.number) {
                Some(held) => bytes_and_dead(held, log_start)?,
                // It never held a batch. It goes with the records behind it, not for itself.
                None if !listed.seal.is_rest => {
                    bare.push(listed);
                    continue;
                }
                None => (0, 0),
            };
            if bytes == dead {
                worth.append(&mut bare);
            }
            bare.clear();
            is_front &= bytes == dead;
            let left = self.gone.read().get(&listed.number).map_or(0, |gone| gone.left);
            let in_vain = self.in_vain.lock().get(&listed.number).copied().unwrap_or(0);
            // A little less than half: what lies below an offset is not known to the byte.
            let is_half = dead + left > 0 && (dead + left) * 9 / 4 >= bytes + left;
            // One that is empty goes with those before it, and only takes its own rows till then.
            worth.extend((is_front || is_half || dead >= in_vain + punch_bytes).then_some(listed));
        }
        Ok(worth)
    }

    /// Makes what is to take the place of a segment, or finds what can be given back where it lies; `None` when it is to
    /// stay as it is.
    pub(super) fn prepare(
        &self,
        listed: &Listed,
        log_start: &dyn Fn(TopicPartition) -> Result<Option<Offset>, Fault>,
    ) -> Result<Option<Action>, Fault> {
        let is_first = {
            let line = &self.memory().line;
            // Whoever recovers the log learns from what is left where it ended.
            let is_last = line.last_on_disk() == Some(listed.seal.last);
            line.lowest() == Some(listed.first) && !is_last
        };
        let old = self.sealed.get(listed.number)?;
        let gone = self.gone.read().get(&listed.number).cloned();
        let rows = sealed::rows(&old, gone.as_ref())?;
        let plan = Plan::of(&rows, gone.as_ref().map_or(0, |gone| gone.left), log_start)?;
        if is_first && plan.dead == plan.bytes {
            return Ok(Some(Action::Exchange(self.exchange(listed, &old, None)?)));
        }
        let punch =
            if plan.fresh_bytes() < self.options.punch_bytes { None } else { self.to_punch(listed, &plan)? };
        if let Some(punch) = punch.filter(|punch| punch.dead * 2 >= plan.dead || !plan.is_worth_it()) {
            self.in_vain.lock().remove(&listed.number);
            return Ok(Some(Action::Punch(Box::new(punch))));
        }
        if !plan.is_worth_it() {
            self.in_vain.lock().insert(listed.number, plan.fresh_bytes());
            return Ok(None);
        }
        let new = self.rewrite(listed, &old, (&rows, gone.as_ref()), &plan)?;
        Ok(Some(Action::Exchange(self.exchange(listed, &old, Some(Box::new(new)))?)))
    }

    fn exchange(
        &self,
        listed: &Listed,
        old: &DatabaseFile,
        new: Option<Box<Held>>,
    ) -> Result<Exchange, Fault> {
        let gone = self.gone.read().get(&listed.number).cloned();
        let held = sealed::held(old, *listed, gone.as_ref())?;
        let length = self.length(&segment::path(&self.folder, listed.number))?;
        let new_path =
            new.as_ref().map(|new| database::hidden(&segment::path(&self.folder, new.listed.number)));
        Ok(Exchange {
            old: Box::new(held),
            new,
            freed_bytes: length.saturating_sub(gone.map_or(0, |gone| gone.given_back)),
            written_bytes: new_path.map_or(Ok(0), |path| self.length(&path))?,
        })
    }

    fn length(&self, path: &Path) -> Result<u64, Fault> {
        let length = self.disk.open(path, OpenMode::Read).and_then(|file| file.len());
        length.map_err(|error| Fault::disk(format!("looking at {}", path.display()), error))
    }

    /// Writes a segment anew, out of sight.
    fn rewrite(
        &self,
        listed: &Listed,
        old: &DatabaseFile,
        (rows, gone): (&[(TopicPartition, Span)], Option<&Gone>),
        plan: &Plan,
    ) -> Result<Held, Fault> {
        let number = self.memory().number_segment();
        let birth = Birth { number, ..segment::read_birth(old)? };
        let written = Segment::make(&*self.disk, &self.folder, birth, 0)
            .and_then(|segment| write_rest(&segment, listed, old, (rows, gone), plan));
        written.inspect_err(|_| {
            // It is removed at the next start otherwise; what matters is the error.
            self.disk.remove(&database::hidden(&segment::path(&self.folder, number))).ok();
        })
    }
}

/// Copies what stays of `old`, and seals and closes what was written.
fn write_rest(
    segment: &Segment,
    listed: &Listed,
    old: &DatabaseFile,
    (rows, of_old): (&[(TopicPartition, Span)], Option<&Gone>),
    plan: &Plan,
) -> Result<Held, Fault> {
    let (mut index, mut firsts, mut chunks, mut bytes) = (Index::default(), Vec::new(), Vec::new(), 0);
    let mut next = listed.first;
    while next <= listed.seal.last.index {
        let Some(mut chunk) = segment::chunk_with(old, next, of_old)? else {
            let why = format!("entry {} is missing from it", next.0);
            return Err(Fault::damaged(old.path().display().to_string(), why));
        };
        bytes += chunk.bytes;
        chunk.entries = chunk.entries.into_iter().map(|entry| plan.rest_of(entry)).collect();
        for entry in &chunk.entries {
            index.add(entry)?;
            next = after(entry.id.index);
        }
        firsts.push(chunk.entries[0].id.index);
        chunks.push(chunk);
        if bytes >= limits::REWRITE_BYTES_MAX {
            segment.write_again(&std::mem::take(&mut chunks))?;
            bytes = 0;
        }
    }
    segment.write_again(&chunks)?;
    let mut spans = gone(rows, plan);
    spans.extend(index.spans(&firsts, listed.seal.last.index));
    // In the order of their keys.
    spans.sort_by_key(|(at, span)| (*at, span.base));
    let max_timestamp_ms = spans.iter().map(|(_, span)| span.max_timestamp_ms).max().unwrap_or(i64::MIN);
    let seal = Seal { max_timestamp_ms, is_rest: true, ..listed.seal };
    let descents = index.descents.upto(listed.seal.last.index).sorted();
    segment.seal(seal, &spans, &descents)?;
    segment.file.close()?;
    let number = segment.birth.number;
    let listed = Listed { number, seal, ..*listed };
    Ok(Held { listed, spans: sealed::summarize(&spans, number), reaches: descents::reaches(&descents) })
}

/// What stands for the batches that go, of partitions that stay; and for those that went earlier.
fn gone(rows: &[(TopicPartition, Span)], plan: &Plan) -> Vec<(TopicPartition, Span)> {
    let mut gone: Vec<(TopicPartition, Span, Span)> = Vec::new();
    for (at, span) in rows {
        let kept_from = plan.kept_from.get(at).copied();
        let goes = span.is_gone() || kept_from.is_some_and(|from| span.first < from);
        match gone.last_mut().filter(|(other, ..)| other == at) {
            _ if !goes => {}
            Some((_, _, last)) => *last = *span,
            None => gone.push((*at, *span, *span)),
        }
    }
    gone.into_iter().map(|(at, first, last)| (at, Span::gone(&first, &last))).collect()
}
