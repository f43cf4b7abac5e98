//! Where things lie in the repository, wherever it was cloned to and wherever cargo builds.

use std::env;
use std::path::{Path, PathBuf};

/// The folder of the workspace's own `Cargo.toml`.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

/// The folder that cargo builds into: `CARGO_TARGET_DIR`, or `target`.
pub fn target() -> PathBuf {
    repository().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The folder that the built components lie in.
pub fn components() -> PathBuf {
    target().join("components")
}
