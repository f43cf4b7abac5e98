//! Reading the log: for Raft by index, and for those who read records by partition, offset and time.
//!
//! Whoever reads records may see only what is applied: they say up to where. What is not sealed is found by the
//! index in memory; what is, by the directory and the spans inside the segment. A sealing that happens in between
//! moves what we look for from the one to the other, and always shows it in at least one of them: it is listed before
//! it leaves memory. Every chunk that comes from disk was verified.

use std::ops::Range;
use std::sync::Arc;

use tidemill_core::entry::{Entry, PlacedBatch};
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_protocol::ids::{Offset, TopicPartition};

use super::chunk::{self, Chunk};
use super::entry::{LogEntry, Payload};
use super::index::{self, Placed};
use super::line::{Place, after};
use super::segment;
use super::shared::Shared;
use super::spans::{Span, Spans};
use crate::database::Problem;

/// Batches found, and how many more bytes are wanted.
struct Gathering {
    at: TopicPartition,
    next: Offset,
    upto: LogIndex,
    bytes_left: usize,
    found: Vec<(LogIndex, PlacedBatch)>,
    is_full: bool,
}

impl Gathering {
    /// Takes from one entry what is wanted of it.
    fn take(&mut self, index: LogIndex, entry: &Entry) -> Result<(), Fault> {
        self.is_full |= index >= self.upto;
        for placed in entry.resident().filter(|placed| placed.at == self.at) {
            let (_, end, _) = index::extent(&placed.batch)?;
            if self.is_full || end <= self.next {
                continue;
            }
            let bytes = placed.batch.len();
            if bytes > self.bytes_left && !self.found.is_empty() {
                self.is_full = true;
                return Ok(());
            }
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
            self.next = end;
            self.found.push((index, placed.clone()));
        }
        Ok(())
    }

    fn take_logged(&mut self, entry: &LogEntry) -> Result<(), Fault> {
        match &entry.payload {
            Payload::Entry(inner) => self.take(entry.id.index, inner),
            Payload::Blank | Payload::Membership(_) => Ok(()),
        }
    }
}

/// What came of looking into the tail.
enum Gathered {
    /// What was wanted first was sealed since it was looked for, or cut off: look again.
    Moved,
    /// The tail does not hold this entry any more.
    Upto(LogIndex),
    /// There is no more.
    All,
}

/// Where the batch lies that holds an offset, or the next one.
enum Lies {
    /// In a chunk of a sealed segment, by its first index.
    Sealed(LogIndex),
    /// In an entry that is not sealed.
    Unsealed(Placed),
    /// Nowhere.
    Nowhere,
}

impl Shared {
    /// See `GroupLog::entries`.
    pub(super) fn entries(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, Fault> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut next = range.start;
        let mut push = |entry: &LogEntry| {
            bytes += chunk::bytes_of(entry);
            let fits = bytes <= max_bytes || found.is_empty();
            if fits {
                found.push(entry.clone());
            }
            fits
        };
        while next < range.end {
            let tail_first = {
                let memory = self.memory();
                let Some(last) = memory.line.last.filter(|last| next <= last.index.0) else {
                    memory
                        .line
                        .foreseen
                        .from(next)
                        .take_while(|entry| entry.id.index.0 < range.end)
                        .all(&mut push);
                    break;
                };
                let tail_first = memory.line.tail.first().map_or(last.index.0 + 1, |first| first.0);
                if next >= tail_first {
                    let foreseen = memory.line.foreseen.from(next);
                    let mut wanted = memory.line.tail.within(next..range.end).chain(foreseen);
                    wanted.by_ref().take_while(|entry| entry.id.index.0 < range.end).all(&mut push);
                    break;
                }
                tail_first
            };
            let Some(chunk) = self.chunk_at(LogIndex(next))? else { break };
            // What lies on disk above the tail's first entry may be about to be cut off.
            let end = range.end.min(tail_first);
            let wanted = chunk.entries.iter().filter(|entry| (next..end).contains(&entry.id.index.0));
            if !wanted.clone().all(&mut push) {
                break;
            }
            // Nothing wanted lies in the next chunk when there is a hole up to the tail.
            next = wanted.last().map_or(end, |last| last.id.index.0 + 1);
        }
        Ok(found)
    }

