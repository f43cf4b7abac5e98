//! The pages of `docs/` that are made from tables in the source are what the tables say.
#![allow(clippy::disallowed_methods, reason = "tests live in the real world")]
#![allow(missing_docs, reason = "tests are read, not called")]

use std::path::Path;
use std::{env, fs};

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
