//! Everything of a group that lies on disk, and Raft above it.
//!
//! A *group* is the catalog or a shard. What it keeps lies in one folder:
//!
//! ```text
//! segment-00000007.redb   chunks of the log; the newest is written, the others are sealed
//! gone.redb               what of sealed segments was given back to the disk in place
//! directory.redb          which sealed segment holds which partition: derived, made again when it is gone
//! vote.redb               vote, purge mark, what was lost: small, and committed in two phases
//! state.redb              the tables that apply keeps: a function of the log, committed lazily
//! turn.mark               the last turn that was synced; itself never synced
//! ```
//!
//! [`log`] and [`state`] are the lower half: they know redb and files, and nothing of Raft but its words (a log id,
//! a vote, a purge mark). The upper half makes a Raft group of them and knows openraft. Neither library's types
//! leave this crate, but for tests and `hostile` (`raft`), nor are they ever written to disk or to the wire.
//!
//! [`backup`] copies a group while it goes on, and checks such a copy.
//!
//! `docs/format.md` draws every file byte by byte.

#![forbid(unsafe_code)]

pub mod backup;
mod database;
pub mod folder;
pub mod group;
pub mod log;
#[doc(hidden)]
pub mod raft;
pub mod state;
mod version;
mod zeros;
