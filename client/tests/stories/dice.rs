//! Chance from a seed: xorshift64*.

use std::sync::atomic::{AtomicU64, Ordering};

/// The seed of this run, printed so that it can be run again.
pub fn seed(story: &str) -> u64 {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let given = std::env::var("TIDEMILL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as u64 % 1_000_000 + DRAWN.fetch_add(1, Ordering::Relaxed)
    });
    println!("{story}: TIDEMILL_SEED={seed}");
    seed
}

#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound
    }

    /// True `times` of a thousand times.
    pub fn permille(&mut self, times: u64) -> bool {
        self.below(1_000) < times
    }
}
