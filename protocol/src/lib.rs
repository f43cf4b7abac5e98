//! Bytes in, values out.
//!
//! This crate knows how things are written, and nothing of what they are for: record batches ([`batch`]), requests
//! and responses ([`api`]) in their [`frame`]s, the table of [`error`]s, the names of things ([`ids`]), and the
//! big-endian primitives that our own formats are made of ([`primitive`]). It does no I/O, has no clock, no async
//! and no opinion about what is allowed; rules live in `tidemill-core`.

#![forbid(unsafe_code)]

pub mod api;
pub mod batch;
pub mod codec;
pub mod error;
pub mod frame;
pub mod ids;
pub mod partitioner;
pub mod primitive;
