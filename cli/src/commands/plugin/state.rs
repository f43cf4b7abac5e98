//! `plugin state get|scan`: what a plugin keeps, as its last committed steps left it.

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::consume::{readable, text};
use crate::admin_api::{AdminApi, part};
use crate::exit::Failure;
use crate::output::{self, Format, shown};

/// Rows that are asked for at once.
const PAGE_ROWS: u64 = 1_000;

/// Look into a plugin's state.
#[derive(Debug, Subcommand)]
pub enum State {
    Get(Get),
    Scan(Scan),
}

/// Print the value of a key, of every task that has it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidemill plugin state get loyalty 1058\n  \
                        tidemill plugin state get loyalty 0x31303538 --partition 2")]
pub struct Get {
    /// The plugin.
    plugin: String,
    /// The key: text, or 0x and hexadecimal digits.
    #[arg(value_parser = key)]
    key: Key,
    /// The task of this partition only.
    #[arg(long)]
    partition: Option<u32>,
}

/// Print keys and their values, task by task, in the order of the keys' bytes.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill plugin state scan inventory --prefix stock/ --limit 20")]
pub struct Scan {
    /// The plugin.
    plugin: String,
    /// The task of this partition only.
    #[arg(long)]
    partition: Option<u32>,
    /// Only keys that begin so: text, or 0x and hexadecimal digits.
    #[arg(long, value_parser = key)]
    prefix: Option<Key>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
}

/// A key, or the beginning of one, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key(Vec<u8>);

fn key(given: &str) -> Result<Key, String> {
    match given.strip_prefix("0x") {
        None => Ok(Key(given.as_bytes().to_vec())),
        Some(digits) => {
            let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
            bytes.map(Key).map_err(|_| "not hexadecimal behind 0x".to_owned())
        }
    }
}

impl State {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when there is no such plugin, task or key, or the broker cannot be reached.
    pub async fn run(self, api: &AdminApi, format: Format) -> Result<(), Failure> {
        match self {
            State::Get(Get { plugin, key, partition }) => {
                let mut found = Vec::new();
                for task in tasks(api, &plugin, partition).await? {
                    // Of all keys that begin so, the key itself is the first.
                    let rows = page(api, &plugin, task, &key, None, 1).await?.rows;
                    found.extend(rows.into_iter().filter(|row| row.key == key.0).map(|row| (task, row)));
                }
                if found.is_empty() {
                    return Err(anyhow!("{plugin} keeps nothing under this key").into());
                }
                print(&found, format)
            }
            State::Scan(Scan { plugin, partition, prefix, limit }) => {
                let prefix = prefix.unwrap_or(Key(Vec::new()));
                let mut found = Vec::new();
                for task in tasks(api, &plugin, partition).await? {
                    let mut after = None;
                    while (found.len() as u64) < limit {
                        let most = (limit - found.len() as u64).min(PAGE_ROWS);
                        let page = page(api, &plugin, task, &prefix, after, most).await?;
                        found.extend(page.rows.into_iter().map(|row| (task, row)));
                        after = page.next;
                        if after.is_none() {
                            break;
                        }
                    }
                }
                print(&found, format)
            }
        }
    }
}

async fn tasks(api: &AdminApi, plugin: &str, only: Option<u32>) -> Result<Vec<u32>, Failure> {
    if let Some(partition) = only {
        return Ok(vec![partition]);
    }
    let plugin: Value = api.get(&format!("/v1/plugins/{}", part(plugin))).await?;
    let count = plugin["tasks"].as_u64().context("a plugin without tasks")?;
    Ok((0..u32::try_from(count).unwrap_or(u32::MAX)).collect())
}

#[derive(Deserialize)]
struct Answer {
    rows: Vec<(String, String)>,
    next: Option<String>,
}

struct Page {
    rows: Vec<Row>,
    next: Option<String>,
}

struct Row {
    key: Vec<u8>,
    value: Vec<u8>,
}

async fn page(
    api: &AdminApi,
    plugin: &str,
    task: u32,
    prefix: &Key,
    after: Option<String>,
    limit: u64,
) -> Result<Page, Failure> {
    let prefix = HEXLOWER.encode(&prefix.0);
    let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
    let path =
        format!("/v1/plugins/{}/tasks/{task}/state?prefix={prefix}&limit={limit}{after}", part(plugin));
    let Answer { rows, next } = api.get(&path).await?;
    let bytes = |digits: String| HEXLOWER.decode(digits.as_bytes()).context("a row of a state");
    let row = |(key, value)| Ok(Row { key: bytes(key)?, value: bytes(value)? });
    Ok(Page { rows: rows.into_iter().map(row).collect::<anyhow::Result<_>>()?, next })
}

fn print(found: &[(u32, Row)], format: Format) -> Result<(), Failure> {
    for (task, row) in found {
        let (key, value) = (text(Some(&row.key)), readable(Some(&row.value)));
        match format {
            Format::Json => output::json(&json!({ "task": task, "key": key, "value": value }))?,
            Format::Table => say!("task {task}  {} = {}", plain(&key), plain(&value)),
        }
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    shown(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_text_or_hexadecimal() {
        assert_eq!(key("1058"), Ok(Key(b"1058".to_vec())));
        assert_eq!(key("0xFF00"), Ok(Key(vec![255, 0])));
        assert!(key("0xf").is_err());
    }
}
