//! Where the fetcher and the consumer meet: how far each partition is, and what was fetched and not taken.
//!
//! Invariants:
//! 1. What is taken of a partition begins at its position, which only ever moves forward but for a seek.
//! 2. What was fetched for another generation than the partition's is never taken.
//! 3. `held_bytes` is what lies here; the fetcher asks for no more than there is room for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tidemill_protocol::batch::{BatchError, BatchHeader};
use tidemill_protocol::ids::{Offset, Partition};
use tokio::sync::Notify;

use super::{ConsumeError, Progress};
use crate::offsets::Place;
use crate::runtime::Instant;

/// How far each partition is, and what was fetched of it and not taken.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Tells the fetcher that something has changed.
    changed: Notify,
}

/// What the fetcher looks at.
#[derive(Default)]
pub(super) struct State {
    pub cursors: BTreeMap<Place, Cursor>,
    chunks: VecDeque<Chunk>,
    pub held_bytes: usize,
    errors: VecDeque<ConsumeError>,
    taker: Option<Waker>,
    generations: u64,
    /// Places whose answers are not worth waiting for.
    pub interrupted: Vec<Place>,
    pub is_closed: bool,
}

/// How far a partition is.
#[derive(Debug)]
pub(super) struct Cursor {
    pub generation: u64,
    /// The next offset to fetch.
    pub fetch: Offset,
    /// The next offset to be taken.
    position: Offset,
    pub high_watermark: Offset,
    /// Bytes of it that lie here.
    pub held_bytes: usize,
    pub is_halted: bool,
    /// Since when the broker knows nothing of it.
    pub unknown_since: Option<Instant>,
}

/// What came in one answer for one partition.
struct Chunk {
    place: Place,
    generation: u64,
    batches: Bytes,
    high_watermark: Offset,
    /// Behind it the partition goes on here: what lay between was not there any more.
    skips_to: Option<Offset>,
}

/// A batch that was taken.
pub(super) struct Taken {
    pub place: Place,
    /// The first offset that is wanted of it.
    pub from: Offset,
    pub header: BatchHeader,
    pub batch: Bytes,
    pub high_watermark: Offset,
}

impl State {
    fn drop_chunks(&mut self, is_meant: impl Fn(&Chunk) -> bool) {
        let mut dropped = 0;
        self.chunks.retain(|chunk| {
            let is_meant = is_meant(chunk);
            dropped += if is_meant { chunk.batches.len() } else { 0 };
            !is_meant
        });
        self.held_bytes -= dropped;
    }

    /// Stops reading a partition, and says why.
    pub fn halt(&mut self, place: &Place, error: ConsumeError) {
        if let Some(cursor) = self.cursors.get_mut(place) {
            cursor.is_halted = true;
            self.errors.push_back(error);
            self.wake();
        }
    }

