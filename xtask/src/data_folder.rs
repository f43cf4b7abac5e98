//! Data folders that are kept in the repository, one for each format version: packing one, unpacking it, and what a broker
//! says of it.
//!
//! A folder is packed without what is made anew (locks, ballast, machine code, certificates), and without secrets: the keys of
//! its `identity.json` are zeros. Its broker makes an authority and a client's identity of its own, so nothing of it expires.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tidemill_protocol::api::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use tidemill_protocol::api::messages::{GroupId, OffsetFetchRequest};
use tidemill_protocol::api::{Request, Response, StrBytes};

use crate::kafka::{Connection, name};
use crate::places;
use crate::process::Broker;

/// The version of data folders that brokers write today.
pub const VERSION: u32 = 1;
/// The consumer group whose offsets are told.
pub const GROUP: &str = "mail";
/// Fields of a plugin's tasks that are kept, and not of this process alone.
const OF_TASK: [&str; 8] =
    ["partition", "shard", "status", "step", "attempts", "cursor", "positions", "event-time-watermark-ms"];
/// Fields of a plugin.
const OF_PLUGIN: [&str; 9] =
    ["name", "id", "generation", "digest", "subscribe", "publish", "dead-letter", "log", "paused"];
/// Asks the plugin `reading` for a file that was deployed with it.
pub const ASKS: &str = "read /data table.txt\n";
/// What zstd is asked for: the file is made once, and kept for ever.
const ZSTD_LEVEL: i32 = 19;

/// Where the folder of a version is packed, and what a broker says of it.
pub fn kept(version: u32) -> (PathBuf, PathBuf) {
    let folder = places::repository().join("cli/tests/data-folders");
    (folder.join(format!("v{version}.tar.zst")), folder.join(format!("v{version}.txt")))
}

/// Packs the data folder of a broker that is down.
///
/// # Errors
/// When a file cannot be read or written, or there is no `tar`.
pub fn pack(data: &Path, into: &Path) -> anyhow::Result<()> {
    let staged = tempfile::tempdir()?;
    let mut names = Vec::new();
    for entry in fs::read_dir(data)? {
        let name = entry?.file_name().into_string().ok().context("a name in a data folder")?;
        if ["catalog", "components", "bundles"].contains(&name.as_str()) || name.starts_with("shard-") {
            copy(&data.join(&name), &staged.path().join(&name))?;
            names.push(name);
        }
    }
    let mut identity: Value = serde_json::from_slice(&fs::read(data.join("identity.json"))?)?;
    for key in ["artifact-key", "reset-key"] {
        ensure!(identity[key].is_string(), "identity.json has no {key}");
        identity[key] = "0".repeat(64).into();
    }
    fs::write(staged.path().join("identity.json"), serde_json::to_vec_pretty(&identity)?)?;
    names.push("identity.json".to_owned());
    names.sort();
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--sparse",
    ]);
    let packed = tar.args(["--mode=u=rwX,go=rX", "--directory"]).arg(staged.path()).args(&names).output();
    let packed = packed.context("tar is needed: apt-get install tar")?;
    ensure!(packed.status.success(), "tar: {}", String::from_utf8_lossy(&packed.stderr));
    fs::write(into, zstd::encode_all(&packed.stdout[..], ZSTD_LEVEL)?)?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        ensure!(entry.file_type()?.is_file(), "{} is no file", entry.path().display());
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Unpacks a data folder.
///
/// # Errors
/// When the file cannot be read, or there is no `tar`.
pub fn unpack(packed: &Path, data: &Path) -> anyhow::Result<()> {
    let bytes = zstd::decode_all(File::open(packed).with_context(|| packed.display().to_string())?)?;
    fs::create_dir(data)?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--directory"]).arg(data).stdin(Stdio::piped());
    let mut tar = tar.spawn().context("tar is needed: apt-get install tar")?;
    tar.stdin.take().context("tar's input")?.write_all(&bytes)?;
    ensure!(tar.wait()?.success(), "tar cannot read {}", packed.display());
    Ok(())
}

