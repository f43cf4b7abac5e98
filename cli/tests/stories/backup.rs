//! Backups: of a broker that is busy, restored and held against it; and what becomes of those that are damaged.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use xtask::process::Broker;
use xtask::{chain, places};

use crate::{broker, consume, produce, values};

const PATIENCE: Duration = Duration::from_secs(120);
const PROGRAM: &str = env!("CARGO_BIN_EXE_tidemill");
const TOPICS: [(&str, &str); 3] =
    [("customer-orders", "customers"), ("payment-processing", "customers"), ("order-lines", "products")];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command says that is to be refused.
fn refused(broker: &Broker, arguments: &[&str]) -> String {
    let output = broker.command().args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), said(&output))
}

/// Values by topic, partition and offset.
type Records = BTreeMap<(String, u64, u64), Value>;

fn records(broker: &Broker) -> Records {
    let of = |topic: &'static str| {
        consume(broker, topic).into_iter().map(move |mut record| {
            let number = |field: &str| record[field].as_u64().unwrap();
            ((topic.to_owned(), number("partition"), number("offset")), record["value"].take())
        })
    };
    TOPICS.into_iter().flat_map(|(topic, _)| of(topic)).collect()
}

/// A data folder of a backup, and a broker on it.
fn restored(original: &Broker, backups: &str, name: &str) -> (tempfile::TempDir, Broker) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    original.run(&["backup", "restore", backups, name, "--to", data.to_str().unwrap()]).unwrap();
    let broker = Broker::start(Path::new(PROGRAM), folder.path(), &[]).unwrap();
    (folder, broker)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_busy_broker_is_backed_up_and_each_backup_is_a_broker_of_one_moment() {
    let (folder, broker) = broker(&["storage.segment-bytes=1MiB", "cluster.shards=4"]);
    for (topic, affinity) in TOPICS {
        broker.run(&["topic", "create", topic, "--partitions", "4", "--affinity", affinity]).unwrap();
    }
    let components = text(&places::components());
    for plugin in ["order-lines", "payment"] {
        let plugin = text(&places::repository().join("plugins").join(plugin));
        broker.run(&["plugin", "deploy", &plugin, "--components", &components]).unwrap();
    }
    let backups = text(&folder.path().join("backups"));
    let mut producing = broker.command();
    producing.args(["produce", "customer-orders", "--key", "customerId", "--timestamp", "timestamp"]);
    producing.args(["--rate", "200", "--file"]).arg(chain::sample()).stdout(Stdio::null());
    let mut producing = producing.spawn().unwrap();
    let mut made: Vec<Value> = Vec::new();
    while producing.try_wait().unwrap().is_none() && made.len() < 4 {
        std::thread::sleep(Duration::from_millis(1_000));
        let name = format!("b{}", made.len());
        made.push(broker.json(&["backup", "create", "--to", &backups, "--name", &name]).unwrap());
    }
    assert!(producing.wait().unwrap().success());
    assert!(made.len() >= 2, "{made:?}");
    println!("{made:#?}");
    broker.settle(PATIENCE).unwrap();
    let original = records(&broker);
    let bytes = |backup: &Value, of: &str| backup[of].as_u64().unwrap();
    let last = made.last().unwrap();
    assert!(
        bytes(last, "written-bytes") < bytes(last, "bytes"),
        "what was sealed before is not written again"
    );

    let listed = broker.json(&["backup", "list", &backups]).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), made.len());
    broker.run(&["backup", "verify", &backups]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let files = folder.path().join("backups/files");
    assert_eq!(mode(&files), 0o700);
    assert!(fs::read_dir(&files).unwrap().all(|file| mode(&file.unwrap().path()) == 0o600));

    let mut sizes = Vec::new();
    for backup in &made {
        let (_folder, again) = restored(&broker, &backups, backup["name"].as_str().unwrap());
        let cluster: Value = again.json(&["debug", "get", "/v1/cluster"]).unwrap();
        assert_eq!(cluster["restored"]["backup"], backup["name"]);
        again.settle(PATIENCE).unwrap();
        let verified = again.json(&["plugin", "verify"]).unwrap();
        assert_eq!(verified["pending"], 0, "{verified}");
        // What it holds the original holds at the same places: it is a prefix, also of what is derived, because nothing
        // was produced since that would be derived in another order.
        let found = records(&again);
        let of = |topic: &str| found.keys().filter(|(name, ..)| name == topic).count();
        for (at, value) in found.iter().filter(|((topic, ..), _)| topic != "order-lines") {
            assert_eq!(original.get(at), Some(value), "{at:?}");
        }
        assert_eq!(of("customer-orders"), of("payment-processing"), "each order is paid once");
        sizes.push(of("customer-orders"));
        // It is alive: clients of the original find it theirs.
        again.run(&["topic", "create", "more"]).unwrap();
        produce(&again, &["more"], "one\n");
        assert_eq!(values(&consume(&again, "more")), ["one"]);
    }
    assert!(sizes.is_sorted() && sizes[0] > 0, "{sizes:?}");

    // A backup that goes takes only what is its own.
    broker.run(&["backup", "delete", &backups, "b0", "--yes"]).unwrap();
    broker.run(&["backup", "verify", &backups]).unwrap();
    assert!(refused(&broker, &["backup", "verify", &backups, "b0"]).contains("there is no backup b0"));
}

