//! Looking into a broker: its files while it is down, and what it is like for somebody else to see.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
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

#[test]
fn a_bundle_holds_what_helps_and_neither_keys_nor_records() {
    let (folder, mut broker) = broker(&[]);
    let data = folder.path().join("data");
    broker.run(&["topic", "create", "orders"]).unwrap();
    produce(&broker, &["orders", "--header", &format!("{SECRET}={SECRET}")], &format!("{SECRET}\n"));
    let bundle = |broker: &xtask::process::Broker, name: &str| {
        let out = folder.path().join(name);
        let text = |path: &Path| path.display().to_string();
        let made = broker.json(&["debug", "bundle", &text(&out), "--data", &text(&data)]).unwrap();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(fs::File::open(&out).unwrap()).read_to_end(&mut unpacked).unwrap();
        (out, made, String::from_utf8_lossy(&unpacked).into_owned())
    };
    let (out, made, all) = bundle(&broker, "a.tar.gz");
    assert_eq!(made["missing"], serde_json::json!({}));
    let expected = [
        ("about.json", env!("CARGO_PKG_VERSION")),
        ("settings.json", "storage.reserve"),
        ("doctor.json", "file-limit"),
        ("cluster.json", "feature-level"),
        ("shards.json", "applied-index"),
        ("topics.json", "orders"),
        ("plugins.json", "[]"),
        ("certificates.json", "ends-at-ms"),
        ("metrics.txt", "tidemill_produced_records_total 1"),
    ];
    for (piece, word) in expected {
        assert!(made["pieces"].as_array().unwrap().contains(&piece.into()), "{made}");
        assert!(all.contains(word), "{piece} has no {word}");
    }
    // As every tar reads it.
    let listed = std::process::Command::new("tar").arg("-tzf").arg(&out).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    assert!(names.lines().any(|name| name == "tidemill/doctor.json"), "{names}");

    let identity: Value = serde_json::from_slice(&fs::read(data.join("identity.json")).unwrap()).unwrap();
    for key in ["artifact-key", "reset-key"] {
        assert!(!all.contains(identity[key].as_str().unwrap()), "{key}");
    }
    for key in ["tls/ca-key.pem", "tls/broker-key.pem", "client/client-key.pem"] {
        let pem = fs::read_to_string(data.join(key)).unwrap();
        assert!(!all.contains(pem.lines().nth(1).unwrap()), "{key}");
    }
    assert!(!all.contains("PRIVATE KEY") && !all.contains(SECRET));

    // A broker that is down is a reason to make one.
    broker.kill().unwrap();
    let (_, made, all) = bundle(&broker, "b.tar.gz");
    assert!(made["missing"]["cluster.json"].is_string() && all.contains("file-limit"), "{made}");
}
