//! `plugin verify`: the checker, on a running cluster.
//!
//! It reads the logs first and the states afterwards, and takes both only if nothing was committed in between; so
//! what it compares belongs together.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::Args;
use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill_checker::{
    History, Logged, LoggedRecord, Report, Scratch, bundles, check, components, history, latencies_ms,
    records,
};
use tidemill_core::ids::{DeploymentId, ShardId, TaskId};
use tidemill_protocol::ids::{Partition, Position, TopicId};
use tidemill_runtime::{Bundle, CodeOptions, Compiler, InProcess, Runtime, RuntimeOptions};

use super::consume::text;
use crate::admin_api::{AdminApi, part};
use crate::exit::Failure;
use crate::output::{self, Format};

/// How often a reading is begun again because something was committed meanwhile.
const READINGS_MAX: u32 = 30;
/// Violations that are printed.
const SHOWN_MAX: usize = 20;

/// Prove that every step of all plugins happened exactly once.
///
/// Reads every shard's log and every task's state, runs each step again in a scratch instance, and compares byte for
/// byte. Exit status 0 only if nothing is wrong. Run it when nothing is produced and no plugin lags.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidemill plugin verify\n  tidemill plugin verify --export history")]
pub struct Verify {
    /// Also write every topic's records with their lineage to this folder, one file of JSON lines for each topic: for
    /// checks that know what your workflow means.
    #[arg(long, value_name = "FOLDER")]
    export: Option<PathBuf>,
}

impl Verify {
    /// Checks the cluster of a context.
    ///
    /// # Errors
    /// [`Failure::Refused`] when anything is wrong.
    pub async fn run(self, api: &AdminApi, format: Format) -> Result<(), Failure> {
        let history = read(api).await?;
        let told = records(&history).map_err(anyhow::Error::new)?;
        if let Some(folder) = &self.export {
            export(api, &told, folder).await?;
        }
        let latencies = latencies_ms(&told);
        drop(told);
        let (scratch, _unpacked) = scratch(api, &history).await?;
        // The tables of each shard are folded on a thread of the runtime's, all at once.
        let checked = tokio::spawn(async move { check(&history, &scratch).await }).await;
        print(&checked.context("the check")?, &latencies, format)
    }
}

fn print(report: &Report, latencies: &[u64], format: Format) -> Result<(), Failure> {
    let quantile = |of_100: usize| latencies.get((latencies.len().saturating_sub(1)) * of_100 / 100).copied();
    match format {
        Format::Json => {
            let shown: Vec<_> = report.violations.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
            output::json(&json!({
                "holds": report.holds(), "tasks": report.tasks, "steps": report.steps, "replayed": report.replayed,
                "taken": report.taken, "records": report.records, "crossed": report.crossed,
                "pending": report.pending, "passed-over": report.passed_over, "latency-ms-p50": quantile(50), "latency-ms-p99": quantile(99),
                "violations": report.violations.len(), "shown": shown,
            }))?;
        }
        Format::Table => {
            say!("{report}");
            report.violations.iter().take(SHOWN_MAX).for_each(|violation| say!("  {violation}"));
        }
    }
    if report.holds() { Ok(()) } else { Err(anyhow!("{} violations", report.violations.len()).into()) }
}

