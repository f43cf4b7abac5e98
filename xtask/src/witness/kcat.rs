//! The witness with kcat, which is a shell's librdkafka: it makes no topics and commits nothing without a group, and
//! what it writes has the time of its writing.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::judge::{RECORDS, filling};

/// Writes, reads, and looks for offsets by time.
///
/// # Errors
/// When kcat fails.
pub fn first(address: &str, name: &str, time: i64) -> anyhow::Result<Vec<Value>> {
    let mut said = Vec::new();
    let wrote = format!("{name}-wrote");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for kind in ["0", "1", "all", "idempotent"] {
            let case = format!("{codec}/{kind}");
            write(address, &wrote, name, &case, codec, kind)?;
            said.push(json!({
                "did": "sent", "case": case, "codec": codec, "idempotent": kind == "idempotent", "plain": true,
            }));
        }
    }
    for topic in ["ours", &wrote] {
        let read = kcat(address, &["-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J"], "")?;
        for line in read.lines() {
            said.push(record(&serde_json::from_str(line).with_context(|| line.to_owned())?));
        }
    }
    let look = |time: i64| -> anyhow::Result<Vec<Value>> {
        (0..4).map(|partition| Ok(json!([partition, offset(address, partition, time)?]))).collect()
    };
    let (earliest, latest, at) = (look(-2)?, look(-1)?, look(time)?);
    said.push(json!({ "did": "looked", "earliest": earliest, "latest": latest, "at": at }));
    Ok(said)
}

fn write(address: &str, topic: &str, name: &str, case: &str, codec: &str, kind: &str) -> anyhow::Result<()> {
    let mut lines = String::new();
    for n in 0..RECORDS {
        // With -Z, what is empty is null.
        let key = if n % 5 == 1 { String::new() } else { format!("k{n}") };
        let value = if n % 5 == 2 { String::new() } else { format!("{case} {n}{}", filling()) };
        writeln!(lines, "{key}:{value}")?;
    }
    let acks = if kind == "idempotent" { "all" } else { kind };
    let (by, acks) = (format!("by={name}"), format!("acks={acks}"));
    let idempotent = format!("enable.idempotence={}", kind == "idempotent");
    let case = format!("case={case}");
    let settings = ["-X", &acks, "-X", &idempotent, "-X", "partitioner=murmur2_random"];
    let headers = ["-H", &by, "-H", "by=again", "-H", &case, "-H", "nothing"];
    kcat(
        address,
        &[&["-P", "-t", topic, "-K", ":", "-Z", "-z", codec][..], &settings, &headers].concat(),
        &lines,
    )?;
    Ok(())
}

/// A record as the other witnesses print it.
fn record(line: &Value) -> Value {
    let headers = line["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let headers: Vec<_> = headers.chunks(2).map(|pair| json!(pair)).collect();
    json!({
        "did": "read", "topic": line["topic"], "partition": line["partition"], "offset": line["offset"],
        "timestamp": line["ts"], "key": line["key"], "value": line["payload"], "headers": headers,
    })
}

fn offset(address: &str, partition: u32, time: i64) -> anyhow::Result<i64> {
    let printed = kcat(address, &["-Q", "-t", &format!("ours:{partition}:{time}")], "")?;
    let offset = printed.trim().rsplit(' ').next().and_then(|offset| offset.parse().ok());
    offset.with_context(|| format!("an offset: {printed}"))
}

fn kcat(address: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut command = Command::new("kcat");
    command.args(["-b", address, "-X", "broker.address.family=v4"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("kcat: apt-get install kcat")?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kcat {arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}
