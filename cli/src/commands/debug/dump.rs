//! `debug dump`: what a data folder's logs hold, read from its files. No broker is asked, and nothing is changed.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::{Value, json};
use tidemill_core::entry::PlacedBatch;
use tidemill_core::ids::GroupId;
use tidemill_core::limits;
use tidemill_core::seams::{Disk, Timestamp};
use tidemill_host::world::RealDisk;
use tidemill_protocol::batch::{self, BatchHeader};
use tidemill_storage::log::offline::{OfflineSegment, SegmentAbout, segments};
use tidemill_storage::log::{LogEntry, Payload};

use crate::commands::consume::text;
use crate::exit::Failure;
use crate::output::Format;

/// List what a data folder's logs hold: segments, entries and batches, without what the records say.
///
/// Reads the files alone, of a broker that is down or of a copy, and changes nothing. Beside one that runs, the newest
/// segment may seem damaged. With `--output json`, one object a line.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidemill debug dump tidemill-data --shard 3\n  tidemill --output json debug dump tidemill-data --shard 3 --segment 1"
)]
pub struct Dump {
    /// The data folder.
    folder: PathBuf,
    /// Only this shard; else the catalog, and all.
    #[arg(long)]
    shard: Option<u16>,
    /// Only the segment of this number.
    #[arg(long)]
    segment: Option<u64>,
    /// Only segments, not what is in them.
    #[arg(long)]
    brief: bool,
    /// Also keys and values of records.
    #[arg(long, conflicts_with = "brief")]
    payloads: bool,
}

impl Dump {
    /// Lists it.
    ///
    /// # Errors
    /// [`Failure::Refused`] when there is nothing to be listed, or something of it is damaged; all that can be read is
    /// listed before.
    pub fn run(self, format: Format) -> Result<(), Failure> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::default());
        let mut listed = 0_usize;
        let mut damaged = 0_usize;
        let mut out = io::stdout().lock();
        for group in self.groups()? {
            let folder = self.folder.join(group.to_string());
            let numbers = segments(&*disk, &folder).with_context(|| folder.display().to_string())?;
            for number in numbers.into_iter().filter(|number| self.segment.is_none_or(|only| only == *number))
            {
                listed += 1;
                match OfflineSegment::read(disk.clone(), &folder, number) {
                    Ok(segment) => damaged += self.list(&mut out, group, &segment, format)?,
                    Err(fault) => {
                        damaged += 1;
                        let line = json!({ "group": group.to_string(), "segment": number, "damaged": fault.to_string() });
                        print(&mut out, format, &line, || format!("{group} segment {number}: {fault}"))?;
                    }
                }
            }
        }
        match (listed, damaged) {
            (0, _) => Err(anyhow!("{}: no such segment", self.folder.display()).into()),
            (_, 0) => Ok(()),
            (_, damaged) => Err(anyhow!("{damaged} things are damaged").into()),
        }
    }

    fn groups(&self) -> Result<Vec<GroupId>, Failure> {
        if let Some(shard) = self.shard {
            return Ok(vec![GroupId::Shard(tidemill_core::ids::ShardId(shard))]);
        }
        let shards = (0..u16::MAX).map(|shard| GroupId::Shard(tidemill_core::ids::ShardId(shard)));
        let is_there = |group: &GroupId| self.folder.join(group.to_string()).is_dir();
        let all: Vec<_> =
            [GroupId::Catalog].into_iter().chain(shards.take_while(is_there)).filter(is_there).collect();
        if all.is_empty() {
            return Err(anyhow!("{} is no data folder", self.folder.display()).into());
        }
        Ok(all)
    }

    /// Lists one segment; returns how many turns of it are damaged.
    fn list(
        &self,
        out: &mut impl Write,
        group: GroupId,
        segment: &OfflineSegment,
        format: Format,
    ) -> Result<usize, Failure> {
        let about = segment.about();
        print(out, format, &segment_json(group, about), || segment_line(group, about))?;
        if self.brief {
            return Ok(0);
        }
        let mut damaged = 0;
        for turn in segment.turns().map_err(anyhow::Error::new)? {
            let turn = match turn {
                Ok(turn) => turn,
                Err(fault) => {
                    damaged += 1;
                    print(out, format, &json!({ "damaged": fault.to_string() }), || format!("  {fault}"))?;
                    continue;
                }
            };
            for entry in &turn.entries {
                let line = entry_json(entry, turn.number);
                print(out, format, &line, || entry_line(&line))?;
                for placed in batches(entry) {
                    let mut line = batch_json(placed);
                    if self.payloads {
                        line["records"] = records(placed);
                    }
                    print(out, format, &line, || batch_lines(&line))?;
                }
            }
        }
        Ok(damaged)
    }
}

