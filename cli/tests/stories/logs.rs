//! What plugins write to their logs: a topic of each, which outlives the broker's process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::process::{Broker, counter};

use crate::kcat::kcat;
use crate::lifecycle::{PATIENCE, deploy, described, eventually, version_of, with_topics};
use crate::{consume, produce, values};

/// A broker with a fixture that reads `in`.
fn with_plugin(fixture: &str, partitions: &str, settings: &[&str]) -> (TempDir, Broker) {
    let (folder, broker) = with_topics(partitions, settings);
    deploy(&broker, &version_of(folder.path(), fixture, fixture, 0, "")).unwrap();
    (folder, broker)
}

/// The lines that `plugin logs` prints, as JSON.
fn lines(broker: &Broker, arguments: &[&str]) -> Vec<Value> {
    let printed = broker.run(&[&["--output", "json", "plugin", "logs"], arguments].concat()).unwrap();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Them, as soon as there are so many. They are written a little after their steps.
fn so_many(broker: &Broker, count: usize, arguments: &[&str]) -> Vec<Value> {
    eventually(&format!("{count} lines of {arguments:?}"), || {
        Some(lines(broker, arguments)).filter(|lines| lines.len() >= count)
    })
}

fn messages(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["message"].as_str().unwrap()).collect()
}

#[test]
fn lines_say_their_step_and_attempt_and_are_there_after_the_power_went() {
    let (_folder, mut broker) = with_plugin("log-flood", "1", &["listen.tcp=127.0.0.1:0"]);
    assert_eq!(lines(&broker, &["log-flood"]), [json!(null); 0]);
    let mut follow = broker.command();
    follow.args(["--output", "json", "plugin", "logs", "log-flood", "-f"]).stdout(Stdio::piped());
    let mut follow = follow.spawn().unwrap();
    let mut followed = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&followed.next().unwrap().unwrap()).unwrap() };
    for step in 1..=2 {
        produce(&broker, &["in"], "x\n");
        let line = next();
        assert_eq!((&line["message"], &line["level"]), (&json!("one line"), &json!("info")));
        assert_eq!((&line["task"], &line["step"], &line["attempt"]), (&json!(0), &json!(step), &json!(1)));
        assert_eq!((&line["generation"], &line["dropped"]), (&json!(1), &json!(0)));
    }
    follow.kill().unwrap();
    follow.wait().unwrap();
    let before = so_many(&broker, 2, &["log-flood"]);
    broker.kill().unwrap();
    broker.restart().unwrap();
    assert_eq!(lines(&broker, &["log-flood"]), before);
    let printed = broker.run(&["plugin", "logs", "log-flood", "--lines", "1"]).unwrap();
    assert!(printed.ends_with("info  task 0 step 2 attempt 1: one line\n"), "{printed}");
    assert_eq!(printed.lines().count(), 1);

    // Any client of Kafka reads them; and so does the admin API, for `describe`.
    let tcp = broker.address("tcp").unwrap();
    let format = "%k %s %h\n";
    let read = kcat(tcp, &["-C", "-t", "log-flood.log", "-o", "beginning", "-e", "-q", "-f", format], "");
    let headers = "log-level=info,log-generation=1,log-task=0,log-step=2,log-attempt=1";
    assert_eq!(read.lines().last(), Some(&*format!("log-flood one line {headers}")));
    let ours = consume(&broker, "log-flood.log");
    assert_eq!(
        ours.iter().map(|record| &record["timestamp"]).collect::<Vec<_>>(),
        [&before[0]["at-ms"], &before[1]["at-ms"]]
    );
    let described = broker.run(&["plugin", "describe", "log-flood"]).unwrap();
    assert!(described.contains("task 0 log: info one line"), "{described}");
    assert!(broker.run(&["plugin", "logs", "nobody"]).unwrap_err().to_string().contains("no plugin nobody"));
    assert_eq!(broker.json(&["plugin", "verify"]).unwrap()["holds"], true);
}

