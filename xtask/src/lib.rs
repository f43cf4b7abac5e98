//! What chores and tests of the whole product share: a broker as a process, the `tidemill` command against it, and
//! the order chain on both.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "chores have files, clocks and processes")]

pub mod chain;
pub mod client;
pub mod data_folder;
pub mod dice;
pub mod gauge;
pub mod kafka;
pub mod places;
pub mod ports;
pub mod process;
