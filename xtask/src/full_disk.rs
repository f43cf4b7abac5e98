//! `cargo xtask full-disk`: a broker on a small file system that fills up, and is emptied again.
//!
//! ```text
//!   unshare --mount ─▶ mount the file system ─▶ this chore again, --inside it
//! ```
//!
//! The file system is ext4 in a file, on a loop device; without root's rights, which those need, it is a tmpfs in a user
//! namespace. Either is mounted in a mount namespace of its own, and gone with the last process in it.
//!
//! 1. A producer sends until it is refused. A plugin that is to copy what it sent rests.
//! 2. Somebody else takes the last byte. The broker is killed, starts on the full disk, serves readers, trims,
//!    alters and deletes.
//! 3. There is room again: without a restart, producer and plugin go on. Every acknowledged record is there once, and
//!    so is its copy; nothing went to the dead letters.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::Value;
use tidemill_client::{Client, Moment, Partition, Producer, Record, SendError};
use tokio::runtime::Runtime;
use xtask::process::{Broker, counter};
use xtask::{client, places};

use crate::witness::tools;
use crate::{build, plugins};

/// The file system.
const DISK_BYTES: u64 = 1_400 << 20;
/// What somebody else has on it from the start, and takes away in the end: more than fits beside it, so that there is room
/// for the copies then.
const OTHER_BYTES: u64 = 520 << 20;
/// The least that a broker keeps.
const RESERVE: &str = "storage.reserve=384MiB";
const VALUE_BYTES: usize = 32 << 10;
/// Records on their way at once.
const UNDER_WAY: usize = 256;
/// How long the producer insists on a record.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);
const PARTITION: Partition = Partition(0);
const MANIFEST: &str = r#"name = "copy"
component = "pass-through.wasm"
publish = ["copies"]

[[subscribe]]
topic = "originals"
from = "earliest"

[failure]
behind-log-start = "earliest"

[config]
to = "copies"
"#;

/// Fill the disk under a broker, start it on the full disk, make room, and see that nothing was lost or doubled.
#[derive(Debug, Default, Args)]
pub struct FullDisk {
    /// The folder where the small file system is mounted already.
    #[arg(long, hide = true, value_name = "FOLDER")]
    inside: Option<PathBuf>,
    /// The command, built.
    #[arg(long, hide = true, value_name = "FILE", requires = "inside")]
    program: Option<PathBuf>,
}

impl FullDisk {
    /// Runs it.
    ///
    /// # Errors
    /// When anything is not as it should be.
    pub fn run(self) -> anyhow::Result<()> {
        match (&self.inside, &self.program) {
            (Some(folder), Some(program)) => inside(folder, program),
            _ => {
                plugins::build()?;
                self.run_with(&build::tidemill()?)
            }
        }
    }

    /// Looks for the programs that mount the file system.
    ///
    /// # Errors
    /// With the command that installs what is missing.
    pub fn look_for_tools() -> anyhow::Result<()> {
        tools::look(if rustix::process::geteuid().is_root() {
            &["unshare", "mkfs.ext4"]
        } else {
            &["unshare"]
        })
    }

    /// Runs it with a broker that is built.
    ///
    /// # Errors
    /// When anything is not as it should be.
    pub fn run_with(self, program: &Path) -> anyhow::Result<()> {
        FullDisk::look_for_tools()?;
        let folder = tempfile::Builder::new().prefix("tidemill-full-disk-").tempdir()?;
        let (image, disk) = (folder.path().join("image"), folder.path().join("disk"));
        fs::create_dir(&disk)?;
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private"]);
        let mount = if rustix::process::geteuid().is_root() {
            File::create(&image)?.set_len(DISK_BYTES)?;
            let status = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).status();
            ensure!(status.context("mkfs.ext4")?.success(), "no file system");
            "mount -o loop \"$1\" \"$2\"".to_owned()
        } else {
            unshare.arg("--map-root-user");
            format!("mount -t tmpfs -o size={DISK_BYTES} none \"$2\"")
        };
        let again = format!("{mount} && exec \"$0\" full-disk --inside \"$2\" --program \"$3\"");
        // Not by its name: a build may have put another in its place.
        let this = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
        unshare.args(["--", "sh", "-c", &again]).args([&this, &image, &disk, program]);
        let status = unshare.status().context("unshare")?;
        ensure!(status.success(), "on a full disk: {status}");
        Ok(())
    }
}

