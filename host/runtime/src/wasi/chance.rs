//! Random numbers that a step would draw again.
//!
//! They follow from what the step is: whose it is, what it consumes, when, and how often that was tried. Two steps
//! draw differently, and the checker, which runs a step again, draws what the broker drew. No secret is in them:
//! whoever reads the log can compute them, so they serve no key and no token.

use blake3::{Hasher, OutputReader};
use tidemill_core::limits;

use crate::run::StepInput;

const CONTEXT: &str = "Tidemill: the random numbers of a step, for WASI guests, 1";

/// A stream of bytes without end.
pub(super) struct Chance(OutputReader);

impl Chance {
    /// The stream of a step.
    pub(super) fn of(input: &StepInput) -> Chance {
        let mut hasher = Hasher::new_derive_key(CONTEXT);
        let mut take = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        take(input.task.to_string().as_bytes());
        take(&input.attempt.to_be_bytes());
        take(&input.time.0.to_be_bytes());
        for event in input.events.iter() {
            take(&event.position.at.topic.0);
            take(&event.position.at.partition.0.to_be_bytes());
            take(&event.position.offset.0.to_be_bytes());
        }
        for timer in input.timers.iter() {
            take(&timer.name);
            take(&timer.at_ms.to_be_bytes());
        }
        Chance(hasher.finalize_xof())
    }

    /// The next bytes.
    ///
    /// # Errors
    /// When more are asked for at once than [`limits::GUEST_RANDOM_BYTES_MAX`], which ends the step.
    pub(super) fn bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        let most = limits::GUEST_RANDOM_BYTES_MAX;
        let len = usize::try_from(len).ok().filter(|len| *len <= most);
        let Some(len) = len else {
            let why =
                format!("it asked for more than {most} random bytes at once; nothing raises this limit");
            return Err(wasmtime::Error::msg(why));
        };
        let mut bytes = vec![0; len];
        self.0.fill(&mut bytes);
        Ok(bytes)
    }

    /// The next eight bytes, as a number.
    pub(super) fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}
