//! Chunks lately read from disk, verified and parsed, for those who read the same stretch of history.
//!
//! A truncation may write a chunk anew under the same first index. So it empties the cache, and a chunk that was read
//! before it is not put in after it: that is what the epoch is for.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;

use super::chunk::Chunk;

/// The cache.
#[derive(Debug, Default)]
pub(super) struct ChunkCache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    chunks: BTreeMap<LogIndex, (Arc<Chunk>, u64)>,
    bytes: usize,
    uses: u64,
    epoch: u64,
}

impl ChunkCache {
    /// The chunk that holds entry `index`, if it is here; else the epoch, to be given to [`ChunkCache::put`].
    pub(super) fn get(&self, index: LogIndex) -> Result<Arc<Chunk>, u64> {
        let mut inner = self.inner.lock();
        inner.uses += 1;
        let (uses, epoch) = (inner.uses, inner.epoch);
        let found = inner.chunks.range_mut(..=index).next_back();
        match found.filter(|(_, (chunk, _))| chunk.entries.last().is_some_and(|last| index <= last.id.index))
        {
            Some((_, (chunk, used))) => {
                *used = uses;
                Ok(chunk.clone())
            }
            None => Err(epoch),
        }
    }

    /// Keeps a chunk that was read in `epoch`.
    pub(super) fn put(&self, chunk: &Arc<Chunk>, epoch: u64) {
        let mut inner = self.inner.lock();
        let Some(first) = chunk.entries.first().map(|entry| entry.id.index) else { return };
        if inner.epoch != epoch || inner.chunks.contains_key(&first) {
            return;
        }
        inner.uses += 1;
        let uses = inner.uses;
        inner.bytes += chunk.bytes;
        inner.chunks.insert(first, (chunk.clone(), uses));
        while inner.bytes > limits::CHUNK_CACHE_BYTES && inner.chunks.len() > 1 {
            let oldest = inner.chunks.iter().min_by_key(|(_, (_, used))| *used).map(|(first, _)| *first);
            let Some((chunk, _)) = oldest.and_then(|first| inner.chunks.remove(&first)) else { return };
            inner.bytes -= chunk.bytes;
        }
    }

    /// Forgets everything: the disk has changed.
    pub(super) fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.chunks.clear();
        inner.bytes = 0;
        inner.epoch += 1;
    }
}
