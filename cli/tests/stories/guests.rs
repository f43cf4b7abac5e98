//! Plugins that misbehave, in a broker that goes on: the culprit alone goes to the dead-letter topic.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::places;
use xtask::process::Broker;

use crate::{broker, consume, produce, tracing, values};

/// The word that makes a fixture misbehave, and what is said of it.
const CULPRITS: [(&str, &str, &str); 6] = [
    ("trap", "please trap", "unreachable"),
    ("endless-loop", "please loop", "cpu-ms"),
    ("memory-bomb", "all memory", "memory"),
    ("recursion", "go deeper", "stack"),
    ("big-output", "pieces", "output"),
    ("panic-on", "please panic", "please panic"),
];
const PATIENCE: Duration = Duration::from_secs(60);

fn manifest(plugin: &str) -> PathBuf {
    places::repository().join("plugins/fixtures").join(plugin).join("plugin.toml")
}

fn deploy(broker: &Broker, plugin: &str) {
    let (manifest, components) = (manifest(plugin), places::components());
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    broker.run(&["plugin", "deploy", &path(&manifest), "--components", &path(&components)]).unwrap();
}

/// A broker with topics `in` and `out` of one partition, and one fixture between them.
fn with(plugin: &str) -> (tempfile::TempDir, Broker) {
    let (folder, broker) = broker(&[]);
    for topic in ["in", "out"] {
        broker.run(&["topic", "create", topic]).unwrap();
    }
    deploy(&broker, plugin);
    (folder, broker)
}

fn header<'a>(record: &'a Value, name: &str) -> &'a str {
    let headers = record["headers"].as_array().unwrap();
    headers.iter().find_map(|header| header[name].as_str()).unwrap_or_else(|| panic!("{name} in {record}"))
}

fn culprit_is_put_aside(plugin: &str, word: &str, expected: &str) {
    let (_folder, broker) = with(plugin);
    produce(&broker, &["in"], &format!("one\ntwo\n{word}\nthree\nfour\n"));
    broker.settle(PATIENCE).unwrap();
    assert_eq!(values(&consume(&broker, "out")), ["four", "one", "three", "two"], "{plugin}");
    let dead = consume(&broker, &format!("{plugin}.dead-letter"));
    assert_eq!(values(&dead), [word], "{plugin}");
    assert_eq!(header(&dead[0], "dead-letter-topic"), "in");
    assert_eq!(header(&dead[0], "dead-letter-offset"), "2");
    let reason = header(&dead[0], "dead-letter-reason");
    assert!(reason.to_lowercase().contains(expected), "{plugin}: {reason}");
    // The task goes on as if nothing had been.
    produce(&broker, &["in"], "five\n");
    broker.settle(PATIENCE).unwrap();
    assert_eq!(consume(&broker, "out").len(), 5, "{plugin}");
}

#[test]
fn culprits_alone_are_put_aside() {
    for (plugin, word, expected) in CULPRITS {
        culprit_is_put_aside(plugin, word, expected);
    }
}

