//! Listening for clients.
//!
//! | file | holds |
//! |---|---|
//! | [`quic`] | connections over QUIC; each of their streams is like a connection over TCP |
//! | [`tcp`] | connections over plain TCP |
//! | [`stream`] | frames in, frames out, in order |

pub mod quic;
mod stream;
pub mod tcp;
