//! What rows share: a broker as a process of its own, a client of it, topics, and bytes to send.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use bytes::Bytes;
use tidemill_client::{Client, Config, Moment, Partition, Record, Tls};
use tokio::runtime::Runtime;
use xtask::process::Broker;

/// Bytes of a record's value; it has no key and no headers.
pub const RECORD_BYTES: usize = 1_024;
/// Records of a batch, where batches are meant.
pub const BATCH_RECORDS: u64 = 1_000;
/// The partition that is measured: topics here have one.
pub const PARTITION: Partition = Partition(0);

/// See the module.
pub struct Stage<'a> {
    /// What futures of this process run on.
    pub runtime: &'a Runtime,
    /// The broker.
    pub broker: Broker,
    /// A client of it.
    pub client: Client,
    components: PathBuf,
    values: Bytes,
    begun_ms: i64,
}

impl<'a> Stage<'a> {
    /// Starts a broker in `folder`, and connects to it.
    pub fn set(
        runtime: &'a Runtime,
        program: &Path,
        components: &Path,
        folder: &Path,
    ) -> anyhow::Result<Stage<'a>> {
        let broker = Broker::start(program, folder, &[])?;
        let files = folder.join("data/client");
        let tls =
            Tls::from_files(files.join("ca.pem"), files.join("client.pem"), files.join("client-key.pem"))?;
        let address = broker.address("quic").context("an address for clients")?.to_owned();
        let client = runtime.block_on(Client::connect(Config::new([address], tls)))?;
        let begun_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        Ok(Stage { runtime, broker, client, components: components.to_owned(), values: values(), begun_ms })
    }

    /// Lets the client go and stops the broker.
    pub fn clear(self) -> anyhow::Result<()> {
        let Stage { runtime, mut broker, client, .. } = self;
        runtime.block_on(client.close());
        let status = broker.stop()?;
        ensure!(status.success(), "on SIGTERM the broker ended with {status}");
        Ok(())
    }

    /// The folder of the broker, on the disk that is measured; what a row puts there goes with it.
    pub fn folder(&self) -> &Path {
        self.broker.folder()
    }

    /// The folder that the broker keeps its data in.
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// The folder with the plugins, built.
    pub fn components(&self) -> &Path {
        &self.components
    }

    /// Makes a topic of one partition; those of one `affinity` lie in one shard.
    pub fn topic(&self, name: &str, affinity: &str) -> anyhow::Result<Arc<str>> {
        self.broker.run(&["topic", "create", name, "--partitions", "1", "--affinity", affinity])?;
        Ok(name.into())
    }

    /// The shard that a topic's partition lies in.
    pub fn shard(&self, topic: &str) -> anyhow::Result<u64> {
        let described = self.broker.json(&["topic", "describe", topic])?;
        described["state"][0]["shard"].as_u64().context("the shard of a partition")
    }

    /// The first offset of a topic that is not committed.
    pub async fn end(&self, topic: &str) -> anyhow::Result<u64> {
        let found = self.client.admin().offsets(&[(topic, PARTITION, Moment::End)]).await;
        let end = found.into_iter().next().context("an answer")??;
        Ok(end.context("an end")?.0)
    }

    /// A value; neighbours differ.
    pub fn value(&self, number: u64) -> Bytes {
        let at = (number as usize).wrapping_mul(97) % (self.values.len() - RECORD_BYTES);
        self.values.slice(at..at + RECORD_BYTES)
    }

    /// A record for a topic's only partition; all have one time.
    pub fn record(&self, topic: &Arc<str>, number: u64) -> Record {
        let record = Record::to(topic.clone()).partition(PARTITION).timestamp_ms(self.begun_ms);
        record.value(self.value(number))
    }
}

/// What values are cut from: bytes that follow from nothing but their place.
fn values() -> Bytes {
    let bytes = |n: u32| (n.wrapping_mul(0x9e37_79b9) ^ (n >> 3)).to_be_bytes()[0];
    (0..64 * RECORD_BYTES as u32).map(bytes).collect()
}
