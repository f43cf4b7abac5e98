//! The broker's settings: from a file, from the environment, from the command line.
//!
//! What is wrong is told with the key and with where it came from, all of it at once, and the status is 78.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;

use crate::command;
use crate::door::Row;

fn config(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.env_clear().env("TIDEMILL_HOME", folder).args(["config", "show"]);
    command
}

fn flags() -> Vec<Row<&'static str>> {
    vec![
        ("no value", "cluster.shards", "78: | --set cluster.shards: use KEY=VALUE"),
        ("nothing", "", "78: | use KEY=VALUE"),
        ("no key", "=4", "78: | there is no such setting"),
        (
            "a key that is not known",
            "cluster.shard=4",
            "78: | cluster.shard (flag): there is no such setting; did you mean cluster.shards?",
        ),
        ("a key in capitals", "CLUSTER.SHARDS=4", "78: | there is no such setting"),
        ("no shards", "cluster.shards=0", "78: | cluster.shards (flag): \"0\" is not a number from 1 to 64"),
        ("65 shards", "cluster.shards=65", "78: | cluster.shards (flag)"),
        ("-1 shards", "cluster.shards=-1", "78: | cluster.shards (flag)"),
        ("shards in words", "cluster.shards=eight", "78: | cluster.shards (flag)"),
        ("65 bits of shards", "cluster.shards=18446744073709551617", "78: | cluster.shards (flag)"),
        ("no shards said", "cluster.shards=", "78: | cluster.shards (flag)"),
        (
            "an address without a port",
            "listen.quic=127.0.0.1",
            "78: | listen.quic (flag) | is not an address",
        ),
        ("an address by name", "listen.quic=localhost:9642", "78: | listen.quic (flag)"),
        ("port 65536", "listen.admin=127.0.0.1:65536", "78: | listen.admin (flag)"),
        ("no address", "listen.metrics=", "78: | listen.metrics (flag)"),
        (
            "plain TCP to everybody",
            "listen.tcp=0.0.0.0:9092",
            "78: | listen.tcp: 0.0.0.0:9092 is not on loopback",
        ),
        ("plain TCP to everybody, in IPv6", "listen.tcp=[::]:9092", "78: | listen.tcp: | is not on loopback"),
        (
            "an address for clients without a port",
            "advertise.quic=broker",
            "78: | advertise.quic: \"broker\" is no host:port",
        ),
        ("an address for clients with port 0", "advertise.tcp=broker:0", "78: | advertise.tcp:"),
        ("an address for clients in words", "advertise.quic=over there:1", "78: | advertise.quic:"),
        ("an address for clients without a host", "advertise.quic=:9642", "78: | advertise.quic:"),
        ("a URL for clients", "advertise.quic=https://broker:9642", "78: | advertise.quic:"),
        ("no folder", "data=", "78: | data (flag): \"\" is not a path"),
        (
            "a format that there is not",
            "log.format=xml",
            "78: | log.format (flag): \"xml\" is not one of text, json",
        ),
        ("a reserve that is too small", "storage.reserve=1MiB", "78: | storage.reserve (flag)"),
        ("a size in parsecs", "storage.segment-bytes=3pc", "78: | storage.segment-bytes (flag)"),
        ("a size below zero", "storage.segment-bytes=-1", "78: | storage.segment-bytes (flag)"),
        (
            "a size over 64 bits",
            "storage.segment-bytes=18446744073709551615GiB",
            "78: | storage.segment-bytes (flag)",
        ),
        ("a size with a fraction", "storage.segment-bytes=1.5GiB", "78: | storage.segment-bytes (flag)"),
        (
            "a small segment",
            "storage.segment-bytes=1KiB",
            "78: | storage.segment-bytes (flag) | at least 1048576 bytes",
        ),
        ("a duration without a unit", "storage.segment-age=3600", "78: | storage.segment-age (flag)"),
        (
            "no duration",
            "storage.retention-interval=0s",
            "78: | storage.retention-interval (flag) | at least 100ms",
        ),
        ("a duration of a thousand years", "storage.segment-age=1000y", "78: | storage.segment-age (flag)"),
        (
            "a duration over 64 bits",
            "storage.segment-age=99999999999999999999s",
            "78: | storage.segment-age (flag)",
        ),
        (
            "a duration in words",
            "storage.retention-interval=often",
            "78: | storage.retention-interval (flag)",
        ),
        ("no instances", "plugins.instances=0", "78: | plugins.instances (flag)"),
        ("5,000 instances", "plugins.instances=5000", "78: | plugins.instances (flag)"),
        (
            "a certificate without a key",
            "tls.certificate=/a.pem",
            "78: | tls.certificate and tls.key belong together",
        ),
        (
            "a key without a certificate",
            "tls.key=/a.pem",
            "78: | tls.certificate and tls.key belong together",
        ),
        ("as it may be", "cluster.shards=4", "0:"),
        ("a host with colons", "advertise.quic=[::1]:9642", "0:"),
    ]
}

