//! What a plugin is tested on: lines of records, in the shape that `consume` prints, and of ticks.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tidemill_core::limits;
use tidemill_core::manifest::Manifest;
use tidemill_core::plugin::Header;
use tidemill_core::seams::Timestamp;

/// A line of input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A record for the plugin.
    Record(Record),
    /// Nobody writes until then, by the broker's clock.
    Tick(Timestamp),
}

/// A record, as far as its line says what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which of the topics that the plugin reads.
    pub input: u16,
    /// Its partition; chosen by the key when none.
    pub partition: Option<u32>,
    /// When the broker takes it in; when its timestamp says, if that is not in the past, when none.
    pub append_time: Option<Timestamp>,
    /// Its own time, in milliseconds since 1970; the append time when none.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<Header>,
}

/// What a line may say; everything else is a mistake. (An offset is, and is not looked at.)
const FIELDS: [&str; 8] =
    ["topic", "partition", "offset", "timestamp", "append-time", "key", "value", "headers"];

/// Reads the lines of a file, for a plugin.
///
/// # Errors
/// When a line is none of these, or of a topic that the plugin does not read: with its number.
pub fn read(path: &Path, manifest: &Manifest) -> anyhow::Result<Vec<Line>> {
    let objects = super::objects(path)?;
    let line = |(number, (written, object)): (usize, &(String, Value))| {
        parse(written, object, manifest).with_context(|| format!("{}: record {}", path.display(), number + 1))
    };
    objects.iter().enumerate().map(line).collect()
}

fn parse(written: &str, object: &Value, manifest: &Manifest) -> anyhow::Result<Line> {
    let object = object.as_object().context("no object")?;
    let written: BTreeMap<String, &RawValue> = serde_json::from_str(written)?;
    let content = |key: &str| match (object.get(key), written.get(key)) {
        // As it is written: numbers may have more digits than are kept of them.
        (Some(Value::Object(fields)), _) if fields.len() == 1 && fields.contains_key("base64") => {
            bytes(object.get(key))
        }
        (Some(Value::Number(_) | Value::Bool(_) | Value::Array(_) | Value::Object(_)), Some(raw)) => {
            Ok(Some(Bytes::from(raw.get().to_owned())))
        }
        (value, _) => bytes(value),
    };
    let whole = |key: &str| match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).with_context(|| format!("{key}: no whole number")),
    };
    let moment = |key: &str| match whole(key)? {
        Some(ms) => {
            u64::try_from(ms).map(|ms| Some(Timestamp(ms))).with_context(|| format!("{key}: before 1970"))
        }
        None => Ok(None),
    };
    if let Some(to) = moment("tick")? {
        return if object.len() == 1 { Ok(Line::Tick(to)) } else { Err(anyhow!("a tick is nothing else")) };
    }
    if let Some(unknown) = object.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        bail!("there is no field {unknown}");
    }
    let partition = whole("partition")?.map(u32::try_from).transpose().context("partition: out of range")?;
    if partition.is_some_and(|partition| partition >= limits::TOPIC_PARTITIONS_MAX) {
        bail!("partition: a topic has at most {}", limits::TOPIC_PARTITIONS_MAX);
    }
    Ok(Line::Record(Record {
        input: input(object, manifest)?,
        partition,
        append_time: moment("append-time")?,
        timestamp_ms: whole("timestamp")?,
        key: content("key").context("key")?,
        value: content("value").context("value")?,
        headers: headers(object.get("headers")).context("headers")?,
    }))
}

fn input(object: &Map<String, Value>, manifest: &Manifest) -> anyhow::Result<u16> {
    let topic = match (object.get("topic"), &manifest.subscribe[..]) {
        (Some(Value::String(topic)), _) => topic,
        (None, [only]) => &only.topic,
        (None, _) => bail!("topic: it is missing, and the plugin reads several"),
        (Some(_), _) => bail!("topic: no text"),
    };
    let found = manifest.subscribe.iter().position(|subscription| subscription.topic == *topic);
    let found = found.with_context(|| format!("topic: the plugin does not subscribe to {topic}"))?;
    Ok(u16::try_from(found)?)
}

