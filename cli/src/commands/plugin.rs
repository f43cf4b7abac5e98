//! `plugin`: build, deploy, list, describe, verify. What else there is has files of its own.

mod author;
mod bundle;
mod dev;
mod inspect;
mod lifecycle;
mod logs;
mod new;
mod project;
mod state;
mod test;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidemill_core::limits;
use tidemill_core::manifest::Manifest;
use tidemill_host::components;

use self::project::Project;
use super::topic::text;
use super::verify;
use crate::admin_api::{AdminApi, part};
use crate::contexts::Contexts;
use crate::exit::Failure;
use crate::output::{self, Format};

/// How many of a plugin's last log lines `plugin describe` shows.
const LOG_LINES_SHOWN: usize = 5;

/// Make, build, test, deploy, check and look after plugins.
#[derive(Debug, Subcommand)]
pub enum Plugin {
    /// Build the plugins of a folder to components.
    ///
    /// In Rust (Cargo.toml) all that the crate or workspace has; in JavaScript (package.json) or Python (requirements.txt) the
    /// one that its plugin.toml names, with what it needs installed into the folder first.
    #[command(after_help = "Example:\n  tidemill plugin build plugins --components target/components")]
    Build(Build),
    /// Deploy a plugin; returns when every task of it runs.
    #[command(
        after_help = "Example:\n  tidemill plugin deploy plugins/payment/plugin.toml --components target/components"
    )]
    Deploy(Deploy),
    /// Print all plugins.
    List,
    /// Print one plugin: its tasks, how far they are, how they last failed.
    Describe {
        /// Its name.
        name: String,
    },
    Verify(verify::Verify),
    #[command(flatten)]
    Lifecycle(lifecycle::Lifecycle),
    #[command(flatten)]
    Author(author::Author),
}

/// Reads a manifest, and checks it.
fn manifest_of(path: &Path) -> anyhow::Result<Manifest> {
    let shown = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(shown)?;
    let (bytes, most) = (text.len(), limits::MANIFEST_BYTES_MAX);
    ensure!(bytes <= most, "{}: {bytes} bytes, and a manifest has at most {most}", shown());
    let manifest: Manifest = toml::from_str(&text).with_context(shown)?;
    let errors: Vec<_> = manifest.check().iter().map(ToString::to_string).collect();
    ensure!(errors.is_empty(), "{}: {}", shown(), errors.join("; "));
    Ok(manifest)
}

/// What to build.
#[derive(Debug, Args)]
pub struct Build {
    /// The folder of a crate, of a workspace of crates, or of a project in another language.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Where components of Rust go; into `components` of the folder when left out.
    #[arg(long, value_name = "FOLDER")]
    components: Option<PathBuf>,
}

/// What to deploy.
#[derive(Debug, Args)]
pub struct Deploy {
    /// The manifest, or the folder that holds `plugin.toml`.
    #[arg(default_value = ".")]
    manifest: PathBuf,
    /// Where components are looked for that do not lie beside their manifest.
    #[arg(long, value_name = "FOLDER")]
    components: Option<PathBuf>,
}

/// A plugin out of its files.
#[derive(Debug)]
pub struct FromFiles {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its component.
    pub component: Bytes,
    /// The archives of its bundles, in the order of the manifest.
    pub bundles: Vec<Bytes>,
}

impl FromFiles {
    /// Reads a manifest, the component that it names, and its bundles, whose digests it fills in.
    ///
    /// # Errors
    /// [`Failure::Refused`] when one of them is not there, or the manifest cannot stand.
    pub fn read(path: &Path, folder: Option<&Path>) -> Result<FromFiles, Failure> {
        let path = if path.is_dir() { path.join("plugin.toml") } else { path.to_owned() };
        let shown = || path.display().to_string();
        let mut manifest = manifest_of(&path)?;
        let beside = path.parent().unwrap_or(Path::new(".")).join(&manifest.component);
        let file = Path::new(&manifest.component).file_name().unwrap_or_default();
        let elsewhere = folder.map(|folder| folder.join(file));
        let found = std::iter::once(beside.clone()).chain(elsewhere).find(|path| path.is_file());
        let found = found.ok_or_else(|| {
            anyhow!("{}: there is no {}; build it with `tidemill plugin build`", shown(), beside.display())
        })?;
        let component = fs::read(&found).with_context(|| found.display().to_string())?;
        let bundles = bundle::gather(&mut manifest, path.parent().unwrap_or(Path::new(".")))?;
        Ok(FromFiles { manifest, component: component.into(), bundles })
    }

