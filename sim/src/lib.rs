//! The simulated world: what a broker sees through its five seams, from a seed.
//!
//! A cluster runs on one thread and in a time that jumps ([`run`]), so that hours pass in seconds and a failing seed
//! can be run again. Each broker has a place ([`broker::SimBroker`]) with a disk that tears, and a way to the
//! others that may be slow, lossy or cut; it can be killed at any moment.
//!
//! Nothing here knows what a broker does. Stories that are told in this world stand in the tests of the crates that
//! they are about, and begin with [`for_seeds`].
//!
//! | file | holds |
//! |---|---|
//! | [`broker`] | one broker's place, and the end of it |
//! | [`chance`] | random numbers that follow from the seed |
//! | [`clock`] | time that jumps |
//! | [`disk`] | a disk that keeps apart what is durable and what a power cut may take |
//! | [`lab`] | every disk that a power cut could leave of a life |
//! | [`net`] | delays, losses, doubles, partitions |
//! | [`spawner`] | a broker's tasks, which end together |

#![forbid(unsafe_code)]

pub mod broker;
pub mod chance;
pub mod clock;
pub mod disk;
pub mod lab;
pub mod net;
pub mod spawner;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs a future in simulated time: on this thread alone, with time that jumps to the next timer whenever all wait.
///
/// # Panics
/// When the operating system has no resources for a runtime.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without threads and files can be built").block_on(future)
}

/// Tells a story from the seeds `0..seeds` (`TIDEMILL_SEEDS` says how many, for a long run), or from the one that
/// `TIDEMILL_SEED` names, and says which one failed.
///
/// # Panics
/// When the story does.
pub fn for_seeds(seeds: u64, story: impl Fn(u64)) {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let (chosen, seeds) = (number("TIDEMILL_SEED"), number("TIDEMILL_SEEDS").unwrap_or(seeds));
    for seed in chosen.map_or(0..seeds, |seed| seed..seed + 1) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| story(seed))) {
            eprintln!(
                "the story failed with seed {seed}; to run it again: TIDEMILL_SEED={seed} cargo test …"
            );
            resume_unwind(panic);
        }
    }
}
