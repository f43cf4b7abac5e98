//! What an author does with a plugin: look at it, try it without a broker, read its state.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use xtask::places;

use crate::{broker, produce};

fn fixture(name: &str) -> PathBuf {
    places::repository().join("plugins/fixtures").join(name)
}

/// The command without any broker.
fn tidemill(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.env("TIDEMILL_HOME", home.path()).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A trial of a fixture on lines of input: its steps, and what they came to.
struct Tried {
    output: Output,
    steps: Vec<Value>,
    totals: Value,
}

fn try_it(name: &str, input: &[Value], more: &[&str]) -> Tried {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input.jsonl");
    std::fs::write(&path, input.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let (plugin, components) = (fixture(name), places::components());
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let input = path(&folder.path().join("input.jsonl"));
    let mut arguments = vec!["--output", "json", "plugin", "test"];
    let (plugin, components) = (path(&plugin), path(&components));
    arguments.extend([&plugin, "--components", &components, "--input", &input]);
    arguments.extend(more);
    let output = tidemill(&arguments);
    let mut steps: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let totals = steps.pop().unwrap_or_else(|| panic!("nothing but {}", text(&output.stderr)));
    Tried { output, steps, totals }
}

#[test]
fn a_component_is_looked_into() {
    let (plugin, components) = (fixture("state-counter"), places::components());
    let component = components.join("state-counter.wasm");
    let inspect = |what: &Path| {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (what, components) = (path(what), path(&components));
        tidemill(&["--output", "json", "plugin", "inspect", &what, "--components", &components])
    };
    let looked = inspect(&plugin);
    assert!(looked.status.success(), "{}", text(&looked.stderr));
    let found: Value = serde_json::from_slice(&looked.stdout).unwrap();
    assert_eq!(found["component-bytes"], std::fs::metadata(&component).unwrap().len());
    assert_eq!((&found["admitted"], &found["contract"]), (&json!(true), &json!("0.1")));
    assert_eq!(found["exports"], json!(["tidemill:plugin/handler@0.1.0"]));
    let imports = found["imports"].as_array().unwrap();
    assert!(imports.iter().any(|import| import["name"] == "tidemill:plugin/delivery@0.1.0"), "{imports:?}");
    assert!(imports.iter().all(|import| import["granted"] == true), "{imports:?}");
    assert_eq!(found["manifest"]["limits"]["cpu-ms"], 500);
    let alone: Value = serde_json::from_slice(&inspect(&component).stdout).unwrap();
    assert_eq!((&alone["manifest"], &alone["digest"]), (&Value::Null, &found["digest"]));

    let folder = tempfile::tempdir().unwrap();
    let stranger = folder.path().join("it.wasm");
    // A component that wants what no broker offers, and does nothing.
    let wants = "\0asm\x0d\0\x01\0";
    std::fs::write(&stranger, wants).unwrap();
    let refused = inspect(&stranger);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("exports nothing"), "{}", text(&refused.stderr));
    std::fs::write(&stranger, "this is no component").unwrap();
    assert_eq!(inspect(&stranger).status.code(), Some(1));
}

#[test]
fn a_project_is_made_once_and_only_in_a_language_that_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("greeter");
    let project = project.to_str().unwrap();
    let made = tidemill(&["plugin", "new", "greeter", "--folder", project]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    for file in ["Cargo.toml", "plugin.toml", "src/lib.rs", "sdk/src/lib.rs", "wit/world.wit", ".gitignore"] {
        assert!(Path::new(project).join(file).is_file(), "{file}");
    }
    let again = tidemill(&["plugin", "new", "greeter", "--folder", project]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("not empty"), "{}", text(&again.stderr));
    let other = tidemill(&["plugin", "new", "other", "--lang", "cobol", "--folder", project]);
    assert!(text(&other.stderr).contains("rust, js and python"), "{}", text(&other.stderr));
    let wrong = tidemill(&["plugin", "new", "No Name"]);
    assert!(text(&wrong.stderr).contains("lower-case"), "{}", text(&wrong.stderr));
}

#[test]
fn state_carries_over_from_step_to_step_and_from_partition_to_none() {
    let of = |key: &str, partition: u32| json!({ "key": key, "partition": partition, "value": "x" });
    let tried = try_it("state-counter", &[of("a", 0), of("b", 0), of("a", 0), of("a", 1)], &[]);
    assert!(tried.output.status.success(), "{}", text(&tried.output.stderr));
    let derived: Vec<_> = tried
        .steps
        .iter()
        .map(|step| {
            let record = &step["derived"][0];
            (
                record["topic"].as_str().unwrap(),
                record["key"].as_str().unwrap(),
                record["value"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(derived, [("out", "a", "1"), ("out", "b", "1"), ("out", "a", "2"), ("out", "a", "1")]);
    assert_eq!(tried.steps[2]["state"], json!([{ "key": "a", "value": "2", "removed": false }]));
    assert_eq!((&tried.steps[2]["step"], &tried.steps[3]["step"]), (&json!(3), &json!(1)));
    assert!(tried.steps.iter().all(|step| step["cpu-us"].as_u64().unwrap() > 0));
    assert_eq!((&tried.totals["events"], &tried.totals["failed"]), (&json!(4), &json!(0)));
}

#[test]
fn failures_end_as_they_would_in_a_broker() {
    let lines = ["fine", "reject it", "flaky 1", "retry it", "fine"];
    let lines: Vec<_> = lines.iter().map(|value| json!({ "value": value })).collect();
    let tried = try_it("reject-some", &lines, &[]);
    let outcomes: Vec<_> = tried
        .steps
        .iter()
        .map(|step| (step["given"]["offset"].as_u64().unwrap(), step["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(
        outcomes,
        [
            (0, "done"),
            (1, "dead-lettered"),
            (2, "failed"),
            (2, "done"),
            (3, "failed"),
            (3, "failed"),
            (3, "dead-lettered"),
            (4, "done")
        ]
    );
    let dead = &tried.steps[6]["derived"][0];
    assert_eq!((&dead["topic"], &dead["offset"]), (&json!("reject-some.dead-letter"), &json!(1)));
    assert!(dead["headers"].to_string().contains(r#"{"dead-letter-attempts":"3"}"#), "{dead}");

    for (fixture, culprit, said) in [
        ("panic-on", "please panic", "this plugin was told to: please panic"),
        ("endless-loop", "please loop", "the limit cpu-ms is 500"),
        ("memory-bomb", "all memory", "the limit memory-bytes is"),
        ("big-output", "pieces", "limits.output-bytes in the manifest raises it"),
    ] {
        let tried = try_it(fixture, &[json!({ "value": culprit }), json!({ "value": "fine" })], &[]);
        let last = &tried.steps[2];
        assert_eq!(last["outcome"], "dead-lettered", "{fixture}");
        assert!(last["reason"].as_str().unwrap().contains(said), "{last}");
        assert_eq!(tried.steps[3]["outcome"], "done", "{fixture}");
    }
}

#[test]
fn timers_fire_as_time_goes_by_in_the_input() {
    let asks = |at: u64, what: &str| json!({ "timestamp": at, "value": { "do": what } });
    let input = [
        asks(1_000, "at window 2000"),
        asks(1_100, "after soon 300"),
        asks(2_100, "nothing"),
        asks(2_200, "after later 5000"),
        json!({ "tick": 7_199 }),
        asks(7_199, "after never 100000"),
    ];
    let tried = try_it("timekeeper", &input, &[]);
    let fired: Vec<_> = tried
        .steps
        .iter()
        .filter(|step| step["given"]["name"].is_string())
        .map(|step| step["derived"][0]["value"].as_str().unwrap())
        .collect();
    // The append time of 1,400 comes before the record of 2,100; the lateness is 100 ms.
    assert_eq!(fired, ["soon at watermark 1000", "window at watermark 2000"]);
    let waiting = tried.totals["timers"].as_array().unwrap();
    assert_eq!(waiting.iter().map(|timer| &timer["at"]).collect::<Vec<_>>(), [7_200, 107_199]);
    let tried = try_it("timekeeper", &[&input[..], &[json!({ "tick": 7_200 })]].concat(), &[]);
    let last = &tried.steps.last().unwrap()["derived"][0];
    assert_eq!(last["key"], "later");
}

#[test]
fn a_difference_from_what_was_expected_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let expect = folder.path().join("expect.jsonl");
    let path = expect.to_str().unwrap();
    let input: Vec<_> = ["a", "b", "a"].iter().map(|key| json!({ "key": key, "value": "x" })).collect();
    let blessed = try_it("state-counter", &input, &["--expect", path, "--bless"]);
    assert!(blessed.output.status.success(), "{}", text(&blessed.output.stderr));
    assert_eq!(std::fs::read_to_string(&expect).unwrap().lines().count(), 3);
    assert!(try_it("state-counter", &input, &["--expect", path]).output.status.success());

    std::fs::write(&expect, "{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"a\",\"value\":\"3\"}\n").unwrap();
    let different = try_it("state-counter", &input, &["--expect", path]).output;
    assert_eq!(different.status.code(), Some(1));
    let said = text(&different.stderr);
    assert!(said.contains("\n-{\"key\":\"a\",\"value\":\"3\"}\n"), "{said}");
    assert!(said.contains("1 records missing, 2 too many"), "{said}");
}

#[test]
fn the_state_is_read_by_key_and_by_prefix() {
    let (_folder, broker) = broker(&[]);
    for topic in ["in", "out"] {
        broker.run(&["topic", "create", topic, "--partitions", "2"]).unwrap();
    }
    let (plugin, components) = (fixture("state-counter"), places::components());
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    broker.run(&["plugin", "deploy", &path(&plugin), "--components", &path(&components)]).unwrap();
    let lines: String = (0..40).map(|n| format!("{{\"k\":\"user/{}\"}}\n", n % 20)).collect();
    produce(&broker, &["in", "--key", "k"], &lines);
    produce(&broker, &["in", "--key", "k", "--partition", "1"], "{\"k\":\"other\"}\n");
    broker.settle(std::time::Duration::from_secs(60)).unwrap();

    let rows = |arguments: &[&str]| -> Vec<Value> {
        let all = [&["--output", "json", "plugin", "state"], arguments].concat();
        broker.run(&all).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let one = rows(&["get", "state-counter", "user/7"]);
    assert_eq!((one.len(), &one[0]["value"]), (1, &json!("2")));
    assert_eq!(rows(&["get", "state-counter", "0x757365722f37"]), one);
    assert_eq!(rows(&["get", "state-counter", "other", "--partition", "1"])[0]["task"], 1);
    assert!(broker.run(&["plugin", "state", "get", "state-counter", "user/"]).is_err(), "only a prefix");
    assert!(broker.run(&["plugin", "state", "get", "state-counter", "x", "--partition", "2"]).is_err());

    assert_eq!(rows(&["scan", "state-counter"]).len(), 21);
    assert_eq!(rows(&["scan", "state-counter", "--prefix", "user/1"]).len(), 11);
    assert_eq!(rows(&["scan", "state-counter", "--limit", "3"]).len(), 3);
    let of_task: Vec<Value> = (0..2)
        .flat_map(|task| {
            rows(&["scan", "state-counter", "--prefix", "user/", "--partition", &task.to_string()])
        })
        .collect();
    assert_eq!(of_task.len(), 20);
    let printed = broker.run(&["plugin", "state", "scan", "state-counter", "--prefix", "other"]).unwrap();
    assert_eq!(printed, "task 1  other = 1\n");
}
