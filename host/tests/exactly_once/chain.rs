//! The order chain, as it is given to a simulated broker: its topics, its plugins, its orders.
//!
//! Components are compiled once for the whole process, and run where instructions are counted: no clock and no other
//! program on this machine can decide what a step comes to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tidemill_checker::Scratch;
use tidemill_core::catalog::{self, DEFAULT_TENANT, TopicSettings};
use tidemill_core::ids::Digest;
use tidemill_core::manifest::Manifest;
use tidemill_core::seams::BoxFuture;
use tidemill_host::broker::{Broker, Tools};
use tidemill_host::components;
use tidemill_host::plugins::DeployError;
use tidemill_host::topics::{self, TopicRequest};
use tidemill_protocol::ids::Partition;
use tidemill_protocol::partitioner::partition_for_key;
use tidemill_runtime::{
    Artifact, CodeOptions, CompileError, Compiler, Metering, Plugin, Runtime, RuntimeOptions, compile,
};
use tidemill_sim::chance::SimChance;

use crate::life::Life;
use crate::picky;
use crate::story::Broken;

/// The topic that orders are produced to.
pub const ORDERS: &str = "customer-orders";
/// Its partitions.
pub const PARTITIONS: u32 = 4;
/// For how many milliseconds a plugin is paused, at most.
const PAUSED_MS_MAX: u64 = 2_000;

/// An order of the sample.
#[derive(Debug, Clone)]
pub struct Order {
    /// Its line of the file.
    pub line: String,
    /// Its key: the customer.
    pub key: String,
    /// The partition of that key.
    pub partition: Partition,
    /// When it was made, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// All that does not depend on a seed.
pub struct Chain {
    /// The sample of orders, in its order.
    pub orders: Vec<Order>,
    topics: Vec<Topic>,
    plugins: Vec<Ready>,
    picky: Ready,
    runtime: Runtime,
    compiler: Arc<Compiled>,
}

/// A plugin that can be deployed.
pub struct Ready {
    pub manifest: Manifest,
    pub component: Bytes,
    pub digest: Digest,
    plugin: Plugin,
}

/// The compiler of simulated brokers, who need not wait.
struct Compiled(BTreeMap<Digest, Artifact>);

impl Compiler for Compiled {
    fn compile(&self, component: Bytes) -> BoxFuture<Result<Artifact, CompileError>> {
        let artifact = self.0[&components::digest(&component)].clone();
        Box::pin(async move { Ok(artifact) })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicsFile {
    topic: Vec<Topic>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    pub name: String,
    pub partitions: u32,
    pub affinity: String,
}

#[derive(Deserialize)]
struct PluginsFile {
    plugins: Vec<PathBuf>,
}

/// The chain of this process.
pub fn chain() -> &'static Chain {
    static CHAIN: OnceLock<Chain> = OnceLock::new();
    CHAIN.get_or_init(Chain::read)
}

impl Chain {
    fn read() -> Chain {
        let code = CodeOptions { metering: Metering::Fuel, ..CodeOptions::default() };
        let runtime = Runtime::new(RuntimeOptions { instances: 64, code }).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/order-chain");
        let manifests = toml::<PluginsFile>(&folder.join("plugins.toml")).plugins;
        let (mut plugins, mut artifacts) = (Vec::new(), BTreeMap::new());
        let manifests = manifests.into_iter().map(|path| toml::<Manifest>(&folder.join(path)));
        for manifest in manifests.chain([picky::manifest()]) {
            let component = built(&manifest.component);
            let digest = components::digest(&component);
            let artifact = compile(&component, code).unwrap();
            let plugin = runtime.load(&artifact).unwrap();
            artifacts.insert(digest, artifact);
            plugins.push(Ready { manifest, component, digest, plugin });
        }
        let picky = plugins.pop().expect("it is the last");
        Chain {
            picky,
            orders: orders(&folder.join("orders-2k.jsonl.zst")),
            topics: toml::<TopicsFile>(&folder.join("topics.toml"))
                .topic
                .into_iter()
                .chain([picky::topic()])
                .collect(),
            plugins,
            runtime,
            compiler: Arc::new(Compiled(artifacts)),
        }
    }

    /// What a simulated broker runs plugins with.
    pub fn tools(&self) -> Tools {
        Tools { runtime: self.runtime.clone(), compiler: self.compiler.clone() }
    }

    /// What the checker runs steps again with.
    pub fn scratch(&self) -> Scratch {
        let plugins =
            self.plugins.iter().chain([&self.picky]).map(|ready| (ready.digest, ready.plugin.clone()));
        Scratch { runtime: self.runtime.clone(), plugins: plugins.collect(), bundles: BTreeMap::new() }
    }

