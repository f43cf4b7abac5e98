//! Why a plugin could not be built, said so that the reader knows what to do next.

use std::io;
use std::path::{Path, PathBuf};

use crate::TARGET;

/// Why a plugin could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No toolchain of this machine builds for WebAssembly.
    #[error("{}", missing(tried))]
    NoToolchain {
        /// What was looked at, and why it did not serve.
        tried: Vec<String>,
    },
    /// `TIDEMILL_GUEST_TOOLCHAIN` names none of the ways.
    #[error("TIDEMILL_GUEST_TOOLCHAIN is {0:?}: it can be \"rustup\" or \"distribution\", or be left unset")]
    UnknownWay(String),
    /// A program could not be started.
    #[error("cannot run {}: {source}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Cargo could not describe the folder: there is no manifest in it, or a broken one.
    #[error("cargo cannot read the manifest in {}:\n{}", folder.display(), said.trim_end())]
    Manifest {
        /// The folder.
        folder: PathBuf,
        /// What cargo wrote.
        said: String,
    },
    /// Nothing in the folder becomes a component.
    #[error(
        "nothing to build in {}: a plugin's Cargo.toml has `[lib] crate-type = [\"cdylib\"]`",
        .0.display()
    )]
    NoPlugin(PathBuf),
    /// Cargo failed; what it had to say it wrote to the terminal.
    #[error("cargo could not build the plugins in {}: see above", .0.display())]
    Cargo(PathBuf),
    /// A file of the build could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What cargo made is no module of which a component can be made.
    #[error("{name}: no component can be made of it: {why}")]
    Component {
        /// The plugin.
        name: String,
        /// Why.
        why: String,
    },
}

impl BuildError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| BuildError::File { path, source }
    }
}

fn missing(tried: &[String]) -> String {
    let tried: String = tried.iter().map(|line| format!("\n  - {line}")).collect();
    format!(
        "this machine has no Rust toolchain that builds for {TARGET}. Either of these gives it one:\n\
         \n    rustup target add {TARGET}\
         \n    sudo apt-get install rustc-web cargo-web rust-web-src lld-22    # Debian 12\n\
         \nWhat was looked at:{tried}"
    )
}
