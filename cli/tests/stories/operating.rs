//! Running a broker: what its process says and how it ends.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tidemill_protocol::api::messages::fetch_request::{FetchPartition, FetchTopic};
use tidemill_protocol::api::messages::metadata_request::MetadataRequestTopic;
use tidemill_protocol::api::messages::{FetchRequest, MetadataRequest};
use tidemill_protocol::api::{Envelope, Request, encode_request};
use tidemill_protocol::frame;
use xtask::kafka::name;

use crate::{broker, consume, produce, values};

fn tidemill(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command
        .env("TIDEMILL_HOME", folder.path())
        .env_remove("TIDEMILL_CONFIG")
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn sigterm_finishes_what_is_under_way_and_exits_with_0() {
    let (_folder, mut broker) = broker(&[]);
    broker.run(&["topic", "create", "orders", "--partitions", "4"]).unwrap();
    let lines: String = (0..2_000).map(|n| format!("order {n}\n")).collect();
    produce(&broker, &["orders"], &lines);
    assert_eq!(broker.stop().unwrap().code(), Some(0));
    let unreachable = broker.command().args(["topic", "list"]).output().unwrap();
    assert_eq!(unreachable.status.code(), Some(3), "{}", text(&unreachable.stderr));
    broker.restart().unwrap();
    assert_eq!(consume(&broker, "orders").len(), 2_000);
}

#[test]
fn what_came_before_a_bad_line_is_written() {
    let (_folder, broker) = broker(&[]);
    broker.run(&["topic", "create", "orders"]).unwrap();
    let good: String = (0..500).map(|n| format!("{{\"id\":1234567890123456789012{n}}}\n")).collect();
    let mut command = broker.command();
    command.args(["produce", "orders", "--key", "id"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{good}bad\n{good}").as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("line 501: not JSON"), "{}", text(&ended.stderr));
    assert_eq!(text(&ended.stdout), "500 records to orders\n");
    let found = consume(&broker, "orders");
    assert_eq!(found.len(), 500);
    assert_eq!(found[7]["key"], "12345678901234567890127", "no digit is lost");
}

#[test]
fn whoever_reads_no_more_is_no_mistake() {
    let (_folder, broker) = broker(&[]);
    broker.run(&["topic", "create", "orders"]).unwrap();
    produce(&broker, &["orders"], "one\n");
    let commands: [&[&str]; 4] = [
        &["topic", "describe", "orders"],
        &["topic", "list"],
        &["--output", "json", "topic", "list"],
        &["consume", "orders", "--from-beginning", "--exit-at-end"],
    ];
    for arguments in commands {
        let mut command = broker.command();
        let mut child =
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), text(&ended.stderr)), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_client_that_only_asks_is_not_read_for_ever() {
    let (_folder, broker) = broker(&["listen.tcp=127.0.0.1:0"]);
    broker.run(&["topic", "create", "empty"]).unwrap();
    broker.run(&["topic", "create", "orders"]).unwrap();
    let framed = |version: i16, request: Request| {
        let key = request.spoken().key;
        let envelope = Envelope { key, version, correlation_id: 7, client_id: None };
        frame::encode(vec![encode_request(&envelope, &request).unwrap()]).concat()
    };
    // It waits for a record that does not come, and a megabyte after the other for its answer.
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name("empty")).with_partitions(vec![partition]);
    let waits = FetchRequest::default().with_max_wait_ms(30_000).with_min_bytes(1).with_max_bytes(1 << 20);
    let waits = Request::Fetch(waits.with_topics(vec![topic]));
    let topic = MetadataRequestTopic::default().with_name(Some(name(&"n".repeat(30_000))));
    let large = Request::Metadata(MetadataRequest::default().with_topics(Some(vec![topic; 35])));
    let large = framed(9, large);

    let mut stream = TcpStream::connect(broker.address("tcp").unwrap()).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(&framed(12, waits)).unwrap();
    let taken = (0..200).take_while(|_| stream.write_all(&large).is_ok()).count();
    assert!(taken < 120, "{taken} of 200");
    produce(&broker, &["orders"], "one\ntwo\n");
    assert_eq!(values(&consume(&broker, "orders")), ["one", "two"]);
}

#[test]
fn a_folder_has_one_broker() {
    let (folder, mut broker) = broker(&[]);
    let mut second = broker.command();
    let data = folder.path().join("data");
    second.arg("serve").arg("--data").arg(&data);
    for setting in ["quic", "admin", "metrics"] {
        second.args(["--set", &format!("listen.{setting}=127.0.0.1:0")]);
    }
    let refused = second.output().unwrap();
    assert_eq!(refused.status.code(), Some(70));
    assert!(text(&refused.stderr).contains("in use by another broker"), "{}", text(&refused.stderr));
    // The first is none the worse for it.
    broker.run(&["topic", "create", "orders"]).unwrap();
    assert!(broker.stop().unwrap().success());
}

#[test]
fn all_mistakes_of_a_configuration_are_told_at_once() {
    let wrong = tidemill(&["config", "show", "--set", "cluster.shards=0", "--set", "listen.quick=x"]);
    assert_eq!(wrong.status.code(), Some(78));
    let said = text(&wrong.stderr);
    assert!(said.contains("cluster.shards") && said.contains("listen.quick"), "{said}");

    let right = tidemill(&["--output", "json", "config", "show", "--set", "cluster.shards=4"]);
    let shown: Value = serde_json::from_slice(&right.stdout).unwrap();
    assert_eq!(shown["cluster.shards"]["value"], "4");
    assert!(shown["cluster.shards"]["origin"].as_str().unwrap().contains("flag"), "{shown}");
    assert_eq!(shown["log.format"]["origin"], "default");
}

#[test]
fn the_command_explains_itself() {
    let version = tidemill(&["--version"]);
    assert_eq!(text(&version.stdout), format!("tidemill {}\n", env!("CARGO_PKG_VERSION")));
    for command in ["serve", "produce", "consume", "apply"] {
        assert!(text(&tidemill(&[command, "--help"]).stdout).contains("Example"), "{command}");
    }
    assert!(text(&tidemill(&["completion", "bash"]).stdout).contains("complete -F _tidemill"));
    assert_eq!(tidemill(&["produce"]).status.code(), Some(2), "wrong usage");
    let nowhere = tidemill(&["topic", "list"]);
    assert_eq!(nowhere.status.code(), Some(78), "no context");
    assert!(text(&nowhere.stderr).contains("tidemill serve"));
}

#[test]
fn contexts_are_added_and_chosen() {
    let (folder, broker) = broker(&[]);
    let client = folder.path().join("data/client");
    let file = |name: &str| client.join(name).to_str().unwrap().to_owned();
    let (quic, admin) = (broker.address("quic").unwrap(), broker.address("admin").unwrap());
    let add = ["context", "add", "other", "--broker", quic, "--admin", admin];
    let files =
        ["--ca", &file("ca.pem"), "--certificate", &file("client.pem"), "--key", &file("client-key.pem")];
    broker.run(&[&add[..], &files[..]].concat()).unwrap();
    broker.run(&["context", "use", "other"]).unwrap();
    assert_eq!(broker.json(&["context", "list"]).unwrap()["current"], "other");
    broker.run(&["topic", "create", "orders"]).unwrap();
    assert_eq!(broker.json(&["topic", "list", "--context", "local"]).unwrap()[0]["name"], "orders");
}

#[test]
fn records_are_produced_and_consumed_as_one_asks() {
    let (_folder, broker) = broker(&[]);
    broker.run(&["topic", "create", "orders", "--partitions", "4"]).unwrap();
    let lines = concat!(
        r#"{"id":"a","at":"2017-01-01T10:00:00Z","n":1}"#,
        "\n",
        r#"{"id":"b","at":"2017-01-02T10:00:00Z","n":2}"#,
        "\n",
        r#"{"id":"a","at":"2017-01-03T10:00:00Z","n":3}"#,
        "\n",
    );
    produce(&broker, &["orders", "--key", "id", "--timestamp", "at", "--header", "source=shell"], lines);
    let all = consume(&broker, "orders");
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|record| record["headers"] == serde_json::json!([{ "source": "shell" }])));
    let of_a: Vec<_> = all.iter().filter(|record| record["key"] == "a").collect();
    assert_eq!(of_a[0]["partition"], of_a[1]["partition"]);
    assert_eq!((&of_a[0]["value"]["n"], &of_a[1]["value"]["n"]), (&1.into(), &3.into()));

    let late = broker.run(&["consume", "orders", "--from-time", "2017-01-03T00:00:00Z", "--exit-at-end"]);
    let late = late.unwrap();
    assert!(late.lines().count() == 1 && late.contains(r#""n":3"#), "{late}");

    produce(&broker, &["orders", "--partition", "2"], "x\ny\nz\n");
    let end = broker.json(&["topic", "describe", "orders"]).unwrap()["state"][2]["high-watermark"].clone();
    let from = (end.as_u64().unwrap() - 2).to_string();
    let tail = ["consume", "orders", "--partition", "2", "--offset", &from, "--limit", "2"];
    let tail: Vec<Value> =
        broker.run(&tail).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values(&tail), ["y", "z"]);
}

#[test]
fn a_partition_is_trimmed() {
    let (_folder, broker) = broker(&[]);
    broker.run(&["topic", "create", "orders"]).unwrap();
    let lines = concat!(
        r#"{"at":"2017-01-01T10:00:00Z","n":1}"#,
        "\n",
        r#"{"at":"2017-01-02T10:00:00Z","n":2}"#,
        "\n",
        r#"{"at":"2017-01-03T10:00:00Z","n":3}"#,
        "\n",
    );
    produce(&broker, &["orders", "--timestamp", "at"], lines);
    let trim = ["topic", "trim", "orders", "--partition", "0"];
    let to = |which: &[&str]| broker.json(&[&trim[..], which].concat());
    assert_eq!(to(&["--before-time", "2017-01-02T00:00:00Z"]).unwrap()["log-start-offset"], 1);
    let left = consume(&broker, "orders");
    assert_eq!(left.iter().map(|record| record["value"]["n"].clone()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(to(&["--before-offset", "2"]).unwrap()["log-start-offset"], 2);
    assert_eq!(broker.json(&["topic", "describe", "orders"]).unwrap()["state"][0]["log-start-offset"], 2);
    assert!(to(&["--before-offset", "4"]).is_err(), "beyond the end");
    assert!(to(&[]).is_err(), "it says neither offset nor time");
    assert_eq!(to(&["--before-time", "2018-01-01T00:00:00Z"]).unwrap()["log-start-offset"], 3);
    assert_eq!(consume(&broker, "orders").len(), 0);
}

#[test]
fn what_the_broker_logs_is_changed_while_it_runs() {
    let (folder, broker) = broker(&["log.filter=warn"]);
    let log = || std::fs::read_to_string(folder.path().join("broker-1.log")).unwrap();
    let level = |arguments: &[&str]| broker.run(&[&["debug", "log-level"], arguments].concat());
    assert_eq!(level(&[]).unwrap(), "warn\n");
    broker.run(&["topic", "create", "orders"]).unwrap();
    produce(&broker, &["orders"], "one\n");
    let trim = ["topic", "trim", "orders", "--partition", "0", "--before-offset", "1"];
    broker.run(&trim).unwrap();
    assert!(!log().contains("trimmed"), "{}", log());

    assert_eq!(level(&["warn,tidemill_host::admin=info"]).unwrap(), "warn,tidemill_host::admin=info\n");
    produce(&broker, &["orders"], "two\n");
    broker.run(&[&trim[..5], &["--before-offset", "2"]].concat()).unwrap();
    assert!(log().contains("trimmed"), "{}", log());

    for wrong in ["tidemill_host=lots", ""] {
        let refused = broker.command().args(["debug", "log-level", wrong]).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("filter: "), "{}", text(&refused.stderr));
    }
    let now = broker.json(&["debug", "log-level"]).unwrap();
    assert_eq!(now["filter"], "warn,tidemill_host::admin=info", "what was wrong changed nothing");
}
