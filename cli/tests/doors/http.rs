//! The admin API: paths, methods, headers, queries and documents.
//!
//! Whatever is wrong is told as a problem document that names the field. What is no HTTP is answered with a status alone.

use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::Value;

use crate::door::{Door, Row};
use crate::tls;

/// The admin API of a broker, and who one is there.
pub struct Api {
    address: String,
    config: Arc<ClientConfig>,
}

impl Api {
    pub fn of(door: &Door) -> Api {
        let config = tls::config(&door.data(), Some(tls::own(&door.data())), &[b"http/1.1"]);
        Api { address: door.broker.address("admin").unwrap().to_owned(), config: Arc::new(config) }
    }

    /// Sends bytes as they are, and tells what the answer says.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = tls::connect(&self.address, self.config.clone());
        match tls::exchange(&mut stream, bytes) {
            Ok(back) => told(&String::from_utf8_lossy(&back)),
            Err(error) => format!("no answer: {error}"),
        }
    }

    /// Sends a document.
    pub fn document(&self, method: &str, path: &str, document: &str) -> String {
        self.request(method, path, "Content-Type: application/json\r\n", document.as_bytes())
    }

    /// Sends a request.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> String {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: tidemill\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        self.raw(&[head.as_bytes(), body].concat())
    }
}

/// `400 INVALID_REQUEST [partitions] partitions: …`: status, Kafka's name, the fields, the words.
fn told(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).unwrap_or("no status").to_owned();
    if !head.to_ascii_lowercase().contains("content-type: application/problem+json") {
        return format!("{status} and no problem: {body}");
    }
    let problem: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!(problem["status"].to_string(), status, "{problem}");
    let fields = problem["fields"].as_array().into_iter().flatten();
    let fields: Vec<_> = fields.map(|field| field["field"].as_str().unwrap_or_default()).collect();
    let text = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
    let allow = head.lines().find(|line| line.to_ascii_lowercase().starts_with("allow:")).unwrap_or_default();
    format!("{status} {} {fields:?} {} {allow}", text("name"), text("detail"))
}

