//! What `doctor` says of a folder that is well, and of one that is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::broker;

/// Exit status and findings.
fn doctor(data: &Path) -> (Option<i32>, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.env_remove("TIDEMILL_CONFIG").args(["doctor", "--json", "--data"]).arg(data);
    let output = command.output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

fn of<'a>(findings: &'a [Value], check: &str) -> &'a Value {
    findings
        .iter()
        .find(|finding| finding["check"] == check)
        .unwrap_or_else(|| panic!("{check}: {findings:#?}"))
}

#[test]
fn doctor_looks_at_a_running_broker_and_says_what_to_do() {
    let (folder, broker) = broker(&[]);
    let data = folder.path().join("data");
    let (_, findings) = doctor(&data);
    let all = [
        "kernel",
        "file-limit",
        "receive-buffer",
        "send-buffer",
        "clock",
        "clock-kept",
        "data-folder",
        "file-system",
        "room",
        "sync",
        "authority",
        "broker-certificate",
        "client-certificate",
        "keys",
    ];
    for check in all {
        let finding = of(&findings, check);
        assert!(["ok", "warn", "bad"].contains(&finding["verdict"].as_str().unwrap()), "{finding}");
        assert_eq!(finding["verdict"] == "ok", finding["advice"].is_null(), "what to do: {finding}");
    }
    for check in ["clock", "data-folder", "authority", "broker-certificate", "client-certificate", "keys"] {
        assert_eq!(of(&findings, check)["verdict"], "ok", "{findings:#?}");
    }
    assert!(of(&findings, "sync")["found"].as_str().unwrap().contains("p99"));
    broker.run(&["topic", "create", "orders"]).unwrap();

    // A key that others may read, and a certificate that is none.
    fs::set_permissions(data.join("tls/ca-key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(data.join("client/client.pem"), "no certificate").unwrap();
    let (status, findings) = doctor(&data);
    assert_eq!(status, Some(1));
    assert!(of(&findings, "keys")["found"].as_str().unwrap().contains("tls/ca-key.pem"));
    assert_eq!(of(&findings, "client-certificate")["verdict"], "bad");
}

#[test]
fn doctor_looks_at_a_machine_without_a_broker() {
    let folder = tempfile::tempdir().unwrap();
    let (_, findings) = doctor(&folder.path().join("not/yet"));
    assert_eq!(of(&findings, "data-folder")["verdict"], "warn");
    assert!(of(&findings, "room")["found"].as_str().unwrap().contains("free"));
    assert!(!folder.path().join("not").exists(), "it makes nothing");
}
