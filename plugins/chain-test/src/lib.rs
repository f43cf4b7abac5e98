//! The whole order chain in memory: the plugins, natively, between partitions that are vectors.
//!
//! A [`Mill`] does for them what matters of a broker: a task per plugin and partition, steps of a few events,
//! outputs that reach their partition in order but at any time. A seed decides what happens next, so one run is one
//! interleaving, and the same seed is the same run. What the oracle then says of the records is a test of both, the
//! plugins and the oracle, before there is any broker.
#![forbid(unsafe_code)]

mod mill;
mod tasks;

pub use mill::Mill;
