//! Stories of users, told to the real command and to brokers that are processes of their own.
//!
//! They need the built components (`cargo xtask plugins`), and kcat. Each story has a broker and a folder of its own,
//! on free ports of loopback, and ends both.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests live in the real world")]
#![allow(missing_docs, reason = "tests are read, not called")]

mod author;
mod backup;
mod behind;
mod bundles;
mod certificates;
mod data_folders;
mod debugging;
mod doctor;
mod documented;
mod guests;
mod kcat;
mod lifecycle;
mod logs;
mod offsets;
mod operating;
mod reclaim;
mod redrive;
mod topics;
mod tracing;

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use xtask::process::Broker;

/// A broker on a new folder.
fn broker(settings: &[&str]) -> (TempDir, Broker) {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(Path::new(env!("CARGO_BIN_EXE_tidemill")), folder.path(), settings).unwrap();
    (folder, broker)
}

/// Produces lines, as a shell would.
fn produce(broker: &Broker, arguments: &[&str], lines: &str) {
    let mut command = broker.command();
    command.arg("produce").args(arguments).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// All records of a topic, as `consume` prints them.
fn consume(broker: &Broker, topic: &str) -> Vec<Value> {
    let printed = broker.run(&["consume", topic, "--from-beginning", "--exit-at-end"]).unwrap();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Their values, sorted: between partitions there is no order.
fn values(records: &[Value]) -> Vec<&str> {
    let mut values: Vec<_> = records.iter().map(|record| record["value"].as_str().unwrap()).collect();
    values.sort_unstable();
    values
}