type Request = (&'static str, &'static str, &'static str);

/// Method, path, document; and what comes back.
fn documents() -> Vec<Row<Request>> {
    let topics = "/v1/topics";
    let deep: &'static str =
        Box::leak(format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)).into_boxed_str());
    let long: &'static str = Box::leak(format!(r#"{{"name":"{}"}}"#, "n".repeat(100_000)).into_boxed_str());
    vec![
        // Documents that are none.
        ("nothing", ("POST", topics, ""), "400 INVALID_REQUEST [\"body\"] body: it is no JSON"),
        (
            "no JSON",
            ("POST", topics, "name = 'orders'"),
            "400 INVALID_REQUEST [\"body\"] body: it is no JSON | column",
        ),
        (
            "half a document",
            ("POST", topics, r#"{"name":"a""#),
            "400 INVALID_REQUEST [\"body\"] body: it is no JSON",
        ),
        (
            "two documents",
            ("POST", topics, r#"{"name":"a"}{}"#),
            "400 INVALID_REQUEST [\"body\"] body: it is no JSON: trailing",
        ),
        ("null", ("POST", topics, "null"), "400 INVALID_REQUEST [\"body\"]"),
        ("a number", ("POST", topics, "7"), "400 INVALID_REQUEST [\"body\"]"),
        ("a list", ("POST", topics, "[]"), "400 INVALID_REQUEST"),
        ("a hundred thousand lists in one another", ("POST", topics, deep), "400 INVALID_REQUEST [\"body\"]"),
        // Fields of a topic.
        ("no name", ("POST", topics, "{}"), "400 INVALID_REQUEST [\"name\"] | missing field"),
        (
            "a name that is null",
            ("POST", topics, r#"{"name":null}"#),
            "400 INVALID_REQUEST [\"name\"] name: invalid type: null",
        ),
        ("a name that is a number", ("POST", topics, r#"{"name":7}"#), "400 INVALID_REQUEST [\"name\"]"),
        ("an empty name", ("POST", topics, r#"{"name":""}"#), "400 INVALID_TOPIC_EXCEPTION [\"name\"]"),
        ("the name ..", ("POST", topics, r#"{"name":".."}"#), "400 INVALID_TOPIC_EXCEPTION [\"name\"]"),
        (
            "a path for a name",
            ("POST", topics, r#"{"name":"a/b"}"#),
            "400 INVALID_TOPIC_EXCEPTION [\"name\"]",
        ),
        (
            "markup for a name",
            ("POST", topics, r#"{"name":"<script>"}"#),
            "400 INVALID_TOPIC_EXCEPTION [\"name\"]",
        ),
        ("a name of 100,000 letters", ("POST", topics, long), "400 INVALID_TOPIC_EXCEPTION [\"name\"]"),
        (
            "a name twice",
            ("POST", topics, r#"{"name":"a","name":"b"}"#),
            "400 INVALID_REQUEST [\"name\"] | duplicate field",
        ),
        ("half of a letter", ("POST", topics, "{\"name\":\"\\ud800\"}"), "400 INVALID_REQUEST"),
        (
            "a field that is not known",
            ("POST", topics, r#"{"name":"a","partition":2}"#),
            "400 INVALID_REQUEST [\"partition\"] | unknown field",
        ),
        (
            "-1 partitions",
            ("POST", topics, r#"{"name":"a","partitions":-1}"#),
            "400 INVALID_REQUEST [\"partitions\"]",
        ),
        (
            "half a partition",
            ("POST", topics, r#"{"name":"a","partitions":0.5}"#),
            "400 INVALID_REQUEST [\"partitions\"]",
        ),
        (
            "partitions in words",
            ("POST", topics, r#"{"name":"a","partitions":"4"}"#),
            "400 INVALID_REQUEST [\"partitions\"]",
        ),
        ("1e999 partitions", ("POST", topics, r#"{"name":"a","partitions":1e999}"#), "400 INVALID_REQUEST"),
        (
            "33 bits of partitions",
            ("POST", topics, r#"{"name":"a","partitions":4294967297}"#),
            "400 INVALID_REQUEST [\"partitions\"]",
        ),
        (
            "0 partitions",
            ("POST", topics, r#"{"name":"a","partitions":0}"#),
            "400 INVALID_PARTITIONS [\"partitions\"] 0 partitions",
        ),
        (
            "1,025 partitions",
            ("POST", topics, r#"{"name":"a","partitions":1025}"#),
            "400 INVALID_PARTITIONS [\"partitions\"]",
        ),
        (
            "an affinity that is a number",
            ("POST", topics, r#"{"name":"a","affinity":7}"#),
            "400 INVALID_REQUEST [\"affinity\"]",
        ),
        (
            "an affinity without a name",
            ("POST", topics, r#"{"name":"a","affinity":""}"#),
            "400 INVALID_REQUEST [\"affinity\"]",
        ),
        (
            "an affinity with a zero byte",
            ("POST", topics, r#"{"name":"a","affinity":"g\u0000h"}"#),
            "400 INVALID_REQUEST [\"affinity\"]",
        ),
        (
            "an affinity that would be a default one",
            ("POST", topics, r#"{"name":"a","affinity":"default-1-7"}"#),
            "400 INVALID_REQUEST [\"affinity\"] | default groups only",
        ),
        (
            "an affinity of other partitions",
            ("POST", topics, r#"{"name":"a","affinity":"default-4-0"}"#),
            "400 INVALID_REQUEST | has 4 partitions",
        ),
        (
            "settings in words",
            ("POST", topics, r#"{"name":"a","settings":"all"}"#),
            "400 INVALID_REQUEST [\"settings\"]",
        ),
        (
            "a setting that is not known",
            ("POST", topics, r#"{"name":"a","settings":{"retention":1}}"#),
            "400 INVALID_REQUEST [\"settings.retention\"]",
        ),
        (
            "a setting in words",
            ("POST", topics, r#"{"name":"a","settings":{"retention-ms":"week"}}"#),
            "400 INVALID_REQUEST [\"settings.retention-ms\"]",
        ),
        (
            "a setting that cannot be so",
            ("POST", topics, r#"{"name":"a","settings":{"retention-ms":0}}"#),
            "400 INVALID_CONFIG [\"retention.ms\"]",
        ),
        (
            "a batch of no bytes",
            ("POST", topics, r#"{"name":"a","settings":{"max-message-bytes":0}}"#),
            "400 INVALID_CONFIG [\"max.message.bytes\"]",
        ),
        ("a name that is taken", ("POST", topics, r#"{"name":"orders"}"#), "409 TOPIC_ALREADY_EXISTS"),
        // Queries.
        (
            "dry-run that is neither",
            ("POST", "/v1/topics?dry-run=maybe", r#"{"name":"a"}"#),
            "400 INVALID_REQUEST [\"dry-run\"]",
        ),
        (
            "a query that is not known",
            ("POST", "/v1/topics?dry=true", r#"{"name":"a"}"#),
            "400 INVALID_REQUEST [\"dry\"] | unknown field",
        ),
        (
            "a query twice",
            ("POST", "/v1/topics?dry-run=true&dry-run=true", r#"{"name":"a"}"#),
            "400 INVALID_REQUEST [\"dry-run\"]",
        ),
        // Altering.
        (
            "altering what is not there",
            ("PATCH", "/v1/topics/nowhere/settings", r#"{"retention.ms":"1000"}"#),
            "404 UNKNOWN_TOPIC_OR_PARTITION [] there is no topic nowhere",
        ),
        (
            "altering to a number",
            ("PATCH", "/v1/topics/orders/settings", r#"{"retention.ms":1000}"#),
            "400 INVALID_REQUEST [\"retention.ms\"]",
        ),
        (
            "altering to words",
            ("PATCH", "/v1/topics/orders/settings", r#"{"retention.ms":"soon"}"#),
            "400 INVALID_CONFIG [\"retention.ms\"]",
        ),
        (
            "altering what is not known",
            ("PATCH", "/v1/topics/orders/settings", r#"{"retention":"1"}"#),
            "400 INVALID_CONFIG [\"retention\"]",
        ),
        (
            "altering what has one value",
            ("PATCH", "/v1/topics/orders/settings", r#"{"cleanup.policy":"compact"}"#),
            "400 INVALID_CONFIG [\"cleanup.policy\"]",
        ),
        (
            "altering by a list",
            ("PATCH", "/v1/topics/orders/settings", "[1]"),
            "400 INVALID_REQUEST [\"body\"]",
        ),
        // Trimming.
        (
            "trimming without a place",
            ("POST", "/v1/topics/orders/trim", r#"{"partition":0}"#),
            "400 INVALID_REQUEST [\"before-offset\"]",
        ),
        (
            "trimming to two places",
            ("POST", "/v1/topics/orders/trim", r#"{"partition":0,"before-offset":0,"before-time-ms":0}"#),
            "400 INVALID_REQUEST [\"before-offset\"]",
        ),
        (
            "trimming no partition",
            ("POST", "/v1/topics/orders/trim", r#"{"before-offset":0}"#),
            "400 INVALID_REQUEST [\"partition\"]",
        ),
        (
            "trimming partition 4 of 4",
            ("POST", "/v1/topics/orders/trim", r#"{"partition":4,"before-offset":0}"#),
            "404 UNKNOWN_TOPIC_OR_PARTITION | no partition 4",
        ),
        (
            "trimming the largest partition",
            ("POST", "/v1/topics/orders/trim", r#"{"partition":4294967295,"before-offset":0}"#),
            "404 UNKNOWN_TOPIC_OR_PARTITION",
        ),
        (
            "trimming partition -1",
            ("POST", "/v1/topics/orders/trim", r#"{"partition":-1,"before-offset":0}"#),
            "400 INVALID_REQUEST [\"partition\"]",
        ),
        (
            "trimming behind the end",
            ("POST", "/v1/topics/orders/trim", r#"{"partition":0,"before-offset":1}"#),
            "400 OFFSET_OUT_OF_RANGE",
        ),
        (
            "trimming to the largest offset",
            ("POST", "/v1/topics/orders/trim", r#"{"partition":0,"before-offset":18446744073709551615}"#),
            "400 OFFSET_OUT_OF_RANGE",
        ),
        (
            "trimming to a larger one",
            ("POST", "/v1/topics/orders/trim", r#"{"partition":0,"before-offset":18446744073709551616}"#),
            "400 INVALID_REQUEST [\"before-offset\"]",
        ),
        (
            "trimming to offset -1",
            ("POST", "/v1/topics/orders/trim", r#"{"partition":0,"before-offset":-1}"#),
            "400 INVALID_REQUEST [\"before-offset\"]",
        ),
        (
            "trimming what is not there",
            ("POST", "/v1/topics/nowhere/trim", r#"{"partition":0,"before-offset":0}"#),
            "404 UNKNOWN_TOPIC_OR_PARTITION",
        ),
        // The log's level.
        (
            "a filter that is none",
            ("PUT", "/v1/log-level", r#"{"filter":"a=lots"}"#),
            "400 INVALID_REQUEST [\"filter\"]",
        ),
        ("an empty filter", ("PUT", "/v1/log-level", r#"{"filter":""}"#), "400 INVALID_REQUEST [\"filter\"]"),
        ("no filter", ("PUT", "/v1/log-level", "{}"), "400 INVALID_REQUEST [\"filter\"]"),
        (
            "a level for a filter",
            ("PUT", "/v1/log-level", r#"{"level":"info"}"#),
            "400 INVALID_REQUEST [\"level\"]",
        ),
        // Plugins that are not there.
        (
            "resetting what is not there",
            ("POST", "/v1/plugins/nobody/reset", r#"{"to":"earliest"}"#),
            "404 | nobody",
        ),
        ("resetting to nowhere", ("POST", "/v1/plugins/nobody/reset", "{}"), "400 INVALID_REQUEST [\"to\"]"),
        (
            "resetting to a word",
            ("POST", "/v1/plugins/nobody/reset", r#"{"to":"soon"}"#),
            "400 INVALID_REQUEST [\"to\"]",
        ),
        (
            "resetting to offset -1",
            ("POST", "/v1/plugins/nobody/reset", r#"{"to":{"offset":-1}}"#),
            "400 INVALID_REQUEST [\"to",
        ),
        (
            "resetting with a state in words",
            ("POST", "/v1/plugins/nobody/reset", r#"{"to":"latest","fresh-state":"no"}"#),
            "400 INVALID_REQUEST [\"fresh-state\"]",
        ),
        ("discarding what is not there", ("POST", "/v1/plugins/nobody/dlq/discard", "{}"), "404 | nobody"),
        (
            "discarding letters in words",
            ("POST", "/v1/plugins/nobody/dlq/discard", r#"{"letters":"all"}"#),
            "400 INVALID_REQUEST [\"letters\"]",
        ),
        (
            "discarding offset -1",
            ("POST", "/v1/plugins/nobody/dlq/discard", r#"{"letters":[{"partition":0,"offset":-1}]}"#),
            "400 INVALID_REQUEST [\"letters[0].offset\"]",
        ),
        (
            "discarding half a place",
            ("POST", "/v1/plugins/nobody/dlq/discard", r#"{"letters":[{"partition":0}]}"#),
            "400 INVALID_REQUEST [\"letters[0].offset\"]",
        ),
        ("pausing what is not there", ("POST", "/v1/plugins/nobody/pause", ""), "404 | nobody"),
        ("resuming what is not there", ("POST", "/v1/plugins/nobody/resume", ""), "404 | nobody"),
        (
            "resuming somewhere else",
            ("POST", "/v1/plugins/nobody/resume?behind=middle", ""),
            "400 INVALID_REQUEST [\"behind\"]",
        ),
        (
            "resuming to stop",
            ("POST", "/v1/plugins/nobody/resume?behind=stop", ""),
            "400 INVALID_REQUEST [\"behind\"]",
        ),
        ("rolling back what is not there", ("POST", "/v1/plugins/nobody/rollback", ""), "404 | nobody"),
        ("deleting a plugin that is not there", ("DELETE", "/v1/plugins/nobody", ""), "404 | nobody"),
        (
            "deleting a topic that is not there",
            ("DELETE", "/v1/topics/nowhere", ""),
            "404 UNKNOWN_TOPIC_OR_PARTITION",
        ),
        // Methods.
        ("PUT of topics", ("PUT", topics, "{}"), "405 INVALID_REQUEST [\"method\"] | allow: GET,HEAD,POST"),
        ("PATCH of a topic", ("PATCH", "/v1/topics/orders", "{}"), "405 INVALID_REQUEST [\"method\"]"),
        ("DELETE of the cluster", ("DELETE", "/v1/cluster", ""), "405 INVALID_REQUEST [\"method\"]"),
        ("POST of shards", ("POST", "/v1/shards", ""), "405 INVALID_REQUEST [\"method\"]"),
        ("a method that there is not", ("BREW", topics, ""), "405 INVALID_REQUEST [\"method\"]"),
    ]
}

/// Paths that are asked for.
fn paths() -> Vec<Row<&'static str>> {
    let long: &'static str = Box::leak(format!("/v1/topics/{}", "n".repeat(7_000)).into_boxed_str());
    let longer: &'static str = Box::leak(format!("/v1/topics/{}", "n".repeat(70_000)).into_boxed_str());
    vec![
        ("the root", "/", "404 UNKNOWN_TOPIC_OR_PARTITION [] there is no such path"),
        ("another version", "/v2/topics", "404 | there is no such path"),
        ("a slash behind", "/v1/topics/", "404"),
        ("two slashes", "//v1/topics", "404"),
        ("a path upwards", "/v1/topics/../../etc/passwd", "404"),
        (
            "a path upwards, in disguise",
            "/v1/topics/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            "404 UNKNOWN_TOPIC_OR_PARTITION",
        ),
        (
            "a topic that is not there",
            "/v1/topics/nowhere",
            "404 UNKNOWN_TOPIC_OR_PARTITION | there is no topic nowhere",
        ),
        ("a topic with a space", "/v1/topics/or%20ders", "404"),
        ("a topic with a zero byte", "/v1/topics/orders%00", "404"),
        (
            "a topic that is no UTF-8",
            "/v1/topics/%ff%fe",
            "400 INVALID_REQUEST [\"name\"] name: it is not UTF-8",
        ),
        ("a topic that is half encoded", "/v1/topics/%4", "404"),
        ("a topic of 7,000 letters", long, "404"),
        ("a topic of 70,000 letters", longer, "414"),
        ("a shard that is no number", "/v1/shards/one/log", "400 INVALID_REQUEST [\"shard\"] shard: \"one\""),
        ("shard -1", "/v1/shards/-1/log", "400 INVALID_REQUEST [\"shard\"]"),
        ("shard 2 of 2", "/v1/shards/2/log", "404 | there is no shard 2"),
        ("shard 65536", "/v1/shards/65536/log", "400 INVALID_REQUEST [\"shard\"]"),
        ("a log from a word", "/v1/shards/0/log?from=start", "400 INVALID_REQUEST [\"from\"]"),
        ("a log from -1", "/v1/shards/0/log?from=-1", "400 INVALID_REQUEST [\"from\"]"),
        ("a log from the largest index", "/v1/shards/0/log?from=18446744073709551615", "200"),
        ("a log by what is not known", "/v1/shards/0/log?upto=7", "400 INVALID_REQUEST [\"upto\"]"),
        (
            "a digest that is a word",
            "/v1/components/latest",
            "400 INVALID_REQUEST [\"digest\"] | 64 hexadecimal digits",
        ),
        (
            "a digest with signs",
            "/v1/components/+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1",
            "400 INVALID_REQUEST [\"digest\"]",
        ),
        (
            "a digest that is not there",
            "/v1/components/0000000000000000000000000000000000000000000000000000000000000000",
            "404",
        ),
        ("a plugin that is not there", "/v1/plugins/nobody", "404 | there is no plugin nobody"),
        ("the logs of nobody", "/v1/plugins/nobody/logs", "404 | nobody"),
        ("logs from a number", "/v1/plugins/nobody/logs?from=5", "400 INVALID_REQUEST [\"from\"]"),
        ("-1 lines of a log", "/v1/plugins/nobody/logs?limit=-1", "400 INVALID_REQUEST [\"limit\"]"),
        ("logs of a task in words", "/v1/plugins/nobody/logs?task=all", "400 INVALID_REQUEST [\"task\"]"),
        ("the letters of nobody", "/v1/plugins/nobody/dlq", "404 | nobody"),
        ("a letter of nobody", "/v1/plugins/nobody/dlq/0/0", "404 | nobody"),
        ("a letter in no partition", "/v1/plugins/nobody/dlq/a/0", "400 INVALID_REQUEST [\"partition\"]"),
        ("a letter at no offset", "/v1/plugins/nobody/dlq/0/a", "400 INVALID_REQUEST [\"offset\"]"),
        ("a letter at offset -1", "/v1/plugins/nobody/dlq/0/-1", "400 INVALID_REQUEST [\"offset\"]"),
        ("the state of nobody", "/v1/plugins/nobody/tasks/0/state", "404 | nobody"),
        ("the state of task x", "/v1/plugins/nobody/tasks/x/state", "400 INVALID_REQUEST [\"partition\"]"),
        (
            "-1 rows of a state",
            "/v1/plugins/nobody/tasks/0/state?limit=-1",
            "400 INVALID_REQUEST [\"limit\"]",
        ),
    ]
}

/// Bytes as they are.
fn bytes() -> Vec<Row<Vec<u8>>> {
    let get = "GET /v1/topics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    let post = "POST /v1/topics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    let json = "Content-Type: application/json\r\n";
    let lines = |lines: String| lines.into_bytes();
    vec![
        ("no HTTP", b"\x00\x01\x02\x03\r\n\r\n".to_vec(), "400"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "no"),
        ("HTTP/9", b"GET / HTTP/9.9\r\n\r\n".to_vec(), "no"),
        ("a target that is none", b"GET topics HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "4"),
        ("a header without a colon", lines(format!("{get}nothing\r\n\r\n")), "400"),
        ("a header with a zero byte", lines(format!("{get}a: \0\r\n\r\n")), "400"),
        ("200 headers", lines(format!("{get}{}\r\n", "a: b\r\n".repeat(200))), "431"),
        ("a header of 1 MiB", lines(format!("{get}a: {}\r\n\r\n", "b".repeat(1 << 20))), "431"),
        ("a length in words", lines(format!("{post}{json}Content-Length: many\r\n\r\n")), "400"),
        ("a length of -1", lines(format!("{post}{json}Content-Length: -1\r\n\r\n")), "400"),
        (
            "two lengths",
            lines(format!("{post}{json}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{{}}")),
            "400",
        ),
        (
            "a length and chunks",
            lines(format!("{post}{json}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
            "400",
        ),
        (
            "a chunk that is none",
            lines(format!("{post}{json}Transfer-Encoding: chunked\r\n\r\nzz\r\n")),
            "400 INVALID_REQUEST [\"body\"]",
        ),
        (
            "a length of 17 EiB",
            lines(format!("{post}{json}Content-Length: 18446744073709551615\r\n\r\n")),
            "4",
        ),
        (
            "a document of 1 MiB and a byte, by its word",
            lines(format!("{post}{json}Content-Length: 1048577\r\n\r\n")),
            "413 MESSAGE_TOO_LARGE [\"body\"] body: it has more than 1048576 bytes",
        ),
        (
            "a document of 2 MiB in a chunk",
            lines(format!(
                "{post}{json}Transfer-Encoding: chunked\r\n\r\n200000\r\n{}\r\n0\r\n\r\n",
                " ".repeat(2 << 20)
            )),
            "413 MESSAGE_TOO_LARGE [\"body\"]",
        ),
        (
            "no kind of document",
            lines(format!("{post}Content-Length: 2\r\n\r\n{{}}")),
            "415 INVALID_REQUEST [\"content-type\"]",
        ),
        (
            "a form",
            lines(format!(
                "{post}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 6\r\n\r\nname=a"
            )),
            "415 INVALID_REQUEST [\"content-type\"]",
        ),
        (
            "a kind that only begins so",
            lines(format!("{post}Content-Type: application/jsonp\r\nContent-Length: 2\r\n\r\n{{}}")),
            "415",
        ),
        (
            "JSON in another alphabet",
            lines(format!(
                "{post}Content-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{{}}"
            )),
            "400 INVALID_REQUEST [\"name\"]",
        ),
        ("a body for a GET", lines(format!("{get}Content-Length: 5\r\n\r\nhello")), "200"),
    ]
}

#[test]
fn documents_and_paths_that_are_none() {
    let door = Door::open(&[]);
    let api = Api::of(&door);
    door.walk(documents(), |(method, path, document)| api.document(method, path, document));
    door.walk(paths(), |path| api.request("GET", path, "", b""));
    door.walk(bytes(), |bytes| api.raw(&bytes));
    probes(&door);
    let topics = door.broker.json(&["topic", "list"]).unwrap();
    assert_eq!(topics.as_array().unwrap().len(), 2, "nothing was made: {topics}");
    door.close(140);
}

/// The listener for probes and for metrics: without TLS, and without documents.
fn probes(door: &Door) {
    let rows: Vec<Row<&str>> = vec![
        ("a path that there is not", "/v1/topics", "404"),
        ("a path upwards", "/../metrics", "404"),
        ("metrics, and more", "/metrics/all", "404"),
        ("no path", "metrics", "HTTP/1.1 40"),
    ];
    door.walk(rows, |path| door.broker.probe(path).unwrap());
}
