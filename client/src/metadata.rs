//! What is known of topics and brokers: which partitions there are, and who leads them.
//!
//! Asked for when needed, kept for a while, and asked for again when something shows that it is old: whoever meets
//! such a thing says from when on it must be newer. One question about a topic serves all who wait for it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tidemill_protocol::api::messages::metadata_request::MetadataRequestTopic;
use tidemill_protocol::api::messages::metadata_response::MetadataResponseTopic;
use tidemill_protocol::api::messages::{MetadataRequest, MetadataResponse, TopicName};
use tidemill_protocol::api::{Request, Response, StrBytes};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{Partition, TopicId};

use crate::client::{Core, Patience};
use crate::config::Address;
use crate::error::Error;
use crate::runtime::{self, Instant};

/// A topic, as a broker described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id for its whole life: one deleted and made again is another.
    pub id: TopicId,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionState>,
}

/// A partition, as a broker described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// The number of the broker that leads it, if any does.
    pub leader: Option<i32>,
    /// The leader's epoch; -1 when it is not known.
    pub leader_epoch: i32,
    /// What is the matter with it, if anything.
    pub error: Option<Error>,
}

/// What is known.
#[derive(Default)]
pub(crate) struct Metadata {
    known: RwLock<Known>,
    /// Held by whoever asks.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    topics: BTreeMap<Arc<str>, (Instant, Arc<Topic>)>,
    brokers: BTreeMap<i32, Address>,
    controller: Option<i32>,
}

impl Metadata {
    /// A topic, if it is known and what is known is no older than `age`.
    pub(crate) fn cached(&self, topic: &str, age: Duration) -> Option<Arc<Topic>> {
        let known = self.read();
        let (asked, topic) = known.topics.get(topic)?;
        (asked.elapsed() <= age).then(|| topic.clone())
    }

    pub(crate) fn brokers(&self) -> Vec<Address> {
        self.read().brokers.values().cloned().collect()
    }

    /// The broker that is to be asked to change things, if it is known.
    pub(crate) fn controller(&self) -> Option<Address> {
        let known = self.read();
        known.controller.and_then(|id| known.brokers.get(&id).cloned())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn newer_than(&self, topic: &str, moment: Instant) -> Option<Arc<Topic>> {
        let known = self.read();
        known.topics.get(topic).filter(|(asked, _)| *asked >= moment).map(|(_, topic)| topic.clone())
    }

    fn take(&self, asked: Instant, answer: &MetadataResponse, topics: &[Topic]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.controller = Some(answer.controller_id.0).filter(|id| *id >= 0);
        known.brokers = answer
            .brokers
            .iter()
            .filter_map(|broker| {
                let port = u16::try_from(broker.port).ok()?;
                Some((broker.node_id.0, Address { host: broker.host.to_string(), port }))
            })
            .collect();
        for topic in topics {
            known.topics.insert(topic.name.clone(), (asked, Arc::new(topic.clone())));
        }
    }
}

impl Core {
    /// A topic as it was at `moment` or later.
    ///
    /// # Errors
    /// When no broker answers, or when there is no such topic; once.
    pub(crate) async fn topic_since(&self, name: &str, moment: Instant) -> Result<Arc<Topic>, Error> {
        if let Some(topic) = self.metadata.newer_than(name, moment) {
            return Ok(topic);
        }
        let _asking = self.metadata.asking.lock().await;
        if let Some(topic) = self.metadata.newer_than(name, moment) {
            return Ok(topic);
        }
        let mut found = self.describe(Some(&[name])).await?;
        found
            .pop()
            .unwrap_or_else(|| Err(Error::unanswered("the broker's answer lacks the topic")))
            .map(Arc::new)
    }

    /// A topic, as far as it is known, and not older than may be. Waits a while for one that is not there yet.
    ///
    /// # Errors
    /// When no broker answers in time, or when there is no such topic.
    pub(crate) async fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        if let Some(topic) = self.metadata.cached(name, self.config.metadata_age) {
            return Ok(topic);
        }
        let mut unreachable = Patience::new(self.config.request_timeout);
        let mut unknown = Patience::new(self.config.topic_patience);
        loop {
            match self.topic_since(name, runtime::now()).await {
                Err(error) if error.is(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => unknown.wait(error).await?,
                Err(error) if error.retriable => unreachable.wait(error).await?,
                found => return found,
            }
        }
    }

    /// Where the leader of a partition is, by what was known at `moment` or later.
    ///
    /// # Errors
    /// When it is not known just now, or there is no such partition.
    pub(crate) async fn leader(
        &self,
        topic: &str,
        partition: Partition,
        moment: Option<Instant>,
    ) -> Result<Address, Error> {
        let found = match moment {
            Some(moment) => self.topic_since(topic, moment).await?,
            None => self.topic(topic).await?,
        };
        let missing = || {
            Error::told(
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Some(&format!("{topic} has no partition {}", partition.0)),
            )
        };
        let state = found.partitions.get(partition.0 as usize).ok_or_else(missing)?;
        let leaderless = || {
            let error = state.error.clone();
            error.unwrap_or_else(|| Error::told(ErrorCode::LEADER_NOT_AVAILABLE, None))
        };
        let leader = state.leader.ok_or_else(leaderless)?;
        let known = self.metadata.read();
        known.brokers.get(&leader).cloned().ok_or_else(leaderless)
    }

    /// Asks some broker once about some topics, or about all.
    ///
    /// # Errors
    /// When it does not answer; each topic has its own.
    pub(crate) async fn describe(&self, names: Option<&[&str]>) -> Result<Vec<Result<Topic, Error>>, Error> {
        let asked = runtime::now();
        let topics = names.map(|names| names.iter().map(|name| named(name)).collect());
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
        let live = self.any().await?;
        let answer = live.call(&Request::Metadata(request), Duration::ZERO).await?;
        let Response::Metadata(answer) = answer else {
            return Err(Error::unanswered("the broker answered another question"));
        };
        let found: Vec<_> = answer.topics.iter().map(read).collect();
        let good: Vec<_> = found.iter().filter_map(|topic| topic.as_ref().ok().cloned()).collect();
        self.metadata.take(asked, &answer, &good);
        Ok(found)
    }
}

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
}

fn read(topic: &MetadataResponseTopic) -> Result<Topic, Error> {
    let name: Arc<str> = topic.name.as_ref().map_or("", |name| name.0.as_str()).into();
    let code = ErrorCode(topic.error_code);
    if code.is_error() {
        return Err(Error::told(code, Some(&format!("topic {name}: {}", code.row().meaning))));
    }
    let absent = || PartitionState {
        leader: None,
        leader_epoch: -1,
        error: Some(Error::told(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None)),
    };
    // Brokers number partitions from 0 without gaps, but not always in order.
    let mut partitions = vec![absent(); topic.partitions.len()];
    for partition in &topic.partitions {
        let code = ErrorCode(partition.error_code);
        let place = usize::try_from(partition.partition_index).ok().and_then(|i| partitions.get_mut(i));
        if let Some(place) = place {
            *place = PartitionState {
                leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
                leader_epoch: partition.leader_epoch,
                error: code.is_error().then(|| Error::told(code, None)),
            };
        }
    }
    Ok(Topic { name, id: TopicId(*topic.topic_id.as_bytes()), partitions })
}