/// The whole story, on a file system of its own.
fn inside(disk: &Path, program: &Path) -> anyhow::Result<()> {
    let other = disk.join("somebody-elses");
    fill(&other, OTHER_BYTES)?;
    // Its data alone are on the disk: what it logs is to be read when it fails.
    let home = disk.with_file_name("home");
    fs::create_dir(&home)?;
    fs::create_dir(disk.join("data"))?;
    std::os::unix::fs::symlink(disk.join("data"), home.join("data"))?;
    let mut broker = Broker::start(program, &home, &[RESERVE])?;
    for topic in ["originals", "copies", "small"] {
        broker.run(&["topic", "create", topic, "--partitions", "1", "--affinity", "together"])?;
    }
    let manifest = home.join("copy.toml");
    fs::write(&manifest, MANIFEST)?;
    let components = places::components();
    let deploy = ["plugin", "deploy", text(&manifest)?, "--components", text(&components)?];
    broker.run(&deploy)?;
    // Until the disk is full: then it has all to do, and nothing to do it with.
    broker.run(&["plugin", "pause", "copy"])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(client::connect(&broker))?;
    let producer = runtime.block_on(client.producer().delivery_deadline(DEADLINE).build())?;

    let sent = runtime.block_on(produce_until_refused(&producer))?;
    let why = &sent.refused.as_ref().context("a refusal")?;
    println!("    {} records of {} KiB, then: {why}", sent.acknowledged, VALUE_BYTES >> 10);
    let error = why.error();
    ensure!(
        error.code.is_some_and(|code| code.to_string() == "KAFKA_STORAGE_ERROR"),
        "another code: {error:?}"
    );
    ensure!(error.retriable, "it may be tried again");
    ensure!(
        counter(&broker.metrics()?, "tidemill_disk_full", "") == 1.0,
        "metrics say that the disk is full"
    );
    ensure!(broker.probe("/readyz")?.contains("degraded: the disk is full"), "readyz says so");
    let refused = broker.run(&["topic", "create", "another"]);
    ensure!(refused.is_err_and(|error| error.to_string().contains("the disk is full")), "no topics are made");
    broker.run(&["plugin", "resume", "copy"])?;
    wait("the plugin rests", || {
        let task = broker.json(&["plugin", "describe", "copy"])?;
        Ok(task["state"][0]["phase"] == "disk-full")
    })?;
    ensure!(end(&runtime, &client, "copies")? == 0, "a plugin wrote to a full disk");

    // Somebody else takes what the broker kept, to the last byte.
    let greedy = disk.join("greedy");
    fill(&greedy, u64::MAX)?;
    wait("ballast is dropped", || Ok(!home.join("data/ballast-running").exists()))?;
    broker.kill()?;
    fill(&disk.join("greedier"), u64::MAX)?;
    let took = broker.restart()?;
    println!("    started on a full disk within {} ms", took.as_millis());
    ensure!(counter(&broker.metrics()?, "tidemill_disk_full", "") == 1.0, "it knows that the disk is full");
    let there = end(&runtime, &client, "originals")?;
    ensure!(there >= sent.acknowledged, "{there} records, and {} were acknowledged", sent.acknowledged);
    read_whole(&broker, "originals", there)?;
    broker.run(&["topic", "trim", "originals", "--partition", "0", "--before-offset", "1"])?;
    let trimmed = broker.json(&["topic", "describe", "originals"])?;
    ensure!(trimmed["state"][0]["log-start-offset"] == 1, "a trim works on a full disk: {trimmed}");
    broker.run(&["topic", "alter", "originals", "--set", "retention.ms=-1"])?;
    let altered = broker.json(&["topic", "describe", "originals"])?;
    let mut settings = altered["configs"].as_array().into_iter().flatten();
    let is_altered = settings.any(|it| it["name"] == "retention.ms" && it["value"] == "-1");
    ensure!(is_altered, "an alteration works on a full disk: {altered}");
    broker.run(&["topic", "delete", "small", "--yes"])?;
    let topics = broker.json(&["topic", "list"])?;
    let is_there = topics.as_array().into_iter().flatten().any(|topic| topic["name"] == "small");
    ensure!(!is_there, "a deletion works on a full disk: {topics}");
    ensure!(counter(&broker.metrics()?, "tidemill_disk_full", "") == 1.0, "the disk is full still");

    for file in [&greedy, &disk.join("greedier"), &other] {
        fs::remove_file(file)?;
    }
    wait("there is room", || Ok(counter(&broker.metrics()?, "tidemill_disk_full", "") == 0.0))?;
    let after = runtime.block_on(send(&producer, "after"))?;
    after.map_err(|error| anyhow::anyhow!("with room again: {error}"))?;
    broker.settle(PATIENCE)?;
    let (originals, copies) = (end(&runtime, &client, "originals")?, end(&runtime, &client, "copies")?);
    println!("    with room again: {originals} records, {copies} copies");
    // One of them was trimmed before the plugin came to it.
    ensure!(originals == copies + 1, "each record that is there has one copy");
    ensure!(originals > sent.acknowledged, "all that was acknowledged is there");
    let task = broker.json(&["plugin", "describe", "copy"])?;
    ensure!(task["state"][0]["passed-over-records"] == 1, "what was trimmed is counted: {task}");
    ensure!(
        task["state"][0]["work"]["dead-letters"].as_u64().unwrap_or_default() == 0,
        "no dead letters: {task}"
    );
    runtime.block_on(client.close());
    let status = broker.stop()?;
    ensure!(status.success(), "on SIGTERM the broker ended with {status}");
    Ok(())
}

