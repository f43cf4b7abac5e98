//! Stories of clients in trouble, each replayable from its seed: `TIDEMILL_SEED=n cargo test -p tidemill-client`.
//!
//! [`producing`] and [`consuming`] are told to any broker behind the [`harness`]: below to the [`fault_broker`], which
//! is real QUIC on loopback before a log in memory, and in [`real_broker`] to one that is a process.
//! What needs a broker that lies, stalls or forgets is in [`misfortune`] and [`misreading`].
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests live in the real world")]
#![allow(missing_docs, reason = "tests are read, not called")]

mod certificates;
mod consuming;
mod dice;
mod fault_broker;
mod harness;
mod misfortune;
mod misreading;
mod producing;
mod real_broker;
mod tally;

use std::time::Duration;

use dice::seed;
use fault_broker::FaultBroker;
use tally::Counts;

fn assert_all_delivered(counts: Counts) {
    println!("{counts}");
    assert_eq!((counts.refused, counts.expired, counts.fatal), (0, 0, 0), "{counts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_cuts_with_a_thousand_under_way() {
    let seed = seed("a_hundred_cuts_with_a_thousand_under_way");
    let broker = FaultBroker::start(seed);
    broker.faults(|faults| {
        faults.commit = Duration::from_millis(5);
        faults.lingers = Duration::from_micros(300);
    });
    assert_all_delivered(producing::cuts(&broker, 100, seed).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_restarts() {
    let seed = seed("twenty_restarts");
    let broker = FaultBroker::start(seed);
    broker.faults(|faults| faults.commit = Duration::from_millis(5));
    assert_all_delivered(producing::restarts(&broker, 20, seed).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_futures_cancel_nothing() {
    producing::dropped_futures(&FaultBroker::start(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_codec_comes_back() {
    producing::codecs(&FaultBroker::start(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_without_acknowledgements_is_sent() {
    producing::unacknowledged(&FaultBroker::start(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_find_their_partitions() {
    producing::partitioning(&FaultBroker::start(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeks_by_offset_and_time() {
    consuming::seeks(&FaultBroker::start(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_that_are_not_there() {
    consuming::out_of_range(&FaultBroker::start(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_through_cuts() {
    consuming::cuts(&FaultBroker::start(seed("reads_through_cuts"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_made_and_described() {
    consuming::administration(&FaultBroker::start(0)).await;
}
