//! Describing a consumer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::ids::Partition;

use super::fetcher::Fetcher;
use super::state::Shared;
use super::{Consumer, Start, places};
use crate::client::Core;
use crate::error::Error;
use crate::limits::MIB;
use crate::runtime;

/// What to do where an offset is not there: the retention was faster, or it was never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutOfRange {
    /// Stop reading the partition, and say so.
    #[default]
    Fail,
    /// Go on with the first record that is there.
    Beginning,
    /// Go on with the next record that is written.
    End,
}

/// How a consumer fetches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub max_wait: Duration,
    pub prefetch_bytes: usize,
    pub fetch_bytes: usize,
    pub out_of_range: OutOfRange,
}

/// How a consumer is to work, and what it reads.
#[must_use = "it describes a consumer; build makes one"]
pub struct ConsumerBuilder {
    core: Arc<Core>,
    settings: Settings,
    reads: Vec<(String, Option<Partition>, Start)>,
}

impl ConsumerBuilder {
    pub(crate) fn new(core: Arc<Core>) -> ConsumerBuilder {
        let settings = Settings {
            max_wait: Duration::from_millis(500),
            prefetch_bytes: 32 * MIB,
            fetch_bytes: MIB,
            out_of_range: OutOfRange::Fail,
        };
        ConsumerBuilder { core, settings, reads: Vec::new() }
    }

    /// Reads all partitions of a topic.
    pub fn read(mut self, topic: impl Into<String>, start: Start) -> ConsumerBuilder {
        self.reads.push((topic.into(), None, start));
        self
    }

    /// Reads one partition of a topic.
    pub fn read_partition(
        mut self,
        topic: impl Into<String>,
        partition: Partition,
        start: Start,
    ) -> ConsumerBuilder {
        self.reads.push((topic.into(), Some(partition), start));
        self
    }

    /// How long a broker waits with its answer where there is nothing to read. Default: 500 ms. What is written
    /// meanwhile is sent at once.
    pub fn max_wait(mut self, wait: Duration) -> ConsumerBuilder {
        self.settings.max_wait = wait;
        self
    }

    /// Bytes that are fetched ahead, as brokers send them, exceeded by one batch for each question under way at most.
    /// Default: 32 MiB.
    pub fn prefetch_bytes(mut self, bytes: usize) -> ConsumerBuilder {
        self.settings.prefetch_bytes = bytes;
        self
    }

    /// Bytes of one partition that one answer may hold; a larger batch comes alone. Default: 1 MiB.
    pub fn fetch_bytes(mut self, bytes: usize) -> ConsumerBuilder {
        self.settings.fetch_bytes = bytes.max(1);
        self
    }

    /// What to do where an offset is not there. Default: [`OutOfRange::Fail`].
    pub fn out_of_range(mut self, policy: OutOfRange) -> ConsumerBuilder {
        self.settings.out_of_range = policy;
        self
    }

    /// Makes the consumer: finds where to begin in each partition, and begins to fetch.
    ///
    /// # Errors
    /// When there is no such partition, or when its start cannot be found.
    pub async fn build(self) -> Result<Consumer, Error> {
        let ConsumerBuilder { core, settings, reads } = self;
        let mut starts = Vec::new();
        for (topic, partition, start) in &reads {
            let places = places(&core, topic, *partition).await?;
            starts.extend(places.into_iter().map(|place| (place, *start)));
        }
        let shared = Arc::new(Shared::default());
        let mut consumer = Consumer { core: core.clone(), shared: shared.clone(), current: None };
        consumer.begin(&starts).await?;
        runtime::spawn(Fetcher::new(core, shared, settings).run());
        Ok(consumer)
    }
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("settings", &self.settings)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}
