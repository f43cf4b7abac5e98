//! Building the `tidemill` command, as a release has it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;

use xtask::places;

/// Builds the command, and says where it is.
///
/// # Errors
/// When it does not compile.
pub fn tidemill() -> anyhow::Result<PathBuf> {
    eprintln!("building the broker (the first time takes some minutes)");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(places::repository());
    // With the features of the whole workspace, as the tests are built: else each would build the libraries again.
    let status = cargo.args(["build", "--release", "--workspace", "--bins"]).status()?;
    ensure!(status.success(), "the broker does not compile");
    Ok(places::target().join("release/tidemill"))
}
