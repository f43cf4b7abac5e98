//! The broker.
//!
//! Two paths lead through it; each can be read from one function.
//!
//! - **A request**: [`listener`] makes frames of a stream's bytes; [`requests`] has one line for each request; a
//!   batch is decided by a [`shards::leader`], written by Raft, applied by [`shards::machine`], and answered.
//! - **A step**: [`tasks::pump`] reads what its shard's log holds for a task, runs the guest, and proposes one entry;
//!   [`shards::shipping`] takes what it derived for other shards there.
//!
//! The catalog says what there is; [`catalog::reconcile`] puts it into the shards. [`broker`] is the only place where
//! everything is wired together.
//!
//! Nothing here names wasmtime, redb or openraft; time, chance, disk, network and threads come in through the
//! [`World`](tidemill_core::seams::World), of which [`world`] has the real one.

#![forbid(unsafe_code)]

pub mod addresses;
pub mod admin;
pub mod backup;
pub mod broker;
pub mod bundles;
pub mod catalog;
pub mod components;
pub mod config;
pub mod expiring;
mod files;
pub mod identity;
pub mod letters;
pub mod lifecycle;
pub mod listener;
pub mod logs;
pub mod metrics;
pub mod offsets;
pub mod plugins;
pub mod reclaim;
pub mod requests;
pub mod reserve;
mod retention;
pub mod server;
pub mod shards;
pub mod tasks;
pub mod tls;
pub mod topics;
pub mod trace;
pub mod world;