    /// The chunk that holds entry `index` or, where the log has a hole, the next behind it.
    fn chunk_at(&self, index: LogIndex) -> Result<Option<Arc<Chunk>>, Fault> {
        loop {
            let epoch = match self.chunks.get(index) {
                Ok(chunk) => return Ok(Some(chunk)),
                Err(epoch) => epoch,
            };
            let place = {
                let memory = self.memory();
                if let Some(fault) = memory.refusal() {
                    return Err(fault);
                }
                memory.line.place_of(index)
            };
            let Some((index, place)) = place else { return Ok(None) };
            let chunk = match &place {
                Place::Sealed(number) => {
                    // Nothing of it is given back while it is read.
                    let gone = self.gone.read();
                    let read = self.sealed.get(*number);
                    let read = read.and_then(|file| segment::chunk_with(&file, index, gone.get(number)));
                    read.inspect_err(|_| self.sealed.forget(*number))
                }
                Place::Open(segment) => segment.chunk_with(index),
            };
            let chunk = match (chunk, &place) {
                (Ok(Some(chunk)), _) => Arc::new(chunk),
                (Err(_), Place::Sealed(number)) if !self.is_sealed(*number)? => continue,
                // It was sealed meanwhile, or the log was cut: the place has changed, or nothing is there any more.
                (_, Place::Open(segment)) if segment.file.is_closed() => continue,
                (Ok(None), _) if self.was_cut(index) => return Ok(None),
                (Ok(None), _) => {
                    return Err(Fault::damaged(
                        "the log",
                        format!("entry {} is nowhere to be found", index.0),
                    ));
                }
                (Err(fault), _) => return Err(fault),
            };
            self.chunks.put(&chunk, epoch);
            return Ok(Some(chunk));
        }
    }

    /// Whether this is one of the log's sealed segments, and was not given back meanwhile.
    ///
    /// # Errors
    /// The [`Fault`] that ended the log.
    pub(super) fn is_sealed(&self, number: u64) -> Result<bool, Fault> {
        let memory = self.memory();
        match memory.refusal() {
            Some(fault) => Err(fault),
            None => Ok(memory.line.sealed.values().any(|listed| listed.number == number)),
        }
    }

