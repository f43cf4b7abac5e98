//! What must hold of any bytes at all that a decoder of ours is given.
//!
//! Each *target* is a function that takes bytes as somebody might send them, or as a disk might give them back, and panics
//! when what must hold does not: that the decoder says no or gives a value, and never panics; that a value which was
//! read is written and read alike, and gives the same bytes where there is one way to write it; and that reading takes
//! no more memory than the bytes can justify, whatever lengths they claim (`tests/corpus.rs` counts).
//!
//! The same functions run in three ways: on the corpus of `fuzz/corpus`, in every `cargo test`; on seeds that chance has
//! changed, in every `cargo test`; and under a fuzzer that looks for ways no test has gone, by `cargo xtask fuzz`.
//! What is found there goes into the corpus and is never lost again.
//!
//! Where bytes are under a checksum, a target also looks at them with one that holds: chance would never find it.
#![forbid(unsafe_code)]

#[cfg(feature = "broker")]
mod broker;
mod disk;
mod kept;
pub mod seeds;
mod text;
mod wire;

/// A target: its name, which is that of its corpus, and what must hold of bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    // What clients send, and what they are sent.
    ("frames", wire::frames),
    ("requests", wire::requests),
    ("responses", wire::responses),
    ("batches", wire::batches),
    ("gzip", wire::gzip),
    ("snappy", wire::snappy),
    ("lz4", wire::lz4),
    ("zstd", wire::zstd),
    ("primitives", wire::primitives),
    // What a shard keeps.
    ("entries", kept::entries),
    ("envelopes", kept::envelopes),
    ("steps", kept::steps),
    ("keys", kept::keys),
    ("rows", kept::rows),
    ("catalog", kept::catalog),
    // What lies on disk, and what brokers say to one another.
    ("chunks", disk::chunks),
    ("spans", disk::spans),
    ("segments", disk::segments),
    ("promises", disk::promises),
    ("messages", disk::messages),
    ("standings", disk::standings),
    // What people write.
    ("manifests", text::manifests),
    ("names", text::names),
    ("topic-settings", text::topic_settings),
    #[cfg(feature = "broker")]
    ("bundles", broker::bundles),
    #[cfg(feature = "broker")]
    ("settings", broker::settings),
    #[cfg(feature = "broker")]
    ("documents", broker::documents),
    #[cfg(feature = "broker")]
    ("components", broker::components),
];

/// Runs a target.
///
/// # Panics
/// When something does not hold that must; and when there is no such target.
pub fn run(target: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    found.unwrap_or_else(|| panic!("there is no target {target}")).1(bytes);
}
