//! Records are removed before a plugin has consumed them: it is warned of, the disk comes back, and the plugin stops or
//! goes on as its manifest says, and says what it missed.

use std::path::Path;

use serde_json::{Value, json};
use xtask::process::{Broker, counter};

use crate::lifecycle::{PATIENCE, deploy, described, eventually, version, with_topics};
use crate::reclaim::{MIB, records, segments, wait};
use crate::{consume, produce, values};

const PLUGIN: &str = "reject-some";
const PASSED_OVER: &str = "tidemill_plugin_passed_over_records";

fn trim(broker: &Broker, before: u32) {
    let before = before.to_string();
    broker.run(&["topic", "trim", "in", "--partition", "0", "--before-offset", &before]).unwrap();
}

fn task(broker: &Broker) -> Value {
    described(broker, PLUGIN)["state"][0].clone()
}

/// Waits until a gauge of the plugin says so: it is set now and then.
fn gauge(broker: &Broker, name: &str, value: f64) {
    eventually(name, || (counter(&broker.metrics().unwrap(), name, PLUGIN) == value).then_some(()));
}

#[test]
fn a_paused_plugin_is_not_waited_for_and_is_told_where_to_go_on() {
    let (folder, mut broker) = with_topics("1", &[]);
    deploy(&broker, &version(folder.path(), PLUGIN, 0, "")).unwrap();
    produce(&broker, &["in"], "a\n");
    broker.settle(PATIENCE).unwrap();
    broker.run(&["plugin", "pause", PLUGIN]).unwrap();
    produce(&broker, &["in"], "b\nc\nd\ne\n");
    trim(&broker, 3);
    for _ in 0..2 {
        let task =
            eventually("it is behind", || Some(task(&broker)).filter(|task| task["removed-records"] == 2));
        assert_eq!((&task["status"], &task["positions"]["in"]), (&json!("paused"), &json!(1)), "{task}");
        eventually("it says so", || {
            let told = broker.run(&["plugin", "describe", PLUGIN]).unwrap();
            told.contains("task 0 is behind: the log start of in/0 is 3, and it stands at 1").then_some(())
        });
        // It is so in the log, and not only in this process.
        broker.kill().unwrap();
        broker.restart().unwrap();
    }
    let refused = broker.run(&["plugin", "resume", PLUGIN]).unwrap_err().to_string();
    assert!(refused.contains("2 records were removed") && refused.contains("--behind earliest"), "{refused}");
    assert_eq!(described(&broker, PLUGIN)["paused"], true, "nothing was changed");
    broker.run(&["plugin", "resume", PLUGIN, "--behind", "earliest"]).unwrap();
    broker.settle(PATIENCE).unwrap();
    assert_eq!(values(&consume(&broker, "out")), ["a", "d", "e"]);
    let task = task(&broker);
    assert_eq!((&task["passed-over-records"], &task["removed-records"]), (&json!(2), &json!(0)), "{task}");
    let told = broker.run(&["plugin", "describe", PLUGIN]).unwrap();
    assert!(told.contains("task 0 passed over 2 records"), "{told}");
    gauge(&broker, PASSED_OVER, 2.0);
    let proven = broker.json(&["plugin", "verify"]).unwrap();
    assert_eq!((&proven["holds"], &proven["passed-over"]), (&json!(true), &json!(2)), "{proven}");
}

/// It is in the middle of trying an event again when that is removed.
#[test]
fn a_plugin_goes_on_at_the_log_start_by_itself_if_its_manifest_says_so() {
    let (folder, broker) = with_topics("1", &[]);
    let failure = "failure = { attempts = 100, behind-log-start = \"earliest\" }";
    deploy(&broker, &version(folder.path(), PLUGIN, 0, failure)).unwrap();
    produce(&broker, &["in"], "one\nretry this\nretry that\ntwo\n");
    eventually("it tries again", || (task(&broker)["phase"] == "retrying").then_some(()));
    trim(&broker, 3);
    broker.settle(PATIENCE).unwrap();
    assert_eq!(values(&consume(&broker, "out")), ["one", "two"]);
    let task = task(&broker);
    assert_eq!((&task["phase"], &task["passed-over-records"]), (&json!("running"), &json!(2)), "{task}");
    broker.run(&["plugin", "verify"]).unwrap();
}

