//! Mistakes, planted by disks that lie: the lab finds each.

use std::time::{Duration, Instant};

use tidemill_sim::disk::Pretence;
use tidemill_sim::lab::{Failure, Lab};

use super::log::LogStory;

const PATIENCE: Duration = Duration::from_secs(60);
/// Images after which it should have been found.
const IMAGES: u64 = 20_000;

fn found(planted: (Pretence, &'static str, &'static str)) -> Failure {
    let start = Instant::now();
    let lab = Lab { images: IMAGES, seed: 0, threads: 2, images_per_life: 2_000, flips_every: 1, only: None };
    let failure = lab.run(&LogStory { planted: Some(planted) }).expect_err("nothing was found");
    println!("after {:?}: {failure}", start.elapsed());
    assert!(start.elapsed() < PATIENCE, "it took {:?}", start.elapsed());
    failure
}

#[test]
fn a_sync_after_the_acknowledgement_is_found() {
    found((Pretence::LateSync, "segment-", ".redb"));
}

#[test]
fn a_vote_that_is_written_late_is_found() {
    let failure = found((Pretence::LateSync, "vote", ".redb"));
    assert!(failure.what.contains("is none of"), "{failure}");
}

#[test]
fn a_mark_that_is_ignored_is_found() {
    let failure = found((Pretence::NoWrites, "turn", ".mark"));
    assert!(failure.what.contains("flipped"), "{failure}");
}