    /// Uploads the component and the bundles, and deploys.
    ///
    /// # Errors
    /// [`Failure`] when the broker refuses, or cannot be reached.
    pub async fn deploy(&self, api: &AdminApi) -> Result<Value, Failure> {
        self.upload(api).await?;
        api.post("/v1/plugins", &self.document()).await
    }

    /// What a deployment would come to. Component and bundles are uploaded, which changes nothing that runs.
    ///
    /// # Errors
    /// [`Failure`] when the broker refuses, or cannot be reached.
    pub async fn check(&self, api: &AdminApi) -> Result<Value, Failure> {
        self.upload(api).await?;
        api.post("/v1/plugins/check", &self.document()).await
    }

    async fn upload(&self, api: &AdminApi) -> Result<(), Failure> {
        for (what, bytes) in [("components", &self.component)]
            .into_iter()
            .chain(self.bundles.iter().map(|one| ("bundles", one)))
        {
            api.put(&format!("/v1/{what}/{}", components::digest(bytes)), bytes.clone()).await?;
        }
        Ok(())
    }

    /// The document that deploys it.
    pub fn document(&self) -> Value {
        json!({ "manifest": self.manifest, "digest": components::digest(&self.component) })
    }
}

impl Plugin {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`] when something is refused or different, or the broker cannot be reached.
    pub async fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        match self {
            Plugin::Build(build) => return build.run(format),
            Plugin::Author(order) => return order.run(context, format).await,
            _ => {}
        }
        let context = Contexts::find(context)?;
        let api = AdminApi::new(&context)?;
        match self {
            Plugin::Build(_) | Plugin::Author(_) => unreachable!("they were run just now"),
            Plugin::Deploy(deploy) => {
                let plugin = FromFiles::read(&deploy.manifest, deploy.components.as_deref())?;
                let deployed = plugin.deploy(&api).await?;
                match format {
                    Format::Json => output::json(&deployed)?,
                    Format::Table => {
                        let what = if deployed["changed"] == true { "deployed" } else { "unchanged" };
                        let (name, generation) = (text(&deployed["name"]), text(&deployed["generation"]));
                        say!(
                            "{what} {name}, generation {generation}, {} tasks run",
                            text(&deployed["running"])
                        );
                    }
                }
            }
            Plugin::List => list(&api, format).await?,
            Plugin::Describe { name } => describe(&api, &name, format).await?,
            Plugin::Verify(verify) => verify.run(&api, format).await?,
            Plugin::Lifecycle(order) => order.run(&api, format).await?,
        }
        Ok(())
    }
}

impl Build {
    fn run(self, format: Format) -> Result<(), Failure> {
        for component in Project::find(&self.folder)?.build(self.components.as_deref())? {
            match format {
                Format::Json => output::json(&json!({
                    "name": component.name, "path": component.file, "bytes": component.bytes,
                    "changed": component.changed, "imports": component.imports,
                }))?,
                Format::Table => {
                    say!("{} ({} KiB)", component.file.display(), component.bytes.div_ceil(1024));
                }
            }
        }
        Ok(())
    }
}

async fn list(api: &AdminApi, format: Format) -> Result<(), Failure> {
    let plugins: Vec<Value> = api.get("/v1/plugins").await?;
    if format == Format::Json {
        return Ok(output::json(&plugins)?);
    }
    let row = |plugin: &Value| {
        let names = |key: &str| {
            let names = plugin[key].as_array().into_iter().flatten().map(text);
            names.collect::<Vec<_>>().join(", ")
        };
        let tasks = format!("{}/{}", text(&plugin["running"]), text(&plugin["tasks"]));
        vec![
            text(&plugin["name"]),
            text(&plugin["generation"]),
            tasks,
            text(&plugin["lag-records"]),
            condition(plugin),
            names("subscribe"),
            names("publish"),
        ]
    };
    let rows: Vec<_> = plugins.iter().map(row).collect();
    Ok(output::table(&["NAME", "GENERATION", "TASKS", "LAG", "IS", "READS", "PUBLISHES"], &rows)?)
}

/// How a plugin is, in a word, and why if it does not get on.
fn condition(plugin: &Value) -> String {
    let is = match (plugin["paused"] == true, plugin["stalled"].as_u64().unwrap_or(0)) {
        (true, _) => "paused".into(),
        (false, 0) if plugin["running"] != plugin["tasks"] => "stopped".into(),
        (false, 0) => "running".into(),
        (false, _) => format!("stalled: {}", text(&plugin["stalled-cause"])),
    };
    match plugin["expiring"].as_u64().unwrap_or(0) {
        0 => is,
        tasks => format!("{is}; records of {tasks} tasks expire soon"),
    }
}

async fn describe(api: &AdminApi, name: &str, format: Format) -> Result<(), Failure> {
    let plugin: Value = api.get(&format!("/v1/plugins/{}", part(name))).await?;
    if format == Format::Json {
        return Ok(output::json(&plugin)?);
    }
    say!("{name}, generation {}, component {}", text(&plugin["generation"]), text(&plugin["digest"]));
    for bundle in plugin["deployment"]["manifest"]["bundle"].as_array().into_iter().flatten() {
        say!("files at {}: bundle {}", text(&bundle["mount"]), text(&bundle["digest"]));
    }
    say!("dead letters go to {}", text(&plugin["dead-letter"]));
    if plugin["paused"] == true {
        say!("paused: its tasks take no steps until `tidemill plugin resume {name}`");
    }
    let tasks = plugin["state"].as_array().cloned().unwrap_or_default();
    let row = |task: &Value| {
        let work = &task["work"];
        let cells = [&task["partition"], &task["shard"], &task["phase"], &task["step"], &task["lag-records"]];
        let counts = [&work["events"], &work["records"], &work["failures"], &work["dead-letters"]];
        cells.into_iter().chain(counts).map(text).collect()
    };
    let rows: Vec<Vec<String>> = tasks.iter().map(row).collect();
    let titles = ["TASK", "SHARD", "PHASE", "STEP", "LAG", "EVENTS", "RECORDS", "FAILURES", "DEAD LETTERS"];
    output::table(&titles, &rows)?;
    for task in &tasks {
        let (number, why) = (text(&task["partition"]), text(&task["why"]));
        match task["phase"].as_str() {
            Some("retrying") => {
                say!(
                    "\ntask {number} waits before an event that failed {} times: {why}",
                    text(&task["attempts"])
                );
            }
            Some("stopped" | "paused") if task["removed-records"].as_u64() > Some(0) => {
                say!("\ntask {number} is behind: {why}")
            }
            Some("stopped") => say!("\ntask {number} stopped before an event that failed: {why}"),
            _ => {}
        }
        match task["passed-over-records"].as_u64() {
            None | Some(0) => {}
            Some(records) => say!(
                "\ntask {number} passed over {records} records that were removed before it consumed them"
            ),
        }
        for expiring in task["expiring"].as_array().into_iter().flatten() {
            say!("\ntask {number} is about to lose records: {}", text(&expiring["why"]));
        }
        if let Some(cause) = task["stalled"]["cause"].as_str() {
            say!("\ntask {number} is stalled: {cause}");
        }
        let failure = &task["last-failure"];
        if !failure.is_null() {
            say!("\ntask {} last failed: {}", text(&task["partition"]), text(&failure["reason"]));
            for function in failure["backtrace"].as_array().into_iter().flatten() {
                say!("  at {}", text(function));
            }
        }
    }
    let path = format!("/v1/plugins/{}/logs?limit={LOG_LINES_SHOWN}", part(name));
    let log: Value = api.get(&path).await?;
    for line in log["lines"].as_array().into_iter().flatten() {
        let (task, message) = (text(&line["task"]), output::shown(&text(&line["message"])));
        say!("task {task} log: {} {message}", text(&line["level"]));
    }
    Ok(())
}