#[test]
fn a_panic_is_shown_with_its_place_and_a_backtrace() {
    let (_folder, broker) = with("panic-on");
    produce(&broker, &["in"], "please panic\n");
    broker.settle(PATIENCE).unwrap();
    let described = broker.json(&["plugin", "describe", "panic-on"]).unwrap();
    let failure = &described["state"][0]["last-failure"];
    let reason = failure["reason"].as_str().unwrap();
    assert!(reason.contains("this plugin was told to: please panic"), "{reason}");
    assert!(reason.contains("panic-on/src/lib.rs:"), "{reason}");
    let functions: Vec<_> =
        failure["backtrace"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(functions.iter().any(|name| name.contains("refuse_to_go_on")), "{functions:?}");
}

#[test]
fn timers_fire_when_their_time_has_come() {
    let (_folder, mut broker) = with("timekeeper");
    let asks = |broker: &Broker, timestamp_ms: i64, what: &str| {
        let record = serde_json::json!({ "at": timestamp_ms, "do": what }).to_string();
        produce(broker, &["in", "--timestamp", "at"], &record);
    };
    let fired = |broker: &Broker, count: usize| {
        let start = Instant::now();
        loop {
            let found = consume(broker, "out");
            if found.len() >= count {
                return found
                    .iter()
                    .map(|record| record["value"].as_str().unwrap().to_owned())
                    .collect::<Vec<_>>();
            }
            assert!(start.elapsed() < PATIENCE, "{found:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // Event time: the manifest allows a lateness of 100 ms.
    asks(&broker, 1_000, "at window 2000");
    asks(&broker, 2_099, "nothing");
    broker.settle(PATIENCE).unwrap();
    assert_eq!(consume(&broker, "out").len(), 0, "a record of 1999 may still come");
    asks(&broker, 2_100, "nothing");
    assert_eq!(fired(&broker, 1), ["window at watermark 2000"]);
    // Append time goes on while nothing comes, over a restart, too; and nobody is waited for who is silent.
    asks(&broker, 2_100, "after soon 300");
    asks(&broker, 2_200, "at again 9000000");
    broker.kill().unwrap();
    broker.restart().unwrap();
    let out = fired(&broker, 3);
    assert_eq!(out[1..], ["soon at watermark 2100", "again at watermark 2100"]);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(
        consume(&broker, "out").len(),
        3,
        "what is set while all are silent waits for the next record"
    );
    asks(&broker, 3_000, "after reject 1");
    let start = Instant::now();
    while consume(&broker, "timekeeper.dead-letter").is_empty() {
        assert!(start.elapsed() < PATIENCE);
    }
    let dead = consume(&broker, "timekeeper.dead-letter");
    assert_eq!(
        (header(&dead[0], "dead-letter-timer"), header(&dead[0], "dead-letter-offset")),
        ("append-time", "5")
    );
    broker.run(&["plugin", "verify"]).unwrap();
}

#[test]
fn a_due_timer_that_another_cancels_is_passed_over() {
    let (_folder, broker) = with("timekeeper");
    let asks = |timestamp_ms: i64, what: &str| {
        let record = serde_json::json!({ "at": timestamp_ms, "do": what }).to_string();
        produce(&broker, &["in", "--timestamp", "at"], &record);
        broker.settle(PATIENCE).unwrap();
    };
    asks(1_000, "at cancel-reject 2000");
    asks(1_000, "at reject 2000");
    // Both are due then, in one step; the second would fail it, and by itself is not set any more.
    asks(2_100, "nothing");
    asks(2_100, "at later 2050");
    asks(2_200, "nothing");
    let fired = consume(&broker, "out");
    assert_eq!(values(&fired), ["cancel-reject at watermark 2000", "later at watermark 2100"]);
    assert_eq!(consume(&broker, "timekeeper.dead-letter").len(), 0);
    broker.run(&["plugin", "verify"]).unwrap();
}

#[test]
fn a_window_behind_another_plugin_gets_every_record_of_its_time() {
    let (folder, broker) = broker(&[]);
    for topic in ["first", "in", "out"] {
        broker.run(&["topic", "create", topic]).unwrap();
    }
    tracing::deploy(&broker, folder.path(), ("copy", "pass-through"), ("first", "in"));
    tracing::deploy(&broker, folder.path(), ("timekeeper", "timekeeper"), ("in", "out"));
    // Copied in one step, and so in one batch.
    let ask = |asked: &[(i64, &str)]| {
        let line = |(at, what): &(i64, &str)| format!("{}\n", serde_json::json!({ "at": at, "do": what }));
        broker.run(&["plugin", "pause", "copy"]).unwrap();
        let lines: String = asked.iter().map(line).collect();
        produce(&broker, &["first", "--timestamp", "at"], &lines);
        broker.run(&["plugin", "resume", "copy"]).unwrap();
        broker.settle(PATIENCE).unwrap();
    };
    ask(&[(1_000, "at window 2000")]);
    ask(&[(1_998, "nothing"), (1_999, "cancel window"), (2_000, "at later 2050")]);
    ask(&[(2_050, "nothing")]);
    assert_eq!(values(&consume(&broker, "out")), ["later at watermark 2050"]);
    broker.run(&["plugin", "verify"]).unwrap();
}

#[test]
fn an_instance_serves_one_step() {
    let (_folder, broker) = with("count-static");
    for _ in 0..5 {
        produce(&broker, &["in"], "x\ny\n");
        broker.settle(PATIENCE).unwrap();
    }
    let out = consume(&broker, "out");
    assert_eq!(out.len(), 10);
    assert!(values(&out).iter().all(|value| *value == "1"), "{out:?}");
}

#[test]
fn a_deployment_that_cannot_run_changes_nothing() {
    let (folder, broker) = broker(&[]);
    broker.run(&["topic", "create", "in"]).unwrap();
    let refused = |text: &str, component: &[u8], expected: &str| {
        let manifest = folder.path().join("plugin.toml");
        std::fs::write(&manifest, text).unwrap();
        std::fs::write(folder.path().join("it.wasm"), component).unwrap();
        let deploy = broker.run(&["plugin", "deploy", manifest.to_str().unwrap()]);
        let said = deploy.unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
        assert_eq!(broker.json(&["plugin", "list"]).unwrap(), serde_json::json!([]), "{said}");
    };
    let trap = std::fs::read(places::components().join("trap.wasm"))
        .expect("the components are built: cargo xtask plugins");
    let manifest = |topic: &str| {
        format!(
            "name = \"it\"\ncomponent = \"it.wasm\"\n[[subscribe]]\ntopic = \"{topic}\"\nfrom = \"earliest\"\n"
        )
    };
    refused(&manifest("nowhere"), &trap, "nowhere");
    refused(&manifest("in"), b"this is no component", "component");
    refused(&(String::from("colour = \"red\"\n") + &manifest("in")), &trap, "colour");
}