    /// Looks at the spans of a partition in a sealed segment; `None` when that was given back since the directory was
    /// asked, which is to be asked again then.
    fn sealed_spans<T>(
        &self,
        segment: &Span,
        at: TopicPartition,
        look: impl FnOnce(&Spans<'_>) -> Result<T, Problem>,
    ) -> Result<Option<T>, Fault> {
        let gone = self.gone.read();
        match self.sealed.spans(segment, at, gone.get(&segment.place), look) {
            Ok(found) => Ok(Some(found)),
            Err(_) if !self.is_sealed(segment.place)? => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    fn was_cut(&self, index: LogIndex) -> bool {
        let memory = self.memory();
        memory.line.last.is_none_or(|last| index > last.index) || !memory.cuts.is_empty()
    }

    /// See `GroupLog::batches`.
    pub(super) fn batches(
        &self,
        at: TopicPartition,
        from: Offset,
        upto: LogIndex,
        max_bytes: usize,
    ) -> Result<Vec<(LogIndex, PlacedBatch)>, Fault> {
        let mut gathering =
            Gathering { at, next: from, upto, bytes_left: max_bytes, found: Vec::new(), is_full: false };
        let mut in_vain = None;
        while !gathering.is_full {
            let before = gathering.next;
            let chunk = match self.lies(at, gathering.next)? {
                Lies::Nowhere => break,
                Lies::Sealed(chunk) => chunk,
                Lies::Unsealed(placed) => match self.gather_from_tail(&mut gathering, placed)? {
                    Gathered::Moved => continue,
                    Gathered::Upto(index) => index,
                    Gathered::All => break,
                },
            };
            if chunk >= upto {
                break;
            }
            let Some(chunk) = self.chunk_at(chunk)? else { break };
            for entry in &chunk.entries {
                gathering.take_logged(entry)?;
            }
            // It may have been given back since we were led there; then we are led on.
            if gathering.next == before && !gathering.is_full && in_vain.replace(before) == Some(before) {
                return Err(missing(at, before));
            }
        }
        Ok(gathering.found)
    }

    /// Gathers what the tail holds, from `first` on, which was the first wanted when it was looked for.
    fn gather_from_tail(&self, gathering: &mut Gathering, first: Placed) -> Result<Gathered, Fault> {
        let memory = self.memory();
        let line = &memory.line;
        if line.index.behind(gathering.at, gathering.next).next() != Some(first) {
            return Ok(Gathered::Moved);
        }
        for placed in line.index.behind(gathering.at, gathering.next) {
            if placed.index >= gathering.upto || gathering.is_full {
                break;
            }
            match line.tail.get(placed.index) {
                Some(entry) if placed.end > gathering.next => gathering.take_logged(entry)?,
                Some(_) => {}
                None => return Ok(Gathered::Upto(placed.index)),
            }
        }
        Ok(Gathered::All)
    }

    /// See `GroupLog::index_of`.
    pub(super) fn index_of(&self, at: TopicPartition, offset: Offset) -> Result<Option<LogIndex>, Fault> {
        let holds = |placed: &PlacedBatch| Ok(index::extent(&placed.batch)?.1 > offset);
        let mut in_vain = None;
        loop {
            let chunk = match self.lies(at, offset)? {
                Lies::Nowhere => return Ok(None),
                Lies::Unsealed(placed) => return Ok(Some(placed.index)),
                Lies::Sealed(chunk) => chunk,
            };
            if let Some((index, _)) = self.first_in_chunk(chunk, at, holds)? {
                return Ok(Some(index));
            }
            if in_vain.replace(chunk) == Some(chunk) {
                return Err(missing(at, offset));
            }
        }
    }

    /// See `GroupLog::next_with`.
    pub(super) fn next_with(
        &self,
        from: LogIndex,
        upto: LogIndex,
        at: &[TopicPartition],
    ) -> Result<Option<LogIndex>, Fault> {
        let (in_memory, line, looks_in_sealed) = {
            let memory = self.memory();
            let in_memory = at.iter().filter_map(|at| memory.line.index.next_with(*at, from)).min();
            let in_memory = in_memory.or_else(|| memory.line.foreseen.next_with(from, at));
            let sealed = memory.line.sealed.last_key_value().map(|(_, listed)| listed.seal.last.index);
            (in_memory, memory.line.number, sealed.is_some_and(|last| from <= last))
        };
        let mut lowest = in_memory;
        if looks_in_sealed {
            for at in at {
                let sealed = self.next_sealed_with(line, *at, from)?;
                lowest = [lowest, sealed].into_iter().flatten().min();
            }
        }
        Ok(lowest.filter(|index| *index < upto))
    }

    fn next_sealed_with(
        &self,
        line: u32,
        at: TopicPartition,
        from: LogIndex,
    ) -> Result<Option<LogIndex>, Fault> {
        let (mut from, mut in_vain) = (from, None);
        loop {
            let reaches = |span: &Span| span.last >= from;
            let Some(segment) = self.directory_spans(line, at, |spans| spans.first_where(reaches))? else {
                return Ok(None);
            };
            if segment.is_gone() {
                from = after(segment.last);
                continue;
            }
            if segment.first >= from {
                return Ok(Some(segment.first));
            }
            let chunk = self.sealed_spans(&segment, at, |spans| spans.first_where(reaches))?;
            let Some(chunk) = chunk else { continue };
            let chunk = chunk.ok_or_else(|| missing(at, segment.base))?;
            if chunk.is_gone() {
                from = after(chunk.last);
                continue;
            }
            if chunk.first >= from {
                return Ok(Some(chunk.first));
            }
            let holds = |entry: &&LogEntry| match &entry.payload {
                Payload::Entry(inner) => {
                    entry.id.index >= from && inner.resident().any(|placed| placed.at == at)
                }
                Payload::Blank | Payload::Membership(_) => false,
            };
            let read = self.chunk_at(LogIndex(chunk.place))?;
            if let Some(entry) = read.as_ref().and_then(|read| read.entries.iter().find(holds)) {
                return Ok(Some(entry.id.index));
            }
            // It may have been given back since we were led there; then we are led on.
            if in_vain.replace(chunk.place) == Some(chunk.place) {
                return Err(missing(at, chunk.base));
            }
        }
    }

    /// See `GroupLog::batch_for_time`.
    pub(super) fn batch_for_time(
        &self,
        at: TopicPartition,
        timestamp_ms: i64,
        upto: LogIndex,
    ) -> Result<Option<(LogIndex, PlacedBatch)>, Fault> {
        // Memory first: what is sealed after this look is listed before that one.
        let (unsealed, line) = {
            let memory = self.memory();
            (memory.line.index.at_time(at, timestamp_ms), memory.line.number)
        };
        let is_late = |placed: &PlacedBatch| Ok(index::extent(&placed.batch)?.2 >= timestamp_ms);
        let (mut from, mut in_vain) = (LogIndex(0), None);
        let sealed = loop {
            let reaches =
                |span: &Span| !span.is_gone() && span.last >= from && span.max_timestamp_ms >= timestamp_ms;
            let Some(segment) = self.directory_spans(line, at, |spans| spans.first_matching(reaches))? else {
                break None;
            };
            let chunk = self.sealed_spans(&segment, at, |spans| spans.first_where(reaches))?;
            let Some(chunk) = chunk else { continue };
            let chunk = chunk.ok_or_else(|| missing(at, segment.base))?;
            if let Some(found) = self.first_in_chunk(LogIndex(chunk.place), at, is_late)? {
                break Some(found);
            }
            // It may have been given back since we were led there; then we are led on. If we are not, the time was that
            // of an earlier batch, which is gone: this span counts it still.
            if in_vain.replace(chunk.place) == Some(chunk.place) {
                from = after(chunk.last);
            }
        };
        let found = match sealed {
            Some(found) => Some(found),
            None => {
                let Some(placed) = unsealed.filter(|placed| placed.index < upto) else { return Ok(None) };
                self.batches(at, placed.base, upto, 0)?.into_iter().next()
            }
        };
        Ok(found.filter(|(index, _)| *index < upto))
    }

    /// The first batch of `at` in a chunk for which `is_it` holds.
    fn first_in_chunk(
        &self,
        chunk: LogIndex,
        at: TopicPartition,
        is_it: impl Fn(&PlacedBatch) -> Result<bool, Fault>,
    ) -> Result<Option<(LogIndex, PlacedBatch)>, Fault> {
        let Some(chunk) = self.chunk_at(chunk)? else { return Ok(None) };
        for entry in &chunk.entries {
            let Payload::Entry(inner) = &entry.payload else { continue };
            for placed in inner.resident().filter(|placed| placed.at == at) {
                if is_it(placed)? {
                    return Ok(Some((entry.id.index, placed.clone())));
                }
            }
        }
        Ok(None)
    }

    /// See `GroupLog::newest`.
    pub(super) fn newest(&self, at: TopicPartition, bytes: u64) -> Result<Option<Offset>, Fault> {
        // Memory first, and where it begins: what is sealed after this look is listed, and counted here.
        let (held, from, line) = {
            let memory = self.memory();
            let index = &memory.line.index;
            (index.bytes(at), index.first(at).map(|first| first.base), memory.line.number)
        };
        self.directory_spans(line, at, |spans| spans.newest(bytes, held, from))
    }

    /// Where the batch lies that holds `offset`, or the next one.
    fn lies(&self, at: TopicPartition, offset: Offset) -> Result<Lies, Fault> {
        let mut offset = offset;
        let mut gap_seen = None;
        loop {
            let (first, line) = {
                let memory = self.memory();
                let first = memory.line.index.first(at);
                if first.is_some_and(|first| offset >= first.base) || memory.line.sealed.is_empty() {
                    let placed = memory.line.index.behind(at, offset).next();
                    return Ok(placed.map_or(Lies::Nowhere, Lies::Unsealed));
                }
                (first, memory.line.number)
            };
            let holding = self.directory_spans(line, at, |spans| spans.holding(offset))?;
            if let Some(segment) = holding {
                if segment.is_gone() {
                    offset = segment.end;
                    continue;
                }
                let chunk = self.sealed_spans(&segment, at, |spans| spans.holding(offset))?;
                let Some(chunk) = chunk else { continue };
                let chunk = chunk.ok_or_else(|| missing(at, offset))?;
                if chunk.is_gone() {
                    offset = chunk.end;
                    continue;
                }
                return Ok(Lies::Sealed(LogIndex(chunk.place)));
            }
            // Nothing sealed holds it, so it is the first batch that is not sealed. That begins where the sealed
            // part ends; if it does not, more was sealed while we looked, or the directory lacks something.
            let Some(first) = first else { return Ok(Lies::Nowhere) };
            let last = self.directory_spans(line, at, |spans| spans.at_or_before(Offset(u64::MAX)))?;
            match last {
                Some(last) if last.end != first.base && !self.has_hole(last.last, first.index) => {
                    if gap_seen == Some((last.end, first.base)) {
                        return Err(missing(at, offset));
                    }
                    gap_seen = Some((last.end, first.base));
                }
                _ => return Ok(Lies::Unsealed(first)),
            }
        }
    }

    fn has_hole(&self, before: LogIndex, after: LogIndex) -> bool {
        self.memory().promises.has_hole(before, after)
    }

    fn directory_spans<T>(
        &self,
        line: u32,
        at: TopicPartition,
        look: impl FnOnce(&Spans<'_>) -> Result<T, Problem>,
    ) -> Result<T, Fault> {
        self.directory.spans(line, at, &|before, after| self.has_hole(before, after), look)
    }
}

fn missing(at: TopicPartition, offset: Offset) -> Fault {
    let what = format!("topic {}, partition {}", at.topic, at.partition.0);
    Fault::damaged(what, format!("the log should hold offset {}, and does not", offset.0))
}
