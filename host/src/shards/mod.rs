//! The shards that this broker has a replica of: proposing on their leaders, reading their logs.
//!
//! | file | holds |
//! |---|---|
//! | [`shard`] | one shard: its group, and its leader while this broker is that |
//! | [`leader`] | what a leader decides on: the head state, and the order of proposals |
//! | [`machine`] | what Raft applies entries with, and who is told |
//! | [`waiters`] | who waits for committed records of a partition |
//! | [`ahead`] | tasks that run ahead of the disk |
//! | [`shipping`] | what steps derived for other shards, on its way |

pub mod ahead;
pub mod leader;
pub mod machine;
pub mod shard;
pub mod shipping;
pub mod waiters;

pub use leader::{Commit, Refused};
pub use shard::Shard;
