//! What there is to build in a folder: cargo's own description of it, read for the little that we need.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;

use crate::{BuildError, Toolchain};

/// A crate that becomes a component.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plugin {
    /// The package's name, and the component's.
    pub(crate) package: String,
    /// The name of the file that cargo makes, without its extension.
    pub(crate) library: String,
}

/// The plugins of a folder, and where cargo would put what it makes of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) plugins: Vec<Plugin>,
    pub(crate) target_dir: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

/// Reads `folder`: the plugin whose manifest lies in it, or all plugins of the workspace that it is.
pub(crate) fn read(folder: &Path, toolchain: &Toolchain) -> Result<Folder, BuildError> {
    let run = |source| BuildError::Run { program: toolchain.cargo.clone(), source };
    let mut cargo = toolchain.cargo();
    cargo.current_dir(folder).args(["metadata", "--no-deps", "--format-version", "1"]).stdin(Stdio::null());
    let output = cargo.output().map_err(run)?;
    let wrong = |said: String| BuildError::Manifest { folder: folder.to_owned(), said };
    if !output.status.success() {
        return Err(wrong(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let metadata = serde_json::from_slice(&output.stdout).map_err(|error| wrong(error.to_string()))?;
    let manifest = folder.canonicalize().map_err(BuildError::file(folder))?.join("Cargo.toml");
    let found = choose(metadata, &manifest);
    if found.plugins.is_empty() {
        return Err(BuildError::NoPlugin(folder.to_owned()));
    }
    Ok(found)
}

fn choose(metadata: Metadata, manifest: &Path) -> Folder {
    let own = |package: &Package| package.manifest_path.canonicalize().is_ok_and(|path| path == manifest);
    let only_its_own = metadata.packages.iter().any(own);
    let packages = metadata.packages.into_iter().filter(|package| !only_its_own || own(package));
    let plugins = packages.filter_map(|package| {
        let is_guest = |target: &Target| target.crate_types.iter().any(|kind| kind == "cdylib");
        let library = package.targets.into_iter().find(is_guest)?;
        Some(Plugin { package: package.name, library: library.name.replace('-', "_") })
    });
    Folder { plugins: plugins.collect(), target_dir: metadata.target_directory }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(root: &Path) -> Metadata {
        let package = |name: &str, kind: &str| {
            std::fs::create_dir_all(root.join(name)).unwrap();
            std::fs::write(root.join(name).join("Cargo.toml"), "").unwrap();
            serde_json::json!({
                "name": name,
                "manifest_path": root.join(name).join("Cargo.toml"),
                "targets": [{ "name": name, "crate_types": [kind] }, { "name": "t", "crate_types": ["bin"] }],
            })
        };
        let packages =
            [package("order-lines", "cdylib"), package("orders", "lib"), package("email", "cdylib")];
        serde_json::from_value(serde_json::json!({ "packages": packages, "target_directory": "/t" })).unwrap()
    }

    #[test]
    fn a_workspace_gives_all_its_plugins_and_a_crate_only_itself() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let names = |manifest: &Path| {
            let found = choose(metadata(&root), manifest);
            found.plugins.into_iter().map(|plugin| (plugin.package, plugin.library)).collect::<Vec<_>>()
        };
        let lines = ("order-lines".to_owned(), "order_lines".to_owned());
        let email = ("email".to_owned(), "email".to_owned());
        assert_eq!(names(&root.join("Cargo.toml")), [lines.clone(), email]);
        assert_eq!(names(&root.join("order-lines/Cargo.toml")), [lines]);
        assert_eq!(names(&root.join("orders/Cargo.toml")), []);
    }
}
