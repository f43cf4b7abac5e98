//! The order chain: setting it to run on a broker, and checking what came of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use order_chain_oracle::{Config, Rec};
use serde_json::Value;

use crate::places;
use crate::process::Broker;

/// The topics of the chain, and its plugins.
pub const PLUGINS: [&str; 13] = [
    "order-lines",
    "inventory",
    "procurement",
    "payment",
    "fulfillment",
    "loyalty",
    "email",
    "store-orders",
    "analytics",
    "supplier",
    "storefront",
    "promotion",
    "fraud",
];
/// The topic that orders are produced to.
pub const ORDERS: &str = "customer-orders";

/// What the checks found of a chain that came to rest.
pub struct Proof {
    /// What `plugin verify` printed.
    pub verified: Value,
    /// Records of each topic.
    pub records: BTreeMap<String, usize>,
}

/// The folder of the example.
pub fn folder() -> PathBuf {
    places::repository().join("examples/order-chain")
}

/// The sample of orders.
pub fn sample() -> PathBuf {
    folder().join("orders-2k.jsonl.zst")
}

/// Makes the chain's topics and deploys its plugins.
///
/// # Errors
/// When the broker refuses.
pub fn apply(broker: &Broker) -> anyhow::Result<String> {
    let components = places::components();
    let components = components.to_str().context("a path")?;
    let folder = folder();
    broker.run(&["apply", folder.to_str().context("a path")?, "--components", components])
}

/// Proves that what came of the first `orders` lines of a file is right: by the checker, step by step, and by the
/// oracle, which knows what the chain means.
///
/// # Errors
/// With what is wrong.
pub fn prove(broker: &Broker, file: &Path, orders: u64) -> anyhow::Result<Proof> {
    let export = broker.folder().join("history");
    let verified = broker.json(&["plugin", "verify", "--export", export.to_str().context("a path")?])?;
    ensure!(verified["pending"] == 0, "some batches are still on their way: {verified}");
    ensure!(verified["crossed"].as_u64() > Some(0), "no batch crossed shards: {verified}");
    let mut topics = BTreeMap::new();
    for entry in std::fs::read_dir(&export)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).context("a topic's name")?.to_owned();
        topics.insert(name, read_topic(&path)?);
    }
    for (topic, records) in topics.iter().filter(|(topic, _)| topic.ends_with(".dead-letter")) {
        ensure!(records.is_empty(), "{topic} holds {} records", records.len());
    }
    // What plugins log is not of the chain.
    topics.retain(|topic, _| !topic.ends_with(".dead-letter") && !topic.ends_with(".log"));
    let records = topics.iter().map(|(topic, records)| (topic.clone(), records.len())).collect();
    let config = configuration(broker)?;
    let violations = order_chain_oracle::check(head(file, orders)?, &config, topics);
    if violations.is_empty() {
        return Ok(Proof { verified, records });
    }
    let shown: Vec<_> = violations.iter().take(10).map(ToString::to_string).collect();
    bail!("the oracle finds {} violations:\n{}", violations.len(), shown.join("\n"))
}

/// The numbers that the chain's plugins are configured with, as the broker has them.
fn configuration(broker: &Broker) -> anyhow::Result<Config> {
    let mut values = BTreeMap::new();
    for plugin in PLUGINS {
        let described = broker.json(&["plugin", "describe", plugin])?;
        let config = described["deployment"]["spec"]["config"].as_object().context("a configuration")?;
        for (key, value) in config {
            values.insert(format!("{plugin}.{key}"), value.as_str().context("a text")?.to_owned());
        }
    }
    Config::from_values(&values).map_err(|error| anyhow!(error))
}

fn read_topic(path: &Path) -> anyhow::Result<Vec<Rec>> {
    let mut records = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let number = |value: &Value| value.as_u64().context("a number");
        let bytes = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
        let parent = match &line["parent"] {
            Value::Null => None,
            parent => Some((
                parent["topic"].as_str().context("a topic")?.to_owned(),
                number(&parent["partition"])? as u32,
                number(&parent["offset"])?,
            )),
        };
        records.push(Rec {
            partition: number(&line["partition"])? as u32,
            offset: number(&line["offset"])?,
            key: bytes(&line["key"]),
            value: bytes(&line["value"]),
            parent,
        });
    }
    Ok(records)
}

/// The first lines of a file of orders.
///
/// # Errors
/// When it cannot be read.
pub fn head(file: &Path, orders: u64) -> anyhow::Result<impl BufRead> {
    let mut lines = Vec::new();
    for line in reader(file)?.lines().take(usize::try_from(orders)?) {
        writeln!(lines, "{}", line?)?;
    }
    Ok(std::io::Cursor::new(lines))
}

/// How many orders a file holds.
///
/// # Errors
/// When it cannot be read.
pub fn count(file: &Path) -> anyhow::Result<u64> {
    let mut count = 0;
    for line in reader(file)?.lines() {
        count += u64::from(!line?.is_empty());
    }
    Ok(count)
}

fn reader(file: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    let shown = || file.display().to_string();
    let opened = File::open(file).with_context(shown)?;
    Ok(if file.extension().is_some_and(|extension| extension == "zst") {
        Box::new(BufReader::new(zstd::stream::read::Decoder::new(opened).with_context(shown)?))
    } else {
        Box::new(BufReader::new(opened))
    })
}
