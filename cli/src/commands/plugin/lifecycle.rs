//! `plugin pause`, `resume`, `rollback`, `reset`, `delete`: what becomes of a plugin that is deployed.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::super::topic::text;
use crate::admin_api::{AdminApi, part};
use crate::ask::agreed;
use crate::exit::Failure;
use crate::output::{self, Format};

/// What becomes of a plugin.
#[derive(Debug, Subcommand)]
pub enum Lifecycle {
    /// Have a plugin's tasks take no steps; what they have not consumed waits for them.
    Pause {
        /// Its name.
        name: String,
    },
    /// Have a plugin's tasks take steps again: those that are paused, and those that their failure policy stopped.
    Resume {
        /// Its name.
        name: String,
        /// Where tasks go on whose records were removed before they consumed them: with the first record that is there, or
        /// behind the last. Without it, that is refused unless the manifest says where.
        #[arg(long, value_name = "WHERE", value_parser = ["earliest", "latest"])]
        behind: Option<String>,
    },
    /// Deploy the version that was at work before this one. It goes on where this one stands, with its state.
    Rollback {
        /// Its name.
        name: String,
    },
    Reset(Reset),
    Delete(Delete),
}

/// Have a plugin's tasks begin anew: what they derive from records that they had consumed before, they derive again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidemill plugin reset inventory --to earliest --fresh-state\n  \
                        tidemill plugin reset inventory --to 2026-01-31T00:00:00Z")]
pub struct Reset {
    /// Its name.
    name: String,
    /// Where: earliest, latest, an offset (in every partition), or a time (RFC 3339).
    #[arg(long)]
    to: String,
    /// Forget its state, timers and clocks, too; without this they stay as they are.
    #[arg(long)]
    fresh_state: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Remove a plugin's tasks and their state. Its topics stay, with what was derived.
#[derive(Debug, Args)]
pub struct Delete {
    /// Its name.
    name: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Lifecycle {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when the broker refuses, nobody agreed, or the broker cannot be reached.
    pub async fn run(self, api: &AdminApi, format: Format) -> Result<(), Failure> {
        let (name, what) = match &self {
            Lifecycle::Pause { name } => (name, "pause".to_owned()),
            Lifecycle::Resume { name, behind: None } => (name, "resume".to_owned()),
            Lifecycle::Resume { name, behind: Some(choice) } => (name, format!("resume?behind={choice}")),
            Lifecycle::Rollback { name } => (name, "rollback".to_owned()),
            Lifecycle::Reset(reset) => return reset.run(api, format).await,
            Lifecycle::Delete(delete) => return delete.run(api, format).await,
        };
        let plugin: Value = api.post(&format!("/v1/plugins/{}/{what}", part(name)), &json!({})).await?;
        match format {
            Format::Json => output::json(&plugin)?,
            Format::Table => {
                let is = if plugin["paused"] == true { "paused" } else { "at work" };
                let before = if plugin["changed"] == true { "is now" } else { "is already" };
                let generation = text(&plugin["generation"]);
                let digest = text(&plugin["digest"]);
                say!("{name} {before} {is}: generation {generation}, component {digest}");
                if plugin["paused"] == true {
                    let topics = list(&written(&plugin));
                    say!(
                        "Its state, timers and positions stay. {topics} keep their records and receive none until \
                         `tidemill plugin resume {name}`. Retention of what it reads does not wait for it."
                    );
                }
            }
        }
        Ok(())
    }
}

impl Reset {
    async fn run(&self, api: &AdminApi, format: Format) -> Result<(), Failure> {
        let name = &self.name;
        let to = match (self.to.as_str(), self.to.parse::<u64>()) {
            (word @ ("earliest" | "latest"), _) => json!(word),
            (_, Ok(offset)) => json!({ "offset": offset }),
            (time, Err(_)) => json!({ "time": time }),
        };
        let plugin: Value = api.get(&format!("/v1/plugins/{}", part(name))).await?;
        let direct = written(&plugin);
        let all: Vec<Value> = api.get("/v1/plugins").await?;
        let further = downstream(&all, &direct);
        let state = if self.fresh_state { "are removed" } else { "stay as they are" };
        let question = format!(
            "{name} begins anew at {}; its state, timers and clocks {state}.\n\
             What it consumed before and is given again, it derives again, into {}{}.\n",
            self.to,
            list(&direct),
            if further.is_empty() {
                String::new()
            } else {
                format!(", and from there into {}", list(&further))
            },
        );
        agreed(&question, self.yes)?;
        let document = json!({ "to": to, "fresh-state": self.fresh_state });
        let reset: Value = api.post(&format!("/v1/plugins/{}/reset", part(name)), &document).await?;
        match format {
            Format::Json => {
                output::json(&json!({ "plugin": reset, "receive-again": direct, "further": further }))?;
            }
            Format::Table => say!("{name} began anew: generation {}", text(&reset["generation"])),
        }
        Ok(())
    }
}

impl Delete {
    async fn run(&self, api: &AdminApi, format: Format) -> Result<(), Failure> {
        let name = &self.name;
        let plugin: Value = api.get(&format!("/v1/plugins/{}", part(name))).await?;
        let log = plugin["log"].as_str().map(str::to_owned);
        let stay = list(&written(&plugin).into_iter().chain(log).collect::<Vec<_>>());
        let question = format!(
            "The {} tasks of {name} end, and their state, timers and positions are removed.\n\
             The topics that it wrote to stay with their records: {stay}.\n",
            text(&plugin["tasks"]),
        );
        agreed(&question, self.yes)?;
        let deleted: Value = api.delete(&format!("/v1/plugins/{}", part(name))).await?;
        match format {
            Format::Json => output::json(&deleted)?,
            Format::Table => {
                say!("deleted {name}, its state, timers and positions; with their records stay: {stay}")
            }
        }
        Ok(())
    }
}

/// The topics that a plugin writes to, its dead letters' last.
fn written(plugin: &Value) -> Vec<String> {
    plugin["publish"].as_array().into_iter().flatten().chain([&plugin["dead-letter"]]).map(text).collect()
}

/// Topics that other plugins derive, directly or not, from these.
fn downstream(plugins: &[Value], from: &[String]) -> Vec<String> {
    let mut reached: BTreeSet<String> = from.iter().cloned().collect();
    loop {
        let before = reached.len();
        for plugin in plugins {
            let reads = plugin["subscribe"].as_array().into_iter().flatten();
            if reads.map(text).any(|topic| reached.contains(&topic)) {
                reached.extend(plugin["publish"].as_array().into_iter().flatten().map(text));
            }
        }
        if reached.len() == before {
            return reached.into_iter().filter(|topic| !from.contains(topic)).collect();
        }
    }
}

fn list(topics: &[String]) -> String {
    topics.join(", ")
}
