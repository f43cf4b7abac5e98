//! The tables in three layers: what changed, what changed before and is being written, and what is durable.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::tables::{Changes, Tables, View, keys_with, scan_with};

use super::base::Base;

/// The layers.
pub(super) struct Layers {
    dirty: Changes,
    lower: Lower,
}

/// All but the topmost.
struct Lower {
    frozen: Arc<Changes>,
    base: Arc<Base>,
}

impl Layers {
    /// Nothing has changed.
    pub(super) fn over(base: Arc<Base>) -> Layers {
        Layers { dirty: Changes::new(), lower: Lower { frozen: Arc::default(), base } }
    }

    /// What is durable.
    pub(super) fn base(&self) -> Arc<Base> {
        self.lower.base.clone()
    }

    /// What is being written.
    pub(super) fn frozen(&self) -> Arc<Changes> {
        self.lower.frozen.clone()
    }

    /// Begins a new layer. The frozen one must be written.
    pub(super) fn freeze(&mut self) {
        assert!(self.lower.frozen.is_empty(), "one layer is written at a time");
        self.lower.frozen = Arc::new(std::mem::take(&mut self.dirty));
    }

    /// The frozen layer is durable: `base` holds it.
    pub(super) fn written(&mut self, base: Arc<Base>) {
        self.lower = Lower { frozen: Arc::default(), base };
    }
}

impl View for Layers {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        match self.dirty.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.lower.get(key),
        }
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        scan_with(&self.lower, &self.dirty, start, end, limit)
    }

    fn keys(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>, Fault> {
        keys_with(&self.lower, &self.dirty, start, end, limit)
    }
}

impl Tables for Layers {
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.dirty.insert(key, Some(value));
    }

    fn delete(&mut self, key: Bytes) {
        self.dirty.insert(key, None);
    }
}

impl View for Lower {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        match self.frozen.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        scan_with(&*self.base, &self.frozen, start, end, limit)
    }

    fn keys(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>, Fault> {
        keys_with(&*self.base, &self.frozen, start, end, limit)
    }
}
