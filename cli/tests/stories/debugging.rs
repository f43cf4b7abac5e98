//! Looking into a broker: its files while it is down, and what it is like for somebody else to see.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{broker, produce};

/// What no listing may show unless it is asked to.
const SECRET: &str = "a-secret-of-somebody";

/// Every file below a folder, with its bytes and its times.
fn files(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            all.insert(path, (bytes, entry.metadata().unwrap().modified().unwrap()));
        }
    }
    all
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_log_is_listed_from_its_files_and_nothing_is_changed() {
    let (folder, mut broker) = broker(&["cluster.shards=2"]);
    let data = folder.path().join("data");
    let data_text = data.display().to_string();
    broker.run(&["topic", "create", "orders", "--partitions", "4"]).unwrap();
    let all: String = (0..100).map(|n| format!("{SECRET} {n}\n")).collect();
    produce(&broker, &["orders"], &all);
    let topic = broker.json(&["topic", "describe", "orders"]).unwrap();
    let dump = |broker: &xtask::process::Broker, more: &[&str]| {
        broker.run(&[&["--output", "json", "debug", "dump", &data_text], more].concat())
    };

    // Killed: the newest segments are left open, and redb would repair them. Stopped: they are closed.
    for end in ["kill", "stop"] {
        match end {
            "kill" => broker.kill().unwrap(),
            _ => assert!(broker.stop().unwrap().success()),
        }
        let before = files(&data);
        let text = dump(&broker, &[]).unwrap();
        assert!(!text.contains(SECRET));
        let listed = lines(&text);
        let segments: Vec<&Value> = listed.iter().filter(|line| line["group"].is_string()).collect();
        assert!(segments.len() >= 3, "a catalog and two shards: {segments:#?}");
        assert_eq!(segments.iter().any(|line| line["left-open"] == true), end == "kill");
        let batches: Vec<&Value> = listed.iter().filter(|line| line["topic"] == topic["id"]).collect();
        let mut ends = BTreeMap::new();
        for batch in &batches {
            let partition = batch["partition"].as_u64().unwrap();
            let next = batch["base-offset"].as_u64().unwrap() + batch["count"].as_u64().unwrap();
            let end = ends.insert(partition, next).unwrap_or(0);
            assert_eq!(batch["base-offset"], end, "one batch behind the other");
        }
        for state in topic["state"].as_array().unwrap() {
            let end = ends.get(&state["partition"].as_u64().unwrap()).copied().unwrap_or(0);
            assert_eq!(state["high-watermark"], end);
        }
        assert!(listed.iter().any(|line| line["kind"] == "produce" && line["index"].is_u64()));

        let table = broker.run(&["debug", "dump", &data_text, "--shard", "1", "--segment", "1"]).unwrap();
        assert!(table.starts_with("shard-1 segment 1") && !table.contains("shard-0"), "{table}");
        let payloads = dump(&broker, &["--payloads"]).unwrap();
        assert_eq!(payloads.matches(SECRET).count(), 100);
        assert!(files(&data) == before, "not a byte, not a time, not a file");
        broker.restart().unwrap();
    }

    // What is damaged is said, and the rest is listed.
    broker.stop().unwrap();
    let path = data.join("shard-0/segment-00000001.redb");
    let mut bytes = fs::read(&path).unwrap();
    let half = bytes.len() / 2;
    bytes[4096..half].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let damaged = broker.command().args(["--output", "json", "debug", "dump", &data_text]).output().unwrap();
    assert_eq!(damaged.status.code(), Some(1));
    let listed = lines(std::str::from_utf8(&damaged.stdout).unwrap());
    assert!(listed.iter().any(|line| line["damaged"].is_string()));
    assert!(listed.iter().any(|line| line["group"] == "shard-1" && line["file-bytes"].is_u64()));
    assert!(dump(&broker, &["--shard", "7"]).is_err(), "there is none");
}