/// What a broker at rest says of all that it keeps, a fact a line: topics, records, plugins, states, dead letters, committed
/// offsets, traces, and whether every step can be proven. It listens on `tcp`.
///
/// # Errors
/// When it does not answer.
pub fn report(broker: &Broker) -> anyhow::Result<String> {
    let mut told = Told(String::new());
    let topics = list(broker, &["topic", "list"])?;
    told.part("topics");
    for topic in &topics {
        let name = text(topic, "name")?;
        let described = broker.json(&["topic", "describe", name])?;
        told.fact(&some(&described, &["name", "id", "partitions", "affinity", "settings", "state"]));
    }
    for topic in &topics {
        let name = text(topic, "name")?;
        told.part(&format!("records of {name}"));
        let printed = broker.run(&["consume", name, "--from-beginning", "--exit-at-end"])?;
        let mut records = printed.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        records.sort_by_key(|record| (record["partition"].as_u64(), record["offset"].as_u64()));
        records.iter().for_each(|record| told.fact(record));
        let partitions = topic["partitions"].as_u64().context("partitions")?;
        let offsets = committed(broker, name, partitions)?;
        if !offsets.is_empty() {
            told.part(&format!("committed offsets of {GROUP} in {name}"));
            offsets.iter().for_each(|offset| told.fact(offset));
        }
    }
    for plugin in list(broker, &["plugin", "list"])? {
        let name = text(&plugin, "name")?;
        told.part(&format!("plugin {name}"));
        told.fact(&some(&plugin, &OF_PLUGIN));
        let described = broker.json(&["plugin", "describe", name])?;
        for task in described["state"].as_array().context("tasks")? {
            told.fact(&some(task, &OF_TASK));
            told.fact(&json!({ "timers": task["timers"] }));
        }
        told.part(&format!("state of {name}"));
        told.lines(&broker.run(&["--output", "json", "plugin", "state", "scan", name])?);
        told.part(&format!("dead letters of {name}"));
        told.lines(&broker.run(&["--output", "json", "dlq", "list", name])?);
        told.part(&format!("log of {name}"));
        told.lines(&broker.run(&["--output", "json", "plugin", "logs", name, "--since", "0"])?);
    }
    for topic in &topics {
        let name = text(topic, "name")?;
        let described = broker.json(&["topic", "describe", name])?;
        let start = &described["state"][0];
        if start["log-start-offset"] != start["high-watermark"] {
            let first = format!("{name}/0/{}", start["log-start-offset"]);
            told.part(&format!("trace of {first}"));
            told.lines(&broker.run(&["event", "trace", &first])?);
        }
    }
    told.part("proof");
    let verified = broker.json(&["plugin", "verify"])?;
    told.fact(&some(
        &verified,
        &["holds", "tasks", "steps", "replayed", "taken", "records", "crossed", "pending"],
    ));
    Ok(told.0)
}

/// Lines.
struct Told(String);

impl Told {
    fn part(&mut self, name: &str) {
        self.0 += &format!("== {name}\n");
    }

    fn fact(&mut self, fact: &Value) {
        self.0 += &format!("{fact}\n");
    }

    fn lines(&mut self, lines: &str) {
        self.0 += lines;
    }
}

fn some(whole: &Value, fields: &[&str]) -> Value {
    fields
        .iter()
        .map(|field| ((*field).to_owned(), whole[*field].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn text<'a>(whole: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    whole[field].as_str().with_context(|| format!("no {field} in {whole}"))
}

fn list(broker: &Broker, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
    Ok(broker.json(arguments)?.as_array().context("a list")?.clone())
}

/// What the group committed for a topic, as Kafka's protocol tells it.
fn committed(broker: &Broker, topic: &str, partitions: u64) -> anyhow::Result<Vec<Value>> {
    let mut connection = Connection::to(broker.address("tcp").context("an address for Kafka's clients")?)?;
    let indexes = (0..i32::try_from(partitions)?).collect();
    let of_topic = OffsetFetchRequestTopics::default().with_name(name(topic)).with_partition_indexes(indexes);
    let group = GroupId(StrBytes::from_string(GROUP.to_owned()));
    let of_group = OffsetFetchRequestGroup::default().with_group_id(group).with_topics(Some(vec![of_topic]));
    let asked = Request::OffsetFetch(OffsetFetchRequest::default().with_groups(vec![of_group]));
    let Response::OffsetFetch(answer) = connection.ask(8, asked)? else { bail!("no answer about offsets") };
    let found = answer.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions);
    let found = found.filter(|found| found.committed_offset >= 0).map(|found| {
        json!({
            "partition": found.partition_index, "offset": found.committed_offset,
            "metadata": found.metadata.as_ref().map(ToString::to_string),
        })
    });
    Ok(found.collect())
}