    /// Makes the topics, as far as that is not done.
    pub async fn make_topics(&self, broker: &Broker) -> Result<(), Broken> {
        let fault = |error: &dyn std::fmt::Display| Broken::Fault(error.to_string());
        for topic in &self.topics {
            let known = catalog::topic(&broker.catalog.view(), DEFAULT_TENANT, &topic.name);
            if known.map_err(|error| fault(&error))?.is_some() {
                continue;
            }
            let wanted = TopicRequest {
                tenant: DEFAULT_TENANT.to_owned(),
                name: topic.name.clone(),
                partitions: topic.partitions,
                affinity: Some(topic.affinity.clone()),
                settings: TopicSettings::default(),
            };
            let made = topics::create(&broker.catalog, &broker.shards, &broker.world, &wanted).await;
            made.map_err(|error| fault(&error))?;
        }
        Ok(())
    }

    /// Makes the topics and deploys the plugins, as far as that is not done.
    pub async fn deploy(&self, broker: &Broker) -> Result<(), Broken> {
        let fault = |error: &dyn std::fmt::Display| Broken::Fault(error.to_string());
        self.make_topics(broker).await?;
        for Ready { manifest, component, digest, .. } in &self.plugins {
            broker.plugins.components.put(*digest, component).map_err(|error| fault(&error))?;
            let deployed = broker.plugins.deploy(DEFAULT_TENANT, manifest.clone(), *digest, false).await;
            // The power may have gone while it was paused.
            if deployed.map_err(|error| fault(&error))?.deployment.spec.paused {
                let resumed = broker.plugins.resume(DEFAULT_TENANT, &manifest.name, None).await;
                resumed.map_err(|error| fault(&error))?;
            }
        }
        picky::deploy(broker, picky::REJECTS_FIRST).await.map(drop)
    }

    /// The plugin that gives records up.
    pub fn picky(&self) -> &Ready {
        &self.picky
    }

    /// Changes a plugin while it works: deploys another version of it, or pauses it and has it go on. Says what.
    pub async fn disturb(&self, broker: &Broker, life: &Life, chance: &SimChance) -> Result<String, Broken> {
        if chance.happens(500) {
            return picky::disturb(broker, chance).await;
        }
        let fault = |error: DeployError| Broken::Fault(error.to_string());
        let Ready { manifest, digest, .. } =
            &self.plugins[chance.between(0, self.plugins.len() as u64) as usize];
        let name = &manifest.name;
        if chance.happens(500) {
            let mut other = manifest.clone();
            other.failure.attempts = chance.between(4, 9) as u32;
            let deployed =
                broker.plugins.deploy(DEFAULT_TENANT, other, *digest, false).await.map_err(fault)?;
            return Ok(format!("{name} is now generation {}", deployed.deployment.generation.0));
        }
        broker.plugins.pause(DEFAULT_TENANT, name).await.map_err(fault)?;
        life.pause(Duration::from_millis(chance.between(0, PAUSED_MS_MAX))).await;
        let resumed = broker.plugins.resume(DEFAULT_TENANT, name, None).await.map_err(fault)?;
        Ok(format!("{name} was paused, and goes on as generation {}", resumed.deployment.generation.0))
    }
}

/// A component that `cargo xtask plugins` built, from the folder that this test was built into.
fn built(file: &str) -> Bytes {
    let program = std::env::current_exe().unwrap();
    let folder = program.ancestors().map(|folder| folder.join("components")).find(|folder| folder.is_dir());
    let component = folder.and_then(|folder| std::fs::read(folder.join(file)).ok());
    component.unwrap_or_else(|| panic!("no {file}: run `cargo xtask plugins` first")).into()
}

fn toml<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn orders(path: &Path) -> Vec<Order> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Made {
        customer_id: String,
        timestamp: String,
    }
    let file = zstd::stream::read::Decoder::new(File::open(path).unwrap()).unwrap();
    let order = |line: String| {
        let Made { customer_id: key, timestamp } = serde_json::from_str(&line).unwrap();
        let made = humantime::parse_rfc3339(&timestamp).unwrap();
        let made = made.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let partition = Partition(partition_for_key(key.as_bytes(), PARTITIONS));
        Order { line, key, partition, timestamp_ms: made.as_millis() as i64 }
    };
    BufReader::new(file).lines().map(|line| order(line.unwrap())).collect()
}
