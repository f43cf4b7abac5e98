//! Topics that go, and come again as others; their settings; records that expire.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use tidemill_protocol::api::messages::create_partitions_request::CreatePartitionsTopic;
use tidemill_protocol::api::messages::delete_topics_request::DeleteTopicState;
use tidemill_protocol::api::messages::describe_configs_request::DescribeConfigsResource;
use tidemill_protocol::api::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use tidemill_protocol::api::messages::{
    CreatePartitionsRequest, DeleteTopicsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
};
use tidemill_protocol::api::{Request, Response, StrBytes};
use tidemill_protocol::error::ErrorCode;
use xtask::kafka::{Connection, name};
use xtask::places;
use xtask::process::Broker;

use crate::{broker, consume, produce, values};

const PATIENCE: Duration = Duration::from_secs(60);

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[test]
fn a_topic_goes_with_all_that_was_known_of_it() {
    let (_folder, mut broker) = broker(&[]);
    for topic in ["in", "out", "stays"] {
        broker.run(&["topic", "create", topic, "--partitions", "4"]).unwrap();
    }
    let manifest = places::repository().join("plugins/fixtures/trap/plugin.toml");
    let components = places::components();
    let deploy =
        ["plugin", "deploy", manifest.to_str().unwrap(), "--components", components.to_str().unwrap()];
    broker.run(&deploy).unwrap();
    produce(&broker, &["in"], "one\ntwo\nthree\n");
    produce(&broker, &["stays"], "four\n");
    broker.settle(PATIENCE).unwrap();
    assert_eq!(consume(&broker, "out").len(), 3);

    for topic in ["in", "out", "trap.dead-letter"] {
        let refused = broker.run(&["topic", "delete", topic, "--yes"]).unwrap_err().to_string();
        assert!(refused.contains("plugin delete trap"), "{topic}: {refused}");
    }
    let asked = broker.run(&["topic", "delete", "stays"]).unwrap_err().to_string();
    assert!(asked.contains("--yes"), "nobody sits there to ask: {asked}");

    broker.run(&["plugin", "delete", "trap", "--yes"]).unwrap();
    let before = broker.json(&["topic", "describe", "out"]).unwrap();
    broker.run(&["topic", "delete", "in", "--yes"]).unwrap();
    broker.run(&["topic", "delete", "out", "--yes"]).unwrap();
    let missing = broker.run(&["topic", "describe", "out"]).unwrap_err().to_string();
    assert!(missing.contains("there is no topic out"), "{missing}");

    broker.run(&["topic", "create", "out", "--partitions", "4"]).unwrap();
    produce(&broker, &["out"], "anew\n");
    for _ in 0..2 {
        let after = broker.json(&["topic", "describe", "out"]).unwrap();
        assert_ne!(before["id"], after["id"]);
        assert_eq!(values(&consume(&broker, "out")), ["anew"]);
        assert_eq!(values(&consume(&broker, "stays")), ["four"]);
        let topics = broker.json(&["topic", "list"]).unwrap();
        let names: Vec<_> =
            topics.as_array().unwrap().iter().map(|topic| topic["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["out", "stays", "trap.dead-letter", "trap.log"]);
        broker.kill().unwrap();
        broker.restart().unwrap();
    }
}

#[test]
fn kafkas_clients_delete_topics_by_name_and_by_id() {
    let (_folder, broker) = broker(&["listen.tcp=127.0.0.1:0"]);
    for topic in ["a", "b", "c"] {
        broker.run(&["topic", "create", topic]).unwrap();
    }
    let mut connection = Connection::to(broker.address("tcp").unwrap()).unwrap();
    let mut delete = |version: i16, request: DeleteTopicsRequest| -> Vec<(Option<String>, i16)> {
        match connection.ask(version, Request::DeleteTopics(request.with_timeout_ms(5_000))).unwrap() {
            Response::DeleteTopics(answer) => {
                let each = answer.responses.into_iter();
                each.map(|it| (it.name.map(|name| name.to_string()), it.error_code)).collect()
            }
            other => panic!("{other:?}"),
        }
    };
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
    for version in 1..=5 {
        let named = DeleteTopicsRequest::default().with_topic_names(vec![name("a"), name("nobody")]);
        let first = if version == 1 { 0 } else { unknown };
        let expected = [(Some("a".to_owned()), first), (Some("nobody".to_owned()), unknown)];
        assert_eq!(delete(version, named), expected, "version {version}");
    }
    let described = broker.json(&["topic", "describe", "b"]).unwrap();
    let id = described["id"].as_str().unwrap().parse().unwrap();
    let by_id = || vec![DeleteTopicState::default().with_topic_id(id)];
    let deleted = delete(6, DeleteTopicsRequest::default().with_topics(by_id()));
    assert_eq!(deleted, [(Some("b".to_owned()), 0)]);
    let again = delete(6, DeleteTopicsRequest::default().with_topics(by_id()));
    assert_eq!(again, [(None, ErrorCode::UNKNOWN_TOPIC_ID.0)]);
    let by_name = vec![DeleteTopicState::default().with_name(Some(name("c")))];
    assert_eq!(delete(6, DeleteTopicsRequest::default().with_topics(by_name)), [(Some("c".to_owned()), 0)]);
    assert_eq!(broker.json(&["topic", "list"]).unwrap().as_array().unwrap().len(), 0);
}

#[test]
fn settings_are_shown_altered_and_refused() {
    let (_folder, mut broker) = broker(&["listen.tcp=127.0.0.1:0"]);
    broker.run(&["topic", "create", "orders", "--partitions", "3"]).unwrap();
    let value = |broker: &Broker, name: &str| {
        let topic = broker.json(&["topic", "describe", "orders"]).unwrap();
        let configs = topic["configs"].as_array().unwrap().clone();
        let found = configs.into_iter().find(|config| config["name"] == name).unwrap();
        (found["value"].as_str().unwrap().to_owned(), found["explicit"].as_bool().unwrap())
    };
    assert_eq!(value(&broker, "retention.ms"), ("604800000".to_owned(), false));
    broker
        .run(&["topic", "alter", "orders", "--set", "max.message.bytes=2000", "--set", "retention.ms=-1"])
        .unwrap();
    let large = format!("{}\n", "x".repeat(4_000));
    let mut command = broker.command();
    command.args(["produce", "orders"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(large.as_bytes()).unwrap();
    let refused = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("refused: 1"), "{said}");
    for (change, why) in [("retention.ms=soon", "milliseconds"), ("flush.ms=1", "no such setting")] {
        let refused = broker.run(&["topic", "alter", "orders", "--set", change]).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    broker.kill().unwrap();
    broker.restart().unwrap();
    assert_eq!(value(&broker, "retention.ms"), ("-1".to_owned(), true));
    broker.run(&["topic", "alter", "orders", "--unset", "max.message.bytes"]).unwrap();
    assert_eq!(value(&broker, "max.message.bytes"), ("1114112".to_owned(), false));
    produce(&broker, &["orders"], &large);
    assert_eq!(consume(&broker, "orders").len(), 1);

    let mut connection = Connection::to(broker.address("tcp").unwrap()).unwrap();
    let resource =
        DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("orders"));
    let wanted = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    for version in 1..=4 {
        let Response::DescribeConfigs(answer) =
            connection.ask(version, Request::DescribeConfigs(wanted.clone())).unwrap()
        else {
            panic!("another answer");
        };
        let configs = &answer.results[0].configs;
        let shown = configs.iter().find(|config| &*config.name == "retention.ms").unwrap();
        assert_eq!((shown.value.as_deref(), shown.config_source), (Some("-1"), 1), "version {version}");
        assert_eq!(shown.synonyms.len(), 2);
        let plain = configs.iter().find(|config| &*config.name == "cleanup.policy").unwrap();
        assert_eq!((plain.value.as_deref(), plain.config_source), (Some("delete"), 5));
    }
    let mut alter = |kind: i8, topic: &str, operation: i8, setting: &str, value: &str, dry: bool| {
        let config = AlterableConfig::default().with_name(text(setting)).with_config_operation(operation);
        let resource =
            AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(topic));
        let resource = resource.with_configs(vec![config.with_value(Some(text(value)))]);
        let request = IncrementalAlterConfigsRequest::default().with_validate_only(dry);
        let request = Request::IncrementalAlterConfigs(request.with_resources(vec![resource]));
        match connection.ask(1, request).unwrap() {
            Response::IncrementalAlterConfigs(answer) => answer.responses[0].error_code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(alter(2, "orders", 0, "retention.ms", "5000", true), 0);
    assert_eq!(alter(2, "orders", 0, "cleanup.policy", "compact", false), ErrorCode::INVALID_CONFIG.0);
    assert_eq!(alter(2, "orders", 2, "cleanup.policy", "compact", false), ErrorCode::INVALID_CONFIG.0);
    assert_eq!(alter(2, "nobody", 0, "retention.ms", "5000", false), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
    assert_eq!(alter(4, "1", 0, "retention.ms", "5000", false), ErrorCode::INVALID_REQUEST.0);
    assert_eq!(alter(2, "orders", 1, "retention.ms", "", false), 0);
    let more = CreatePartitionsTopic::default().with_name(name("orders")).with_count(9);
    let request = Request::CreatePartitions(CreatePartitionsRequest::default().with_topics(vec![more]));
    let Response::CreatePartitions(answer) = connection.ask(3, request).unwrap() else {
        panic!("another answer")
    };
    assert_eq!(answer.results[0].error_code, ErrorCode::INVALID_PARTITIONS.0);
    assert!(answer.results[0].error_message.as_deref().unwrap().contains("Make a topic with 9 partitions"));
    assert_eq!(value(&broker, "retention.ms"), ("604800000".to_owned(), false));
}

#[test]
fn records_expire_by_append_time() {
    let (_folder, broker) = broker(&["storage.retention-interval=200ms"]);
    broker.run(&["topic", "create", "orders"]).unwrap();
    broker.run(&["topic", "create", "kept"]).unwrap();
    for number in 0..5 {
        produce(&broker, &["orders"], &format!("old {number}\n"));
    }
    produce(&broker, &["kept"], "old\n");
    std::thread::sleep(Duration::from_millis(3_500));
    produce(&broker, &["orders"], "new\n");
    let begun = std::time::Instant::now();
    let retain = |ms: &str| {
        broker.run(&["topic", "alter", "orders", "--set", &format!("retention.ms={ms}")]).unwrap();
    };
    let log_start =
        || broker.json(&["topic", "describe", "orders"]).unwrap()["state"][0]["log-start-offset"].clone();
    // The old ones are older by 3.5 s, so that 3 s are left to see it.
    retain(&(begun.elapsed().as_millis() + 3_000).to_string());
    while log_start() != 5 {
        assert!(begun.elapsed() < PATIENCE, "{}", log_start());
    }
    retain("-1");
    assert_eq!(values(&consume(&broker, "orders")), ["new"]);
    assert_eq!(values(&consume(&broker, "kept")), ["old"]);
    retain("1");
    while log_start() != 6 {
        assert!(begun.elapsed() < PATIENCE, "{}", log_start());
    }
    assert_eq!(consume(&broker, "orders").len(), 0);
}