/// A small broker with a backup, the folder of that, and its files by their paths in the data folder.
fn small() -> (tempfile::TempDir, Broker, PathBuf) {
    let (folder, broker) = broker(&["cluster.shards=1"]);
    broker.run(&["topic", "create", "orders"]).unwrap();
    produce(&broker, &["orders"], "one\ntwo\n");
    let backups = folder.path().join("backups");
    broker.run(&["backup", "create", "--to", &text(&backups), "--name", "small"]).unwrap();
    (folder, broker, backups)
}

/// Where a file of the backup lies whose path begins so.
fn file_of(backups: &Path, path: &str) -> PathBuf {
    let manifest = fs::read_to_string(backups.join("manifests/small.json")).unwrap();
    let (json, _) = manifest.trim_end().rsplit_once('\n').unwrap();
    let manifest: Value = serde_json::from_str(json).unwrap();
    let file = manifest["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|file| file["path"].as_str().unwrap().starts_with(path))
        .unwrap();
    backups.join("files").join(file["digest"].as_str().unwrap())
}

#[test]
fn a_damaged_backup_is_named_and_not_restored() {
    let (folder, broker, backups) = small();
    let place = text(&backups);
    let manifest = backups.join("manifests/small.json");
    let segment = file_of(&backups, "shard-0/segment-");
    type Spoil = fn(&Path);
    let flip: Spoil = |path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let cut: Spoil = |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let remove: Spoil = |path| fs::remove_file(path).unwrap();
    let newer: Spoil = |path| {
        let text = fs::read_to_string(path).unwrap().replace("\"format\": 1", "\"format\": 2");
        let (json, _) = text.trim_end().rsplit_once('\n').unwrap();
        fs::write(path, format!("{json}\n{}\n", blake3::hash(json.as_bytes()))).unwrap();
    };
    let cases: [(&Path, Spoil, &str); 6] = [
        (&segment, flip, "shard-0/segment-"),
        (&segment, cut, "shard-0/segment-"),
        (&segment, remove, "shard-0/segment-"),
        (&manifest, flip, "checksum"),
        (&manifest, cut, "small.json is damaged"),
        (&manifest, newer, "use a newer broker"),
    ];
    for (number, (path, spoil, why)) in cases.into_iter().enumerate() {
        let sound = fs::read(path).unwrap();
        spoil(path);
        let found = refused(&broker, &["backup", "verify", &place]);
        assert!(found.contains(why), "case {number}: {found}");
        // The others are listed beside it.
        broker.run(&["backup", "list", &place]).unwrap();
        let to = folder.path().join(format!("restored-{number}"));
        let not_restored = refused(&broker, &["backup", "restore", &place, "small", "--to", &text(&to)]);
        assert!(not_restored.contains(why), "case {number}: {not_restored}");
        let mut serve = broker.command();
        serve.arg("serve").arg("--data").arg(&to);
        if to.exists() {
            let refused = serve.output().unwrap();
            assert_eq!(refused.status.code(), Some(70));
            assert!(said(&refused).contains("restore"), "{}", said(&refused));
        }
        fs::write(path, sound).unwrap();
        broker.run(&["backup", "verify", &place]).unwrap();
        // What was interrupted is begun again, and finished.
        if to.exists() {
            broker.run(&["backup", "restore", &place, "small", "--to", &text(&to)]).unwrap();
        }
    }
    // Where something lies nothing is restored.
    let taken = refused(&broker, &["backup", "restore", &place, "small", "--to", &text(folder.path())]);
    assert!(taken.contains("is not empty"), "{taken}");
}

#[test]
fn a_backup_that_cannot_be_is_refused() {
    let (folder, broker, backups) = small();
    let place = text(&backups);
    let create = |to: &str, name: &str| refused(&broker, &["backup", "create", "--to", to, "--name", name]);
    assert!(create(&place, "small").contains("already"));
    assert!(create(&place, "../small").contains("no name for a backup"));
    let data = folder.path().join("data");
    assert!(create(&text(&data.join("backups")), "a").contains("in the data folder"));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    assert!(create(&text(&link.join("backups")), "a").contains("in the data folder"));
    let nowhere = folder.path().join("file");
    fs::write(&nowhere, "").unwrap();
    assert!(create(&text(&nowhere), "a").contains("no backup was made"));
    // None of it is the broker's trouble, and the backup is as it was.
    produce(&broker, &["orders"], "three\n");
    broker.run(&["backup", "verify", &place]).unwrap();
    let unnamed = broker.json(&["backup", "create", "--to", &place]).unwrap();
    assert!(unnamed["name"].as_str().unwrap().starts_with("20"), "{unnamed}");
    let (_folder, again) = restored(&broker, &place, unnamed["name"].as_str().unwrap());
    assert_eq!(values(&consume(&again, "orders")), ["one", "three", "two"]);
}
