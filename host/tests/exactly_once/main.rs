//! Exactly once, in a simulated world: the core of a broker with real plugins loses its power again and again while the
//! order chain runs on it, and opens what the disk then holds.
//!
//! Everything here follows from a seed and runs on one thread, in a time that jumps. A cut counts only while steps are in
//! flight. In the end the checker runs every step again, the oracle computes what the chain must have come to, every order
//! that was ever acknowledged must lie where it was said to lie, and every record that was ever shown where it was shown.
//!
//! | file | holds |
//! |---|---|
//! | [`story`] | what happens, from the first order to the proof |
//! | [`life`] | one life of the broker, and the end of the power |
//! | [`chain`] | the order chain: topics, plugins, orders |
//! | [`picky`] | a plugin that gives records up, and gets them again |
//! | [`producer`] | who sends the orders, and remembers what was acknowledged |
//! | [`reader`] | who reads everything, and remembers what was shown |
//! | [`proof`] | what the broker kept, held against what must be |
//! | [`traces`] | records traced, and held against all logs |
//! | [`backups`] | copies taken meanwhile: each is a broker of one moment, and goes on as one |
//! | [`backup_cuts`] | the power is cut while a backup is made, and while one is restored |
//! | [`behind`] | log starts that pass tasks, at random |
//! | [`tampering`] | honest histories spoiled: the checker must find each |
//!
//! A story that fails names its seed: `TIDEMILL_SEED=17 cargo test --release --workspace --test exactly_once`. More of them
//! are told with `TIDEMILL_SEEDS=500`. Plugins are built by `cargo xtask plugins`.
#![allow(clippy::disallowed_methods, reason = "tests read files of the repository")]
#![allow(missing_docs, reason = "tests are read, not called")]

mod backup_cuts;
mod backups;
mod behind;
mod chain;
mod life;
mod picky;
mod producer;
mod proof;
mod reader;
mod story;
mod tampering;
mod traces;

use std::cell::Cell;
use std::env;

use tidemill_sim::for_seeds;
use tidemill_storage::log::Planted;

use story::{Broken, Ending, Plot};

/// Seeds of the short form.
const SEEDS: u64 = 16;
/// Seeds within which a planted mistake must be found.
const PLANTED_SEEDS: u64 = 8;
const PLOT: Plot = Plot { orders: 300, cuts: 8, planted: None };

/// Tells the story of a seed.
fn tell(seed: u64, plot: Plot) -> (Vec<String>, Result<Ending, Broken>) {
    let mut transcript = Vec::new();
    let ending = tidemill_sim::run(story::tell(seed, plot, &mut transcript));
    (transcript, ending)
}

#[test]
fn everything_happens_exactly_once_wherever_the_power_is_cut() {
    let told = Cell::new((0, 0, 0, 0));
    for_seeds(SEEDS, |seed| {
        let (transcript, ending) = tell(seed, PLOT);
        if ending.is_err() || env::var_os("TIDEMILL_SEED").is_some() {
            eprintln!("{}", transcript.join("\n"));
        }
        let ending = ending.unwrap_or_else(|broken| panic!("{broken}"));
        assert_eq!(ending.cuts, PLOT.cuts, "power cuts with steps in flight");
        assert!(ending.report.crossed > 0, "no batch crossed shards");
        assert!(ending.shown > PLOT.orders, "consumers were shown {} batches", ending.shown);
        assert_eq!(ending.report.pending, 0, "everything has arrived");
        let (redriven, again) = ending.redriven;
        assert!(redriven > 0, "no dead letter was redriven");
        let (cuts, all_cuts, all_redriven, all_again) = told.get();
        let (cuts, all_cuts) = (cuts + ending.cuts, all_cuts + ending.all_cuts);
        told.set((cuts, all_cuts, all_redriven + redriven, all_again + again));
    });
    let (cuts, all_cuts, redriven, again) = told.get();
    println!(
        "{cuts} power cuts with steps in flight, {all_cuts} in all; {redriven} letters redriven, {again} failed again"
    );
}

/// What is committed before the sync is a promise that a power cut breaks: to producers, who heard of it, and to consumers,
/// who saw it.
#[test]
fn an_early_acknowledgement_is_found_by_who_heard_and_by_who_saw_it() {
    let planted = Plot { planted: Some(Planted::EarlyAck), ..PLOT };
    let (mut heard, mut saw) = (None, None);
    for seed in 0..PLANTED_SEEDS {
        if heard.is_some() && saw.is_some() {
            break;
        }
        match tell(seed, planted).1 {
            Err(broken @ Broken::Lost(_)) => heard = heard.or(Some((seed, broken))),
            Err(broken @ Broken::Vanished(_)) => saw = saw.or(Some((seed, broken))),
            // No cut of this seed came where it hurts, or something else showed it first.
            Ok(_) | Err(_) => {}
        }
    }
    for found in [heard, saw] {
        let (seed, broken) = found.expect("of what was committed too early, something is lost");
        println!("found with seed {seed}: {broken}");
    }
}

#[test]
fn a_seed_tells_the_same_story_word_for_word() {
    let once = |seed| tell(seed, Plot { orders: 100, cuts: 4, planted: None }).0;
    assert_eq!(once(3), once(3));
    assert_ne!(once(3), once(4), "seeds differ");
}
