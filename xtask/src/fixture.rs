//! `cargo xtask fixture`: makes the data folder of today's format version, which tests of later versions open.
//!
//! A small broker lives three lives: one ends as it should, one by SIGKILL before its state is checkpointed, and the last
//! after that. In between there is something of everything that lies on disk. The folder is then packed as the kill left it,
//! unpacked, and opened again: what its broker says must be what the one before said of all that it had acknowledged.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use tidemill_protocol::api::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidemill_protocol::api::messages::{GroupId, OffsetCommitRequest};
use tidemill_protocol::api::{Request, Response, StrBytes};
use xtask::data_folder::{self, GROUP};
use xtask::kafka::{Connection, name};
use xtask::process::Broker;
use xtask::{places, ports};

use crate::{build, plugins};

/// Segments are sealed soon, and nothing is given back by itself.
const SETTINGS: [&str; 3] = ["cluster.shards=2", "storage.segment-age=1s", "storage.retention-interval=24h"];
/// A little more than the age at which a segment is sealed.
const AGE: Duration = Duration::from_millis(1_200);
const PATIENCE: Duration = Duration::from_secs(60);
/// Topics that are kept for ever, as everything in a fixture.
const TOPICS: [(&str, &str); 6] =
    [("in", "2"), ("asks", "1"), ("times", "1"), ("out", "2"), ("codecs", "2"), ("trimmed", "1")];
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// A folder that is larger is not one for a repository.
const PACKED_BYTES_MAX: u64 = 1 << 20;

/// Make the data folder of today's format version anew, and what a broker says of it.
///
/// Writes cli/tests/data-folders/vN.tar.zst and vN.txt. For a format that was released this is never done again.
#[derive(Debug, Args)]
pub struct Fixture {
    /// Put it in the place of one that is there: for a format that was not released.
    #[arg(long)]
    anew: bool,
}

impl Fixture {
    /// Runs it.
    ///
    /// # Errors
    /// When there is one already, or a broker refuses, or says something else of the folder than the one that wrote it.
    pub fn run(self) -> anyhow::Result<()> {
        let (packed, told) = data_folder::kept(data_folder::VERSION);
        ensure!(self.anew || !packed.exists(), "{} is there: --anew writes over it", packed.display());
        plugins::build()?;
        let program = build::tidemill()?;
        let folder = tempfile::tempdir()?;
        let tcp = format!("listen.tcp=127.0.0.1:{}", ports::lasting());
        let settings: Vec<&str> = SETTINGS.into_iter().chain([tcp.as_str()]).collect();
        let mut broker = Broker::start(&program, folder.path(), &settings)?;
        first_life(&broker, folder.path())?;
        ensure!(broker.stop()?.success(), "the broker did not stop");
        broker.restart()?;
        second_life(&broker)?;
        broker.kill()?;
        broker.restart()?;
        third_life(&broker)?;
        let before = data_folder::report(&broker)?;
        // This much, at least, is in no checkpoint.
        produce(&broker, &["codecs", "--partition", "0"], "the last\n")?;
        broker.kill()?;
        fs::create_dir_all(packed.parent().context("a folder")?)?;
        data_folder::pack(&folder.path().join("data"), &packed)?;
        let bytes = fs::metadata(&packed)?.len();
        ensure!(bytes <= PACKED_BYTES_MAX, "{} has {bytes} bytes", packed.display());

        let again = tempfile::tempdir()?;
        data_folder::unpack(&packed, &again.path().join("data"))?;
        let broker = Broker::start(&program, again.path(), &settings)?;
        let after = data_folder::report(&broker)?;
        let others: Vec<&str> = after.lines().collect();
        let lost: Vec<&str> = before.lines().filter(|line| !others.contains(line)).collect();
        // What is told of the topic itself and of all records together has changed with the last one.
        let may_change =
            |line: &&str| line.contains("\"name\":\"codecs\"") || line.contains("\"holds\":true");
        ensure!(lost.iter().all(may_change), "what was told before the kill is not there: {lost:#?}");
        ensure!(
            others.len() == before.lines().count() + 1,
            "one record more, and {} lines became {}",
            before,
            after
        );
        fs::write(&told, &after)?;
        println!("{}: {bytes} bytes; {}: {} lines", packed.display(), told.display(), others.len());
        Ok(())
    }
}