/// Writes the records of each topic to a file of its own.
async fn export(api: &AdminApi, told: &[LoggedRecord], folder: &Path) -> Result<(), Failure> {
    let mut names = BTreeMap::new();
    for topic in api.get::<Vec<Value>>("/v1/topics").await? {
        let id = topic["id"]
            .as_str()
            .and_then(|id| id.parse::<TopicId>().ok())
            .context("a topic without an id")?;
        names.insert(id, topic["name"].as_str().unwrap_or_default().to_owned());
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut files: BTreeMap<TopicId, BufWriter<File>> = BTreeMap::new();
    for (id, name) in &names {
        let path = folder.join(format!("{name}.jsonl"));
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        files.insert(*id, BufWriter::new(file));
    }
    let place = |position: Position| {
        let topic = names.get(&position.at.topic);
        json!({ "topic": topic, "partition": position.at.partition.0, "offset": position.offset.0 })
    };
    for one in told {
        let Some(file) = files.get_mut(&one.at.topic) else { continue };
        let record = &one.record;
        let mut line = json!({
            "partition": one.at.partition.0, "offset": record.offset.0, "timestamp": record.timestamp_ms,
            "append-time": one.append_time.0, "key": text(record.key.as_deref()),
            "value": text(record.value.as_deref()),
        });
        if let Some((task, step, lineage)) = &one.derived {
            line["parent"] = place(lineage.parent);
            line["root"] = place(lineage.root);
            line["hops"] = lineage.hops.into();
            line["task"] = task.to_string().into();
            line["step"] = step.0.into();
        }
        serde_json::to_writer(&mut *file, &line).context("a line")?;
        writeln!(file)?;
    }
    files.into_values().try_for_each(|mut file| file.flush()).map_err(Failure::from)
}

/// What to run steps again with, and the folder that its files lie in.
async fn scratch(api: &AdminApi, history: &History) -> Result<(Scratch, TempDir), Failure> {
    let code = CodeOptions::default();
    let runtime =
        Runtime::new(RuntimeOptions { code, ..RuntimeOptions::default() }).map_err(anyhow::Error::new)?;
    let compiler: Arc<dyn Compiler> = Arc::new(InProcess { code });
    let mut plugins = BTreeMap::new();
    for digest in components(history).map_err(anyhow::Error::new)? {
        let component = api.bytes(&format!("/v1/components/{digest}")).await?.body;
        let artifact = compiler.compile(component).await.map_err(anyhow::Error::new)?;
        plugins.insert(digest, runtime.load(&artifact).map_err(anyhow::Error::new)?);
    }
    let folder = tempfile::Builder::new().prefix("tidemill-verify-").tempdir().context("a folder")?;
    let mut unpacked = BTreeMap::new();
    for digest in bundles(history).map_err(anyhow::Error::new)? {
        let archive = api.bytes(&format!("/v1/bundles/{digest}")).await?.body;
        let bundle = Bundle::unpack(&archive, &folder.path().join(digest.to_string()));
        unpacked.insert(digest, bundle.map_err(anyhow::Error::new)?);
    }
    Ok((Scratch { runtime, plugins, bundles: unpacked }, folder))
}

/// The whole history, at one moment.
async fn read(api: &AdminApi) -> Result<History, Failure> {
    let mut shards: BTreeMap<ShardId, (u64, Vec<Logged>)> = BTreeMap::new();
    for _ in 0..READINGS_MAX {
        read_logs(api, &mut shards).await?;
        let states = read_states(api).await?;
        if !read_logs(api, &mut shards).await? {
            let shards = shards.into_iter().map(|(shard, (_, log))| (shard, log)).collect();
            return Ok(History { shards, states });
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(anyhow!("plugins are at work: verify when nothing is produced and lag is 0").into())
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Shard {
    shard: u16,
    whole: bool,
}

/// Reads on in every log; says whether there was anything.
async fn read_logs(
    api: &AdminApi,
    shards: &mut BTreeMap<ShardId, (u64, Vec<Logged>)>,
) -> Result<bool, Failure> {
    let mut is_new = false;
    for Shard { shard, whole } in api.get::<Vec<Shard>>("/v1/shards").await? {
        if !whole {
            return Err(anyhow!(
                "shard {shard} gave some of its log back to the disk, after retention, a trim or a deletion: what its \
                 steps consumed cannot be handed to them again"
            )
            .into());
        }
        let (next, log) = shards.entry(ShardId(shard)).or_default();
        loop {
            let page = api.bytes(&format!("/v1/shards/{shard}/log?from={next}")).await?;
            let number = |name: &str| -> Option<u64> { page.headers.get(name)?.to_str().ok()?.parse().ok() };
            let (after, end) =
                number("tidemill-next").zip(number("tidemill-end")).context("a page of a log")?;
            log.extend(history::read_page(page.body).context("a page of a log")?);
            is_new |= after > *next;
            *next = after;
            if after >= end {
                break;
            }
        }
    }
    Ok(is_new)
}

async fn read_states(api: &AdminApi) -> Result<BTreeMap<TaskId, BTreeMap<Bytes, Bytes>>, Failure> {
    let mut states = BTreeMap::new();
    for plugin in api.get::<Vec<Value>>("/v1/plugins").await? {
        let name = plugin["name"].as_str().context("a plugin without a name")?;
        let id = DeploymentId(plugin["id"].as_u64().context("a plugin without an id")?);
        for partition in 0..plugin["tasks"].as_u64().unwrap_or(0) {
            let task = TaskId { deployment: id, partition: Partition(partition as u32) };
            states.insert(task, read_state(api, name, partition).await?);
        }
    }
    Ok(states)
}

#[derive(Deserialize)]
struct Page {
    rows: Vec<(String, String)>,
    next: Option<String>,
}

async fn read_state(api: &AdminApi, plugin: &str, partition: u64) -> Result<BTreeMap<Bytes, Bytes>, Failure> {
    let mut state = BTreeMap::new();
    let mut after = None::<String>;
    loop {
        let behind = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let page: Page =
            api.get(&format!("/v1/plugins/{}/tasks/{partition}/state{behind}", part(plugin))).await?;
        for (key, value) in page.rows {
            let bytes = |text: &str| HEXLOWER.decode(text.as_bytes()).context("a row of a state");
            state.insert(bytes(&key)?.into(), bytes(&value)?.into());
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(state),
        }
    }
}