fn print(
    out: &mut impl Write,
    format: Format,
    line: &Value,
    text: impl FnOnce() -> String,
) -> io::Result<()> {
    match format {
        Format::Json => writeln!(out, "{line}"),
        Format::Table => writeln!(out, "{}", text()),
    }
}

fn time(at: Timestamp) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at.0)).to_string()
}

fn segment_json(group: GroupId, about: &SegmentAbout) -> Value {
    json!({
        "group": group.to_string(), "segment": about.number, "line": about.line, "first-index": about.first.0,
        "made": time(about.made), "last-index": about.sealed.map(|last| last.index.0), "sealed": about.sealed.is_some(),
        "left-open": about.left_open, "torn": about.torn, "file-bytes": about.file_bytes,
    })
}

fn segment_line(group: GroupId, about: &SegmentAbout) -> String {
    let state = match (about.sealed, about.left_open) {
        (Some(last), _) => format!("sealed at entry {}", last.index.0),
        (None, true) => "left open".to_owned(),
        (None, false) => "closed".to_owned(),
    };
    let torn = if about.torn { ", its last turn torn" } else { "" };
    let (number, first, line) = (about.number, about.first.0, about.line);
    let (made, bytes) = (time(about.made), about.file_bytes);
    format!(
        "{group} segment {number} from entry {first}, line {line}, made {made}, {bytes} bytes, {state}{torn}"
    )
}

fn batches(entry: &LogEntry) -> &[PlacedBatch] {
    match &entry.payload {
        Payload::Entry(entry) => &entry.batches,
        _ => &[],
    }
}

fn entry_json(entry: &LogEntry, turn: u64) -> Value {
    let mut line = json!({ "index": entry.id.index.0, "term": entry.id.term.0, "turn": turn });
    match &entry.payload {
        Payload::Blank => line["kind"] = "blank".into(),
        Payload::Membership(bytes) => {
            line["kind"] = "membership".into();
            line["bytes"] = bytes.len().into();
        }
        Payload::Entry(entry) => {
            line["kind"] = format!("{:?}", entry.kind).to_lowercase().into();
            line["append-time"] = time(entry.append_time).into();
            line["bytes"] = entry.bytes().len().into();
            line["meta-bytes"] = entry.meta.len().into();
            line["batches"] = entry.batches.len().into();
        }
    }
    line
}

fn entry_line(line: &Value) -> String {
    let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
    let head = format!("  {} term {} turn {} {}", line["index"], line["term"], line["turn"], text("kind"));
    match line["append-time"].as_str() {
        Some(at) => {
            format!("{head} at {at}, {} bytes, {} of them its own", line["bytes"], line["meta-bytes"])
        }
        None => head,
    }
}

fn batch_json(placed: &PlacedBatch) -> Value {
    let mut line = json!({
        "topic": placed.at.topic.to_string(), "partition": placed.at.partition.0, "bytes": placed.batch.len(),
        "away-to-shard": placed.away.map(|shard| shard.0),
    });
    match BatchHeader::parse(&placed.batch) {
        Ok(header) => {
            line["base-offset"] = header.base_offset.0.into();
            line["count"] = header.record_count.into();
            line["codec"] =
                header.codec().map_or(Value::Null, |codec| format!("{codec:?}").to_lowercase().into());
            line["producer"] = header.producer_id.0.into();
        }
        Err(error) => line["damaged"] = error.to_string().into(),
    }
    if placed.away.is_some() {
        // It gets its offset where it arrives.
        line["base-offset"] = Value::Null;
    }
    line
}

fn batch_lines(line: &Value) -> String {
    let topic = line["topic"].as_str().unwrap_or_default();
    let at = match (&line["away-to-shard"], &line["base-offset"]) {
        (Value::Null, offset) => format!("from offset {offset}"),
        (shard, _) => format!("for shard {shard}"),
    };
    let mut text =
        format!("    {topic}/{} {at}: {} records, {} bytes", line["partition"], line["count"], line["bytes"]);
    if let Some(damaged) = line["damaged"].as_str() {
        text += &format!(", {damaged}");
    }
    for record in line["records"].as_array().into_iter().flatten() {
        text += &format!("\n      {record}");
    }
    text
}

/// Keys and values; nothing where the batch cannot be read, which its own line says.
fn records(placed: &PlacedBatch) -> Value {
    let record = |record: batch::Record| {
        json!({
            "offset": record.offset.0, "timestamp": record.timestamp_ms, "key": text(record.key.as_deref()),
            "value": text(record.value.as_deref()),
        })
    };
    match batch::decode(&placed.batch, &limits::STORED_BATCH) {
        Ok(records) => records.into_iter().map(record).collect(),
        Err(error) => json!([{ "damaged": error.to_string() }]),
    }
}
