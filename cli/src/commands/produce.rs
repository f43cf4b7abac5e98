//! `produce`: records from lines.

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::Args;
use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidemill_client::{Client, Codec, Config, Delivery, Partition, Producer, Record, RecordHeader, Tls};

use crate::contexts::{Context, Contexts};
use crate::exit::Failure;
use crate::input::Lines;
use crate::output::{self, Format};

/// How long the last records may take.
const CLOSE: Duration = Duration::from_secs(60);
/// Of how long a delay `--rate` may make good.
const BURST: Duration = Duration::from_millis(100);

/// Produce records from a file or from standard input: each line is a record's value.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidemill produce orders --file orders.jsonl.zst --key customerId --timestamp timestamp\n  \
echo '{\"hello\": \"world\"}' | tidemill produce greetings --header source=shell"
)]
pub struct Produce {
    /// The topic.
    topic: String,
    /// A file of lines; one that ends in .zst is decompressed. Standard input when left out.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The field of each line's JSON object that is the record's key.
    #[arg(long, value_name = "FIELD")]
    key: Option<String>,
    /// The field of each line's JSON object that is the record's time: RFC 3339, or milliseconds since 1970.
    #[arg(long, value_name = "FIELD")]
    timestamp: Option<String>,
    /// The partition of all records; without it, their keys choose.
    #[arg(long)]
    partition: Option<u32>,
    /// A header of all records; may be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// How batches are compressed: none, gzip, snappy, lz4 or zstd.
    #[arg(long, default_value = "none")]
    compression: String,
    /// At most so many records.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// At most so many records a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
}

impl Produce {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when a line has not what it should, or a record was not written.
    pub async fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        let codec = Codec::from_name(&self.compression).ok_or_else(|| {
            anyhow!("--compression {}: use none, gzip, snappy, lz4 or zstd", self.compression)
        })?;
        let headers = self.headers()?;
        let mut lines = Lines::open(self.file.as_deref())?;
        let client = connect(&Contexts::find(context)?).await?;
        let producer = client.producer().codec(codec).build().await?;
        producer.prepare(&self.topic).await?;
        let progress = bar(format);
        let mut sent = 0;
        let ended = self.send(&mut lines, &producer, &headers, &mut sent, &progress).await;
        // What was accepted before a bad line is written all the same.
        let report = producer.close(CLOSE).await;
        progress.finish_and_clear();
        client.close().await;
        let is_written = report.is_clean() && report.unsent_records() == 0;
        match format {
            Format::Json => output::json(&json!({
                "topic": self.topic, "sent": sent, "refused": report.refused, "expired": report.expired,
                "fatal": report.fatal, "unsent": report.unsent_records(),
            }))?,
            Format::Table if is_written => say!("{sent} records to {}", self.topic),
            Format::Table => {}
        }
        ended?;
        if !is_written {
            return Err(anyhow!("not all records were written: {report:?}").into());
        }
        Ok(())
    }

    /// Sends line after line, until one is not as it should be or is known not to be written; counts them in `sent`.
    async fn send(
        &self,
        lines: &mut Lines,
        producer: &Producer,
        headers: &[RecordHeader],
        sent: &mut u64,
        progress: &ProgressBar,
    ) -> Result<(), Failure> {
        let topic: Arc<str> = self.topic.as_str().into();
        let mut under_way: VecDeque<Delivery> = VecDeque::new();
        let mut due = Instant::now();
        while self.limit.is_none_or(|limit| *sent < limit) {
            if let Some(rate) = self.rate {
                tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
                // A little is made good of what a pause or a late timer cost, and no more.
                let earliest = Instant::now().checked_sub(BURST).unwrap_or(due);
                due = due.max(earliest) + Duration::from_secs(1).div_f64(rate as f64);
            }
            let Some((number, line)) = lines.next_line()? else { break };
            let mut record = Record::to(topic.clone());
            record.headers = headers.to_vec();
            record.partition = self.partition.map(Partition);
            self.describe(&line, &mut record).with_context(|| format!("line {number}"))?;
            under_way.push_back(producer.send(record.value(line)).await);
            // What is already known to have failed need not be read to the end.
            while let Some(ended) = under_way.front_mut().and_then(FutureExt::now_or_never) {
                ended.map_err(|error| Failure::from(error.error().clone()))?;
                under_way.pop_front();
            }
            *sent += 1;
            progress.inc(1);
        }
        Ok(())
    }

    fn headers(&self) -> Result<Vec<RecordHeader>, Failure> {
        let read = |header: &String| {
            let pair = header.split_once('=').ok_or_else(|| anyhow!("--header {header}: use NAME=VALUE"))?;
            let value = Some(pair.1.to_owned().into());
            Ok(RecordHeader { name: pair.0.to_owned(), value })
        };
        self.headers.iter().map(read).collect::<anyhow::Result<_>>().map_err(Failure::from)
    }

    /// Sets what fields of the line say.
    fn describe(&self, line: &[u8], record: &mut Record) -> anyhow::Result<()> {
        if self.key.is_none() && self.timestamp.is_none() {
            return Ok(());
        }
        let object: BTreeMap<String, &RawValue> =
            serde_json::from_slice(line).context("not JSON, or no object")?;
        let value = |field: &String| match object.get(field) {
            Some(raw) => Ok((raw.get(), serde_json::from_str::<Value>(raw.get())?)),
            None => Err(anyhow!("there is no field {field}")),
        };
        if let Some(field) = &self.key {
            record.key = match value(field)? {
                (_, Value::Null) => return Err(anyhow!("there is no field {field}")),
                (_, Value::String(text)) => Some(text.into()),
                // As it is written: a number may have more digits than are kept of it. Whatever else there is, the same
                // fields make the same key.
                (written, Value::Number(_)) => Some(written.to_owned().into()),
                (_, other) => Some(other.to_string().into()),
            };
        }
        if let Some(field) = &self.timestamp {
            record.timestamp_ms = Some(match value(field)?.1 {
                Value::Number(number) => number.as_i64().context("the time is no whole number")?,
                Value::String(text) => millis(&text).with_context(|| format!("field {field}"))?,
                _ => return Err(anyhow!("there is no field {field}")),
            });
        }
        Ok(())
    }
}

/// A time of RFC 3339, in milliseconds since 1970.
pub fn millis(text: &str) -> anyhow::Result<i64> {
    let time = humantime::parse_rfc3339_weak(text)?;
    let since = time.duration_since(std::time::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}

/// A client of a context's cluster.
///
/// # Errors
/// [`Failure`] when no broker is reached.
pub async fn connect(context: &Context) -> Result<Client, Failure> {
    let tls = Tls::from_files(&context.ca, &context.certificate, &context.key);
    let tls = tls.map_err(|error| Failure::Configuration(error.into()))?;
    let mut config = Config::new([context.broker.as_str()], tls);
    config.client_id = "tidemill-cli".to_owned();
    Ok(Client::connect(config).await?)
}

fn bar(format: Format) -> ProgressBar {
    if format == Format::Json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} records, {per_sec}, {elapsed}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
