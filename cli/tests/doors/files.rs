//! Data folders that are damaged, or that are none: looked at offline, and started on.
//!
//! What is damaged is named and never served; a start on it says what it misses, and changes nothing that is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::door::{Door, Row};

/// A copy of a data folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let beside = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &beside);
        } else {
            fs::copy(&path, &beside).unwrap();
        }
    }
}

fn serve(home: &Path, data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.env_clear().env("TIDEMILL_HOME", home).arg("serve").arg("--data").arg(data);
    for door in ["quic", "admin", "metrics"] {
        command.args(["--set", &format!("listen.{door}=127.0.0.1:0")]);
    }
    command
}

/// How a folder is damaged, and what is said of it.
type Damage = fn(&Path);

fn change(path: PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn segment(data: &Path) -> PathBuf {
    let of = data.join("shard-0");
    let mut all: Vec<_> = fs::read_dir(&of).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("segment"));
    all.sort();
    all.remove(0)
}

/// Looked at with `debug dump`.
fn dumps() -> Vec<Row<Damage>> {
    vec![
        ("as it is", |_| {}, "0:"),
        (
            "a segment cut in half",
            |data| change(segment(data), |bytes| bytes.truncate(bytes.len() / 2)),
            "1: | damaged",
        ),
        ("a segment of nothing", |data| change(segment(data), Vec::clear), "1: | damaged"),
        ("a segment of zeros", |data| change(segment(data), |bytes| bytes.fill(0)), "1: | damaged"),
        ("a segment of ones", |data| change(segment(data), |bytes| bytes.fill(0xff)), "1: | damaged"),
        (
            "a segment that is a text",
            |data| change(segment(data), |bytes| *bytes = b"no segment".repeat(1_000)),
            "1: | damaged",
        ),
        (
            "a segment that is a folder",
            |data| {
                let path = segment(data);
                fs::remove_file(&path).unwrap();
                fs::create_dir(path).unwrap();
            },
            "1:",
        ),
        (
            "a segment in another's place",
            |data| {
                fs::copy(segment(data), data.join("shard-0/segment-00000077.redb")).unwrap();
            },
            "1: | damaged",
        ),
        ("no segments", |data| fs::remove_file(segment(data)).unwrap(), "1: | no such segment"),
        ("no shard", |data| fs::remove_dir_all(data.join("shard-0")).unwrap(), "1:"),
    ]
}

/// Started on.
fn starts() -> Vec<Row<Damage>> {
    vec![
        (
            "an identity cut in half",
            |data| change(data.join("identity.json"), |bytes| bytes.truncate(bytes.len() / 2)),
            "70: | identity.json",
        ),
        (
            "an identity of nothing",
            |data| change(data.join("identity.json"), Vec::clear),
            "70: | identity.json",
        ),
        (
            "an identity that is no JSON",
            |data| change(data.join("identity.json"), |bytes| *bytes = b"\xff\xfe".to_vec()),
            "70: | identity.json",
        ),
        (
            "a folder of a newer broker",
            |data| {
                change(data.join("identity.json"), |bytes| {
                    *bytes = String::from_utf8(bytes.clone())
                        .unwrap()
                        .replace("\"folder-version\": 1", "\"folder-version\": 99")
                        .replace("\"folder-version\":1", "\"folder-version\":99")
                        .into_bytes();
                })
            },
            "70: | 99",
        ),
        (
            "an authority that is no certificate",
            |data| fs::write(data.join("tls/ca.pem"), "no certificate").unwrap(),
            "ca",
        ),
        (
            "an authority's key that is none",
            |data| fs::write(data.join("tls/ca-key.pem"), "no key").unwrap(),
            "key",
        ),
        (
            "a state that is none",
            |data| change(data.join("shard-0/state.redb"), |bytes| bytes.truncate(100)),
            "70: | state.redb",
        ),
        (
            "votes that are none",
            |data| change(data.join("catalog/vote.redb"), |bytes| bytes.truncate(100)),
            "70: | vote.redb",
        ),
        (
            "a file for a folder",
            |data| {
                fs::remove_dir_all(data).unwrap();
                fs::write(data, "no folder").unwrap();
            },
            "70: | data",
        ),
    ]
}

#[test]
fn folders_that_are_none() {
    let mut door = Door::open(&[]);
    (0..20).for_each(|_| door.row("a record more", "", ""));
    door.broker.stop().unwrap();
    let whole = door.folder.path().join("whole");
    copy(&door.data(), &whole);
    let home = door.folder.path().join("home-of-others");
    let damaged = door.folder.path().join("damaged");
    let data = damaged.join("data");
    let mut wrong = Vec::new();
    let mut look = |name: &str, told: String, wanted: &str| {
        if let Some(missing) = wanted.split(" | ").find(|part| !told.contains(part)) {
            wrong.push(format!("{name}: wanted {missing:?}, and was told: {told}"));
        }
        let _ = fs::remove_dir_all(&damaged);
    };
    for (name, damage, wanted) in dumps() {
        copy(&whole, &data);
        damage(&data);
        let mut dump = door.broker.command();
        dump.args(["--output", "json", "debug", "dump", "--shard", "0"]).arg(&data);
        look(name, command::run(&mut dump), wanted);
    }
    for (name, damage, wanted) in starts() {
        copy(&whole, &data);
        damage(&data);
        look(name, command::run(&mut serve(&home, &data)), wanted);
    }
    look(
        "no folder, and none can be made",
        command::run(&mut serve(&home, Path::new("/proc/nowhere"))),
        "/proc/nowhere",
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The folder that all these were copies of is none the worse.
    door.broker.restart().unwrap();
    assert_eq!(
        door.broker.run(&["consume", "alive", "--from-beginning", "--exit-at-end"]).unwrap().lines().count(),
        120
    );
}
