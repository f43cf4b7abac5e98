//! kcat, over plain TCP: a client of Kafka that knows nothing of Tidemill.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::{broker, consume, produce, values};

/// What Debian's kcat can compress with.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

pub fn kcat(address: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("kcat");
    command.args(["-b", address, "-X", "broker.address.family=v4"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kcat is installed: apt-get install kcat");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "kcat {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_either_writes_the_other_reads() {
    let (_folder, broker) = broker(&["listen.tcp=127.0.0.1:0"]);
    let tcp = broker.address("tcp").unwrap();
    broker.run(&["topic", "create", "orders", "--partitions", "4"]).unwrap();

    let mut expected = Vec::new();
    for codec in CODECS {
        for idempotent in ["enable.idempotence=true", "enable.idempotence=false"] {
            let lines: Vec<_> = (0..100).map(|n| format!("{codec} {idempotent} {n}")).collect();
            let keyed: String = lines.iter().enumerate().map(|(n, line)| format!("k{n}:{line}\n")).collect();
            let arguments = ["-P", "-t", "orders", "-K", ":", "-z", codec, "-X", idempotent, "-H", "by=kcat"];
            kcat(tcp, &arguments, &keyed);
            expected.extend(lines);
        }
    }
    let found = consume(&broker, "orders");
    expected.sort();
    assert_eq!(values(&found), expected);
    assert!(found.iter().all(|record| record["headers"][0]["by"] == "kcat"));

    produce(&broker, &["orders", "--header", "by=tidemill"], "ours 1\nours 2\n");
    expected.extend(["ours 1".into(), "ours 2".into()]);
    expected.sort();
    let printed = kcat(tcp, &["-C", "-t", "orders", "-o", "beginning", "-e", "-q", "-f", "%s\n"], "");
    let mut read: Vec<_> = printed.lines().collect();
    read.sort_unstable();
    assert_eq!(read, expected);
}

#[test]
fn it_finds_topics_times_and_the_address_it_asked() {
    let (_folder, broker) = broker(&["listen.tcp=127.0.0.1:0"]);
    let tcp = broker.address("tcp").unwrap();
    broker.run(&["topic", "create", "orders"]).unwrap();
    let line = |day| format!("{{\"at\":\"2017-01-0{day}T00:00:00Z\"}}\n");
    produce(&broker, &["orders", "--timestamp", "at"], &(1..=5).map(line).collect::<String>());

    let metadata = kcat(tcp, &["-L"], "");
    assert!(metadata.contains(&format!("at {tcp}")), "{metadata}");
    assert!(metadata.contains("topic \"orders\" with 1 partitions"), "{metadata}");
    // 2017-01-04T00:00:00Z, in milliseconds.
    let from = kcat(tcp, &["-C", "-t", "orders", "-o", "s@1483488000000", "-e", "-q", "-f", "%o\n"], "");
    assert_eq!(from, "3\n4\n");
    assert_eq!(kcat(tcp, &["-C", "-t", "orders", "-o", "-1", "-e", "-q", "-f", "%o\n"], ""), "4\n");
}
