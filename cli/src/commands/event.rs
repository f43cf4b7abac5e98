//! `event`: where one record comes from, and what became of it.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::topic::text;
use crate::admin_api::AdminApi;
use crate::contexts::Contexts;
use crate::exit::Failure;
use crate::output::{self, Format};

/// Follow one record through the plugins.
#[derive(Debug, Subcommand)]
pub enum Event {
    Trace(Trace),
}

/// Print the records that a record descends from, and those that descend from it, as a tree.
#[derive(Debug, Args)]
#[command(
    after_help = "Records that retention took are printed as expired. What a timer caused hangs below the record that \
last set the timer; its state came from others, too.\n\nExample:\n  tidemill event trace customer-orders/2/17"
)]
pub struct Trace {
    /// The record: TOPIC/PARTITION/OFFSET.
    #[arg(value_parser = place)]
    record: (String, u32, u64),
    /// Print at most so many records, the nearest first; 1,000 if nothing is said.
    #[arg(long, value_name = "N")]
    records: Option<usize>,
    /// Print at most so many generations up, and down; 16 if nothing is said.
    #[arg(long, value_name = "N")]
    depth: Option<u32>,
}

fn place(text: &str) -> Result<(String, u32, u64), String> {
    let parsed = || {
        let (rest, offset) = text.rsplit_once('/')?;
        let (topic, partition) = rest.rsplit_once('/')?;
        Some((topic.to_owned(), partition.parse().ok()?, offset.parse().ok()?))
    };
    parsed().ok_or_else(|| "not TOPIC/PARTITION/OFFSET, as orders/2/17".to_owned())
}

impl Event {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when there is no such record, or the broker cannot be reached.
    pub async fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        let api = AdminApi::new(&Contexts::find(context)?)?;
        let Event::Trace(trace) = self;
        let (topic, partition, offset) = &trace.record;
        let bounds = [
            ("records", trace.records.map(|n| n.to_string())),
            ("depth", trace.depth.map(|n| n.to_string())),
        ];
        let bounds: Vec<String> =
            bounds.iter().filter_map(|(name, bound)| Some(format!("{name}={}", bound.as_ref()?))).collect();
        let path = format!("/v1/topics/{topic}/partitions/{partition}/records/{offset}/trace");
        let found: Value = api.get(&format!("{path}?{}", bounds.join("&"))).await?;
        if format == Format::Json {
            return Ok(output::json(&found)?);
        }
        let records = found["records"].as_array().context("a trace without records")?;
        for line in tree(records, found["asked"].as_u64()) {
            say!("{line}");
        }
        if found["is-complete"] == false {
            say!("there may be more than was asked for: --records and --depth say how much that is");
        }
        Ok(())
    }
}

/// The lines of a tree; of each record, those that descend from it come after it in `records`.
fn tree(records: &[Value], asked: Option<u64>) -> Vec<String> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); records.len()];
    let mut roots = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let parent = record["parent"].as_u64().and_then(|parent| usize::try_from(parent).ok());
        match parent.filter(|parent| *parent < number) {
            Some(parent) => children[parent].push(number),
            None => roots.push(number),
        }
    }
    let mut lines = Vec::new();
    // What is to be printed next lies last: a record, what stands before its line, and before those below it.
    let mut left: Vec<(usize, String, String)> =
        roots.into_iter().rev().map(|root| (root, String::new(), String::new())).collect();
    while let Some((number, before, below)) = left.pop() {
        let record = &records[number];
        let unknown = record["unknown-between"].as_u64().unwrap_or_default();
        if unknown > 0 {
            lines.push(format!("{below}·  {unknown} more in between, of which nothing is known"));
        }
        let mark = if asked == Some(number as u64) { "  ◀ asked for" } else { "" };
        lines.push(format!("{before}{}{mark}", described(record, number == 0)));
        let cut = record["is-cut"] == true;
        let last = children[number].len().checked_sub(1).filter(|_| !cut);
        if cut {
            // Printed after its children, so pushed before them.
            left.push((usize::MAX, format!("{below}└─ …"), String::new()));
        }
        for (place, child) in children[number].iter().enumerate().rev() {
            let (branch, deeper) =
                if Some(place) == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            left.push((*child, format!("{below}{branch}"), format!("{below}{deeper}")));
        }
        while let Some((_, before, _)) = left.pop_if(|(number, ..)| *number == usize::MAX) {
            lines.push(before);
        }
    }
    lines
}

/// One record on a line.
fn described(record: &Value, is_first: bool) -> String {
    let name = format!(
        "{}/{}/{}",
        output::shown(&text(&record["topic"])),
        text(&record["partition"]),
        text(&record["offset"])
    );
    let letter = if record["is-dead-letter"] == true { "  dead letter" } else { "" };
    let Some(append_time_ms) = record["append-time-ms"].as_u64() else {
        return format!("{name}  expired{letter}");
    };
    let time = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(append_time_ms));
    let by = &record["by"];
    if by.is_null() {
        return format!("{name}  {time}  produced{letter}");
    }
    let plugin = match by["plugin"].as_str() {
        Some(plugin) => plugin.to_owned(),
        None => format!("a deleted plugin ({})", text(&by["deployment"])),
    };
    let timer = match (by["timer"] == true, is_first) {
        (false, _) => "",
        (true, true) => "  by a timer; its state came from other records also",
        (true, false) => "  by a timer, last set by the record above; its state came from other records also",
    };
    let (generation, step, task) = (text(&by["generation"]), text(&by["step"]), text(&by["task"]));
    format!("{name}  {time}  by {plugin}, generation {generation}, task {task}, step {step}{timer}{letter}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_read_from_the_end() {
        assert_eq!(place("a.b/2/17"), Ok(("a.b".to_owned(), 2, 17)));
        for wrong in ["a", "a/2", "a/x/1", "a/1/-1"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tree_is_drawn() {
        let record = |offset: u64, parent: Option<u64>| {
            json!({ "topic": "t", "partition": 0, "offset": offset, "parent": parent, "unknown-between": 0,
                    "append-time-ms": null, "by": null, "is-cut": false, "is-dead-letter": false })
        };
        let mut records = vec![record(0, None), record(1, Some(0)), record(2, Some(0)), record(3, Some(1))];
        records[1]["unknown-between"] = 2.into();
        records[3]["is-cut"] = true.into();
        let lines = tree(&records, Some(1));
        let expected = [
            "t/0/0  expired",
            "│  ·  2 more in between, of which nothing is known",
            "├─ t/0/1  expired  ◀ asked for",
            "│  └─ t/0/3  expired",
            "│     └─ …",
            "└─ t/0/2  expired",
        ];
        assert_eq!(lines, expected);
    }
}
