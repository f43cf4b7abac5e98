//! `plugin logs`: what a plugin wrote to its log, with the step and the attempt of each line.
//!
//! The log is a topic, and this is a consumer of it like any other: it finds the topic's name, and reads.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::Value;
use tidemill_client::{Client, Consumer, Fetched, Moment, Offset, OutOfRange, Partition, Start};
use tidemill_host::admin::logs::LineView;
use tidemill_host::logs::last::ReadLine;
use tidemill_host::logs::line::Line;
use tidemill_runtime::LogLevel;

use crate::admin_api::{AdminApi, part};
use crate::commands::produce::{connect, millis};
use crate::contexts::Context;
use crate::exit::Failure;
use crate::output::{Format, shown};

/// Lines that are printed, when nothing is said about how many or since when.
const LINES_DEFAULT: usize = 100;

/// Print the last lines of a plugin's log: time, level, task, step and attempt of each.
///
/// The log is the topic NAME.log, of which any consumer can read, with a partition for each task. Lines are there about
/// 0.2 s after they were written, and stay as long as the topic retains them: a day, if it was not altered.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidemill plugin logs payment --follow\n  \
tidemill plugin logs payment --since 10m --level warn\n  tidemill plugin logs payment --partition 3 --step 17")]
pub struct Logs {
    /// The plugin.
    plugin: String,
    /// Go on printing what comes.
    #[arg(long, short)]
    follow: bool,
    /// From then on: a time (RFC 3339), how long ago (10m, 2h), or an offset in each partition of the topic.
    #[arg(long, value_name = "TIME|OFFSET")]
    since: Option<String>,
    /// At first, the last so many lines; 100 without --since, with it all.
    #[arg(long, value_name = "N")]
    lines: Option<usize>,
    /// Of this level and above: trace, debug, info, warn or error.
    #[arg(long)]
    level: Option<LogLevel>,
    /// Of this step only; each task counts its own.
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    /// The task of this partition only.
    #[arg(long)]
    partition: Option<u32>,
}

/// Where to begin.
#[derive(Debug, Clone, Copy)]
enum Since {
    Time(i64),
    Offset(u64),
    /// So many records before the end.
    Last(usize),
    Beginning,
}

/// A line, and the topic's partition that it lies in.
type Found = (Partition, ReadLine);

impl Logs {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when there is no such plugin, it has no log, or the broker cannot be reached.
    pub async fn run(self, context: &Context, api: &AdminApi, format: Format) -> Result<(), Failure> {
        let plugin: Value = api.get(&format!("/v1/plugins/{}", part(&self.plugin))).await?;
        let Some(topic) = plugin["log"].as_str() else {
            return Err(anyhow!(
                "{0} has no log: it was deployed by a broker that made none; deploy it again (tidemill plugin deploy)",
                self.plugin
            )
            .into());
        };
        let since = self.since()?;
        let client = connect(context).await?;
        let mut consumer = self.consumer(&client, topic, since).await?;
        let most = self.lines.or(self.since.is_none().then_some(LINES_DEFAULT)).unwrap_or(usize::MAX);
        let mut found: Vec<Found> = Vec::new();
        while let Some(batch) = consumer.next_batch_before_end().await.map_err(|error| anyhow!(error))? {
            found.extend(self.wanted(&batch));
            if found.len() / 2 > most {
                keep_last(&mut found, most);
            }
        }
        keep_last(&mut found, most);
        print(found, format)?;
        if !self.follow {
            client.close().await;
            return Ok(());
        }
        loop {
            let batch = consumer.next_batch().await.map_err(|error| anyhow!(error))?;
            print(self.wanted(&batch), format)?;
        }
    }

    fn since(&self) -> anyhow::Result<Since> {
        let is_narrowed = self.level.is_some() || self.step.is_some();
        let Some(text) = &self.since else {
            return Ok(if is_narrowed {
                Since::Beginning
            } else {
                Since::Last(self.lines.unwrap_or(LINES_DEFAULT))
            });
        };
        if let Ok(offset) = text.parse() {
            return Ok(Since::Offset(offset));
        }
        if let Ok(ago) = humantime::parse_duration(text) {
            let then = SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH);
            let then = then.duration_since(UNIX_EPOCH).unwrap_or_default();
            return Ok(Since::Time(i64::try_from(then.as_millis())?));
        }
        let time = millis(text);
        Ok(Since::Time(time.with_context(|| format!("--since {text}: no time, no age and no offset"))?))
    }

    async fn consumer(&self, client: &Client, topic: &str, since: Since) -> anyhow::Result<Consumer> {
        let described = client.admin().describe_topics(&[topic]).await?;
        let described = described.into_iter().next().context("the broker says nothing of the topic")??;
        let partitions = described.partitions.len() as u32;
        if let Some(partition) = self.partition.filter(|partition| *partition >= partitions) {
            return Err(anyhow!(
                "{} has no task {partition}: its tasks are 0 to {}",
                self.plugin,
                partitions - 1
            ));
        }
        let own = (0..partitions).filter(|own| self.partition.is_none_or(|partition| partition == *own));
        let own: Vec<Partition> = own.map(Partition).collect();
        // What is retained no more by then is passed over.
        let mut consumer = client.consumer().out_of_range(OutOfRange::Beginning);
        let wanted: Vec<_> = own
            .iter()
            .flat_map(|own| [Moment::Beginning, Moment::End].map(|moment| (topic, *own, moment)))
            .collect();
        let mut bounds = client.admin().offsets(&wanted).await.into_iter();
        for partition in own {
            let mut bound =
                || bounds.next().context("the broker left a partition out")?.map_err(anyhow::Error::from);
            let (first, end) = (bound()?.unwrap_or_default(), bound()?.unwrap_or_default());
            let start = match since {
                Since::Time(ms) => Start::Time(ms),
                Since::Beginning => Start::Offset(first),
                Since::Offset(offset) => Start::Offset(Offset(offset).min(end).max(first)),
                Since::Last(lines) => Start::Offset(Offset(end.0.saturating_sub(lines as u64)).max(first)),
            };
            consumer = consumer.read_partition(topic, partition, start);
        }
        Ok(consumer.build().await?)
    }

    /// The lines of a batch that are asked for.
    fn wanted(&self, batch: &Fetched) -> Vec<Found> {
        let lines = batch.records.iter().filter_map(|record| {
            let line = Line::of(record)?;
            let is_wanted = self.level.is_none_or(|level| line.level >= level)
                && self.step.is_none_or(|step| line.tried.step.0 == step);
            is_wanted.then_some((batch.partition, ReadLine { offset: record.offset, line }))
        });
        lines.collect()
    }
}

/// Keeps the last lines, in the order of their times.
fn keep_last(found: &mut Vec<Found>, most: usize) {
    found.sort_by_key(|(partition, lying)| (lying.line.tried.at, *partition, lying.offset));
    found.drain(..found.len().saturating_sub(most));
}

fn print(lines: Vec<Found>, format: Format) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (_, read) in lines {
        match format {
            Format::Json => {
                serde_json::to_writer(&mut out, &LineView::from(read))?;
                writeln!(out)?;
            }
            Format::Table => writeln!(out, "{}", words(&read.line))?,
        }
    }
    out.flush()
}

/// A line for people.
fn words(line: &Line) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(line.tried.at.0);
    format!(
        "{} {:5} task {} step {} attempt {}: {}",
        humantime::format_rfc3339_millis(at),
        line.level.name(),
        line.tried.task.0,
        line.tried.step.0,
        line.tried.attempt,
        shown(&line.message)
    )
}
