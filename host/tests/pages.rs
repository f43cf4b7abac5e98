//! The pages of `docs/` that are made from tables in the source are what the tables say.
#![allow(clippy::disallowed_methods, reason = "tests live in the real world")]
#![allow(missing_docs, reason = "tests are read, not called")]

use std::path::Path;
use std::{env, fs};

use tidemill_core::manifest::Manifest;

fn is_up_to_date(page: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    if env::var_os("TIDEMILL_WRITE_PAGES").is_some() {
        fs::write(&path, text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "docs/{page} is not what the source says: `cargo xtask docs` writes it");
}

#[test]
fn errors() {
    is_up_to_date("errors.md", &tidemill_protocol::error::markdown());
}

#[test]
fn configuration() {
    is_up_to_date("configuration.md", &tidemill_host::config::manual());
}

#[test]
fn limits_of_plugins() {
    let manifest = "name = \"a\"\ncomponent = \"a.wasm\"\nsubscribe = []";
    let manifest: Manifest = toml::from_str(manifest).unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/plugins.md");
    let page = fs::read_to_string(page).unwrap();
    for (key, default, most) in manifest.bounded() {
        let row = format!("| `{key}` | {default} | {most} |");
        assert!(page.contains(&row), "docs/plugins.md does not say: {row}");
    }
}
