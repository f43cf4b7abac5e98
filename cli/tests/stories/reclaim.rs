//! The disk comes back: of topics that are deleted, of records that are trimmed, or too many.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use xtask::process::Broker;

use crate::{broker, consume, produce, values};

const PATIENCE: Duration = Duration::from_secs(60);
pub const MIB: u64 = 1 << 20;

/// Records of 16 KiB that do not compress, one to a line.
pub fn records(seed: u64, bytes: u64) -> String {
    let mut state = seed;
    let mut lines = String::new();
    for _ in 0..bytes / (16 << 10) {
        for _ in 0..1 << 10 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            write!(lines, "{:016x}", state ^ (state >> 29)).unwrap();
        }
        lines.push('\n');
    }
    lines
}

/// What the segments of a broker's data folder take of the disk, in bytes: parts of them may be holes.
pub fn segments(folder: &Path) -> u64 {
    let shards = std::fs::read_dir(folder).unwrap().map(|shard| shard.unwrap().path());
    let files = shards.filter(|path| path.is_dir()).flat_map(|path| std::fs::read_dir(path).unwrap());
    let is_segment = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("segment-");
    let files = files.map(Result::unwrap).filter(|file| is_segment(&file.file_name()));
    // A segment may go while we look.
    files.filter_map(|file| file.metadata().ok()).map(|about| about.blocks() * 512).sum()
}

pub fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Two topics whose records lie mixed in one log: 24 MiB that are to go, and 6 that are to stay. What stays.
fn mixed(broker: &Broker) -> Vec<String> {
    for topic in ["goes", "stays"] {
        broker.run(&["topic", "create", topic, "--partitions", "1", "--affinity", "together"]).unwrap();
    }
    let mut stays = String::new();
    for seed in 0..3 {
        produce(broker, &["goes"], &records(seed, 8 * MIB));
        let some = records(100 + seed, 2 * MIB);
        produce(broker, &["stays"], &some);
        stays += &some;
    }
    let mut stays: Vec<_> = stays.lines().map(str::to_owned).collect();
    stays.sort_unstable();
    stays
}

#[test]
fn a_deleted_topic_gives_its_disk_back_and_its_neighbours_stay() {
    let (folder, mut broker) = broker(&[]);
    let stays = mixed(&broker);
    let data = folder.path().join("data");
    let before = segments(&data);
    assert!(before > 30 * MIB, "{before}");
    broker.run(&["topic", "delete", "goes", "--yes"]).unwrap();
    wait("the disk", || segments(&data) < 12 * MIB);
    produce(&broker, &["stays"], "more\n");
    let mut stays: Vec<&str> = stays.iter().map(String::as_str).collect();
    stays.push("more");
    for _ in 0..2 {
        assert_eq!(values(&consume(&broker, "stays")), stays);
        broker.kill().unwrap();
        broker.restart().unwrap();
    }
    let verified = broker.run(&["plugin", "verify"]).unwrap_err().to_string();
    assert!(verified.contains("gave some of its log back"), "{verified}");
    let metrics = broker.metrics().unwrap();
    assert!(metrics.contains("tidemill_reclaimed_bytes_total"), "{metrics}");
}

#[test]
fn trimmed_records_give_their_disk_back() {
    let (folder, broker) = broker(&[]);
    let stays = mixed(&broker);
    broker.run(&["topic", "trim", "goes", "--partition", "0", "--before-offset", "1500"]).unwrap();
    let data = folder.path().join("data");
    // What was written in one turn stays as long as any of a partition's records in it: 4 MiB at most.
    wait("the disk", || segments(&data) < 18 * MIB);
    assert_eq!(values(&consume(&broker, "stays")), stays);
    let left = consume(&broker, "goes");
    assert_eq!((left.len(), left[0]["offset"].as_u64()), (36, Some(1500)));
}

#[test]
fn a_topic_keeps_as_many_bytes_as_it_says() {
    let settings = ["storage.segment-bytes=1MiB", "storage.retention-interval=200ms"];
    let (folder, broker) = broker(&settings);
    broker.run(&["topic", "create", "orders", "--partitions", "1"]).unwrap();
    // One after the other: what waits together is written together, however large that is.
    (0..24).for_each(|seed| produce(&broker, &["orders"], &records(seed, MIB)));
    let data = folder.path().join("data");
    assert!(segments(&data) > 24 * MIB);
    broker.run(&["topic", "alter", "orders", "--set", "retention.bytes=4194304"]).unwrap();
    // A small segment's file is larger than what it holds, by half or more.
    wait("the disk", || segments(&data) < 16 * MIB);
    let left = consume(&broker, "orders");
    let bytes = left.len() as u64 * (16 << 10);
    assert!((4 * MIB - MIB / 2..8 * MIB).contains(&bytes), "{bytes} bytes are left");
    assert_eq!(left.last().unwrap()["offset"].as_u64(), Some(24 * MIB / (16 << 10) - 1));
}

#[test]
fn one_topic_of_ten_gives_its_disk_back_alone_and_backups_know_of_it() {
    let (folder, broker) = broker(&["storage.segment-bytes=16MiB"]);
    let (data, backups) = (folder.path().join("data"), folder.path().join("backups"));
    let backups = backups.to_str().unwrap();
    let topics: Vec<String> = (0..10).map(|number| format!("topic-{number}")).collect();
    for topic in &topics {
        broker.run(&["topic", "create", topic, "--partitions", "1", "--affinity", "together"]).unwrap();
    }
    for round in 0..2 {
        for (number, topic) in topics.iter().enumerate() {
            produce(&broker, &[topic], &records(round * 10 + number as u64, 3 * MIB));
        }
    }
    let held = |broker: &Broker| {
        let rest = topics.iter().filter(|topic| *topic != "topic-3");
        rest.map(|topic| values(&consume(broker, topic)).join("\n")).collect::<Vec<_>>()
    };
    let expected = held(&broker);
    let create = |name| broker.run(&["backup", "create", "--to", backups, "--name", name]).unwrap();
    create("before");
    let before = segments(&data);
    broker.run(&["topic", "delete", "topic-3", "--yes"]).unwrap();
    wait("the disk", || before - segments(&data).min(before) > 54 * MIB / 10);
    let metrics = broker.metrics().unwrap();
    let written = xtask::process::counter(&metrics, "tidemill_rewritten_bytes_total", "");
    assert!(written < f64::from(1 << 16), "{written} bytes were written for it");
    create("after");
    assert_eq!(held(&broker), expected);
    broker.run(&["backup", "verify", backups]).unwrap();
    broker.run(&["debug", "dump", data.to_str().unwrap()]).unwrap();
    for name in ["before", "after"] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        broker.run(&["backup", "restore", backups, name, "--to", data.to_str().unwrap()]).unwrap();
        let again = Broker::start(Path::new(env!("CARGO_BIN_EXE_tidemill")), folder.path(), &[]).unwrap();
        assert_eq!(held(&again), expected, "{name}");
        let topics = again.run(&["topic", "list"]).unwrap();
        assert_eq!(topics.contains("topic-3"), name == "before", "{topics}");
        // What was made before has all of it, whatever was given back since.
        if name == "before" {
            assert_eq!(consume(&again, "topic-3").len() as u64, 6 * MIB / (16 << 10));
        }
    }
}
