//! From a folder with a Rust plugin to a component that a broker takes.
//!
//! Three ideas, a file each: which toolchain of this machine can build for WebAssembly ([`Toolchain`]), what
//! there is to build in a folder and how cargo is run on it ([`build`]), and how the core module that cargo
//! leaves becomes a component ([`component`]). `cargo xtask plugins` and the `tidemill plugin build` command are
//! the callers; both want the same answer on the same machine, so neither does any of this itself.
//!
//! What surprises:
//! - The one thing this crate ever changes on a machine is `rustup target add wasm32-unknown-unknown`, and not
//!   even that where `RUSTUP_AUTO_INSTALL=0` says that nothing is to be installed unasked.
//! - A distribution's compiler has no standard library for WebAssembly, so it builds one, with the compiler's
//!   unstable switches opened by `RUSTC_BOOTSTRAP`. That takes a minute, once.
//! - The user's `RUSTFLAGS` do not reach a guest: a linker or processor that they name is one of the host's.
#![forbid(unsafe_code)]
// This crate is shell: it runs processes, reads and writes the files of a build, and waits for them.
#![allow(clippy::disallowed_methods)]

pub mod component;
mod distribution;
mod error;
mod folder;
mod guest;
mod rustup;
mod toolchain;

pub use error::BuildError;
pub use guest::{Built, Order, build};
pub use toolchain::{Toolchain, Way};

/// The target that guests are built for.
pub const TARGET: &str = "wasm32-unknown-unknown";
