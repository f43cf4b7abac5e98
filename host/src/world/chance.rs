//! The system's random numbers, fit for keys.

use tidemill_core::seams::Chance;

/// The operating system's generator.
#[derive(Debug)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has random numbers");
    }
}
