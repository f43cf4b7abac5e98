//! `dlq redrive`: dead letters are given to their plugin again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use super::{Chosen, text};
use crate::admin_api::AdminApi;
use crate::exit::Failure;
use crate::output::{self, Format};

/// How often it is asked what became of the letters.
const LOOK: Duration = Duration::from_millis(100);
/// Letters that are asked for at once.
const ASKED: usize = 1_000;

/// Hand dead letters to the plugin as it is now: each once, as the record that it was.
///
/// What the plugin derives then comes behind what it derived meanwhile. A letter that fails again is a new one, with its
/// reason; none is redriven twice. While the plugin is paused or stopped, they wait.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill dlq redrive payment 2/17 --wait")]
pub struct Redrive {
    /// The plugin.
    plugin: String,
    #[command(flatten)]
    chosen: Chosen,
    /// Only say which would be redriven.
    #[arg(long)]
    dry_run: bool,
    /// Wait until the plugin has handled them, or given them up again.
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

impl Redrive {
    pub(super) async fn run(self, api: &AdminApi, format: Format) -> Result<(), Failure> {
        let plugin = &self.plugin;
        let (mut document, _) = self.chosen.told(plugin);
        document["dry-run"] = json!(self.dry_run);
        let mut done: Value = api.post(&format!("/v1/plugins/{plugin}/dlq/redrive"), &document).await?;
        let letters = done["letters"].as_array().cloned().unwrap_or_default();
        let refused = done["refused"].as_array().cloned().unwrap_or_default();
        if format == Format::Table {
            for letter in &refused {
                say!("{} is not redriven: {}", place(letter), text(&letter["why"]));
            }
            match self.dry_run {
                true => say!("would redrive {}: {}", letters.len(), list(&letters)),
                false => say!("redriven: {}", letters.len()),
            }
            if done["is-complete"] == false {
                say!("{plugin} has more letters than were looked at");
            }
        }
        let mut failure = match letters.len() {
            0 => Some(anyhow!("none of them can be redriven")),
            _ => None,
        };
        if self.wait && !letters.is_empty() {
            let fates = wait(api, plugin, &letters).await?;
            let count = |fate: &str| fates.get(fate).copied().unwrap_or(0);
            let again = count("failed-again");
            if format == Format::Table {
                say!("handled: {}", count("redriven"));
            }
            if again > 0 {
                failure = Some(anyhow!(
                    "{again} failed again; their new letters say why: tidemill dlq list {plugin}"
                ));
            }
            done["fates"] = json!(fates);
        }
        if format == Format::Json {
            output::json(&done)?;
        }
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

/// Waits until none of the letters waits; says how many have which fate.
async fn wait(api: &AdminApi, plugin: &str, letters: &[Value]) -> Result<BTreeMap<String, usize>, Failure> {
    let mut counts = BTreeMap::new();
    for letters in letters.chunks(ASKED) {
        let asked = json!({ "letters": letters });
        let fates = loop {
            let fates: Vec<Value> = api.post(&format!("/v1/plugins/{plugin}/dlq/fates"), &asked).await?;
            let Some(waits) = fates.iter().find(|letter| letter["fate"] == "waiting") else { break fates };
            goes_on(api, plugin, waits).await?;
            tokio::time::sleep(LOOK).await;
        };
        for letter in fates {
            *counts.entry(text(&letter["fate"])).or_insert(0) += 1;
        }
    }
    Ok(counts)
}

/// The task of a letter that waits takes steps.
async fn goes_on(api: &AdminApi, plugin: &str, letter: &Value) -> Result<(), Failure> {
    let described: Value = api.get(&format!("/v1/plugins/{plugin}")).await?;
    let mut tasks = described["state"].as_array().into_iter().flatten();
    let Some(task) = tasks.find(|task| task["partition"] == letter["partition"]) else { return Ok(()) };
    let phase = text(&task["phase"]);
    if !["paused", "stopped", "failed"].contains(&phase.as_str()) {
        return Ok(());
    }
    let (number, why) = (text(&task["partition"]), text(&task["why"]));
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    Err(anyhow!("letters wait, and task {number} of {plugin} is {phase}{why}").into())
}

fn place(letter: &Value) -> String {
    format!("{}/{}", text(&letter["partition"]), text(&letter["offset"]))
}

fn list(letters: &[Value]) -> String {
    letters.iter().map(place).collect::<Vec<_>>().join(" ")
}
