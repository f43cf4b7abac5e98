//! `consume`: records as JSON, one object each.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context as _, anyhow};
use clap::Args;
use data_encoding::BASE64;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidemill_client::{Offset, Partition, Start, StoredRecord};

use super::produce::{connect, millis};
use crate::contexts::Contexts;
use crate::exit::Failure;

/// Consume records, one JSON object each.
///
/// Keys and values that are JSON or text are printed as such; others as {"base64": ...}.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidemill consume orders --from-beginning --exit-at-end\n  \
tidemill consume orders --partition 2 --offset 100 --limit 10\n  tidemill consume orders --from-time 2017-01-01T00:00:00Z")]
pub struct Consume {
    /// The topic.
    topic: String,
    /// Begin with the first record that is there; without this and the next two, with what comes from now on.
    #[arg(long, conflicts_with_all = ["offset", "from_time"])]
    from_beginning: bool,
    /// Begin with this offset, in every partition that is read.
    #[arg(long, conflicts_with = "from_time")]
    offset: Option<u64>,
    /// Begin with the first record of this time or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    from_time: Option<String>,
    /// Read this partition only.
    #[arg(long)]
    partition: Option<u32>,
    /// End when all that was there is read.
    #[arg(long)]
    exit_at_end: bool,
    /// End after so many records.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

impl Consume {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when the topic or an offset is not there, or the broker cannot be reached.
    pub async fn run(self, context: Option<&str>) -> Result<(), Failure> {
        let start = match (&self.from_time, self.offset) {
            (Some(time), _) => Start::Time(millis(time).with_context(|| format!("--from-time {time}"))?),
            (None, Some(offset)) => Start::Offset(Offset(offset)),
            (None, None) if self.from_beginning => Start::Beginning,
            (None, None) => Start::End,
        };
        let client = connect(&Contexts::find(context)?).await?;
        let consumer = match self.partition {
            Some(partition) => client.consumer().read_partition(&self.topic, Partition(partition), start),
            None => client.consumer().read(&self.topic, start),
        };
        let mut consumer = consumer.build().await?;
        let mut left = self.limit.unwrap_or(u64::MAX);
        let mut out = io::BufWriter::new(io::stdout().lock());
        while left > 0 {
            let batch = if self.exit_at_end {
                consumer.next_batch_before_end().await
            } else {
                // What was read so far is to be seen while nothing more comes.
                out.flush()?;
                consumer.next_batch().await.map(Some)
            };
            let Some(batch) = batch.map_err(|error| anyhow!(error))? else { break };
            for record in batch.records.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                serde_json::to_writer(&mut out, &Printed::stored(&batch.topic, batch.partition, record))
                    .map_err(io::Error::from)?;
                writeln!(out)?;
                left -= 1;
            }
        }
        out.flush()?;
        client.close().await;
        Ok(())
    }
}

/// Where a record lies.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
}

/// A record as it is printed.
pub fn object<'a>(
    place: &Place<'a>,
    timestamp_ms: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
) -> Value {
    let (key, value) = (Content::Read(readable(key)), Content::Read(readable(value)));
    serde_json::to_value(Printed::of(place, timestamp_ms, key, value, headers))
        .expect("a record is plain data")
}

/// A record as it is printed: what is JSON in it as it was read, or as it was written.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<BTreeMap<&'a str, Value>>,
    key: Content<'a>,
    offset: u64,
    partition: u32,
    timestamp: i64,
    topic: &'a str,
    value: Content<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Written(&'a RawValue),
    Read(Value),
}

impl<'a> Printed<'a> {
    fn of(
        place: &Place<'a>,
        timestamp: i64,
        key: Content<'a>,
        value: Content<'a>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Printed<'a> {
        let Place { topic, partition, offset } = *place;
        let headers = headers.map(|(name, value)| BTreeMap::from([(name, text(value))])).collect();
        Printed { headers, key, offset, partition, timestamp, topic, value }
    }

    fn stored(topic: &'a str, partition: Partition, stored: &'a StoredRecord) -> Printed<'a> {
        let place = Place { topic, partition: partition.0, offset: stored.offset.0 };
        let headers = stored.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref()));
        let (key, value) = (content(stored.key.as_deref()), content(stored.value.as_deref()));
        Printed::of(&place, stored.timestamp_ms, key, value, headers)
    }
}

/// As [`readable`], with objects and arrays as they were written, unless they would take several lines.
fn content(bytes: Option<&[u8]>) -> Content<'_> {
    let is_many = |raw: &RawValue| raw.get().starts_with(['{', '[']);
    match bytes.and_then(|bytes| serde_json::from_slice::<&RawValue>(bytes).ok()) {
        Some(raw) if is_many(raw) && !raw.get().contains(['\n', '\r']) => Content::Written(raw),
        _ => Content::Read(readable(bytes)),
    }
}

/// JSON as it is, other text as a string.
pub fn readable(bytes: Option<&[u8]>) -> Value {
    match bytes.map(serde_json::from_slice::<Value>) {
        // A number might lose digits on its way through JSON's readers; keys are often numbers.
        Some(Ok(value @ (Value::Object(_) | Value::Array(_)))) => value,
        _ => text(bytes),
    }
}

/// Text as a string; other bytes in base 64.
pub fn text(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": BASE64.encode(bytes) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_printed_as_it_was_written() {
        let printed = |bytes: &[u8]| serde_json::to_string(&content(Some(bytes))).unwrap();
        for written in [r#"{"b":12345678901234567890123,"a":1.0,"b":2}"#, "[1e400, 2]"] {
            assert_eq!(printed(written.as_bytes()), written);
        }
        assert_eq!(printed(b"{\n \"b\": 1,\n \"a\": 2\n}"), r#"{"a":2,"b":1}"#);
        assert_eq!(printed(b"12345678901234567890123"), r#""12345678901234567890123""#);
        assert_eq!(printed(b"{half"), r#""{half""#);
    }

    #[test]
    fn what_is_json_or_text_is_shown_as_that() {
        assert_eq!(readable(Some(b"{\"a\":1}")), json!({ "a": 1 }));
        assert_eq!(readable(Some(b"12345678901234567890")), json!("12345678901234567890"));
        assert_eq!(readable(Some(b"\xff\xfe")), json!({ "base64": "//4=" }));
        assert_eq!(readable(None), Value::Null);
    }
}
