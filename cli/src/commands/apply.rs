//! `apply`: topics and plugins as files say. What is so already stays as it is; the difference is shown.
//!
//! A file with a `component` is a plugin's manifest; any other has `[[topic]]` tables, and `plugins`, the paths of
//! manifests that lie elsewhere. A folder is read with all folders in it. Topics come first, then plugins, each in the
//! order in which they were read: the broker does not care about their order.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemill_core::catalog::TopicSettings;

use super::plugin::FromFiles;
use super::topic::text;
use crate::admin_api::{AdminApi, part};
use crate::contexts::Contexts;
use crate::exit::Failure;
use crate::output::{self, Format};

/// Make topics and plugins be as files say.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidemill apply examples/order-chain --components target/components\n  \
tidemill apply topics.toml --dry-run")]
pub struct Apply {
    /// Files and folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Where components are looked for that do not lie beside their manifest.
    #[arg(long, value_name = "FOLDER")]
    components: Option<PathBuf>,
}

/// A file of topics.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Topics {
    #[serde(default)]
    topic: Vec<Topic>,
    /// Manifests that belong to it, by their paths from this file.
    #[serde(default)]
    plugins: Vec<PathBuf>,
}

/// A topic.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Topic {
    name: String,
    partitions: u32,
    affinity: Option<String>,
    #[serde(default)]
    settings: TopicSettings,
}

/// What the files say.
#[derive(Debug, Default)]
struct Wanted {
    topics: Vec<Topic>,
    plugins: Vec<FromFiles>,
}

impl Apply {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when a file cannot stand, the broker refuses, or a topic would have to be another.
    pub async fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        let mut wanted = Wanted::default();
        for path in &self.paths {
            self.read(path, &mut wanted)?;
        }
        let api = AdminApi::new(&Contexts::find(context)?)?;
        let mut changes = 0;
        let mut missing = BTreeSet::new();
        for topic in &wanted.topics {
            let change = apply_topic(&api, topic, self.dry_run).await?;
            if self.dry_run && matches!(change, Change::Created(_)) {
                missing.insert(topic.name.as_str());
            }
            changes += say("topic", &topic.name, change, format)?;
        }
        for plugin in &wanted.plugins {
            let reads = plugin.manifest.subscribe.iter().map(|subscription| &subscription.topic);
            let waits = reads.chain(&plugin.manifest.publish).any(|topic| missing.contains(topic.as_str()));
            let change = apply_plugin(&api, plugin, self.dry_run, waits).await?;
            changes += say("plugin", &plugin.manifest.name, change, format)?;
        }
        let (topics, plugins) = (wanted.topics.len(), wanted.plugins.len());
        if format == Format::Table {
            let would = if self.dry_run { "would change" } else { "changed" };
            say!("{topics} topics and {plugins} plugins: {changes} {would}");
        }
        Ok(())
    }

    fn read(&self, path: &Path, wanted: &mut Wanted) -> Result<(), Failure> {
        let shown = || path.display().to_string();
        if path.is_dir() {
            let entries = fs::read_dir(path).with_context(shown)?;
            let mut paths: Vec<PathBuf> =
                entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>().with_context(shown)?;
            paths.sort();
            // Cargo's own files are TOML, too.
            let is_wanted = |path: &PathBuf| {
                path.is_dir() && !path.ends_with("target") && !path.ends_with("src")
                    || path.extension().is_some_and(|extension| extension == "toml")
                        && !path.ends_with("Cargo.toml")
            };
            return paths.iter().filter(|path| is_wanted(path)).try_for_each(|path| self.read(path, wanted));
        }
        let text = fs::read_to_string(path).with_context(shown)?;
        let table: toml::Table = toml::from_str(&text).with_context(shown)?;
        if table.contains_key("component") {
            wanted.plugins.push(FromFiles::read(path, self.components.as_deref())?);
            return Ok(());
        }
        let topics: Topics = toml::from_str(&text).with_context(shown)?;
        wanted.topics.extend(topics.topic);
        let folder = path.parent().unwrap_or(Path::new("."));
        topics.plugins.iter().try_for_each(|plugin| self.read(&folder.join(plugin), wanted))
    }
}

/// What became of something.
enum Change {
    /// It was so already.
    None,
    /// It was not there.
    Created(Value),
    /// It was another.
    Updated(Value),
}

async fn apply_topic(api: &AdminApi, topic: &Topic, dry: bool) -> Result<Change, Failure> {
    let path = format!("/v1/topics/{}", part(&topic.name));
    if let Some(known) = api.find::<Value>(&path).await? {
        let mut differences = Vec::new();
        let mut compare = |what: &str, is: &Value, wanted: Value| {
            if *is != wanted {
                differences.push(format!("{what} is {}, and {} is wanted", text(is), text(&wanted)));
            }
        };
        compare("partitions", &known["partitions"], json!(topic.partitions));
        compare("settings", &known["settings"], json!(topic.settings));
        if let Some(affinity) = &topic.affinity {
            compare("affinity", &known["affinity"], json!(affinity));
        }
        if differences.is_empty() {
            return Ok(Change::None);
        }
        let why =
            "and `apply` changes no topic: `tidemill topic alter` changes settings, the rest is for its life";
        return Err(anyhow!("topic {}: {}, {why}", topic.name, differences.join(", ")).into());
    }
    let path = if dry { "/v1/topics?dry-run=true" } else { "/v1/topics" };
    Ok(Change::Created(api.post(path, topic).await?))
}

/// Deploys a plugin; `waits` says that it needs topics which only a run that is not dry makes.
async fn apply_plugin(api: &AdminApi, plugin: &FromFiles, dry: bool, waits: bool) -> Result<Change, Failure> {
    let path = format!("/v1/plugins/{}", part(&plugin.manifest.name));
    let known = api.find::<Value>(&path).await?;
    let deployed = match (dry, &known) {
        // What it reads may be among what the same run would make.
        (true, None) => return Ok(Change::Created(json!({ "component": plugin.manifest.component }))),
        (true, Some(known)) if waits => return Ok(Change::Updated(json!({ "was": known["generation"] }))),
        (true, Some(_)) => plugin.check(api).await?,
        (false, _) => plugin.deploy(api).await?,
    };
    Ok(match (deployed["changed"] == true, known) {
        (false, _) => Change::None,
        (true, None) => Change::Created(deployed),
        (true, Some(known)) => Change::Updated(json!({
            "generation": deployed["generation"], "was": known["generation"], "digest": deployed["digest"],
        })),
    })
}

fn say(kind: &str, name: &str, change: Change, format: Format) -> Result<usize, Failure> {
    let (sign, what, detail) = match change {
        Change::None => ("=", "unchanged", Value::Null),
        Change::Created(detail) => ("+", "created", detail),
        Change::Updated(detail) => ("~", "updated", detail),
    };
    match format {
        Format::Json => output::json(&json!({ "kind": kind, "name": name, "change": what }))?,
        Format::Table if sign == "~" => say!("{sign} {kind} {name} {detail}"),
        Format::Table => say!("{sign} {kind} {name}"),
    }
    Ok(usize::from(sign != "="))
}