#[test]
fn lines_of_attempts_that_failed_are_there_and_are_found_by_level_step_task_and_time() {
    let (_folder, broker) = with_plugin("reject-some", "2", &["cluster.shards=2"]);
    let made = |broker: &Broker, partition, lines| {
        produce(broker, &["in", "--partition", partition], lines);
        broker.settle(PATIENCE).unwrap();
    };
    made(&broker, "0", "retry it\n");
    made(&broker, "1", "flaky 1\nreject it\n");
    let all = eventually("all lines", || {
        let all = lines(&broker, &["reject-some", "--since", "0"]);
        let of = |message: &str| all.iter().filter(|line| line["message"] == message).count();
        (of("fails: retry it") >= 3 && of("fails: reject it") >= 1).then_some(all)
    });
    let of = |task: u32| -> Vec<_> {
        let of_task = all.iter().filter(|line| line["task"] == task);
        of_task.map(|line| (line["message"].as_str().unwrap(), line["attempt"].as_u64().unwrap())).collect()
    };
    assert_eq!(of(0), [("fails: retry it", 1), ("fails: retry it", 2), ("fails: retry it", 3)]);
    // The two were tried together at first, and the step was undone for the first of them.
    let mut second = of(1);
    second.dedup();
    assert_eq!(second, [("fails: flaky 1", 1), ("fails: reject it", 1)]);

    let narrowed = |arguments: &[&str]| lines(&broker, &[&["reject-some"], arguments].concat()).len();
    assert_eq!(narrowed(&["--partition", "0"]), 3);
    assert_eq!((narrowed(&["--level", "warn"]), narrowed(&["--level", "error"])), (all.len(), 0));
    let step = all[0]["step"].to_string();
    let of_step = all.iter().filter(|line| line["step"] == all[0]["step"]).count();
    assert_eq!(narrowed(&["--step", &step]), of_step);
    assert_eq!(narrowed(&["--since", "2", "--partition", "0"]), 1, "an offset");
    assert_eq!(narrowed(&["--since", "1h"]), all.len(), "an age");
    assert_eq!(narrowed(&["--since", "2100-01-01T00:00:00Z"]), 0, "a time");
    for (arguments, why) in [
        (["--since", "yesterday"], "no time, no age and no offset"),
        (["--level", "loud"], "\"loud\" is no level: use trace, debug, info, warn, error"),
        (["--partition", "2"], "reject-some has no task 2"),
    ] {
        let said = broker.run(&[&["plugin", "logs", "reject-some"][..], &arguments].concat());
        assert!(said.as_ref().is_err_and(|said| said.to_string().contains(why)), "{said:?}");
    }
}

#[test]
fn a_flood_is_bounded_and_a_line_says_how_many_were_dropped() {
    const EVENTS: u64 = 40;
    let (folder, broker) = with_topics("1", &[]);
    let manifest = version_of(folder.path(), "log-flood", "log-flood", 0, "");
    let text = std::fs::read_to_string(manifest.join("plugin.toml")).unwrap();
    std::fs::write(manifest.join("plugin.toml"), text + "[limits]\nstep-events = 1\ncpu-ms = 5000\n")
        .unwrap();
    deploy(&broker, &manifest).unwrap();
    produce(&broker, &["in"], &"long 1000\n".repeat(EVENTS as usize));
    broker.settle(PATIENCE).unwrap();
    assert_eq!(values(&consume(&broker, "out")).len() as u64, EVENTS, "no step failed for it");
    produce(&broker, &["in"], "the last\n");
    let all = eventually("the last line", || {
        let all = lines(&broker, &["log-flood", "--since", "0"]);
        all.last().is_some_and(|line| line["message"] == "one line").then_some(all)
    });
    // One step of it alone is more than waits at once; every line is there, or counted in one that is.
    let written = all.iter().filter(|line| line["dropped"] == 0).count() as u64;
    let dropped: u64 = all.iter().map(|line| line["dropped"].as_u64().unwrap()).sum();
    assert_eq!(written + dropped, EVENTS * 1_000 + 1);
    assert!(dropped >= EVENTS * 1_000 / 2, "{dropped}");
    let says = all.iter().find(|line| line["dropped"] != 0).unwrap();
    let count = says["dropped"].to_string();
    assert!(
        says["message"].as_str().unwrap().starts_with(&format!("{count} lines were dropped here")),
        "{says}"
    );
    let metrics = broker.metrics().unwrap();
    let counted = |name| counter(&metrics, name, "log-flood");
    assert_eq!(counted("tidemill_plugin_log_lines_dropped_total") as u64, dropped);
    assert_eq!(counted("tidemill_plugin_log_lines_total") as u64, all.len() as u64);

    // A step that writes more lines than one may says so itself.
    produce(&broker, &["in"], "lines\n");
    let last = eventually("the limit of a step", || {
        let last = lines(&broker, &["log-flood", "--lines", "1"]).remove(0);
        last["message"].as_str().unwrap().contains("the limit log-lines of a step is 1000").then_some(last)
    });
    assert_eq!(last["dropped"], 999_000);
}

