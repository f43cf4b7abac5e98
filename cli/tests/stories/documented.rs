//! What is written of a broker is so: its admin API as OpenAPI has it, and the metrics that pages and the dashboard name.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::places;
use xtask::process::Broker;

use crate::{broker, produce};

const PATIENCE: Duration = Duration::from_secs(60);

fn page(name: &str) -> String {
    fs::read_to_string(places::repository().join("docs").join(name)).unwrap()
}

/// A broker with a plugin that has taken steps and given up one record.
fn busy() -> (tempfile::TempDir, Broker) {
    let (folder, broker) = broker(&["listen.tcp=127.0.0.1:0"]);
    for topic in ["in", "out"] {
        broker.run(&["topic", "create", topic]).unwrap();
    }
    let manifest = places::repository().join("plugins/fixtures/panic-on/plugin.toml");
    let (manifest, components) = (manifest.display().to_string(), places::components().display().to_string());
    broker.run(&["plugin", "deploy", &manifest, "--components", &components]).unwrap();
    produce(&broker, &["in"], "one\nplease panic\ntwo\n");
    broker.settle(PATIENCE).unwrap();
    (folder, broker)
}

/// What is wrong with a value, by a schema: types, required fields, items, choices.
fn wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(pointer) = schema["$ref"].as_str() {
        return wrong(document, document.pointer(&pointer[1..]).unwrap(), value, at);
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{at}: the test knows no {other}"),
    };
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is(kind)) {
        return vec![format!("{at}: {value} is none of {kinds:?}")];
    }
    let mut found = Vec::new();
    if schema["enum"].as_array().is_some_and(|choices| !choices.contains(value)) {
        found.push(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter(|_| value.is_object()) {
        if value.get(name.as_str().unwrap()).is_none() {
            found.push(format!("{at}: there is no {name}"));
        }
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            found.extend(wrong(document, field, value, &format!("{at}.{name}")));
        }
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(wrong(document, &schema["items"], item, &format!("{at}[{number}]")));
    }
    found
}

#[test]
fn the_admin_api_answers_as_documented() {
    let (_folder, broker) = busy();
    let document = broker.json(&["debug", "get", "/v1/openapi.json"]).unwrap();
    assert_eq!(document, serde_json::from_str::<Value>(&page("openapi.json")).unwrap());
    let letter = &broker.json(&["debug", "get", "/v1/topics/panic-on.dead-letter"]).unwrap()["state"];
    assert_eq!(letter[0]["high-watermark"], 1);
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let schema = &item["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        let name = if path.contains("topics") { "in" } else { "panic-on" };
        let real = path.replace("{name}", name).replace("{partition}", "0").replace("{offset}", "0");
        let answer = broker.json(&["debug", "get", &real]).unwrap();
        let found = wrong(&document, schema, &answer, &real);
        assert!(found.is_empty(), "{found:#?}");
        asked += 1;
    }
    assert!(asked >= 13, "{asked}");
    // The check itself finds something.
    let topic = document.pointer("/components/schemas/Topic").unwrap();
    assert_eq!(wrong(&document, topic, &serde_json::json!({ "name": 7, "id": "" }), "topic").len(), 4);
    // And what goes wrong is told as documented.
    let missing = broker.command().args(["debug", "get", "/v1/topics/nothing"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
}

/// Names of metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c)).filter(|word| word.starts_with("tidemill_")).collect()
}

#[test]
fn metrics_that_are_written_about_are_there() {
    let (_folder, broker) = busy();
    let pages = ["operations.md", "grafana.json"].map(|name| (name, page(name)));
    let start = Instant::now();
    // What is measured every few seconds only is not there at once.
    let missing = loop {
        let metrics = broker.metrics().unwrap();
        let there: BTreeSet<&str> =
            metrics.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        let missing = |(name, text): &(&str, String)| -> Vec<String> {
            let named = named(text);
            assert!(named.len() >= 10, "{name} names few metrics: {named:?}");
            named.difference(&there).map(|metric| format!("docs/{name}: {metric}")).collect()
        };
        let missing: Vec<String> = pages.iter().flat_map(missing).collect();
        if missing.is_empty() || start.elapsed() > PATIENCE / 3 {
            break missing;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(missing.is_empty(), "they name what no broker has: {missing:#?}");
    let dashboard: Value = serde_json::from_str(&page("grafana.json")).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() >= 10));
}
