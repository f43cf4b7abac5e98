//! The command line: what cannot be understood ends with status 2, what cannot be done with 1, and both say why.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::command;
use crate::door::{Door, Row};

fn table() -> Vec<Row<&'static [&'static str]>> {
    vec![
        ("nothing", &[], "2: | Usage"),
        ("a command that there is not", &["serv"], "2: | serve"),
        ("a flag that there is not", &["topic", "list", "--all"], "2: | --all"),
        ("a format that there is not", &["--output", "xml", "topic", "list"], "2: | xml"),
        (
            "a context that there is not",
            &["--context", "nowhere", "topic", "list"],
            "78: | there is no context nowhere",
        ),
        ("a context with a path for a name", &["--context", "../a", "topic", "list"], "78: | ../a"),
        ("a topic without a name", &["topic", "create"], "2: | NAME"),
        ("an empty name", &["topic", "create", ""], "1: | is no topic name"),
        ("a path for a name", &["topic", "create", "a/b"], "1: | is no topic name"),
        ("partitions in words", &["topic", "create", "a", "--partitions", "four"], "2: | --partitions"),
        ("-1 partitions", &["topic", "create", "a", "--partitions", "-1"], "2:"),
        ("0 partitions", &["topic", "create", "a", "--partitions", "0"], "1: | 0 partitions"),
        (
            "33 bits of partitions",
            &["topic", "create", "a", "--partitions", "4294967296"],
            "2: | --partitions",
        ),
        (
            "a batch in words",
            &["topic", "create", "a", "--max-message-bytes", "1MiB"],
            "2: | --max-message-bytes",
        ),
        ("an affinity that cannot be", &["topic", "create", "a", "--affinity", "g h"], "1: | affinity"),
        ("a topic that is taken", &["topic", "create", "orders"], "1: | exists already"),
        ("describing what is not there", &["topic", "describe", "nowhere"], "1: | there is no topic nowhere"),
        ("describing a path", &["topic", "describe", "a/../b"], "1:"),
        ("describing a name with a question", &["topic", "describe", "orders?dry-run=true"], "1:"),
        ("altering nothing", &["topic", "alter", "orders"], "2: | --set"),
        (
            "altering without a value",
            &["topic", "alter", "orders", "--set", "retention.ms"],
            "1: | use KEY=VALUE",
        ),
        (
            "altering to words",
            &["topic", "alter", "orders", "--set", "retention.ms=soon"],
            "1: | retention.ms",
        ),
        (
            "altering what is not known",
            &["topic", "alter", "orders", "--set", "retention=1"],
            "1: | retention",
        ),
        (
            "trimming without a partition",
            &["topic", "trim", "orders", "--before-offset", "0"],
            "2: | --partition",
        ),
        (
            "trimming to no time",
            &["topic", "trim", "orders", "--partition", "0", "--before-time", "yesterday"],
            "1: | --before-time",
        ),
        (
            "trimming to 1969",
            &["topic", "trim", "orders", "--partition", "0", "--before-time", "1969-07-20T20:17:00Z"],
            "1: | --before-time",
        ),
        (
            "trimming behind the end",
            &["topic", "trim", "orders", "--partition", "0", "--before-offset", "9"],
            "1: | outside 0..0",
        ),
        ("deleting, and nobody to ask", &["topic", "delete", "orders"], "1: | --yes"),
        ("deleting what is not there", &["topic", "delete", "nowhere", "--yes"], "1: | nowhere"),
        ("producing to what is not there", &["produce", "nowhere"], "1: | nowhere"),
        ("producing a file that is not there", &["produce", "orders", "--file", "/nowhere"], "1: | /nowhere"),
        ("producing a folder", &["produce", "orders", "--file", "/"], "1: | /"),
        (
            "a codec that there is not",
            &["produce", "orders", "--compression", "rar"],
            "1: | --compression rar: use none",
        ),
        (
            "a header without a value",
            &["produce", "orders", "--header", "a"],
            "1: | --header a: use NAME=VALUE",
        ),
        ("partition -1", &["produce", "orders", "--partition", "-1"], "2:"),
        (
            "consuming from two places",
            &["consume", "orders", "--offset", "0", "--from-beginning"],
            "2: | cannot be used with",
        ),
        ("consuming from offset -1", &["consume", "orders", "--offset", "-1"], "2:"),
        ("consuming from no time", &["consume", "orders", "--from-time", "noon"], "1: | --from-time"),
        ("consuming what is not there", &["consume", "nowhere", "--exit-at-end"], "1: | nowhere"),
        ("consuming partition 4 of 4", &["consume", "orders", "--partition", "4", "--exit-at-end"], "1: | 4"),
        (
            "consuming behind the end",
            &["consume", "orders", "--partition", "0", "--offset", "9", "--exit-at-end"],
            "1: | 9",
        ),
        ("deploying what is not there", &["plugin", "deploy", "/nowhere.toml"], "1: | /nowhere.toml"),
        (
            "describing a plugin that is not there",
            &["plugin", "describe", "nobody"],
            "1: | there is no plugin nobody",
        ),
        ("resetting to a word", &["plugin", "reset", "nobody", "--to", "soon", "--yes"], "1: | nobody"),
        ("resetting to offset -1", &["plugin", "reset", "nobody", "--to", "-1", "--yes"], "2:"),
        ("the state of nobody", &["plugin", "state", "scan", "nobody"], "1: | nobody"),
        ("inspecting what is no component", &["plugin", "inspect", "/dev/null"], "1: | /dev/null"),
        ("testing what is not there", &["plugin", "test", "/nowhere"], "1: | /nowhere"),
        ("a letter without a place", &["dlq", "show", "nobody", "7"], "2: | PARTITION/OFFSET"),
        ("a letter in words", &["dlq", "show", "nobody", "a/b"], "2: | PARTITION/OFFSET"),
        ("a letter at offset -1", &["dlq", "show", "nobody", "0/-1"], "2: | PARTITION/OFFSET"),
        (
            "a letter of 65 bits",
            &["dlq", "show", "nobody", "0/18446744073709551616"],
            "2: | PARTITION/OFFSET",
        ),
        ("applying nothing", &["apply"], "2: | PATHS"),
        ("applying what is not there", &["apply", "/nowhere.toml"], "1: | /nowhere.toml"),
        ("a path that is none", &["debug", "get", "topics"], "1:"),
        ("a path with a space", &["debug", "get", "/v1/top ics"], "1: | path"),
        ("dumping what is not there", &["debug", "dump", "/nowhere"], "1: | /nowhere is no data folder"),
        ("a shell that there is not", &["completion", "cmd.com"], "2: | cmd.com"),
        (
            "a context without files",
            &[
                "context",
                "add",
                "a",
                "--broker",
                "b:1",
                "--admin",
                "b:2",
                "--ca",
                "/nowhere",
                "--certificate",
                "/nowhere",
                "--key",
                "/nowhere",
            ],
            "/nowhere",
        ),
    ]
}