/// A plugin that copies one topic to another.
pub fn manifest(folder: &Path, name: &str, reads: &str, publishes: &str) -> PathBuf {
    let made = version_of(folder, name, "pass-through", 0, "");
    let text = format!(
        "name = \"{name}\"\ncomponent = \"it.wasm\"\npublish = [\"{publishes}\"]\n[config]\nto = \"{publishes}\"\n\
         [[subscribe]]\ntopic = \"{reads}\"\nfrom = \"earliest\"\n"
    );
    std::fs::write(made.join("plugin.toml"), text).unwrap();
    made
}

#[test]
fn a_log_is_a_topic_that_others_may_read_and_that_goes_with_nobody() {
    let (folder, broker) = with_plugin("reject-some", "1", &[]);
    broker.run(&["topic", "create", "alerts"]).unwrap();
    deploy(&broker, &manifest(folder.path(), "alerting", "reject-some.log", "alerts")).unwrap();
    produce(&broker, &["in"], "reject a\n");
    let alert = eventually("an alert", || consume(&broker, "alerts").pop());
    assert_eq!((&alert["value"], &alert["key"]), (&json!("fails: reject a"), &json!("reject-some")));

    // What comes of a plugin's lines may not come back to it, and nobody can declare that it may.
    let closing = manifest(folder.path(), "closing", "alerting.log", "in");
    let said = deploy(&broker, &closing).unwrap_err().to_string();
    assert!(said.contains("a cycle through the log of"), "{said}");

    let settings = broker.json(&["topic", "describe", "reject-some.log"]).unwrap()["settings"].clone();
    assert_eq!(settings, json!({ "retention-ms": 86_400_000, "retention-bytes": 16_777_216 }));
    broker.run(&["topic", "alter", "reject-some.log", "--set", "retention.ms=3600000"]).unwrap();

    // It cannot go while its plugin is there, stays when that goes, and the next of that name goes on in it.
    broker.run(&["plugin", "delete", "alerting", "--yes"]).unwrap();
    let said = broker.run(&["topic", "delete", "reject-some.log", "--yes"]).unwrap_err().to_string();
    assert!(said.contains("plugin reject-some writes to topic reject-some.log"), "{said}");
    broker.run(&["plugin", "delete", "reject-some", "--yes"]).unwrap();
    assert_eq!(values(&consume(&broker, "reject-some.log")), ["fails: reject a"]);
    deploy(&broker, &version_of(folder.path(), "reject-some", "reject-some", 1, "")).unwrap();
    let again = so_many(&broker, 2, &["reject-some", "--since", "0"]);
    assert_eq!(messages(&again), ["fails: reject a", "fails: reject a"], "it began anew");
    assert_eq!(described(&broker, "reject-some")["log"], "reject-some.log");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(lines(&broker, &["reject-some"]).len(), 2, "nothing is written where nobody logs");
}
