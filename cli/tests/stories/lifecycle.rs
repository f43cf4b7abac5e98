//! The life of a plugin: new versions under load and kills, pauses, ways back, restarts, the end; and what becomes of
//! records that fail.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::places;
use xtask::process::{Broker, counter};

use crate::{broker, consume, produce, values};

pub const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: usize = 20;

/// A version of a fixture that reads `in` and writes to `out`: its component differs by a custom section, so that its
/// digest does, too. `more` goes into the manifest before its tables.
pub fn version(folder: &Path, fixture: &str, number: u32, more: &str) -> PathBuf {
    version_of(folder, fixture, fixture, number, more)
}

/// A version of the plugin `name` that is made of a fixture.
pub fn version_of(folder: &Path, name: &str, fixture: &str, number: u32, more: &str) -> PathBuf {
    let mut component = std::fs::read(places::components().join(format!("{fixture}.wasm")))
        .expect("the components are built: cargo xtask plugins");
    let section = format!("version {number}");
    component.extend([0, section.len() as u8 + 1, section.len() as u8]);
    component.extend(section.as_bytes());
    let folder = folder.join(format!("{name}-{number}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("it.wasm"), component).unwrap();
    let manifest = format!(
        "name = \"{name}\"\ncomponent = \"it.wasm\"\npublish = [\"out\"]\n{more}\n\
         [[subscribe]]\ntopic = \"in\"\nfrom = \"earliest\"\n"
    );
    std::fs::write(folder.join("plugin.toml"), manifest).unwrap();
    folder
}

pub fn with_topics(partitions: &str, settings: &[&str]) -> (tempfile::TempDir, Broker) {
    let (folder, broker) = broker(settings);
    for topic in ["in", "out"] {
        broker.run(&["topic", "create", topic, "--partitions", partitions]).unwrap();
    }
    (folder, broker)
}

pub fn deploy(broker: &Broker, manifest: &Path) -> anyhow::Result<Value> {
    broker.json(&["plugin", "deploy", manifest.to_str().unwrap()])
}

pub fn described(broker: &Broker, name: &str) -> Value {
    broker.json(&["plugin", "describe", name]).unwrap()
}

pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A line for one of the keys.
fn line(number: usize) -> String {
    format!("{{\"key\":\"k{}\",\"n\":{number}}}\n", number % KEYS)
}

/// Writes lines to the topic, slowly, while other things happen.
fn slowly(broker: &Broker, lines: usize) -> std::thread::JoinHandle<Child> {
    let mut command = broker.command();
    command.args(["produce", "in", "--key", "key"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    std::thread::spawn(move || {
        let mut stdin = child.stdin.take().unwrap();
        for number in 0..lines {
            stdin.write_all(line(number).as_bytes()).unwrap();
            if number % 20 == 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        drop(stdin);
        child
    })
}

/// Of each key, the counts that were derived, in their order.
fn counts(broker: &Broker) -> BTreeMap<String, Vec<u64>> {
    let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in consume(broker, "out") {
        let value = &record["value"];
        let count = value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap();
        counts.entry(record["key"].as_str().unwrap().to_owned()).or_default().push(count);
    }
    counts
}

#[test]
fn new_versions_under_load_and_kills_skip_nothing_and_double_nothing() {
    const LINES: usize = 6_000;
    const VERSIONS: u32 = 8;
    let (folder, mut broker) = with_topics("4", &["cluster.shards=3"]);
    deploy(&broker, &version(folder.path(), "state-counter", 0, "")).unwrap();
    let producing = slowly(&broker, LINES);
    for number in 1..=VERSIONS {
        let manifest = version(folder.path(), "state-counter", number, "");
        if number % 2 == 0 {
            // The power goes while the version is deployed: a little later each time.
            let mut command = broker.command();
            command.args(["plugin", "deploy", manifest.to_str().unwrap()]);
            let mut deploying = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(u64::from(number) * 60));
            broker.kill().unwrap();
            deploying.wait().unwrap();
            broker.restart().unwrap();
        }
        deploy(&broker, &manifest).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    let mut producer = producing.join().unwrap();
    assert!(producer.wait().unwrap().success());
    broker.settle(PATIENCE).unwrap();
    let each: Vec<u64> = (1..=(LINES / KEYS) as u64).collect();
    let counts = counts(&broker);
    assert_eq!(counts.len(), KEYS);
    assert!(counts.values().all(|found| *found == each), "{counts:?}");
    let generation = described(&broker, "state-counter")["generation"].as_u64().unwrap();
    assert!(generation > u64::from(VERSIONS), "{generation}");
    let verified = broker.json(&["plugin", "verify"]).unwrap();
    assert_eq!(verified["holds"], true, "{verified}");
}

#[test]
fn a_paused_plugin_takes_no_steps_over_a_restart_and_a_new_version() {
    let (folder, mut broker) = with_topics("2", &[]);
    deploy(&broker, &version(folder.path(), "state-counter", 0, "")).unwrap();
    broker.run(&["plugin", "pause", "state-counter"]).unwrap();
    produce(&broker, &["in", "--key", "key"], &(0..KEYS).map(line).collect::<String>());
    broker.kill().unwrap();
    broker.restart().unwrap();
    deploy(&broker, &version(folder.path(), "state-counter", 1, "")).unwrap();
    let plugin = described(&broker, "state-counter");
    assert_eq!((&plugin["paused"], &plugin["lag-records"]), (&json!(true), &json!(KEYS)));
    assert!(plugin["state"].as_array().unwrap().iter().all(|task| task["status"] == "paused"), "{plugin}");
    assert!(broker.run(&["plugin", "list"]).unwrap().contains("paused"));
    assert_eq!(consume(&broker, "out").len(), 0);
    broker.run(&["plugin", "resume", "state-counter"]).unwrap();
    broker.settle(PATIENCE).unwrap();
    assert_eq!(consume(&broker, "out").len(), KEYS);
    let resumed = || broker.json(&["plugin", "resume", "state-counter"]).unwrap()["changed"].clone();
    assert_eq!(resumed(), false);
    broker.run(&["topic", "alter", "out", "--set", "max.message.bytes=2000000"]).unwrap();
    assert_eq!([resumed(), resumed()], [true, false], "it is told what its topic takes now");
    broker.run(&["plugin", "verify"]).unwrap();
}

#[test]
fn a_rollback_goes_on_where_the_new_version_stood_if_it_can_read_what_that_kept() {
    let (folder, broker) = with_topics("1", &[]);
    let first = deploy(&broker, &version(folder.path(), "state-counter", 0, "")).unwrap();
    let none = broker.run(&["plugin", "rollback", "state-counter"]).unwrap_err().to_string();
    assert!(none.contains("no version of state-counter before this one"), "{none}");
    deploy(&broker, &version(folder.path(), "state-counter", 1, "")).unwrap();
    produce(&broker, &["in", "--key", "key"], &(0..KEYS).map(line).collect::<String>());
    broker.settle(PATIENCE).unwrap();
    let back = broker.json(&["plugin", "rollback", "state-counter"]).unwrap();
    assert_eq!((&back["digest"], &back["generation"]), (&first["digest"], &json!(3)));
    produce(&broker, &["in", "--key", "key"], &(0..KEYS).map(line).collect::<String>());
    broker.settle(PATIENCE).unwrap();
    assert!(counts(&broker).values().all(|found| *found == [1, 2]));

    let blind = version(folder.path(), "state-counter", 2, "state-version = 2");
    let refused = deploy(&broker, &blind).unwrap_err().to_string();
    assert!(refused.contains("kept in version 1") && refused.contains("reads version 2"), "{refused}");
    assert_eq!(described(&broker, "state-counter")["generation"], 3, "nothing was changed");
    let sees = version(folder.path(), "state-counter", 2, "state-version = 2\nreads-state-versions = [1]");
    deploy(&broker, &sees).unwrap();
    let refused = broker.run(&["plugin", "rollback", "state-counter"]).unwrap_err().to_string();
    assert!(refused.contains("kept in version 1, 2") && refused.contains("reads version 1"), "{refused}");
    broker.run(&["plugin", "verify"]).unwrap();
}

#[test]
fn a_reset_derives_again_and_says_so_before() {
    let (folder, mut broker) = with_topics("2", &["cluster.shards=3"]);
    deploy(&broker, &version(folder.path(), "state-counter", 0, "")).unwrap();
    produce(&broker, &["in", "--key", "key"], &(0..KEYS).map(line).collect::<String>());
    broker.settle(PATIENCE).unwrap();
    let asked =
        broker.command().args(["plugin", "reset", "state-counter", "--to", "earliest"]).output().unwrap();
    let said = String::from_utf8(asked.stderr).unwrap();
    assert!(
        !asked.status.success() && said.contains("derives again, into out, state-counter.dead-letter"),
        "{said}"
    );
    assert_eq!(described(&broker, "state-counter")["generation"], 1, "nobody agreed");

    broker.run(&["plugin", "reset", "state-counter", "--to", "earliest", "--yes"]).unwrap();
    broker.kill().unwrap();
    broker.restart().unwrap();
    broker.settle(PATIENCE).unwrap();
    assert!(counts(&broker).values().all(|found| *found == [1, 2]), "the state stayed");
    broker.run(&["plugin", "reset", "state-counter", "--to", "earliest", "--fresh-state", "--yes"]).unwrap();
    broker.settle(PATIENCE).unwrap();
    assert!(counts(&broker).values().all(|found| *found == [1, 2, 1]), "the state is new");
    broker.run(&["plugin", "reset", "state-counter", "--to", "latest", "--yes"]).unwrap();
    broker.settle(PATIENCE).unwrap();
    assert_eq!(consume(&broker, "out").len(), 3 * KEYS);
    let wrong = ["plugin", "reset", "state-counter", "--to", "1000000", "--yes"];
    assert!(broker.run(&wrong).unwrap_err().to_string().contains("outside"));
    broker.run(&["plugin", "verify"]).unwrap();
}

#[test]
fn a_deleted_plugin_leaves_its_topics_and_nothing_else() {
    let (folder, mut broker) = with_topics("2", &["cluster.shards=3"]);
    let manifest = version(folder.path(), "state-counter", 0, "");
    deploy(&broker, &manifest).unwrap();
    produce(&broker, &["in", "--key", "key"], &(0..KEYS).map(line).collect::<String>());
    broker.settle(PATIENCE).unwrap();
    let asked = broker.run(&["plugin", "delete", "state-counter"]).unwrap_err().to_string();
    assert!(asked.contains("out, state-counter.dead-letter"), "{asked}");
    broker.run(&["plugin", "delete", "state-counter", "--yes"]).unwrap();
    broker.kill().unwrap();
    broker.restart().unwrap();
    assert_eq!(broker.json(&["plugin", "list"]).unwrap(), json!([]));
    assert_eq!(consume(&broker, "out").len(), KEYS);
    assert!(broker.run(&["plugin", "delete", "state-counter", "--yes"]).is_err(), "it is no more");
    broker.run(&["plugin", "verify"]).unwrap();
    // Of the same name, it is another plugin: it begins with nothing.
    assert_eq!(deploy(&broker, &manifest).unwrap()["generation"], 1);
    broker.settle(PATIENCE).unwrap();
    assert!(counts(&broker).values().all(|found| *found == [1, 1]));
    broker.run(&["plugin", "verify"]).unwrap();
}

#[test]
fn what_fails_is_tried_three_times_within_two_seconds_and_then_given_up() {
    let (folder, broker) = with_topics("1", &[]);
    deploy(&broker, &version(folder.path(), "reject-some", 0, "")).unwrap();
    let start = Instant::now();
    produce(&broker, &["in"], "one\nflaky 2\nretry this\nreject that\ntwo\n");
    broker.settle(PATIENCE).unwrap();
    let took = start.elapsed();
    let out = consume(&broker, "out");
    assert_eq!(values(&out), ["flaky 2", "one", "two"], "the third attempt succeeds");
    let dead = consume(&broker, "reject-some.dead-letter");
    let fact = |record: &Value, name: &str| {
        let headers = record["headers"].as_array().unwrap();
        headers.iter().find_map(|header| header[name].as_str().map(str::to_owned)).unwrap()
    };
    assert_eq!(values(&dead), ["reject that", "retry this"]);
    assert_eq!(fact(&dead[0], "dead-letter-attempts"), "3", "what may pass is tried three times");
    assert_eq!(fact(&dead[1], "dead-letter-attempts"), "1", "what will not is not");
    // Two records waited for their attempts here, one behind the other.
    assert!(took < Duration::from_secs(6), "{took:?}");
    broker.run(&["plugin", "verify"]).unwrap();
}

#[test]
fn dead_letters_are_listed_shown_and_discarded() {
    let (folder, mut broker) = with_topics("2", &["cluster.shards=3"]);
    deploy(&broker, &version(folder.path(), "reject-some", 0, "")).unwrap();
    let lines = "reject a\nreject a\nreject b\nfine\n";
    produce(&broker, &["in", "--header", "source=shell"], lines);
    broker.settle(PATIENCE).unwrap();
    let listed = broker.json(&["dlq", "list"]).unwrap();
    let reasons: Vec<_> = listed[0]["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| (of["reason"].clone(), of["count"].clone()))
        .collect();
    assert_eq!((&listed[0]["open"], reasons.len()), (&json!(3), 2), "{listed}");
    assert!(reasons[0].0.as_str().unwrap().contains("reject a") && reasons[0].1 == 2, "{reasons:?}");
    assert!(broker.run(&["dlq", "list", "reject-some"]).unwrap().contains("reject b"));

    let first = &listed[0]["reasons"][1]["first"];
    let place = format!("{}/{}", first["partition"], first["offset"]);
    let shown = broker.json(&["dlq", "show", "reject-some", &place]).unwrap();
    assert_eq!(shown["value"], json!({ "text": "reject b" }));
    assert_eq!(
        shown["headers"],
        json!([["source", { "text": "shell" }]]),
        "its own headers, without the facts"
    );
    let facts = &shown["facts"];
    assert_eq!((&facts["topic"], &facts["attempts"]), (&json!("in"), &json!("1")));
    assert_eq!((&shown["root"]["topic"], &shown["fate"]), (&json!("in"), &json!("open")));
    assert_eq!(facts["offset"], shown["root"]["offset"].to_string());
    let none = broker.run(&["dlq", "show", "reject-some", "0/900"]).unwrap_err().to_string();
    assert!(none.contains("no dead letter at 0/900"), "{none}");

    assert!(broker.run(&["dlq", "discard", "reject-some", &place]).is_err(), "nobody agreed");
    let discard = ["dlq", "discard", "reject-some", "--yes", &place];
    broker.run(&discard).unwrap();
    assert!(broker.run(&discard).is_err(), "it is discarded already");
    broker.kill().unwrap();
    broker.restart().unwrap();
    assert_eq!(broker.json(&["dlq", "show", "reject-some", &place]).unwrap()["fate"], "discarded");
    let listed = broker.json(&["dlq", "list", "reject-some"]).unwrap();
    assert_eq!((&listed[0]["open"], &listed[0]["discarded"]), (&json!(2), &json!(1)));
    let reason = reasons[0].0.as_str().unwrap();
    broker.run(&["dlq", "discard", "reject-some", "--yes", "--reason", reason]).unwrap();
    assert_eq!(broker.json(&["dlq", "list", "reject-some"]).unwrap()[0]["open"], 0);
    assert_eq!(consume(&broker, "reject-some.dead-letter").len(), 3, "they stay in their topic");
    broker.run(&["plugin", "verify"]).unwrap();
}

#[test]
fn a_partition_waits_while_its_event_is_tried_again_and_describe_says_so() {
    let (folder, broker) = with_topics("1", &[]);
    deploy(&broker, &version(folder.path(), "reject-some", 0, "failure = { attempts = 12 }")).unwrap();
    produce(&broker, &["in"], "retry this\nbehind it\n");
    eventually("it says that it waits", || {
        let task = described(&broker, "reject-some")["state"][0].clone();
        let waits = task["phase"] == "retrying" && task["attempts"].as_u64() >= Some(2);
        waits.then(|| assert!(task["why"].as_str().unwrap().contains("retry this"), "{task}"))
    });
    let told = broker.run(&["plugin", "describe", "reject-some"]).unwrap();
    assert!(told.contains("task 0 waits before an event that failed"), "{told}");
    assert_eq!(consume(&broker, "out").len(), 0, "what is behind it waits, too");
}

#[test]
fn a_task_that_its_policy_stopped_is_stalled_until_it_is_resumed() {
    let (folder, mut broker) = with_topics("1", &[]);
    let policy = "failure = { attempts = 2, then = \"stop\" }";
    deploy(&broker, &version(folder.path(), "reject-some", 0, policy)).unwrap();
    produce(&broker, &["in"], "one\nflaky 2\ntwo\n");
    let stopped = |broker: &Broker| {
        eventually("it stops", || {
            let task = described(broker, "reject-some")["state"][0].clone();
            (task["phase"] == "stopped").then_some(task)
        })
    };
    assert!(stopped(&broker)["why"].as_str().unwrap().contains("flaky 2"));
    broker.kill().unwrap();
    broker.restart().unwrap();
    stopped(&broker);
    assert_eq!(values(&consume(&broker, "out")), ["one"]);
    eventually("it is stalled", || {
        let plugin = described(&broker, "reject-some");
        let cause = plugin["stalled-cause"].as_str()?;
        assert!(cause.contains("its failure policy stopped it"), "{cause}");
        Some(())
    });
    assert_eq!(counter(&broker.metrics().unwrap(), "tidemill_plugin_stalled_tasks", "reject-some"), 1.0);
    assert!(broker.run(&["plugin", "list"]).unwrap().contains("stalled: its failure policy stopped it"));
    let ready = broker.probe("/readyz").unwrap();
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.contains("degraded: task 0 of plugin reject-some"),
        "{ready}"
    );
    // Resumed, it tries the same event again: the same policy stops it again. A version with more patience goes on.
    deploy(&broker, &version(folder.path(), "reject-some", 1, "failure = { attempts = 5 }")).unwrap();
    broker.settle(PATIENCE).unwrap();
    assert_eq!(values(&consume(&broker, "out")), ["flaky 2", "one", "two"]);
    broker.run(&["plugin", "verify"]).unwrap();
}
