//! The command itself, as a process: how it ended, and what it said.

use std::process::{Command, Stdio};

/// `78: tidemill: cluster.shards (flag): …`: the status and what was said, on one line.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let status = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    format!("{status}: {}{}", said.replace('\n', " / "), String::from_utf8_lossy(&output.stdout))
}
