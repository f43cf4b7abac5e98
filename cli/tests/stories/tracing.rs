//! Tracing records through plugins: up and down, over shards and restarts, timers, dead letters, and what is no more.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::places;
use xtask::process::Broker;

use crate::{broker, consume, produce};

const PATIENCE: Duration = Duration::from_secs(60);

/// Deploys a component under a name, between two topics.
pub fn deploy(broker: &Broker, folder: &Path, (name, component): (&str, &str), (from, to): (&str, &str)) {
    let manifest: PathBuf = folder.join(format!("{name}.toml"));
    let text = format!(
        "name = \"{name}\"\ncomponent = \"{component}.wasm\"\npublish = [\"{to}\"]\n\n\
         [[subscribe]]\ntopic = \"{from}\"\nfrom = \"earliest\"\n\n[config]\nto = \"{to}\"\n"
    );
    std::fs::write(&manifest, text).unwrap();
    let (manifest, components) = (manifest.display().to_string(), places::components().display().to_string());
    broker.run(&["plugin", "deploy", &manifest, "--components", &components]).unwrap();
}

fn place(record: &Value, topic: &str) -> String {
    format!("{topic}/{}/{}", record["partition"], record["offset"])
}

fn trace(broker: &Broker, record: &str) -> Value {
    broker.json(&["event", "trace", record]).unwrap()
}

/// The records of a trace: place, fate, and the place that each hangs below.
fn hanging(trace: &Value) -> Vec<(String, String, Option<String>)> {
    let records = trace["records"].as_array().unwrap();
    let named = |record: &Value| place(record, record["topic"].as_str().unwrap());
    let hangs = |record: &Value| {
        let parent = record["parent"].as_u64().map(|parent| named(&records[parent as usize]));
        (named(record), record["fate"].as_str().unwrap().to_owned(), parent)
    };
    records.iter().map(hangs).collect()
}

/// A chain of three topics, of which the last lies in other shards, and its records with the key `k7`, one of each.
fn chain() -> (tempfile::TempDir, Broker, [String; 3]) {
    let (folder, broker) = broker(&["cluster.shards=3", "storage.segment-bytes=1MiB"]);
    for (topic, group) in [("a", "near"), ("b", "near"), ("c", "far")] {
        broker.run(&["topic", "create", topic, "--partitions", "4", "--affinity", group]).unwrap();
    }
    deploy(&broker, folder.path(), ("first", "pass-through"), ("a", "b"));
    deploy(&broker, folder.path(), ("second", "pass-through"), ("b", "c"));
    // Long enough that segments are sealed.
    let long = "x".repeat(4_000);
    let lines: String = (0..400).map(|n| format!("{{\"key\":\"k{n}\",\"long\":\"{long}\"}}\n")).collect();
    produce(&broker, &["a", "--key", "key"], &lines);
    broker.settle(PATIENCE).unwrap();
    let one = |topic: &str| {
        let records = consume(&broker, topic);
        place(records.iter().find(|record| record["key"] == "k7").unwrap(), topic)
    };
    let places = ["a", "b", "c"].map(one);
    (folder, broker, places)
}

#[test]
fn a_record_is_followed_up_and_down_over_shards_and_restarts() {
    let (_folder, mut broker, [a, b, c]) = chain();
    let shipped = broker.json(&["debug", "get", "/v1/cluster"]).unwrap();
    assert!(shipped["shipped-batches"].as_u64() > Some(0), "{shipped}");
    let all = [
        (a.clone(), "retained".to_owned(), None),
        (b.clone(), "retained".to_owned(), Some(a.clone())),
        (c.clone(), "retained".to_owned(), Some(b.clone())),
    ];
    for _ in 0..2 {
        for (number, asked) in [&a, &b, &c].into_iter().enumerate() {
            let trace = trace(&broker, asked);
            assert_eq!(hanging(&trace), all, "{asked}");
            assert_eq!(
                (trace["asked"].as_u64(), &trace["is-complete"]),
                (Some(number as u64), &Value::Bool(true))
            );
            let by = &trace["records"][2]["by"];
            assert_eq!(
                (&by["plugin"], &by["generation"], &by["timer"]),
                (&"second".into(), &1.into(), &false.into())
            );
            assert!(by["step"].as_u64() > Some(0) && trace["records"][0]["by"].is_null());
        }
        broker.kill().unwrap();
        broker.restart().unwrap();
    }
    // Every record of the last topic leads to the one with its key in the first.
    let first = consume(&broker, "a");
    for record in consume(&broker, "c").iter().step_by(40) {
        let origin = first.iter().find(|first| first["key"] == record["key"]).unwrap();
        let found = hanging(&trace(&broker, &place(record, "c")));
        assert_eq!((found.len(), &found[0].0), (3, &place(origin, "a")));
    }
    let tree = broker.run(&["event", "trace", &b]).unwrap();
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].starts_with(&a) && lines[0].ends_with("produced"), "{tree}");
    assert!(lines[1].starts_with(&format!("└─ {b}")) && lines[1].ends_with("◀ asked for"), "{tree}");
    assert!(lines[1].contains("by first, generation 1, task "), "{tree}");
    assert!(lines[2].starts_with(&format!("   └─ {c}")) && lines.len() == 3, "{tree}");
}

