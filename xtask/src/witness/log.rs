//! What lies in a topic: as our own client reads it, and the batches that hold it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tidemill_protocol::batch::BatchHeader;
use xtask::kafka::Connection;
use xtask::process::Broker;

/// Partition and offset.
pub type Place = (u64, u64);

/// A record, whoever read it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Text, or null.
    pub key: Value,
    /// Text, JSON that was text, or null.
    pub value: Value,
    /// Names and values, in order.
    pub headers: Vec<(String, Value)>,
}

impl Seen {
    /// A record as `tidemill consume` prints it, or as a witness does: headers are objects there, and pairs here.
    ///
    /// # Errors
    /// When it is neither.
    pub fn read(line: &Value) -> anyhow::Result<(Place, Seen)> {
        let header = |header: &Value| match header {
            Value::Array(pair) => Some((pair.first()?.as_str()?.to_owned(), pair.get(1)?.clone())),
            Value::Object(one) => one.iter().next().map(|(name, value)| (name.clone(), value.clone())),
            _ => None,
        };
        let read = || {
            let headers = line["headers"].as_array().into_iter().flatten().map(header);
            let seen = Seen {
                timestamp: line["timestamp"].as_i64()?,
                key: line["key"].clone(),
                value: parsed(&line["value"]),
                headers: headers.collect::<Option<_>>()?,
            };
            Some(((line["partition"].as_u64()?, line["offset"].as_u64()?), seen))
        };
        read().with_context(|| format!("a record: {line}"))
    }
}

/// `tidemill consume` shows what is a JSON object as that.
fn parsed(value: &Value) -> Value {
    let text = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    text.filter(|value| value.is_object() || value.is_array()).unwrap_or_else(|| value.clone())
}

/// All records of a topic, once there are as many as expected: without acknowledgements nobody knows when they are in.
///
/// # Errors
/// When they do not come.
pub fn records(broker: &Broker, topic: &str, expected: usize) -> anyhow::Result<BTreeMap<Place, Seen>> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let start = Instant::now();
    loop {
        let printed = broker.run(&["consume", topic, "--from-beginning", "--exit-at-end"])?;
        let lines = printed.lines().map(|line| Seen::read(&serde_json::from_str(line)?));
        let records = lines.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        if records.len() >= expected {
            return Ok(records);
        }
        ensure!(start.elapsed() < PATIENCE, "{} of {expected} records are in {topic}", records.len());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The batches of each partition of a topic, by their first offsets.
///
/// # Errors
/// When they cannot be read.
pub fn batches(tcp: &str, topic: &str, partitions: u64) -> anyhow::Result<BTreeMap<Place, BatchHeader>> {
    let mut connection = Connection::to(tcp)?;
    let mut all = BTreeMap::new();
    for partition in 0..partitions {
        for header in connection.batches(topic, i32::try_from(partition)?)? {
            all.insert((partition, header.base_offset.0), header);
        }
    }
    Ok(all)
}
