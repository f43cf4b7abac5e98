//! Files of a deployment: read by its guests as they were deployed, also after upgrades, kills, rollbacks and restores.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xtask::places;
use xtask::process::Broker;

use crate::lifecycle::{PATIENCE, deploy, described, with_topics};
use crate::{consume, produce, values};

const READ: &str = "read /data table.txt\n";

/// A folder with a plugin that reads files, and with its files.
fn plugin(folder: &Path, table: &str) -> PathBuf {
    let folder = folder.join("plugin");
    let data = folder.join("data/deep");
    fs::create_dir_all(&data).unwrap();
    fs::write(folder.join("data/table.txt"), table).unwrap();
    fs::write(data.join("down.txt"), "deeper").unwrap();
    fs::copy(places::components().join("wasi-files.wasm"), folder.join("wasi-files.wasm")).unwrap();
    let manifest = places::repository().join("plugins/fixtures/wasi-files/plugin.toml");
    fs::copy(manifest, folder.join("plugin.toml")).unwrap();
    folder
}

fn read(broker: &Broker) -> Vec<String> {
    produce(broker, &["in"], READ);
    broker.settle(PATIENCE).unwrap();
    values(&consume(broker, "out")).into_iter().map(str::to_owned).collect()
}

fn digest(broker: &Broker) -> Value {
    described(broker, "wasi-files")["deployment"]["manifest"]["bundle"][0]["digest"].clone()
}

#[test]
fn a_version_reads_the_files_that_it_was_deployed_with() {
    let (folder, mut broker) = with_topics("2", &[]);
    let path = plugin(folder.path(), "first");
    deploy(&broker, &path).unwrap();
    let first = digest(&broker);
    assert_eq!(read(&broker), ["5: first"]);
    assert_eq!(deploy(&broker, &path).unwrap()["changed"], false);

    // What lies in the author's folder is not what was deployed.
    fs::write(path.join("data/table.txt"), "second").unwrap();
    assert_eq!(read(&broker), ["5: first", "5: first"]);
    let second = deploy(&broker, &path).unwrap();
    assert_eq!((&second["changed"], &second["generation"]), (&true.into(), &2.into()));
    assert_ne!(digest(&broker), first);
    assert_eq!(read(&broker), ["5: first", "5: first", "6: second"]);

    // A broker that starts makes its folders anew, whatever lies there.
    broker.kill().unwrap();
    let unpacked = folder.path().join("data/unpacked");
    let folders: Vec<_> = fs::read_dir(&unpacked).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 2);
    for folder in folders {
        fs::remove_file(folder.join("table.txt")).unwrap();
        fs::write(folder.join("table.txt"), "forged").unwrap();
    }
    broker.restart().unwrap();
    assert_eq!(read(&broker).iter().filter(|told| *told == "6: second").count(), 2);
    broker.run(&["plugin", "rollback", "wasi-files"]).unwrap();
    assert_eq!(digest(&broker), first);
    assert_eq!(read(&broker).iter().filter(|told| *told == "5: first").count(), 3);

    let verified = broker.json(&["plugin", "verify"]).unwrap();
    assert_eq!((&verified["holds"], &verified["replayed"]), (&true.into(), &5.into()), "{verified}");

    // A backup takes them along.
    let backups = folder.path().join("backups").display().to_string();
    broker.run(&["backup", "create", "--to", &backups, "--name", "it"]).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let data = elsewhere.path().join("data").display().to_string();
    broker.run(&["backup", "restore", &backups, "it", "--to", &data]).unwrap();
    let again = Broker::start(Path::new(env!("CARGO_BIN_EXE_tidemill")), elsewhere.path(), &[]).unwrap();
    assert_eq!(read(&again).iter().filter(|told| *told == "5: first").count(), 4);
    assert_eq!(again.json(&["plugin", "verify"]).unwrap()["holds"], true);
}

#[test]
fn an_author_tries_it_without_a_broker() {
    let (folder, broker) = with_topics("1", &[]);
    let path = plugin(folder.path(), "a table");
    fs::create_dir(path.join("tests")).unwrap();
    fs::write(path.join("tests/input.jsonl"), "{\"value\":\"read /data table.txt\"}\n").unwrap();
    fs::write(path.join("tests/expect.jsonl"), "{\"value\":\"7: a table\"}\n").unwrap();
    let at = path.to_str().unwrap();
    broker.run(&["plugin", "test", at]).unwrap();

    let inspected = broker.json(&["plugin", "inspect", at]).unwrap();
    let bundle = &inspected["bundles"][0];
    assert_eq!((&bundle["mount"], &bundle["files"]), (&"/data".into(), &2.into()), "{inspected}");
    assert!(
        broker.run(&["plugin", "inspect", at]).unwrap().contains("files      /data, to be read: 2 files")
    );

    fs::write(path.join("data/table.txt"), "another").unwrap();
    let told = broker.command().args(["plugin", "test", at]).output().unwrap();
    assert_eq!(told.status.code(), Some(1), "{told:?}");

    // An author may pin the files.
    let manifest = fs::read_to_string(path.join("plugin.toml")).unwrap();
    let digest = inspected["manifest"]["bundle"][0]["digest"].as_str().unwrap();
    fs::write(path.join("plugin.toml"), format!("{manifest}digest = \"{digest}\"\n")).unwrap();
    let told = broker.command().args(["plugin", "deploy", at]).output().unwrap();
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(said.contains("bundle[0].digest") && said.contains("the folder is not what it was"), "{said}");
    fs::write(path.join("data/table.txt"), "a table").unwrap();
    deploy(&broker, &path).unwrap();

    for (link, to) in [("out", "/etc/passwd"), ("in", "table.txt")] {
        let link = path.join("data").join(link);
        std::os::unix::fs::symlink(to, &link).unwrap();
        let told = broker.command().args(["plugin", "deploy", at]).output().unwrap();
        let said = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(said.contains("a symbolic link") && said.contains("bundle[0].path"), "{said}");
        fs::remove_file(link).unwrap();
    }
}
