//! Connections to brokers.
//!
//! ```text
//!  Link  one broker's address: connects, and connects again ──▶ Live  one QUIC connection, once it is greeted
//!                                                                │
//!                              a stream of its own per question ─┤ call
//!                              long-lived streams, pipelined ────┴ Pipe
//! ```
//!
//! Requests on one stream are answered in order, so what must not wait for one another goes on different streams:
//! each partition that is produced to has one, up to a number, and each question opens its own.

mod link;
mod live;
mod pipe;
mod versions;

pub(crate) use link::{Link, Network};
pub(crate) use live::Live;
pub(crate) use pipe::{Pipe, Reply};
