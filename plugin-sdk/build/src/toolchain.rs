//! Which compiler builds guests on this machine.
//!
//! ```text
//!  the target is installed ──────────────────────────────► rustup's, or whichever rustc is on the path
//!     │ no
//!  rustup can fetch it (unless RUSTUP_AUTO_INSTALL=0) ───► rustup's
//!     │ no
//!  the distribution has rustc, cargo, std's source, lld ─► the distribution's, which builds std first
//!     │ no
//!  an error that says what to install
//! ```
//!
//! `TIDEMILL_GUEST_TOOLCHAIN` set to `rustup` or `distribution` leaves only that way.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{BuildError, TARGET, distribution, rustup};

/// A compiler that can build guests, and how to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    pub(crate) cargo: PathBuf,
    pub(crate) rustc: PathBuf,
    pub(crate) way: Way,
}

/// Where a toolchain's standard library for WebAssembly comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It is installed beside the compiler.
    Installed,
    /// It is built from source, and linked by this linker.
    FromSource {
        /// The path of a `wasm-ld`.
        linker: PathBuf,
    },
}

/// Variables that must not reach a guest's build. `cargo run` sets the first ones for the program it runs, and
/// they would send one toolchain's cargo to another's compiler; the others are the user's, and meant for the
/// host's target.
const NOT_FOR_GUESTS: [&str; 9] = [
    "CARGO",
    "RUSTC",
    "RUSTDOC",
    "RUSTUP_TOOLCHAIN",
    "LD_LIBRARY_PATH",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
];

impl Toolchain {
    /// Finds a toolchain for the plugin in `folder`, which may pin one of rustup's. `say` is told about
    /// anything that takes its time.
    ///
    /// # Errors
    /// [`BuildError::NoToolchain`] with what to install; [`BuildError::UnknownWay`].
    pub fn find(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Toolchain, BuildError> {
        let only = match env::var("TIDEMILL_GUEST_TOOLCHAIN") {
            Ok(way) if way == "rustup" || way == "distribution" => Some(way),
            Ok(way) => return Err(BuildError::UnknownWay(way)),
            Err(_) => None,
        };
        let may = |way: &str| only.as_deref().is_none_or(|only| only == way);
        let mut tried = Vec::new();
        if may("rustup") {
            match rustup::find(folder, say) {
                Ok(toolchain) => return Ok(toolchain),
                Err(why) => tried.push(why),
            }
        }
        if may("distribution") {
            match distribution::find() {
                Ok(toolchain) => return Ok(toolchain),
                Err(why) => tried.push(why),
            }
        }
        Err(BuildError::NoToolchain { tried })
    }

    /// Where its standard library comes from.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// One line for a reader: which compiler it is, and what it does for the standard library.
    pub fn describe(&self) -> String {
        let rustc = self.rustc.display();
        match &self.way {
            Way::Installed => format!("{rustc}, which has {TARGET} installed"),
            Way::FromSource { linker } => {
                format!(
                    "{rustc}, which builds std for {TARGET} from source and links with {}",
                    linker.display()
                )
            }
        }
    }

    /// A call of this toolchain's cargo, with nothing in its environment that belongs to another.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(&self.cargo);
        for name in NOT_FOR_GUESTS {
            cargo.env_remove(name);
        }
        cargo.env("RUSTC", &self.rustc);
        if let Way::FromSource { linker } = &self.way {
            cargo.env("RUSTC_BOOTSTRAP", "1");
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        cargo
    }

    /// A release build for [`TARGET`], to which the caller adds what to build.
    pub(crate) fn release_build(&self) -> Command {
        let mut cargo = self.cargo();
        cargo.args(["build", "--release", "--target", TARGET]);
        if let Way::FromSource { .. } = self.way {
            cargo.arg("-Zbuild-std=std,panic_abort");
        }
        cargo
    }
}

/// Whether `rustc` has a standard library for [`TARGET`].
pub(crate) fn has_target(rustc: &Path) -> bool {
    let Some(folder) = output(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]))
    else {
        return false;
    };
    let Ok(files) = std::fs::read_dir(folder.trim()) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

/// What `command` prints, if it can be run and succeeds.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(command: &Command, name: &str) -> Option<Option<String>> {
        let mut variables = command.get_envs().filter(|(variable, _)| *variable == name);
        variables.next().map(|(_, value)| value.map(|value| value.to_string_lossy().into_owned()))
    }

    #[test]
    fn another_toolchains_variables_are_taken_out() {
        let installed = Toolchain { cargo: "/a/cargo".into(), rustc: "/a/rustc".into(), way: Way::Installed };
        let build = installed.release_build();
        assert_eq!(variable(&build, "RUSTC"), Some(Some("/a/rustc".into())));
        for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTFLAGS", "LD_LIBRARY_PATH"] {
            assert_eq!(variable(&build, name), Some(None), "{name}");
        }
        assert_eq!(variable(&build, "RUSTC_BOOTSTRAP"), None);
        assert!(!build.get_args().any(|argument| argument.to_string_lossy().starts_with("-Z")));
    }

    #[test]
    fn a_standard_library_from_source_needs_the_linker_and_the_switch() {
        let way = Way::FromSource { linker: "/usr/bin/wasm-ld-22".into() };
        let build =
            Toolchain { cargo: "/usr/bin/cargo".into(), rustc: "/usr/bin/rustc".into(), way }.release_build();
        assert_eq!(variable(&build, "RUSTC_BOOTSTRAP"), Some(Some("1".into())));
        let linker = variable(&build, "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER");
        assert_eq!(linker, Some(Some("/usr/bin/wasm-ld-22".into())));
        assert!(build.get_args().any(|argument| argument == "-Zbuild-std=std,panic_abort"));
    }
}