/// Text as it is, `{"base64": …}` as what it stands for, other JSON as it is written.
fn bytes(value: Option<&Value>) -> anyhow::Result<Option<Bytes>> {
    Ok(match value {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(Bytes::from(text.clone())),
        Some(Value::Object(object))
            if object.len() == 1 && object.get("base64").is_some_and(Value::is_string) =>
        {
            let digits = object["base64"].as_str().unwrap_or_default();
            Some(BASE64.decode(digits.as_bytes()).context("not Base64")?.into())
        }
        Some(other) => Some(Bytes::from(other.to_string())),
    })
}

fn headers(value: Option<&Value>) -> anyhow::Result<Vec<Header>> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(value) => value.as_array().context("no list")?,
    };
    let mut headers = Vec::new();
    for one in list {
        for (name, value) in one.as_object().context("a header is an object")? {
            headers.push(Header { name: name.clone(), value: bytes(Some(value))? });
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(topics: &[&str]) -> Manifest {
        let subscribe: Vec<_> =
            topics.iter().map(|topic| json!({ "topic": topic, "from": "earliest" })).collect();
        serde_json::from_value(json!({ "name": "p", "component": "p.wasm", "subscribe": subscribe })).unwrap()
    }

    fn parsed(line: &Value, manifest: &Manifest) -> anyhow::Result<Line> {
        parse(&line.to_string(), line, manifest)
    }

    #[test]
    fn a_record_is_read_as_consume_prints_it() {
        let line = json!({
            "topic": "b", "partition": 3, "offset": 17, "timestamp": 5, "key": "k", "value": { "n": 1 },
            "headers": [{ "h": "v" }, { "h": null }, { "raw": { "base64": "//4=" } }],
        });
        let Line::Record(record) = parsed(&line, &manifest(&["a", "b"])).unwrap() else { panic!() };
        assert_eq!((record.input, record.partition, record.timestamp_ms), (1, Some(3), Some(5)));
        assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(record.value.as_deref(), Some(&br#"{"n":1}"#[..]));
        let values: Vec<_> = record.headers.iter().map(|header| header.value.as_deref()).collect();
        assert_eq!(values, [Some(&b"v"[..]), None, Some(&[255, 254][..])]);
    }

    #[test]
    fn what_is_json_stays_as_it_is_written() {
        let written = r#"{"value": {"b": 92233720368547758.07, "a": 1.0}, "key": 12345678901234567890123}"#;
        let line = serde_json::from_str(written).unwrap();
        let Line::Record(record) = parse(written, &line, &manifest(&["a"])).unwrap() else { panic!() };
        assert_eq!(record.value.as_deref(), Some(&br#"{"b": 92233720368547758.07, "a": 1.0}"#[..]));
        assert_eq!(record.key.as_deref(), Some(&b"12345678901234567890123"[..]));
    }

    #[test]
    fn mistakes_are_named() {
        let said =
            |line: Value, topics: &[&str]| format!("{:#}", parsed(&line, &manifest(topics)).unwrap_err());
        for (line, expected) in [
            (json!({ "value": 1 }), "topic: it is missing"),
            (json!({ "topic": "c" }), "does not subscribe to c"),
            (json!({ "topic": "a", "vlaue": 1 }), "no field vlaue"),
            (json!({ "topic": "a", "partition": -1 }), "partition"),
            (json!({ "topic": "a", "timestamp": "x" }), "timestamp"),
            (json!({ "topic": "a", "append-time": -5 }), "append-time: before 1970"),
            (json!({ "topic": "a", "key": { "base64": "?" } }), "key: not Base64"),
            (json!({ "topic": "a", "headers": {} }), "headers: no list"),
            (json!({ "tick": 5, "value": 1 }), "a tick is nothing else"),
        ] {
            let said = said(line, &["a", "b"]);
            assert!(said.contains(expected), "{said}");
        }
        assert_eq!(parsed(&json!({ "tick": 5 }), &manifest(&["a"])).unwrap(), Line::Tick(Timestamp(5)));
        assert!(
            matches!(parsed(&json!({}), &manifest(&["a"])), Ok(Line::Record(_))),
            "a tombstone without a key"
        );
    }
}
