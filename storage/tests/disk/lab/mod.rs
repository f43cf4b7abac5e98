//! The crash lab: every image of many lives, counted by kind.
//!
//! The short form is a test; `cargo xtask crash-lab --images 1000000` runs the long one. That the lab can find something
//! is a test, too: disks that lie plant mistakes, and each is found.
#![allow(clippy::disallowed_methods, reason = "how long it takes is part of the story")]

mod install;
mod log;
#[path = "../../../../core/tests/shard/mill.rs"]
#[allow(dead_code, reason = "core's own stories need more of it")]
mod mill;
mod planted;
mod shard;

use std::time::Instant;

use install::InstallStory;
use log::LogStory;
use shard::ShardStory;
use tidemill_sim::disk::Kind;
use tidemill_sim::lab::{Lab, Report, Story};

const IMAGES: u64 = 50_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn lab(images: u64) -> Lab {
    let seed = number("TIDEMILL_SEED").unwrap_or(0);
    Lab {
        images,
        seed,
        threads: 2,
        images_per_life: 5_000,
        flips_every: 12,
        only: std::env::var("TIDEMILL_IMAGE").ok(),
    }
}

fn run<S: Story>(lab: &Lab, story: &S, report: &mut Report) {
    match lab.run(story) {
        Ok(found) => report.merge(&found),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn every_image_keeps_what_was_acknowledged() {
    let start = Instant::now();
    let lab = lab(number("TIDEMILL_IMAGES").unwrap_or(IMAGES).div_ceil(3));
    let mut report = Report::default();
    run(&lab, &LogStory::default(), &mut report);
    run(&lab, &ShardStory, &mut report);
    run(&lab, &InstallStory, &mut report);
    assert!(report.images() > 0, "there is no image {:?}", lab.only);
    if lab.only.is_none() && lab.images * 3 >= IMAGES {
        assert!(report.of_kind(Kind::HalfPunched) > 0, "no part of a segment was given back:\n{report}");
    }
    println!("{report}{} lives, {} s", report.lives, start.elapsed().as_secs());
}
