//! Raft over the log and the tables of a group: the only module that names openraft. [`crate::group`] is its door.
//!
//! ```text
//!                     propose                                     a peer's message
//!                        │                                               │
//!   group ──▶ node ──▶ openraft ──▶ log_store ──▶ GroupLog          answer ──▶ openraft
//!                        │  └─────▶ network ────▶ Transport            └─────▶ arrival (a snapshot)
//!                        └────────▶ machine ────▶ StateStore, and the group's own machine
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`types`] | openraft's types of ours, and the way between them and our words |
//! | [`standing`] | what a checkpoint holds for Raft: members, and where earlier terms ended |
//! | [`progress`] | how far a replica has applied |
//! | [`reign`] | a leader's proposals of one term: all up to one, and none behind it |
//! | [`log_store`] | openraft's log, over [`GroupLog`](crate::log::GroupLog) |
//! | [`machine`] | openraft's state machine, over [`StateStore`](crate::state::StateStore) |
//! | [`snapshot`] | a checkpoint on its way to openraft and back |
//! | [`message`] | what replicas say to one another, byte by byte |
//! | [`network`] | asking a peer, over the [`Transport`](tidemill_core::seams::Transport) |
//! | [`answer`] | answering a peer |
//! | [`departure`] | a snapshot that is sent, page by page |
//! | [`arrival`] | a snapshot that arrives, page by page |
//! | [`amnesia`] | a replica that lost what it had acknowledged |
//! | [`leadership`] | word of who leads |
//! | [`node`] | one replica, all of it together |
//!
//! What openraft needs of its store, and how it holds here:
//!
//! - Votes and entries are written in the order in which they came: one queue, one writer ([`crate::log`]).
//! - An entry is readable when `append` returns, and durable when its callback is called: the tail, then the chunk.
//! - What is purged is covered by a durable checkpoint: nothing is purged unless [`Group::purge`] asks for it, and
//!   that makes the checkpoint first. To openraft what is purged is gone; to readers of records it is not.
//! - Memory is bounded by bytes, not by numbers of entries: readers return pages, and a proposal waits for room.
//!
//! Surprises:
//!
//! - openraft may refuse one write and take the next one in the same term (its lease expired in between). The next one
//!   was decided on the first: see [`reign`].
//! - A follower whose log became shorter would, by default, bring its *leader* into trouble. Ours are allowed to, because
//!   [`amnesia`] keeps such a replica from voting.
//! - openraft runs its tasks on tokio by itself, past the [`Spawner`](tidemill_core::seams::Spawner), and sleeps on
//!   tokio's timers. A simulation runs both in paused time on one thread. Its random numbers (election timeouts, the
//!   phase of its ticks) come from a seed that [`node`] draws from [`Chance`](tidemill_core::seams::Chance): that is what
//!   the wrapped runtime in [`types`] is for.
//!
//! [`Group::purge`]: crate::group::Group::purge

pub mod amnesia;
pub mod answer;
pub mod arrival;
pub mod departure;
pub mod leadership;
pub mod log_store;
pub mod machine;
pub mod message;
pub mod network;
pub mod node;
pub mod progress;
pub mod reign;
pub mod snapshot;
pub mod standing;
pub mod types;