#[test]
fn a_plugin_that_stopped_goes_on_with_a_version_that_says_where() {
    let (folder, broker) = with_topics("1", &[]);
    deploy(&broker, &version(folder.path(), PLUGIN, 0, "failure = { attempts = 100 }")).unwrap();
    produce(&broker, &["in"], "retry this\ntwo\n");
    eventually("it tries again", || (task(&broker)["phase"] == "retrying").then_some(()));
    trim(&broker, 1);
    eventually("it stops", || (task(&broker)["phase"] == "stopped").then_some(()));
    // Whoever tried the event again meanwhile has nothing to say any more.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let stopped = task(&broker);
    assert_eq!((&stopped["phase"], &stopped["status"]), (&json!("stopped"), &json!("stopped")), "{stopped}");
    assert!(stopped["why"].as_str().unwrap().contains("1 records were removed"), "{stopped}");
    let latest = "failure = { behind-log-start = \"latest\" }";
    deploy(&broker, &version(folder.path(), PLUGIN, 1, latest)).unwrap();
    broker.settle(PATIENCE).unwrap();
    produce(&broker, &["in"], "three\n");
    broker.settle(PATIENCE).unwrap();
    assert_eq!(values(&consume(&broker, "out")), ["three"]);
    assert_eq!(task(&broker)["passed-over-records"], 2);
    broker.run(&["plugin", "verify"]).unwrap();
}

#[test]
fn it_is_warned_of_before_and_then_retention_waits_for_nobody() {
    // Nothing is removed meanwhile: it is looked for that once an hour.
    let (folder, mut broker) = with_topics("1", &["storage.retention-interval=1h"]);
    deploy(&broker, &version(folder.path(), PLUGIN, 0, "")).unwrap();
    broker.run(&["plugin", "pause", PLUGIN]).unwrap();
    produce(&broker, &["in"], "a\nb\n");
    let plugin = described(&broker, PLUGIN);
    assert_eq!((&plugin["expiring"], &plugin["state"][0]["expiring"]), (&json!(0), &json!([])), "{plugin}");
    broker.run(&["topic", "alter", "in", "--set", "retention.ms=1000"]).unwrap();
    let expiring = eventually("it is warned of", || {
        let plugin = described(&broker, PLUGIN);
        (plugin["expiring"] == 1).then(|| plugin["state"][0]["expiring"][0].clone())
    });
    assert_eq!((&expiring["topic"], &expiring["position"]), (&json!("in"), &json!(0)), "{expiring}");
    assert!(expiring["at-ms"].is_u64(), "{expiring}");
    let told = broker.run(&["plugin", "describe", PLUGIN]).unwrap();
    assert!(told.contains("task 0 is about to lose records: its record 0 of in expires in"), "{told}");
    gauge(&broker, "tidemill_plugin_expiring_tasks", 1.0);

    broker.stop().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_tidemill"));
    let broker = Broker::start(program, folder.path(), &["storage.retention-interval=100ms"]).unwrap();
    eventually("they are removed", || (task(&broker)["removed-records"] == 2).then_some(()));
    assert_eq!(described(&broker, PLUGIN)["expiring"], 0, "there is nothing left to warn of");
    broker.run(&["plugin", "resume", PLUGIN, "--behind", "latest"]).unwrap();
    produce(&broker, &["in"], "c\n");
    broker.settle(PATIENCE).unwrap();
    assert_eq!(values(&consume(&broker, "out")), ["c"]);
}

#[test]
fn the_disk_of_what_a_paused_plugin_has_not_read_comes_back() {
    let (folder, broker) = with_topics("1", &[]);
    deploy(&broker, &version(folder.path(), PLUGIN, 0, "")).unwrap();
    broker.run(&["plugin", "pause", PLUGIN]).unwrap();
    (0..3).for_each(|seed| produce(&broker, &["in"], &records(seed, 6 * MIB)));
    let data = folder.path().join("data");
    assert!(segments(&data) > 18 * MIB);
    let all = 3 * 6 * MIB / (16 << 10);
    trim(&broker, all as u32);
    wait("the disk", || segments(&data) < 6 * MIB);
    produce(&broker, &["in"], "the next\n");
    broker.run(&["plugin", "resume", PLUGIN, "--behind", "earliest"]).unwrap();
    broker.settle(PATIENCE).unwrap();
    assert_eq!(values(&consume(&broker, "out")), ["the next"]);
    assert_eq!(task(&broker)["passed-over-records"], all);
}
