//! `dlq`: the dead letters of plugins.

mod redrive;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::topic::text;
use crate::admin_api::{AdminApi, part};
use crate::ask::agreed;
use crate::contexts::Contexts;
use crate::exit::Failure;
use crate::output::{self, Format};

/// Look at records that plugins gave up, hand them to their plugin again, or discard them.
#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// Print how many open dead letters there are, by plugin and reason.
    List {
        /// Only those of this plugin.
        plugin: Option<String>,
    },
    /// Print one dead letter, whole: the record, why it was given up, and where it came from.
    #[command(after_help = "Example:\n  tidemill dlq show payment 2/17")]
    Show {
        /// The plugin.
        plugin: String,
        /// Where it lies in the dead-letter topic: PARTITION/OFFSET.
        #[arg(value_parser = place)]
        letter: (u32, u64),
    },
    Redrive(redrive::Redrive),
    Discard(Discard),
}

/// Discard dead letters: they are not listed any more. They stay in their topic for as long as that retains them.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill dlq discard payment --reason 'no such customer'")]
pub struct Discard {
    /// The plugin.
    plugin: String,
    #[command(flatten)]
    chosen: Chosen,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Which letters are meant.
#[derive(Debug, Args)]
struct Chosen {
    /// Where they lie: PARTITION/OFFSET.
    #[arg(value_parser = place, required_unless_present_any = ["reason", "all"])]
    letters: Vec<(u32, u64)>,
    /// All open ones with this reason.
    #[arg(long, conflicts_with_all = ["letters", "all"])]
    reason: Option<String>,
    /// All open ones.
    #[arg(long, conflicts_with = "letters")]
    all: bool,
}

impl Chosen {
    /// As the API is told, and in words.
    fn told(&self, plugin: &str) -> (Value, String) {
        match &self.reason {
            _ if !self.letters.is_empty() => {
                let letters: Vec<_> = self
                    .letters
                    .iter()
                    .map(|(partition, offset)| json!({ "partition": partition, "offset": offset }))
                    .collect();
                let count = letters.len();
                (json!({ "letters": letters }), format!("{count} dead letters of {plugin}"))
            }
            Some(reason) => (
                json!({ "reason": reason }),
                format!("all dead letters of {plugin} with the reason {reason:?}"),
            ),
            None => (json!({}), format!("all dead letters of {plugin}")),
        }
    }
}

fn place(text: &str) -> Result<(u32, u64), String> {
    let parsed = text
        .split_once('/')
        .and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
    parsed.ok_or_else(|| "not PARTITION/OFFSET, as 2/17".to_owned())
}

impl Dlq {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when the broker refuses, nobody agreed, or the broker cannot be reached.
    pub async fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        let context = Contexts::find(context)?;
        let api = AdminApi::new(&context)?;
        match self {
            Dlq::List { plugin } => list(&api, plugin, format).await,
            Dlq::Show { plugin, letter } => show(&api, &plugin, letter, format).await,
            Dlq::Redrive(redrive) => redrive.run(&api, format).await,
            Dlq::Discard(discard) => discard.run(&api, format).await,
        }
    }
}

async fn list(api: &AdminApi, plugin: Option<String>, format: Format) -> Result<(), Failure> {
    let names = match plugin {
        Some(name) => vec![name],
        None => {
            api.get::<Vec<Value>>("/v1/plugins").await?.iter().map(|plugin| text(&plugin["name"])).collect()
        }
    };
    let mut all: Vec<Value> = Vec::new();
    for name in names {
        all.push(api.get(&format!("/v1/plugins/{}/dlq", part(&name))).await?);
    }
    if format == Format::Json {
        return Ok(output::json(&all)?);
    }
    let mut rows = Vec::new();
    for letters in &all {
        for of_reason in letters["reasons"].as_array().into_iter().flatten() {
            let first = &of_reason["first"];
            rows.push(vec![
                text(&letters["plugin"]),
                text(&of_reason["count"]),
                format!("{}/{}", text(&first["partition"]), text(&first["offset"])),
                output::shown(&text(&of_reason["reason"])),
            ]);
        }
    }
    output::table(&["PLUGIN", "LETTERS", "FIRST", "REASON"], &rows)?;
    for letters in &all {
        let counts = [
            ("waiting", "wait to be redriven"),
            ("redriven", "were redriven"),
            ("failed-again", "failed again"),
        ];
        for (name, words) in counts.iter().filter(|(name, _)| letters[*name] != 0) {
            say!("{}: {} {words}", text(&letters["plugin"]), text(&letters[*name]));
        }
    }
    for letters in all.iter().filter(|letters| letters["is-complete"] == false) {
        say!("{} has more than were looked at", text(&letters["plugin"]));
    }
    Ok(())
}

async fn show(
    api: &AdminApi,
    plugin: &str,
    (partition, offset): (u32, u64),
    format: Format,
) -> Result<(), Failure> {
    let letter: Value = api.get(&format!("/v1/plugins/{}/dlq/{partition}/{offset}", part(plugin))).await?;
    if format == Format::Json {
        return Ok(output::json(&letter)?);
    }
    say!("dead letter {partition}/{offset} of {plugin}, {}", text(&letter["fate"]));
    for (name, fact) in letter["facts"].as_object().context("a letter without facts")? {
        say!("{name}: {}", output::shown(&text(fact)));
    }
    let root = &letter["root"];
    if !root.is_null() {
        say!("root: {}/{}/{}", text(&root["topic"]), text(&root["partition"]), text(&root["offset"]));
    }
    for header in letter["headers"].as_array().into_iter().flatten() {
        say!("header {}: {}", output::shown(&text(&header[0])), content(&header[1]));
    }
    say!("key: {}", content(&letter["key"]));
    say!("value: {}", content(&letter["value"]));
    Ok(())
}

/// Text, or Base64 said to be that, or none.
fn content(value: &Value) -> String {
    match (value["text"].as_str(), value["base64"].as_str()) {
        (Some(text), _) => output::shown(text),
        (None, Some(base64)) => format!("{base64} (Base64)"),
        (None, None) => "(none)".into(),
    }
}

impl Discard {
    async fn run(&self, api: &AdminApi, format: Format) -> Result<(), Failure> {
        let plugin = &self.plugin;
        let (document, what) = self.chosen.told(plugin);
        let question = format!("{what} are discarded: nobody is told of them any more.\n");
        agreed(&question, self.yes)?;
        let done: Value = api.post(&format!("/v1/plugins/{}/dlq/discard", part(plugin)), &document).await?;
        match format {
            Format::Json => output::json(&done)?,
            Format::Table => say!("discarded {}", text(&done["discarded"])),
        }
        if done["discarded"] == 0 { Err(anyhow!("none of them was open").into()) } else { Ok(()) }
    }
}
