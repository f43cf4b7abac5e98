//! `topic`: create, list, describe, alter, trim, delete.

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::produce::millis;
use crate::admin_api::{AdminApi, part};
use crate::ask;
use crate::contexts::Contexts;
use crate::exit::Failure;
use crate::output::{self, Format};

/// Create and look at topics.
#[derive(Debug, Subcommand)]
pub enum Topic {
    /// Create a topic.
    #[command(after_help = "Examples:\n  tidemill topic create orders --partitions 4\n  \
tidemill topic create payments --partitions 4 --affinity customers")]
    Create(Create),
    /// Delete the oldest records of a partition, for good.
    #[command(after_help = "Examples:\n  tidemill topic trim orders --partition 2 --before-offset 100\n  \
tidemill topic trim orders --partition 2 --before-time 2017-01-01T00:00:00Z")]
    Trim(Trim),
    /// Set settings of a topic by their Kafka's names, or set them back to their defaults.
    #[command(after_help = "Examples:\n  tidemill topic alter orders --set retention.ms=86400000\n  \
tidemill topic alter orders --unset retention.ms")]
    Alter(Alter),
    /// Delete a topic with all its records, for good.
    #[command(
        after_help = "One that a plugin reads or writes stays: delete the plugin first.\n\nExample:\n  tidemill topic delete orders --yes"
    )]
    Delete {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Print all topics.
    List,
    /// Print one topic and its partitions.
    Describe {
        /// Its name.
        name: String,
    },
}

/// A topic to create.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name.
    name: String,
    /// How many partitions it has, for its life.
    #[arg(long, default_value_t = 1)]
    partitions: u32,
    /// Its affinity group: partition i of all topics of a group lies in one shard.
    #[arg(long, value_name = "NAME")]
    affinity: Option<String>,
    /// The largest batch that it takes, in bytes.
    #[arg(long, value_name = "BYTES")]
    max_message_bytes: Option<u32>,
}

/// Settings of a topic to change.
#[derive(Debug, Args)]
pub struct Alter {
    /// The topic.
    name: String,
    /// A setting and its value; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", required_unless_present = "unset")]
    set: Vec<String>,
    /// A setting that is to be as its default again; may be given several times.
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
}

impl Alter {
    fn document(&self) -> Result<Value, Failure> {
        let mut changes = serde_json::Map::new();
        for setting in &self.set {
            let pair = setting.split_once('=');
            let (key, value) = pair.ok_or_else(|| anyhow!("--set {setting}: use KEY=VALUE"))?;
            changes.insert(key.to_owned(), value.into());
        }
        changes.extend(self.unset.iter().map(|key| (key.clone(), Value::Null)));
        Ok(Value::Object(changes))
    }
}

/// A partition to trim.
#[derive(Debug, Args)]
pub struct Trim {
    /// The topic.
    name: String,
    /// The partition.
    #[arg(long, value_name = "P")]
    partition: u32,
    /// The first offset that stays.
    #[arg(long, value_name = "OFFSET", required_unless_present = "before_time")]
    before_offset: Option<u64>,
    /// Begin the partition with the first record of this time or later, by the records' own timestamps: RFC 3339.
    /// Without such a record, delete all that is there.
    #[arg(long, value_name = "TIME", conflicts_with = "before_offset")]
    before_time: Option<String>,
}

impl Trim {
    fn document(&self) -> Result<Value, Failure> {
        let read = |time: &str| millis(time).with_context(|| format!("--before-time {time}"));
        let time = self.before_time.as_deref().map(read).transpose()?;
        Ok(match time {
            Some(time) => json!({ "partition": self.partition, "before-time-ms": time }),
            None => json!({ "partition": self.partition, "before-offset": self.before_offset }),
        })
    }
}

impl Create {
    fn document(&self) -> Value {
        let mut settings = serde_json::Map::new();
        if let Some(bytes) = self.max_message_bytes {
            settings.insert("max-message-bytes".into(), bytes.into());
        }
        json!({ "name": self.name, "partitions": self.partitions, "affinity": self.affinity, "settings": settings })
    }
}

impl Topic {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when the broker refuses, or cannot be reached.
    pub async fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        let api = AdminApi::new(&Contexts::find(context)?)?;
        match self {
            Topic::Create(create) => {
                let topic: Value = api.post("/v1/topics", &create.document()).await?;
                match format {
                    Format::Json => output::json(&topic)?,
                    Format::Table => say!("created {}", create.name),
                }
            }
            Topic::Trim(trim) => {
                let path = format!("/v1/topics/{}/trim", part(&trim.name));
                let trimmed: Value = api.post(&path, &trim.document()?).await?;
                match format {
                    Format::Json => output::json(&trimmed)?,
                    Format::Table => say!(
                        "{}, partition {}, starts at offset {}; its high watermark is {}",
                        trim.name,
                        trim.partition,
                        text(&trimmed["log-start-offset"]),
                        text(&trimmed["high-watermark"])
                    ),
                }
            }
            Topic::Alter(alter) => {
                let path = format!("/v1/topics/{}/settings", part(&alter.name));
                let altered: Value = api.patch(&path, &alter.document()?).await?;
                match format {
                    Format::Json => output::json(&altered)?,
                    Format::Table => configs(&altered)?,
                }
            }
            Topic::Delete { name, yes } => {
                let question = format!("All records of topic {name} go, for good.\n");
                ask::agreed(&question, yes)?;
                let deleted: Value = api.delete(&format!("/v1/topics/{}", part(&name))).await?;
                match format {
                    Format::Json => output::json(&deleted)?,
                    Format::Table => say!("deleted {name}"),
                }
            }
            Topic::List => {
                let topics: Vec<Value> = api.get("/v1/topics").await?;
                match format {
                    Format::Json => output::json(&topics)?,
                    Format::Table => {
                        let row = |topic: &Value| {
                            vec![text(&topic["name"]), text(&topic["partitions"]), text(&topic["affinity"])]
                        };
                        let rows: Vec<_> = topics.iter().map(row).collect();
                        output::table(&["NAME", "PARTITIONS", "AFFINITY"], &rows)?;
                    }
                }
            }
            Topic::Describe { name } => describe(&api, &name, format).await?,
        }
        Ok(())
    }
}

async fn describe(api: &AdminApi, name: &str, format: Format) -> Result<(), Failure> {
    let topic: Value = api.get(&format!("/v1/topics/{}", part(name))).await?;
    if format == Format::Json {
        return Ok(output::json(&topic)?);
    }
    say!("{name} (id {}, affinity {})", text(&topic["id"]), text(&topic["affinity"]));
    configs(&topic)?;
    say!("");
    let state = topic["state"].as_array().cloned().unwrap_or_default();
    let rows: Vec<_> = state
        .iter()
        .map(|row| {
            ["partition", "shard", "log-start-offset", "high-watermark"].map(|key| text(&row[key])).to_vec()
        })
        .collect();
    Ok(output::table(&["PARTITION", "SHARD", "START", "HIGH WATERMARK"], &rows)?)
}

fn configs(topic: &Value) -> Result<(), Failure> {
    let source = |row: &Value| if row["explicit"] == true { "topic" } else { "default" }.to_owned();
    let configs = topic["configs"].as_array().cloned().unwrap_or_default();
    let rows: Vec<_> =
        configs.iter().map(|row| vec![text(&row["name"]), text(&row["value"]), source(row)]).collect();
    Ok(output::table(&["SETTING", "VALUE", "FROM"], &rows)?)
}

/// A value as a cell of a table.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => output::shown(text),
        other => other.to_string(),
    }
}
