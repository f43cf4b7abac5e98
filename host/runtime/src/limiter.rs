//! The memory of an instance, and its tables.
//!
//! A guest that asks for more than its limit is told no, as wasm has it (`memory.grow` returns -1): a garbage
//! collector may make do. Most languages cannot, and abort; what was refused is kept, so that the trap which follows
//! can be called by its name.

use tidemill_core::limits;
use wasmtime::ResourceLimiter;

use crate::failure::LimitReached;

/// Watches one instance.
pub(crate) struct Limiter {
    limit_bytes: u64,
    bytes: u64,
    bytes_max: u64,
    refused: Option<LimitReached>,
}

impl Limiter {
    /// For an instance whose linear memories together may hold `limit_bytes`.
    pub(crate) fn new(limit_bytes: u64) -> Limiter {
        Limiter { limit_bytes, bytes: 0, bytes_max: 0, refused: None }
    }

    /// The most that its memories together have held, in bytes.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// The limit that the guest has last asked for more than, if it has.
    pub(crate) fn refused(&self) -> Option<LimitReached> {
        self.refused.clone()
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.bytes + desired.saturating_sub(current) as u64;
        if total > self.limit_bytes {
            self.refused = Some(LimitReached::memory(self.limit_bytes, total));
            return Ok(false);
        }
        // Beyond the maximum that the component itself declares: none of our limits, and nothing to count.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.bytes = total;
        self.bytes_max = self.bytes_max.max(total);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > limits::GUEST_TABLE_ELEMENTS_MAX {
            self.refused = Some(LimitReached::table(desired));
        }
        Ok(desired <= limits::GUEST_TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        limits::GUEST_CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        limits::GUEST_CORE_INSTANCES_MAX as usize
    }

    fn memories(&self) -> usize {
        limits::GUEST_MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_count_together_and_a_refusal_is_remembered() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 30, None).unwrap());
        assert_eq!(limiter.refused(), None);
        assert!(!limiter.memory_growing(30, 41, None).unwrap());
        assert_eq!(limiter.refused(), Some(LimitReached::memory(100, 101)));
        assert_eq!(limiter.bytes_max(), 90);
    }

    #[test]
    fn a_table_that_is_too_large_is_remembered() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.table_growing(0, limits::GUEST_TABLE_ELEMENTS_MAX, None).unwrap());
        assert_eq!(limiter.refused(), None);
        assert!(!limiter.table_growing(10, 60_000, None).unwrap());
        assert_eq!(limiter.refused(), Some(LimitReached::table(60_000)));
    }

    #[test]
    fn a_components_own_maximum_is_no_limit_of_ours() {
        let mut limiter = Limiter::new(100);
        assert!(!limiter.memory_growing(10, 60, Some(50)).unwrap());
        assert_eq!(limiter.refused(), None);
        assert_eq!(limiter.bytes_max(), 0);
    }
}