fn files() -> Vec<Row<Vec<u8>>> {
    let text = |text: &str| text.as_bytes().to_vec();
    let deep = format!("a = {}1{}", "[".repeat(10_000), "]".repeat(10_000));
    vec![
        ("no TOML", text("this is none"), "78: | tidemill.toml | line 1"),
        ("no UTF-8", b"data = '\xff'".to_vec(), "78: | tidemill.toml | UTF-8"),
        ("another encoding", b"\xff\xfed\0a\0t\0a\0".to_vec(), "78: | tidemill.toml"),
        ("a key twice", text("data = 'a'\ndata = 'b'"), "78: | duplicate key | line 2"),
        (
            "a key that is not known",
            text("[listen]\nquick = '127.0.0.1:1'"),
            "78: | listen.quick (file): there is no such setting",
        ),
        ("a table for a value", text("[data]\na = 1"), "78: | data.a (file): there is no such setting"),
        ("a list for a value", text("data = ['a']"), "78: | data (file): neither text nor a whole number"),
        ("a time for a value", text("data = 2017-01-01"), "78: | data (file)"),
        ("a fraction", text("[cluster]\nshards = 1.5"), "78: | cluster.shards (file)"),
        ("yes", text("[cluster]\nshards = true"), "78: | cluster.shards (file)"),
        ("lists in one another", text(&deep), "78: | tidemill.toml"),
        ("tables in one another", text(&format!("[{}a]\nb = 1", "a.".repeat(10_000))), "78:"),
        (
            "three mistakes",
            text("dat = 'a'\n[cluster]\nshards = 0\n[log]\nformat = 'xml'"),
            "78: | dat (file) | did you mean data? | cluster.shards (file) | log.format (file)",
        ),
        ("nothing", vec![], "0:"),
    ]
}

fn variables() -> Vec<Row<(&'static str, &'static [u8])>> {
    vec![
        (
            "a key that is not known",
            ("TIDEMILL_CLUSTER__SHARD", b"4"),
            "78: | cluster.shard (environment): there is no such setting",
        ),
        ("one line in place of two", ("TIDEMILL_CLUSTER_SHARDS", b"4"), "78: | cluster-shards (environment)"),
        (
            "a value that cannot be",
            ("TIDEMILL_CLUSTER__SHARDS", b"none"),
            "78: | cluster.shards (environment)",
        ),
        ("a value that is no UTF-8", ("TIDEMILL_DATA", b"\xff"), "78: | data (environment): it is not UTF-8"),
        ("somebody else's that is no UTF-8", ("LANG_OF_OTHERS", b"\xff\xfe"), "0:"),
        ("as it may be", ("TIDEMILL_CLUSTER__SHARDS", b"4"), "0:"),
    ]
}

#[test]
fn settings_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    let mut rows = 0;
    let mut look = |name: &str, told: String, wanted: &str| {
        rows += 1;
        if let Some(missing) = wanted.split(" | ").find(|part| !told.contains(part)) {
            wrong.push(format!("{name}: wanted {missing:?}, and was told: {told}"));
        }
    };
    for (name, flag, wanted) in flags() {
        look(name, command::run(config(folder.path()).args(["--set", flag])), wanted);
    }
    let path = folder.path().join("tidemill.toml");
    for (name, text, wanted) in files() {
        fs::write(&path, text).unwrap();
        look(name, command::run(config(folder.path()).arg("--config").arg(&path)), wanted);
    }
    look(
        "a file that is not there",
        command::run(config(folder.path()).args(["--config", "/nowhere.toml"])),
        "78: | /nowhere.toml",
    );
    look("a folder for a file", command::run(config(folder.path()).args(["--config", "/"])), "78: | /: ");
    for (name, (key, value), wanted) in variables() {
        let value = OsString::from_vec(value.to_vec());
        look(name, command::run(config(folder.path()).env(key, value)), wanted);
    }
    // What only a start can know.
    let serve = |settings: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.env_clear().env("TIDEMILL_HOME", folder.path()).arg("serve");
        command.arg("--data").arg(folder.path().join("data"));
        let free = ["listen.quic=127.0.0.1:0", "listen.admin=127.0.0.1:0", "listen.metrics=127.0.0.1:0"];
        free.iter().chain(settings).for_each(|setting| {
            command.args(["--set", setting]);
        });
        command::run(&mut command)
    };
    look("a filter that is none", serve(&["log.filter=a=b=c"]), "78: | log.filter");
    look("an address that is not here", serve(&["listen.quic=203.0.113.1:1"]), "78: | listen.quic");
    look(
        "a port that is taken",
        {
            let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            serve(&[&format!("listen.admin={}", taken.local_addr().unwrap())])
        },
        "78: | listen.admin",
    );
    look(
        "a certificate that is not there",
        serve(&["tls.certificate=/nowhere.pem", "tls.key=/nowhere.pem"]),
        "/nowhere.pem",
    );
    assert!(wrong.is_empty(), "{} of {rows} rows:\n{}", wrong.len(), wrong.join("\n"));
    println!("{rows} rows");
}