#[test]
fn arguments_that_cannot_be() {
    let door = Door::open(&[]);
    door.walk(table(), |arguments| command::run(door.broker.command().args(arguments)));
    let bytes = OsStr::from_bytes(b"\xff");
    let told = command::run(door.broker.command().args(["topic", "describe"]).arg(bytes));
    door.row("a name that is no UTF-8", &told, "2: | UTF-8");
    // Lines that are no records.
    let path = door.folder.path().join("lines");
    let lines: Vec<Row<(&[u8], &[&str])>> = vec![
        ("a line that is no JSON", (b"one\n", &["--key", "id"]), "1: | line 1 | not JSON"),
        (
            "a line without the key",
            (b"{\"id\":1}\n{}\n", &["--key", "id"]),
            "1: | line 2 | there is no field id",
        ),
        ("a time in words", (b"{\"at\":\"noon\"}\n", &["--timestamp", "at"]), "1: | line 1 | field at"),
        (
            "a time in 1969",
            (b"{\"at\":\"1969-07-20T20:17:00Z\"}\n", &["--timestamp", "at"]),
            "1: | line 1 | field at",
        ),
        ("a time with a fraction", (b"{\"at\":1.5}\n", &["--timestamp", "at"]), "1: | line 1 | whole number"),
        ("a time that is a list", (b"{\"at\":[]}\n", &["--timestamp", "at"]), "1: | line 1 | field at"),
        ("a partition that is not there", (b"one\n", &["--partition", "4"]), "1: | 4"),
        ("a line of 2 MiB", (&[b'x'; 2 << 20], &[]), "1:"),
    ];
    door.walk(lines, |(lines, arguments)| {
        fs::write(&path, lines).unwrap();
        command::run(
            door.broker
                .command()
                .args(["produce", "orders", "--file", path.to_str().unwrap()])
                .args(arguments),
        )
    });
    let zst = door.folder.path().join("lines.zst");
    fs::write(&zst, b"this is no zstd").unwrap();
    let told =
        command::run(door.broker.command().args(["produce", "orders", "--file", zst.to_str().unwrap()]));
    door.row("a file that is not what its name says", &told, "1: | lines.zst");
    contexts(&door);
    // Files of topics.
    let topics: Vec<Row<&str>> = vec![
        ("no TOML", "topic", "1: | topics.toml | line 1"),
        ("a topic without partitions", "[[topic]]\nname = 'a'", "1: | missing field `partitions`"),
        ("a key that is not known", "[[topics]]\nname = 'a'", "1: | topics"),
        ("a name that cannot be", "[[topic]]\nname = 'a b'\npartitions = 1", "1:"),
        (
            "a topic that would be another",
            "[[topic]]\nname = 'orders'\npartitions = 7",
            "1: | partitions is 4, and 7 is wanted",
        ),
        ("a manifest that is not there", "plugins = ['nowhere.toml']", "1: | nowhere.toml"),
    ];
    let path = door.folder.path().join("topics.toml");
    door.walk(topics, |text| {
        fs::write(&path, text).unwrap();
        command::run(door.broker.command().args(["apply", path.to_str().unwrap()]))
    });
    door.close(75);
}

/// The file that names brokers and identities.
fn contexts(door: &Door) {
    let home = door.folder.path().join("other-home");
    fs::create_dir(&home).unwrap();
    let context = "[context.a]\nbroker = 'b:1'\nadmin = 'b:2'\nca = '/nowhere'\ncertificate = '/nowhere'\nkey = '/nowhere'\n";
    let rows: Vec<Row<Vec<u8>>> = vec![
        ("contexts that are no TOML", b"this is none".to_vec(), "78: | contexts.toml | line 1"),
        ("contexts that are no UTF-8", b"current = '\xff'".to_vec(), "78: | contexts.toml | UTF-8"),
        (
            "a context that is half there",
            b"[context.a]\nbroker = 'b:1'\n".to_vec(),
            "78: | contexts.toml | missing field `admin`",
        ),
        ("a current one that is not there", b"current = 'a'".to_vec(), "78: | there is no context a"),
        (
            "certificates that are not there",
            format!("current = 'a'\n{context}").into_bytes(),
            "78: | /nowhere",
        ),
        ("no contexts", b"".to_vec(), "78: | there is no current context"),
    ];
    door.walk(rows, |text| {
        fs::write(home.join("contexts.toml"), text).unwrap();
        command::run(door.broker.command().env("TIDEMILL_HOME", &home).args(["topic", "list"]))
    });
}
