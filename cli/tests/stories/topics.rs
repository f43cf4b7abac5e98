//! Topics that go, and come again as others.

use std::time::Duration;

use tidemill_protocol::api::messages::DeleteTopicsRequest;
use tidemill_protocol::api::messages::delete_topics_request::DeleteTopicState;
use tidemill_protocol::api::{Request, Response};
use tidemill_protocol::error::ErrorCode;
use xtask::kafka::{Connection, name};
use xtask::places;

use crate::{broker, consume, produce, values};

const PATIENCE: Duration = Duration::from_secs(60);

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
        assert_eq!(names, ["out", "stays", "trap.dead-letter"]);
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
