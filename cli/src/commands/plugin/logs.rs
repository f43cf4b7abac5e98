//! `plugin logs`: what a plugin wrote to its log, with the step and the attempt of each line.

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::admin_api::{AdminApi, part};
use crate::exit::Failure;
use crate::output::{self, Format, shown};

/// How long the broker may hold an answer back, in milliseconds, until there is something to say.
const WAIT_MS: u64 = 2_000;

/// Print the last lines of a plugin's log: level, task, step and attempt of each.
///
/// A broker keeps the last 1,000 lines of each plugin in memory; with a restart they are gone.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill plugin logs payment --follow")]
pub struct Logs {
    /// The plugin.
    plugin: String,
    /// Go on printing what comes.
    #[arg(long, short)]
    follow: bool,
    /// The last so many lines at first.
    #[arg(long, value_name = "N", default_value_t = 100)]
    lines: usize,
    /// The task of this partition only.
    #[arg(long)]
    partition: Option<u32>,
}

#[derive(Deserialize)]
struct Page {
    lines: Vec<Value>,
    next: u64,
}

impl Logs {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when there is no such plugin, or the broker cannot be reached.
    pub async fn run(self, api: &AdminApi, format: Format) -> Result<(), Failure> {
        let path = format!("/v1/plugins/{}/logs", part(&self.plugin));
        let first: Page = api.get(&path).await?;
        let own: Vec<_> = first.lines.iter().filter(|line| self.wants(line)).collect();
        for line in &own[own.len().saturating_sub(self.lines)..] {
            print(line, format)?;
        }
        let mut next = first.next;
        loop {
            if !self.follow {
                return Ok(());
            }
            let page: Page = api.get(&format!("{path}?from={next}&wait-ms={WAIT_MS}")).await?;
            page.lines.iter().filter(|line| self.wants(line)).try_for_each(|line| print(line, format))?;
            next = page.next;
        }
    }

    fn wants(&self, line: &Value) -> bool {
        self.partition.is_none_or(|partition| line["task"] == partition)
    }
}

fn print(line: &Value, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return Ok(output::json(line)?);
    }
    let number = |field: &str| line[field].as_u64().unwrap_or_default();
    let at = UNIX_EPOCH + Duration::from_millis(number("at-ms"));
    let level = line["level"].as_str().unwrap_or_default();
    let message = shown(line["message"].as_str().unwrap_or_default());
    let (task, step, attempt) = (number("task"), number("step"), number("attempt") + 1);
    println!(
        "{} {level:5} task {task} step {step} attempt {attempt}: {message}",
        humantime::format_rfc3339_millis(at)
    );
    Ok(())
}