#[test]
fn what_is_no_more_is_expired_and_the_rest_is_still_found() {
    let (_folder, broker, [a, b, c]) = chain();
    let trim = |place: &str| {
        let parts: Vec<&str> = place.split('/').collect();
        let before = (parts[2].parse::<u64>().unwrap() + 1).to_string();
        let trim = ["topic", "trim", parts[0], "--partition", parts[1], "--before-offset", &before];
        broker.run(&trim).unwrap();
    };
    let fates = |asked: &str| -> Vec<String> {
        hanging(&trace(&broker, asked))
            .into_iter()
            .map(|(place, fate, _)| format!("{place} {fate}"))
            .collect()
    };
    let all = |fates: [&str; 3]| {
        [&a, &b, &c].iter().zip(fates).map(|(place, fate)| format!("{place} {fate}")).collect::<Vec<_>>()
    };
    trim(&b);
    for asked in [&a, &b, &c] {
        // Of what is expired nobody knows from where it came, but of those that came from it.
        let from = if *asked == b { 1 } else { 0 };
        assert_eq!(fates(asked), all(["retained", "expired", "retained"])[from..], "{asked}");
    }
    trim(&a);
    assert_eq!(fates(&c), all(["expired", "expired", "retained"]));
    trim(&c);
    assert_eq!(
        fates(&a),
        all(["expired", "expired", "expired"]),
        "its place is known while the disk is not given back"
    );
    let tree = broker.run(&["event", "trace", &c]).unwrap();
    assert_eq!(tree, format!("{c}  expired  ◀ asked for\n"));
    // And of a plugin that is no more, its records stay.
    broker.run(&["plugin", "delete", "second", "--yes"]).unwrap();
    let other = consume(&broker, "c").pop().unwrap();
    let tree = broker.run(&["event", "trace", &place(&other, "c")]).unwrap();
    assert!(tree.contains("by a deleted plugin ("), "{tree}");
}

#[test]
fn a_timer_and_a_dead_letter_hang_below_their_cause() {
    let (folder, broker) = broker(&["cluster.shards=2"]);
    for topic in ["in", "out"] {
        broker.run(&["topic", "create", topic]).unwrap();
    }
    deploy(&broker, folder.path(), ("timekeeper", "timekeeper"), ("in", "out"));
    produce(
        &broker,
        &["in"],
        "{\"do\":\"after late 20\"}\n{\"do\":\"nothing\"}\n{\"do\":\"after late 40\"}\nno JSON\n",
    );
    let start = Instant::now();
    // The second setting moved the timer, so the third record is its cause.
    let children = |place: &str| {
        let found = trace(&broker, place);
        let records = found["records"].as_array().unwrap();
        records[1..].to_vec()
    };
    let fired = loop {
        let all = [children("in/0/0"), children("in/0/2")].concat();
        let letters = children("in/0/3");
        if !all.is_empty() && !letters.is_empty() {
            break all;
        }
        assert!(start.elapsed() < PATIENCE, "no timer fired, or no letter was written: {all:?} {letters:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(
        fired.iter().all(|record| record["topic"] == "out" && record["by"]["timer"] == true),
        "{fired:?}"
    );
    assert_eq!(children("in/0/1"), Vec::<Value>::new());
    let letters = children("in/0/3");
    assert_eq!((letters.len(), &letters[0]["is-dead-letter"]), (1, &Value::Bool(true)), "{letters:?}");
    assert_eq!(
        (&letters[0]["topic"], &letters[0]["by"]["timer"]),
        (&"timekeeper.dead-letter".into(), &false.into())
    );
    let tree = broker.run(&["event", "trace", "out/0/0"]).unwrap();
    assert!(
        tree.contains("by a timer, last set by the record above; its state came from other records also"),
        "{tree}"
    );
    assert!(broker.run(&["event", "trace", "in/0/3"]).unwrap().contains("dead letter"));
}

#[test]
fn bounds_are_kept_and_said_and_what_is_not_there_is_refused() {
    let (_folder, broker, [a, b, c]) = chain();
    let cut = broker.json(&["event", "trace", &a, "--records", "2"]).unwrap();
    let records = cut["records"].as_array().unwrap();
    assert_eq!((records.len(), &cut["is-complete"]), (2, &Value::Bool(false)));
    assert_eq!((&records[0]["is-cut"], &records[1]["is-cut"]), (&false.into(), &true.into()));
    let shallow = broker.json(&["event", "trace", &b, "--depth", "0"]).unwrap();
    assert_eq!(hanging(&shallow).len(), 2, "its root is known anyhow: {shallow}");
    let tree = broker.run(&["event", "trace", &c, "--depth", "0"]).unwrap();
    assert!(tree.contains("1 more in between, of which nothing is known"), "{tree}");
    assert!(tree.contains("there may be more than was asked for"), "{tree}");
    for (asked, why) in [
        ("a/0/1000000", "no record a/0/1000000 yet"),
        ("a/9/0", "a has no partition 9"),
        ("z/0/0", "no topic z"),
    ] {
        let refused = broker.run(&["event", "trace", asked]).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let refused = broker.run(&["event", "trace", &a, "--records", "1000000"]).unwrap_err().to_string();
    assert!(refused.contains("from 1 to 10000"), "{refused}");
    assert!(
        broker.run(&["event", "trace", "a/0"]).unwrap_err().to_string().contains("TOPIC/PARTITION/OFFSET")
    );
}
