//! The distribution's compiler: it has no standard library for WebAssembly, but its packages hold the source
//! of one.
//!
//! Three packages must be there: the compiler with cargo, the source, and LLVM's linker. The paths are fixed
//! on purpose: what rustup put on the path before them is another toolchain.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::toolchain::{Toolchain, Way, has_target, output};

const CARGO: &str = "/usr/bin/cargo";
const RUSTC: &str = "/usr/bin/rustc";

/// Finds the distribution's toolchain, or says what it lacks.
pub(crate) fn find() -> Result<Toolchain, String> {
    let (cargo, rustc) = (PathBuf::from(CARGO), PathBuf::from(RUSTC));
    if !cargo.is_file() || !rustc.is_file() {
        return Err(format!("the distribution's packages: {RUSTC} or {CARGO} is missing"));
    }
    let version = output(Command::new(&rustc).arg("--version")).unwrap_or_default();
    if release(&version) < release(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"))) {
        return Err(format!(
            "the distribution's packages: {RUSTC} is {:?}, and {} is needed",
            version.trim(),
            env!("CARGO_PKG_RUST_VERSION")
        ));
    }
    if has_target(&rustc) {
        return Ok(Toolchain { cargo, rustc, way: Way::Installed });
    }
    let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"])).unwrap_or_default();
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/std/Cargo.toml");
    if !source.is_file() {
        return Err(format!(
            "the distribution's packages: the source of std is missing ({})",
            source.display()
        ));
    }
    let linker = linker().ok_or("the distribution's packages: no wasm-ld is on the path or in /usr/bin")?;
    Ok(Toolchain { cargo, rustc, way: Way::FromSource { linker } })
}

/// Major and minor number of `rustc 1.95.0 (…)`; nothing readable is older than everything.
fn release(version: &str) -> (u32, u32) {
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The newest `wasm-ld` or `wasm-ld-N` of this machine: an old one does not know a new compiler's objects.
fn linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/bin")]);
    let files = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let linkers = files.filter_map(|file| Some((age(file.file_name().to_str()?)?, file.path())));
    linkers.max_by_key(|(version, _)| *version).map(|(_, path)| path)
}

/// The version in the name of a `wasm-ld`: one without a number is the one that somebody chose, and wins.
fn age(name: &str) -> Option<u32> {
    match name.strip_prefix("wasm-ld")? {
        "" => Some(u32::MAX),
        version => version.strip_prefix('-')?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_linker_is_told_by_its_name() {
        assert!(age("wasm-ld-22") > age("wasm-ld-9"));
        assert!(age("wasm-ld") > age("wasm-ld-22"));
        assert_eq!(age("wasm-ldd"), None);
        assert_eq!(age("ld.lld-22"), None);
    }

    #[test]
    fn releases_compare_by_number() {
        assert!(release("rustc 1.63.0") < release("rustc 1.95"));
        assert!(release("rustc 1.100.0-nightly (abc 2027-01-01)") > release("rustc 1.95"));
        assert_eq!(release(""), (0, 0));
    }
}