/// What became of what was sent.
struct Sent {
    acknowledged: u64,
    refused: Option<SendError>,
}

/// Sends until a record is not delivered within [`DEADLINE`].
async fn produce_until_refused(producer: &Producer) -> anyhow::Result<Sent> {
    let mut sent = Sent { acknowledged: 0, refused: None };
    while sent.refused.is_none() {
        let mut deliveries = Vec::new();
        for _ in 0..UNDER_WAY {
            deliveries.push(producer.send(record("x")).await);
        }
        for delivery in deliveries {
            match delivery.await {
                Ok(_) => sent.acknowledged += 1,
                Err(error) => sent.refused = sent.refused.or(Some(error)),
            }
        }
        ensure!(sent.acknowledged * VALUE_BYTES as u64 <= DISK_BYTES, "more than fits was acknowledged");
    }
    Ok(sent)
}

/// Sends one record until it is delivered or [`PATIENCE`] is over.
async fn send(producer: &Producer, key: &str) -> anyhow::Result<Result<(), SendError>> {
    let start = Instant::now();
    loop {
        match producer.send(record(key)).await.await {
            Err(error) if error.error().retriable && start.elapsed() < PATIENCE => {}
            ended => return Ok(ended.map(drop)),
        }
    }
}

fn record(key: &str) -> Record {
    Record::to("originals").partition(PARTITION).key(key.to_owned()).value(vec![b'v'; VALUE_BYTES])
}

fn end(runtime: &Runtime, client: &Client, topic: &str) -> anyhow::Result<u64> {
    let found = runtime.block_on(async { client.admin().offsets(&[(topic, PARTITION, Moment::End)]).await });
    let end = found.into_iter().next().context("an answer")??;
    Ok(end.context("an end")?.0)
}

/// Reads a topic from its first record to its last.
fn read_whole(broker: &Broker, topic: &str, records: u64) -> anyhow::Result<()> {
    let read = broker.run(&["--output", "json", "consume", topic, "--from-beginning", "--exit-at-end"])?;
    let lines = read.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    ensure!(lines.len() as u64 == records, "{} of {records} records were read", lines.len());
    Ok(())
}

/// Writes a file until it has so many bytes, or nothing more can be written.
fn fill(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    let mut piece = vec![0xa5; 1 << 20];
    let mut written = 0;
    while written < bytes {
        match file.write(&piece) {
            Ok(now) => written += now as u64,
            Err(error) if error.kind() == ErrorKind::StorageFull && piece.len() > 1 => {
                piece.truncate(piece.len() / 2)
            }
            Err(error) if error.kind() == ErrorKind::StorageFull => break,
            Err(error) => bail!("{}: {error}", path.display()),
        }
    }
    Ok(())
}

fn wait(what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path in UTF-8")
}
