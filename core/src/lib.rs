//! The rules of Tidemill, pure.
//!
//! A consumer is a function of its log, and a step is one entry: everything here follows from that. The leader of
//! a group *decides*: it looks at the head state and a `now` that it is given, may refuse, and makes an
//! [`entry`]. Every replica *applies* it to its [`tables`], totally and deterministically, and yields
//! [`effect`]s, which the shell performs after commit.
//!
//! This crate has no async, no I/O, no clock and no random number; [`seams`] holds the contracts by which the
//! shell hands them to whoever needs them. It never names a request of a protocol, a file or a guest.
//!
//! Reading order: [`ids`], [`entry`], [`envelope`], [`tables`], [`shard`], [`head`], [`catalog`].

#![forbid(unsafe_code)]

pub mod bundle;
pub mod catalog;
pub mod dead_letter;
pub mod descent;
pub mod effect;
pub mod entry;
pub mod envelope;
pub mod event_time;
pub mod fault;
pub mod head;
pub mod ids;
pub mod limits;
pub mod manifest;
pub mod plugin;
pub mod rejection;
pub mod rows;
pub mod seams;
pub mod shard;
pub mod tables;
pub mod task;
mod text;
pub mod timers;
