//! Components and manifests: what is deployed, before any of it runs.

use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use xtask::places;

use crate::command;
use crate::door::{Door, Row};
use crate::http::Api;

fn digest(component: &[u8]) -> String {
    Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn component(name: &str) -> Vec<u8> {
    let path = places::components().join(format!("{name}.wasm"));
    fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask plugins` makes it", path.display()))
}

/// A manifest that may stand.
fn manifest() -> Value {
    json!({
        "name": "copies", "component": "pass-through.wasm", "publish": ["copied"],
        "subscribe": [{ "topic": "orders", "from": "earliest" }],
    })
}

/// A manifest with another value at a place; without one, with nothing there.
fn with(pointer: &str, value: Value) -> Value {
    let mut manifest = manifest();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = manifest.pointer_mut(parent).unwrap();
    if value == json!("(gone)") {
        parent.as_object_mut().unwrap().remove(key);
    } else {
        parent[key] = value;
    }
    manifest
}

/// Every mistake in a manifest, as the API is sent it.
fn manifests() -> Vec<Row<Value>> {
    let many: Vec<_> = (0..17).map(|n| json!({ "topic": format!("t{n}"), "from": "latest" })).collect();
    let twice = json!([{ "topic": "orders", "from": "latest" }, { "topic": "orders", "from": "earliest" }]);
    let from = |from: Value| with("/subscribe", json!([{ "topic": "orders", "from": from }]));
    vec![
        ("no name", with("/name", json!("(gone)")), "400 INVALID_REQUEST [\"manifest.name\"]"),
        ("an empty name", with("/name", json!("")), "422 INVALID_CONFIG [\"name\"]"),
        ("a path for a name", with("/name", json!("../copies")), "422 INVALID_CONFIG [\"name\"]"),
        ("a name with a zero byte", with("/name", json!("a\0b")), "422 INVALID_CONFIG [\"name\"]"),
        ("a name of 300 letters", with("/name", json!("n".repeat(300))), "422 INVALID_CONFIG [\"name\"]"),
        ("a name that is a number", with("/name", json!(7)), "400 INVALID_REQUEST [\"manifest.name\"]"),
        (
            "a key that is not known",
            with("/subscrbe", json!([])),
            "400 INVALID_REQUEST [\"manifest.subscrbe\"]",
        ),
        ("no inputs", with("/subscribe", json!([])), "422 INVALID_CONFIG [\"subscribe\"]"),
        (
            "inputs that are gone",
            with("/subscribe", json!("(gone)")),
            "400 INVALID_REQUEST [\"manifest.subscribe\"]",
        ),
        (
            "inputs that are a name",
            with("/subscribe", json!("orders")),
            "400 INVALID_REQUEST [\"manifest.subscribe\"]",
        ),
        (
            "an input without a start",
            with("/subscribe", json!([{ "topic": "orders" }])),
            "400 INVALID_REQUEST [\"manifest.subscribe[0].from\"]",
        ),
        (
            "an input without a name",
            with("/subscribe", json!([{ "topic": "", "from": "latest" }])),
            "422 INVALID_CONFIG [\"subscribe\"]",
        ),
        ("an input twice", with("/subscribe", twice), "422 INVALID_CONFIG [\"subscribe\"] | named twice"),
        ("17 inputs", with("/subscribe", json!(many)), "422 INVALID_CONFIG [\"subscribe\"] | at most 16"),
        (
            "an input that is not there",
            with("/subscribe", json!([{ "topic": "nowhere", "from": "latest" }])),
            "404 UNKNOWN_TOPIC_OR_PARTITION | nowhere",
        ),
        ("a start that is a word", from(json!("soon")), "400 INVALID_REQUEST [\"manifest.subscribe[0].from"),
        (
            "a start at offset -1",
            from(json!({ "offset": -1 })),
            "400 INVALID_REQUEST [\"manifest.subscribe[0].from",
        ),
        (
            "a start behind the end",
            from(json!({ "offset": 7 })),
            "422 OFFSET_OUT_OF_RANGE [\"subscribe.orders.from\"]",
        ),
        (
            "a start at the largest offset",
            from(json!({ "offset": u64::MAX })),
            "422 OFFSET_OUT_OF_RANGE [\"subscribe.orders.from\"]",
        ),
        (
            "a start at no time",
            from(json!({ "time": "yesterday" })),
            "422 OFFSET_OUT_OF_RANGE [\"subscribe.orders.from\"]",
        ),
        (
            "a start in the year 10000",
            from(json!({ "time": "10000-01-01T00:00:00Z" })),
            "422 OFFSET_OUT_OF_RANGE [\"subscribe.orders.from\"]",
        ),
        ("two starts", from(json!({ "offset": 0, "time": "2017-01-01T00:00:00Z" })), "400 INVALID_REQUEST"),
        (
            "an output with a path for a name",
            with("/publish", json!(["a/b"])),
            "422 INVALID_CONFIG [\"publish\"]",
        ),
        (
            "an output twice",
            with("/publish", json!(["a", "a"])),
            "422 INVALID_CONFIG [\"publish\"] | named twice",
        ),
        (
            "17 outputs",
            with("/publish", json!((0..17).map(|n| format!("t{n}")).collect::<Vec<_>>())),
            "422 INVALID_CONFIG [\"publish\"]",
        ),
        (
            "an output that is a number",
            with("/publish", json!([7])),
            "400 INVALID_REQUEST [\"manifest.publish[0]\"]",
        ),
        ("what it reads, again as output", with("/publish", json!(["orders"])), "cycle"),
        (
            "no memory",
            with("/limits", json!({ "memory-bytes": 0 })),
            "422 INVALID_CONFIG [\"limits.memory-bytes\"]",
        ),
        (
            "a GiB of memory",
            with("/limits", json!({ "memory-bytes": 1u64 << 30 })),
            "422 INVALID_CONFIG [\"limits.memory-bytes\"]",
        ),
        ("no time", with("/limits", json!({ "cpu-ms": 0 })), "422 INVALID_CONFIG [\"limits.cpu-ms\"]"),
        (
            "an hour of time",
            with("/limits", json!({ "cpu-ms": 3_600_000 })),
            "422 INVALID_CONFIG [\"limits.cpu-ms\"]",
        ),
        (
            "a limit below zero",
            with("/limits", json!({ "cpu-ms": -1 })),
            "400 INVALID_REQUEST [\"manifest.limits.cpu-ms\"]",
        ),
        (
            "a limit that is not known",
            with("/limits", json!({ "disk": 1 })),
            "400 INVALID_REQUEST [\"manifest.limits.disk\"]",
        ),
        (
            "too many outputs",
            with("/limits", json!({ "output-records": 100_001 })),
            "422 INVALID_CONFIG [\"limits.output-records\"]",
        ),
        (
            "too many events",
            with("/limits", json!({ "step-events": 1_001 })),
            "422 INVALID_CONFIG [\"limits.step-events\"]",
        ),
        (
            "no attempts",
            with("/failure", json!({ "attempts": 0 })),
            "422 INVALID_CONFIG [\"failure.attempts\"]",
        ),
        (
            "101 attempts",
            with("/failure", json!({ "attempts": 101 })),
            "422 INVALID_CONFIG [\"failure.attempts\"]",
        ),
        (
            "what to do then: nothing",
            with("/failure", json!({ "then": "nothing" })),
            "400 INVALID_REQUEST [\"manifest.failure.then\"]",
        ),
        (
            "behind the log start: the middle",
            with("/failure", json!({ "behind-log-start": "middle" })),
            "400 INVALID_REQUEST [\"manifest.failure.behind-log-start\"]",
        ),
        (
            "a configuration that is a list",
            with("/config", json!([1])),
            "400 INVALID_REQUEST [\"manifest.config\"]",
        ),
        (
            "a list in the configuration",
            with("/config", json!({ "a": [1] })),
            "422 INVALID_CONFIG [\"config.a\"]",
        ),
        (
            "null in the configuration",
            with("/config", json!({ "a": null })),
            "422 INVALID_CONFIG [\"config.a\"]",
        ),
        (
            "a key of the configuration twice",
            with("/config", json!({ "a": { "b": 1 }, "a.b": 2 })),
            "422 INVALID_CONFIG [\"config.a.b\"]",
        ),
        (
            "65 KiB of configuration",
            with("/config", json!({ "a": "v".repeat(65 * 1_024) })),
            "422 INVALID_CONFIG [\"config\"]",
        ),
        (
            "a cycle of 1,001 hops",
            with("/cycle", json!([{ "through": ["b"], "max-hops": 1_001 }])),
            "422 INVALID_CONFIG [\"cycle.max-hops\"]",
        ),
        (
            "a cycle of no hops",
            with("/cycle", json!([{ "through": ["b"], "max-hops": 0 }])),
            "422 INVALID_CONFIG [\"cycle.max-hops\"]",
        ),
        (
            "a lateness below zero",
            with("/event-time", json!({ "lateness-ms": -1 })),
            "400 INVALID_REQUEST [\"manifest.event-time.lateness-ms\"]",
        ),
        (
            "a state's version in words",
            with("/state-version", json!("one")),
            "400 INVALID_REQUEST [\"manifest.state-version\"]",
        ),
        (
            "65 versions of a state",
            with("/reads-state-versions", json!((0..65).collect::<Vec<_>>())),
            "422 INVALID_CONFIG [\"reads-state-versions\"]",
        ),
        ("a manifest that is a text", json!("name = 'copies'"), "400 INVALID_REQUEST [\"manifest\"]"),
        ("as it may be", manifest(), "200"),
    ]
}

/// Components: uploaded under their digest, and then wanted by a manifest.
fn components() -> Vec<Row<Vec<u8>>> {
    let good = component("pass-through");
    let header = |version: u8, layer: u8| [b"\0asm".as_slice(), &[version, 0, layer, 0]].concat();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        bytes
    };
    let refused = "422 INVALID_REQUEST [\"component\"]";
    vec![
        ("no bytes", vec![], refused),
        ("a text", b"this is no component".to_vec(), refused),
        ("ELF", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(), refused),
        ("a MiB of zeros", vec![0; 1 << 20], refused),
        ("a core module", header(1, 0), refused),
        ("a component of another version", header(99, 1), refused),
        (
            "a component of nothing",
            header(13, 1),
            "422 INVALID_REQUEST [\"component\"] the component is no plugin: it exports nothing",
        ),
        ("a head alone", good[..8].to_vec(), refused),
        ("half a component", good[..good.len() / 2].to_vec(), refused),
        ("all but its last byte", good[..good.len() - 1].to_vec(), refused),
        ("a byte more", [good.clone(), vec![0xff]].concat(), refused),
        ("a flipped bit at its front", flipped(9), refused),
        (
            "a section that claims 4 GiB",
            [header(13, 1), vec![1, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat(),
            refused,
        ),
        ("a section that never ends", [header(13, 1), vec![0x80; 100]].concat(), refused),
        ("100,000 components in one another", [header(13, 1), vec![4; 100_000]].concat(), refused),
        ("a text of WebAssembly", b"(component)".to_vec(), refused),
    ]
}

#[test]
fn components_and_manifests_that_are_none() {
    let door = Door::open(&[]);
    let api = Api::of(&door);
    door.broker.run(&["topic", "create", "copied", "--partitions", "4"]).unwrap();
    let good = component("pass-through");
    let put = |digest: &str, body: &[u8]| api.request("PUT", &format!("/v1/components/{digest}"), "", body);
    let check = |manifest: &Value, digest: &str| {
        api.document(
            "POST",
            "/v1/plugins/check",
            &json!({ "manifest": manifest, "digest": digest }).to_string(),
        )
    };
    let nought = "0".repeat(64);
    door.row(
        "a component under another's digest",
        &put(&nought, &good),
        "422 INVALID_REQUEST [\"component\"] | SHA-256",
    );
    door.row("a component under a word", &put("latest", &good), "400 INVALID_REQUEST [\"digest\"]");
    door.row("a manifest before its component", &check(&manifest(), &nought), "404 | upload it first");
    let claim = format!(
        "PUT /v1/components/{nought} HTTP/1.1\r\nHost: a\r\nContent-Length: 67108865\r\nConnection: close\r\n\r\n"
    );
    door.row(
        "a component of 64 MiB and a byte",
        &api.raw(claim.as_bytes()),
        "413 MESSAGE_TOO_LARGE [\"body\"]",
    );
    door.row("a component, whole", &put(&digest(&good), &good), "204");
    let wrong = |digest: Value| {
        api.document("POST", "/v1/plugins", &json!({ "manifest": manifest(), "digest": digest }).to_string())
    };
    door.row("no digest", &wrong(Value::Null), "400 INVALID_REQUEST [\"digest\"]");
    door.row("a digest in words", &wrong(json!("latest")), "400 INVALID_REQUEST [\"digest\"]");
    door.row("a digest of 64 letters", &wrong(json!("é".repeat(32))), "400 INVALID_REQUEST [\"digest\"]");
    door.walk(manifests(), |manifest| check(&manifest, &digest(&good)));
    door.walk(components(), |component| {
        let kept = put(&digest(&component), &component);
        assert!(kept.starts_with("204"), "whatever it is, it is kept: {kept}");
        check(&manifest(), &digest(&component))
    });
    texts(&door);
    assert_eq!(door.broker.json(&["plugin", "list"]).unwrap(), json!([]), "nothing was deployed");
    door.close(85);
}

/// Manifests as their authors write them, told by the command before any broker is asked.
fn texts(door: &Door) {
    let head = "name = 'a'\ncomponent = 'pass-through.wasm'\n";
    let subscribe = "[[subscribe]]\ntopic = 'orders'\nfrom = 'earliest'\n";
    let rows: Vec<Row<String>> = vec![
        ("nothing", String::new(), "1: | missing field `name`"),
        ("no TOML", "this is no manifest".to_owned(), "1: | line 1"),
        ("no closing quote", format!("{head}publish = ['a\n"), "1: | line 3"),
        ("a key twice", format!("{head}name = 'b'\n{subscribe}"), "1: | duplicate key"),
        ("a key that is not known", format!("{head}publsh = []\n{subscribe}"), "1: | publsh"),
        ("a number for a name", format!("name = 7\n{subscribe}"), "1: | line 1 | invalid type"),
        (
            "lists in one another",
            format!("{head}publish = {}{}", "[".repeat(10_000), "]".repeat(10_000)),
            "1:",
        ),
        ("tables in one another", format!("{head}{subscribe}[config.{}a]\n", "a.".repeat(10_000)), "1:"),
        (
            "65 KiB",
            format!("{head}{subscribe}[config]\na = '{}'\n", "v".repeat(65 * 1_024)),
            "1: | a manifest has at most 65536",
        ),
        (
            "several mistakes at once",
            format!("name = 'a b'\ncomponent = 'a'\npublish = ['/']\n{subscribe}[limits]\ncpu-ms = 0\n"),
            "1: | name: | publish: | limits.cpu-ms:",
        ),
        (
            "a component that is not there",
            format!("name = 'a'\ncomponent = 'b.wasm'\n{subscribe}"),
            "1: | there is no | b.wasm",
        ),
        ("no component at all", format!("name = 'a'\ncomponent = ''\n{subscribe}"), "1: | there is no"),
    ];
    let path = door.folder.path().join("plugin.toml");
    let components = places::components().display().to_string();
    door.walk(rows, |text| {
        fs::write(&path, text).unwrap();
        command::run(door.broker.command().args([
            "plugin",
            "deploy",
            path.to_str().unwrap(),
            "--components",
            &components,
        ]))
    });
    fs::write(&path, b"name = '\xff'").unwrap();
    let told = command::run(door.broker.command().args(["plugin", "deploy", path.to_str().unwrap()]));
    door.row("a manifest that is no UTF-8", &told, "1: | UTF-8");
}
