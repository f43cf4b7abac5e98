//! Topics by name, remembered: every request names some.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tidemill_core::catalog::{self, TopicRow};
use tidemill_core::fault::Fault;
use tidemill_core::ids::ShardId;
use tidemill_core::tables::View;
use tidemill_protocol::ids::{Partition, TopicId, TopicPartition};

/// A topic, and where its partitions lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// As the catalog has it.
    pub row: TopicRow,
    /// The shard of each partition.
    pub shards: Vec<ShardId>,
}

impl Topic {
    /// One of its partitions and that partition's shard; `None` when it has fewer.
    pub fn partition(&self, number: i32) -> Option<(TopicPartition, ShardId)> {
        let partition = Partition(u32::try_from(number).ok()?);
        let shard = *self.shards.get(partition.0 as usize)?;
        Some((TopicPartition { topic: self.row.id, partition }, shard))
    }
}

/// What was looked up, until it changes.
#[derive(Debug, Default)]
pub struct TopicCache {
    names: RwLock<BTreeMap<(String, String), Arc<Topic>>>,
}

impl TopicCache {
    /// The topic of a name, from memory or from the catalog's tables.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn find(&self, view: &dyn View, tenant: &str, name: &str) -> Result<Option<Arc<Topic>>, Fault> {
        let key = (tenant.to_owned(), name.to_owned());
        if let Some(topic) = self.names.read().get(&key) {
            return Ok(Some(topic.clone()));
        }
        // The lock is held from the look at the tables on, so that a change in between is not passed over.
        let mut names = self.names.write();
        let Some(row) = catalog::topic(view, tenant, name)? else { return Ok(None) };
        let shards = catalog::shards_of(view, &row)?;
        let topic = Arc::new(Topic { row, shards });
        names.insert(key, topic.clone());
        Ok(Some(topic))
    }

    /// The topic changed: it will be looked up anew.
    pub fn forget(&self, topic: TopicId) {
        self.names.write().retain(|_, known| known.row.id != topic);
    }
}