/// Topics with every codec, plugins with states and timers; ended by SIGTERM.
fn first_life(broker: &Broker, folder: &Path) -> anyhow::Result<()> {
    for (topic, partitions) in TOPICS {
        broker.run(&["topic", "create", topic, "--partitions", partitions])?;
    }
    broker.run(&["topic", "create", "gone"])?;
    // One that lies elsewhere, so that something crosses shards.
    broker.run(&["topic", "create", "elsewhere", "--partitions", "3", "--affinity", "others"])?;
    deploy(broker, folder, "counting", "state-counter", "in", "out", "")?;
    deploy(broker, folder, "picky", "reject-some", "in", "out", "")?;
    deploy(broker, folder, "keeping", "timekeeper", "times", "out", "[event-time]\nlateness-ms = 100\n")?;
    deploy(broker, folder, "copying", "pass-through", "out", "elsewhere", "[config]\nto = \"elsewhere\"\n")?;
    fs::create_dir(folder.join("files"))?;
    fs::write(folder.join("files/table.txt"), "of the first version")?;
    let bundle = "[[bundle]]\npath = \"files\"\nmount = \"/data\"\n";
    deploy(broker, folder, "reading", "wasi-files", "asks", "out", bundle)?;
    let topics = broker.json(&["topic", "list"])?;
    for topic in topics.as_array().context("topics")? {
        let name = topic["name"].as_str().context("a name")?;
        broker.run(&["topic", "alter", name, "--set", "retention.ms=-1"])?;
    }
    for codec in CODECS {
        let lines: String = (0..8).map(|n| format!("{{\"n\":\"{n}\",\"codec\":\"{codec}\"}}\n")).collect();
        let header = format!("codec={codec}");
        produce(
            broker,
            &["codecs", "--compression", codec, "--key", "n", "--header", &header, "--header", "x="],
            &lines,
        )?;
    }
    produce(broker, &["trimmed"], "one\ntwo\nthree\n")?;
    produce(broker, &["gone"], "nobody will read this\n")?;
    produce(broker, &["asks"], data_folder::ASKS)?;
    produce(broker, &["in", "--key", "k"], &keyed(0..20))?;
    produce(broker, &["in", "--partition", "0"], "reject this\nflaky 1\n")?;
    let times = ["at window 2000", "after never 3153600000000", "nothing"];
    let times = times.iter().zip([1_000, 1_500, 2_500]);
    let times: String = times.map(|(what, at)| format!("{{\"do\":\"{what}\",\"at\":{at}}}\n")).collect();
    produce(broker, &["times", "--timestamp", "at"], &times)?;
    broker.settle(PATIENCE)?;
    commit(broker, "in", &[(0, 3), (1, 4)])?;
    std::thread::sleep(AGE);
    Ok(())
}

/// What moves log starts and ends topics; ended by SIGKILL as soon as it is acknowledged.
fn second_life(broker: &Broker) -> anyhow::Result<()> {
    produce(broker, &["in", "--key", "k"], &keyed(20..40))?;
    broker.run(&["topic", "trim", "trimmed", "--partition", "0", "--before-offset", "2"])?;
    broker.run(&["topic", "delete", "gone", "--yes"])?;
    commit(broker, "codecs", &[(0, 5)])?;
    broker.settle(PATIENCE)
}

/// A new generation that waits, a letter that is discarded; ended by SIGKILL with records that nobody consumed.
fn third_life(broker: &Broker) -> anyhow::Result<()> {
    std::thread::sleep(AGE);
    produce(broker, &["in", "--partition", "1"], "reject that\n")?;
    broker.settle(PATIENCE)?;
    let letters = broker.run(&["consume", "picky.dead-letter", "--from-beginning", "--exit-at-end"])?;
    let first: serde_json::Value = serde_json::from_str(letters.lines().next().context("a letter")?)?;
    let place = format!("{}/{}", first["partition"], first["offset"]);
    broker.run(&["dlq", "discard", "picky", &place, "--yes"])?;
    broker.run(&["plugin", "pause", "counting"])?;
    std::thread::sleep(AGE);
    produce(broker, &["in", "--key", "k"], &keyed(40..45))?;
    // Until the others have consumed them, and their logs are written.
    std::thread::sleep(Duration::from_secs(2));
    Ok(())
}

fn keyed(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|n| format!("{{\"k\":\"k{}\",\"n\":{n}}}\n", n % 7)).collect()
}

/// Deploys a fixture's component under a name and with topics of its own.
fn deploy(
    broker: &Broker,
    folder: &Path,
    name: &str,
    component: &str,
    reads: &str,
    publishes: &str,
    more: &str,
) -> anyhow::Result<()> {
    let components = places::components();
    let path = folder.join(format!("{name}.toml"));
    let text = format!(
        "name = \"{name}\"\ncomponent = \"{component}.wasm\"\npublish = [\"{publishes}\"]\n{more}\
         [[subscribe]]\ntopic = \"{reads}\"\nfrom = \"earliest\"\n"
    );
    fs::write(&path, text)?;
    let (path, components) = (path.to_str().context("a path")?, components.to_str().context("a path")?);
    broker.run(&["plugin", "deploy", path, "--components", components]).map(drop)
}

fn produce(broker: &Broker, arguments: &[&str], lines: &str) -> anyhow::Result<()> {
    let mut command = broker.command();
    let mut child =
        command.arg("produce").args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    child.stdin.take().context("its input")?.write_all(lines.as_bytes())?;
    ensure!(child.wait()?.success(), "produce {arguments:?} failed");
    Ok(())
}

fn commit(broker: &Broker, topic: &str, offsets: &[(i32, i64)]) -> anyhow::Result<()> {
    let mut connection = Connection::to(broker.address("tcp").context("an address for Kafka's clients")?)?;
    let words = |words: &str| StrBytes::from_string(words.to_owned());
    let partitions = offsets.iter().map(|(partition, offset)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(words("noted")))
    });
    let of_topic =
        OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(partitions.collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(words(GROUP)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![of_topic]);
    let answer = connection.ask(8, Request::OffsetCommit(request))?;
    let Response::OffsetCommit(answer) = answer else { anyhow::bail!("no answer to a commit") };
    let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|it| it.error_code);
    ensure!(codes.all(|code| code == 0), "offsets of {topic} are not committed: {answer:?}");
    Ok(())
}