    /// Puts down what came for a partition: some batches, the last perhaps cut short. Says whether a whole one was
    /// among them.
    pub fn put(&mut self, place: &Place, batches: Bytes, high_watermark: Offset) -> Result<bool, BatchError> {
        let Some(cursor) = self.cursors.get_mut(place) else { return Ok(true) };
        cursor.high_watermark = cursor.high_watermark.max(high_watermark);
        cursor.unknown_since = None;
        let mut whole = 0;
        while whole < batches.len() {
            match BatchHeader::parse(&batches[whole..]) {
                Ok(header) => {
                    whole += header.batch_bytes as usize;
                    let next = header.base_offset.plus(u64::from(header.last_offset_delta) + 1);
                    cursor.fetch = cursor.fetch.max(next);
                }
                Err(BatchError::Short { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        if whole > 0 {
            let chunk = Chunk {
                place: place.clone(),
                generation: cursor.generation,
                batches: batches.slice(..whole),
                high_watermark,
                skips_to: None,
            };
            cursor.held_bytes += whole;
            self.held_bytes += whole;
            self.chunks.push_back(chunk);
        }
        // Also where nothing came: the taker may have waited for the high watermark.
        self.wake();
        Ok(whole > 0 || batches.is_empty())
    }

    /// Goes on elsewhere, behind what was fetched before.
    pub fn skip(&mut self, place: &Place, to: Offset) {
        let Some(cursor) = self.cursors.get_mut(place) else { return };
        cursor.fetch = to;
        cursor.high_watermark = cursor.high_watermark.max(to);
        let chunk = Chunk {
            place: place.clone(),
            generation: cursor.generation,
            batches: Bytes::new(),
            high_watermark: cursor.high_watermark,
            skips_to: Some(to),
        };
        self.chunks.push_back(chunk);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(taker) = self.taker.take() {
            taker.wake();
        }
    }

    /// The next batch that is wanted.
    fn take(&mut self) -> Option<Taken> {
        loop {
            let chunk = self.chunks.front_mut()?;
            let header = match BatchHeader::parse(&chunk.batches) {
                Ok(header) => header,
                Err(_) => {
                    // Its batches were counted when it was put down: none is left.
                    let Some(chunk) = self.chunks.pop_front() else { continue };
                    let cursor = self.cursors.get_mut(&chunk.place);
                    let cursor = cursor.filter(|cursor| cursor.generation == chunk.generation);
                    if let (Some(cursor), Some(to)) = (cursor, chunk.skips_to) {
                        cursor.position = to;
                    }
                    continue;
                }
            };
            let batch = chunk.batches.split_to(header.batch_bytes as usize);
            let (place, generation, high_watermark) =
                (chunk.place.clone(), chunk.generation, chunk.high_watermark);
            self.held_bytes -= batch.len();
            let Some(cursor) = self.cursors.get_mut(&place).filter(|cursor| cursor.generation == generation)
            else {
                continue;
            };
            cursor.held_bytes -= batch.len();
            let next = header.base_offset.plus(u64::from(header.last_offset_delta) + 1);
            if next <= cursor.position || cursor.is_halted {
                continue;
            }
            let from = std::mem::replace(&mut cursor.position, next);
            return Some(Taken { place, from, header, batch, high_watermark });
        }
    }
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something has changed that the fetcher wants to know of.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The next batch of some partition.
    pub fn poll_take(&self, context: &Context<'_>) -> Poll<Result<Taken, ConsumeError>> {
        let mut state = self.lock();
        if let Some(error) = state.errors.pop_front() {
            return Poll::Ready(Err(error));
        }
        let before = state.held_bytes;
        let taken = state.take();
        let made_room = state.held_bytes < before;
        if taken.is_none() {
            state.taker = Some(context.waker().clone());
        }
        drop(state);
        if made_room {
            self.changed.notify_one();
        }
        taken.map_or(Poll::Pending, |taken| Poll::Ready(Ok(taken)))
    }

    /// Reads a partition from an offset on.
    pub fn begin(&self, place: Place, offset: Offset, high_watermark: Offset) {
        let mut state = self.lock();
        state.generations += 1;
        let generation = state.generations;
        let cursor = Cursor {
            generation,
            fetch: offset,
            position: offset,
            high_watermark,
            held_bytes: 0,
            is_halted: false,
            unknown_since: None,
        };
        state.drop_chunks(|chunk| chunk.place == place);
        if state.cursors.insert(place.clone(), cursor).is_some() {
            state.interrupted.push(place);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Reads some partitions no more.
    pub fn remove(&self, is_meant: impl Fn(&Place) -> bool) {
        let mut state = self.lock();
        state.drop_chunks(|chunk| is_meant(&chunk.place));
        let removed: Vec<Place> = state.cursors.keys().filter(|place| is_meant(place)).cloned().collect();
        state.cursors.retain(|place, _| !is_meant(place));
        // Nothing that was found out of one is left for who reads it next.
        state.interrupted.extend(removed);
        drop(state);
        self.changed.notify_one();
    }

    /// Stops reading a partition; whoever calls says why.
    pub fn halt(&self, place: &Place) {
        if let Some(cursor) = self.lock().cursors.get_mut(place) {
            cursor.is_halted = true;
        }
    }

    pub fn high_watermark(&self, place: &Place) -> Option<Offset> {
        self.lock().cursors.get(place).map(|cursor| cursor.high_watermark)
    }

    pub fn progress(&self) -> Vec<Progress> {
        let state = self.lock();
        let progress = |((topic, partition), cursor): (&(Arc<str>, Partition), &Cursor)| Progress {
            topic: topic.clone(),
            partition: *partition,
            position: cursor.position,
            high_watermark: cursor.high_watermark,
            is_halted: cursor.is_halted,
        };
        state.cursors.iter().map(progress).collect()
    }

    /// The fetcher is to end.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }
}
