//! Every target on its corpus: seeds of our own encoders, and what a fuzzer found worth keeping.
//!
//! Memory is counted: whatever lengths bytes claim, a decoder takes no more than they can justify.
#![allow(clippy::disallowed_methods, reason = "tests have files")]
#![allow(missing_docs, reason = "tests are read, not called")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use tidemill_hostile::{TARGETS, seeds};

/// What a target may hold at once: so much, and so many times its input. (An inflated batch may have 1 MiB, and is
/// there several times while it is compared; a decoded element takes some hundred times its bytes.)
const PLAIN_BYTES: usize = 16 << 20;
const TIMES: usize = 1_024;
/// Compiling takes what it takes: a broker does it in a process whose memory is bounded.
const UNCOUNTED: [&str; 1] = ["components"];

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, and how much of it each thread holds.
struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came; counting touches plain cells of the thread, which
// are made without allocating.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.with(|held| {
            held.set(held.get().wrapping_add(layout.size()));
            MOST.with(|most| most.set(most.get().max(held.get())));
        });
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.with(|held| held.set(held.get().saturating_sub(layout.size())));
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = folder(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_target_holds_on_its_corpus() {
    let (mut inputs, mut all) = (0, 0);
    for (name, target) in TARGETS {
        for path in corpus(name) {
            let input = fs::read(&path).unwrap();
            // What is made once, such as an engine, does not count.
            target(&input);
            HELD.with(|held| held.set(0));
            MOST.with(|most| most.set(0));
            target(&input);
            let most = MOST.with(Cell::get);
            let may = PLAIN_BYTES + TIMES * input.len();
            assert!(UNCOUNTED.contains(name) || most <= may, "{}: held {most} bytes", path.display());
            (inputs, all) = (inputs + 1, all + input.len());
        }
    }
    println!("{inputs} inputs of {} targets, {all} bytes", TARGETS.len());
    assert!(
        all < 1 << 20,
        "the corpus has {all} bytes: take out what `cargo xtask fuzz --keep` kept too much"
    );
}

/// `TIDEMILL_WRITE_SEEDS=1` in the environment writes them.
#[test]
fn what_our_encoders_write_is_in_the_corpus() {
    let writes = std::env::var_os("TIDEMILL_WRITE_SEEDS").is_some();
    for (name, _) in TARGETS {
        let seeds = seeds::of(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for (number, seed) in seeds.iter().enumerate() {
            let path = folder(name).join(format!("seed-{number}"));
            if writes {
                fs::create_dir_all(folder(name)).unwrap();
                fs::write(&path, seed).unwrap();
            }
            let kept = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(kept, &seed[..], "{}: an encoder writes something else now", path.display());
        }
    }
}

#[test]
fn every_target_is_one_of_the_fuzzers() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    let mut built: Vec<_> = fs::read_dir(source)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().replace('_', "-"))
        .collect();
    built.sort();
    let mut named: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    named.sort();
    assert_eq!(built, named);
}
