//! What plugins write to their logs: a topic of each, `<plugin>.log`, whose partition *i* has the lines of task *i*.
//!
//! ```text
//!   a try of a step ──▶ waiting ──▶ writer, every 200 ms ──▶ one entry in the shard's log ──▶ whoever reads the topic
//!                       bounded: the oldest give way, and a line says how many
//! ```
//!
//! Lines are no part of what a step does exactly once. Those of a try that failed are there too, and those of a step that
//! was lost with its term; each says which step and attempt it is of, and promises no more. A step never waits for its
//! lines: what comes faster than it is written, or while the disk is full, is dropped and counted; what was not written
//! when the broker is killed is gone.
//!
//! | file | holds |
//! |---|---|
//! | [`mod@line`] | a line, and the record that it is |
//! | [`waiting`] | the lines of a shard that are not written yet |
//! | [`writer`] | who writes them |
//! | [`last`] | reading the last ones, for people |

pub mod last;
pub mod line;
pub mod waiting;
pub mod writer;
