//! A consumer of everything that outlives its broker: what it was shown once must lie there ever after, byte for byte.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tidemill_core::catalog;
use tidemill_host::broker::Broker;
use tidemill_protocol::api::messages::fetch_request::{FetchPartition, FetchTopic};
use tidemill_protocol::api::messages::{FetchRequest, TopicName};
use tidemill_protocol::api::{Request, Response, StrBytes};
use tidemill_protocol::batch::{BatchHeader, split};
use tidemill_protocol::error::ErrorCode;
use tidemill_sim::chance::SimChance;

use crate::life::Life;
use crate::producer::{ask, is_passing};
use crate::story::Broken;

const FETCH_VERSION: i16 = 12;
/// Between two looks, at most: steps take about as long.
const PAUSE_US_MAX: u64 = 2_000;

/// The consumer.
#[derive(Default)]
pub struct Reader {
    shown: BTreeMap<(String, i32), Shown>,
}

/// What it was shown of a partition.
#[derive(Default)]
struct Shown {
    /// Batches, by their base offsets.
    batches: BTreeMap<u64, Bytes>,
    /// The first offset that it was not shown.
    next: u64,
}

impl Reader {
    /// Reads on until something is wrong.
    pub async fn watch(&mut self, broker: &Broker, life: &Life, chance: &SimChance) -> Broken {
        loop {
            if let Err(broken) = self.read(broker).await {
                return broken;
            }
            // Also between two moments of simulated time, and while the power goes off.
            match chance.between(0, PAUSE_US_MAX) {
                short if short < PAUSE_US_MAX / 2 => tokio::task::yield_now().await,
                pause => life.pause(Duration::from_micros(pause)).await,
            }
        }
    }

    /// Reads all that is shown now behind what it has; returns how many batches that were, and whether every partition
    /// answered.
    pub async fn read(&mut self, broker: &Broker) -> Result<(usize, bool), Broken> {
        let topics = catalog::topics(&broker.catalog.view())?.into_iter().map(|topic| {
            let partitions = (0..topic.partitions as i32).map(|partition| {
                let next = self.shown.get(&(topic.name.clone(), partition)).map_or(0, |shown| shown.next);
                FetchPartition::default()
                    .with_partition(partition)
                    .with_fetch_offset(next as i64)
                    .with_partition_max_bytes(i32::MAX)
            });
            let name = TopicName(StrBytes::from_string(topic.name.clone()));
            FetchTopic::default().with_topic(name).with_partitions(partitions.collect())
        });
        let request = FetchRequest::default().with_max_bytes(i32::MAX).with_topics(topics.collect());
        let answer = ask(broker, FETCH_VERSION, Request::Fetch(request)).await.await;
        let Response::Fetch(answer) = answer else { return Err(Broken::Refused(format!("{answer:?}"))) };
        let (mut count, mut is_whole) = (0, true);
        for topic in answer.responses {
            for partition in topic.partitions {
                let place = (topic.topic.to_string(), partition.partition_index);
                match ErrorCode(partition.error_code) {
                    ErrorCode::NONE => {}
                    ErrorCode::OFFSET_OUT_OF_RANGE => {
                        let (name, number) = place;
                        let end = partition.high_watermark;
                        return Err(Broken::Vanished(format!("{name}/{number} ends at {end} again")));
                    }
                    code if is_passing(code.0) => {
                        is_whole = false;
                        continue;
                    }
                    code => return Err(Broken::Refused(format!("a fetch of {place:?}: {code}"))),
                }
                let shown = self.shown.entry(place).or_default();
                for batch in split(partition.records.unwrap_or_default()).unwrap() {
                    let header = BatchHeader::parse(&batch).unwrap();
                    shown.next = header.next_offset().0;
                    shown.batches.insert(header.base_offset.0, batch);
                    count += 1;
                }
            }
        }
        Ok((count, is_whole))
    }

    /// Whether all that it was ever shown is there as it was.
    pub async fn finds_all(&self, broker: &Broker, life: &Life) -> Result<(), Broken> {
        let mut again = Reader::default();
        loop {
            match again.read(broker).await? {
                (0, true) => break,
                // The power is about to be off.
                (0, false) => life.pause(Duration::from_millis(1)).await,
                _ => {}
            }
        }
        for (place, shown) in &self.shown {
            for (offset, batch) in &shown.batches {
                let there = again.shown.get(place).and_then(|shown| shown.batches.get(offset));
                if there != Some(batch) {
                    let what = if there.is_some() { "is another" } else { "is gone" };
                    return Err(Broken::Vanished(format!("{}/{}: {offset} {what}", place.0, place.1)));
                }
            }
        }
        Ok(())
    }

    /// How many batches it was shown.
    pub fn batches(&self) -> usize {
        self.shown.values().map(|shown| shown.batches.len()).sum()
    }
}
