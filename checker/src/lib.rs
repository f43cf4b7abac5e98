//! The checker: proves from what a cluster kept that every step happened exactly once.
//!
//! It is given a [`History`]: the committed entries of every shard's log, and the state that each task ended with. It
//! believes none of the broker's own words about them. Entry by entry it folds each log into tables of its own and
//! asks, where the entry is a step:
//!
//! 1. Does it consume the range right after the step before it? ([`steps`]) Records are passed over only where an entry
//!    says that a log start has passed the task. ([`log_starts`])
//! 2. Run again in a scratch instance, on the records that this log holds in that range and on the state that the
//!    entries before it left, does the same component give this entry, byte for byte? ([`replay`]) A step that is given a
//!    dead letter again is run on the record that lies in the letter ([`letters`]).
//!
//! and of all logs together:
//!
//! 3. Does every batch that a step derived lie in its partition exactly once, in the order of the steps, and does
//!    nothing else of that task lie there? ([`outputs`])
//! 4. Is the state that each task ended with the one that its log leads to? ([`states`])
//!
//! What is found is told as a [`Violation`]. What a chain of plugins means is not known here: that the
//! numbers of a workflow add up is for a program that knows the workflow.

#![forbid(unsafe_code)]

pub mod history;
mod ledger;
mod letters;
mod log_starts;
mod outputs;
mod range;
pub mod records;
mod replay;
mod states;
mod steps;
pub mod violation;

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tidemill_core::ids::Digest;
use tidemill_runtime::{Bundle, Plugin, Runtime};

pub use history::{History, Logged};
pub use records::{LoggedRecord, latencies_ms, records};
pub use violation::{Report, Violation};

/// What steps are run again with.
pub struct Scratch {
    /// Where they run. Its ticker need not run: what was committed came to an end.
    pub runtime: Runtime,
    /// The components that took steps.
    pub plugins: BTreeMap<Digest, Plugin>,
    /// The files that they could read.
    pub bundles: BTreeMap<Digest, Bundle>,
}

/// Checks a history.
pub async fn check(history: &History, scratch: &Scratch) -> Report {
    let shards = history.shards.iter().map(|(shard, log)| ledger::fold(*shard, log, scratch));
    let ledgers: Vec<_> = join_all(shards).await;
    let mut report = Report::default();
    for ledger in &ledgers {
        report.merge(&ledger.report);
    }
    outputs::check(&ledgers, &mut report);
    states::check(&ledgers, &history.states, &mut report);
    report
}

/// The components that a history's steps ran with: what [`Scratch::plugins`] must hold.
///
/// # Errors
/// The [`Violation`] of an entry that cannot be read.
pub fn components(history: &History) -> Result<Vec<Digest>, Violation> {
    ledger::deployed(history, |spec| vec![spec.digest])
}

/// The bundles that a history's steps could read: what [`Scratch::bundles`] must hold.
///
/// # Errors
/// The [`Violation`] of an entry that cannot be read.
pub fn bundles(history: &History) -> Result<Vec<Digest>, Violation> {
    ledger::deployed(history, |spec| spec.bundles.iter().map(|grant| grant.digest).collect())
}
