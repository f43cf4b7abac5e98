//! Puts the SDK's source and the contract into the command, for `plugin new`.
//!
//! The workspace's own files are the only origin. What is written here is a list of `include_str!`: a path within a
//! new project, and the text that goes there.
#![allow(clippy::disallowed_methods, reason = "a build has files")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Folders of the workspace, and where they go in a project. The SDK finds the contract beside itself, there as here.
const FOLDERS: [(&str, &str); 2] = [("plugin-sdk/src", "sdk/src"), ("wit", "wit")];

fn main() {
    let variable = |name| PathBuf::from(env::var_os(name).expect("cargo sets it"));
    let root = variable("CARGO_MANIFEST_DIR").join("..").canonicalize().expect("the workspace is there");
    let mut list = String::from("[\n");
    for (from, to) in FOLDERS {
        add(&root.join(from), to, &mut list);
    }
    list.push_str("]\n");
    fs::write(variable("OUT_DIR").join("project_files.rs"), list).expect("a build writes to its folder");
}

fn add(folder: &Path, to: &str, list: &mut String) {
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = fs::read_dir(folder).expect("a folder of the workspace");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file of the workspace").path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).expect("names of the workspace are text");
        let to = format!("{to}/{name}");
        if path.is_dir() {
            add(&path, &to, list);
        } else {
            writeln!(list, "    ({to:?}, include_str!({:?})),", path.display()).expect("a string takes text");
        }
    }
}
