//! Random numbers that follow from a seed.

use parking_lot::Mutex;
use tidemill_core::seams::Chance;

/// SplitMix64, by Steele, Lea and Flood ("Fast splittable pseudorandom number generators", 2014).
#[derive(Debug)]
pub struct SimChance {
    state: Mutex<u64>,
}

impl SimChance {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> SimChance {
        SimChance { state: Mutex::new(seed) }
    }

    /// Another source, so that what draws from it does not change what others draw.
    pub fn fork(&self) -> SimChance {
        SimChance::new(self.next())
    }

    /// A number in `from..to`; `from` when the range is empty.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        match to.saturating_sub(from) {
            0 => from,
            width => from + self.next() % width,
        }
    }

    /// True in `per_mille` of 1,000 cases.
    pub fn happens(&self, per_mille: u64) -> bool {
        self.between(0, 1_000) < per_mille
    }

    fn next(&self) -> u64 {
        let mut state = self.state.lock();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Chance for SimChance {
    fn fill(&self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_be_bytes()[..part.len()]);
        }
    }
}
