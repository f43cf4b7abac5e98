//! Three replicas tell one story, and an empty one joins them.
//!
//! Each test is a story that follows from a seed. When one fails, it names the seed; with `TIDEMILL_SEED` it is told
//! again, word for word.
#![allow(clippy::disallowed_methods, reason = "tests may wait")]

mod alone;
mod cluster;
mod joining;
mod losing;
mod one_story;
mod refused;
mod storm;
