//! A producer of orders that outlives its broker: idempotent, with batches in flight, and with a memory of what it was
//! told.
//!
//! It is the only one that writes to the topic, so the offset of each record is its sequence: an acknowledgement that
//! names another offset is wrong by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidemill_core::seams::BoxFuture;
use tidemill_host::addresses::Transport;
use tidemill_host::broker::Broker;
use tidemill_host::requests::{Begun, Session};
use tidemill_protocol::api::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidemill_protocol::api::messages::{InitProducerIdRequest, ProduceRequest, TopicName};
use tidemill_protocol::api::{Envelope, Request, Response, StrBytes, decode_response, encode_request};
use tidemill_protocol::batch::BatchBuilder;
use tidemill_protocol::codec::Codec;
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{Partition, ProducerEpoch, ProducerId, Sequence};
use tidemill_sim::chance::SimChance;

use crate::chain::{ORDERS, Order, PARTITIONS};
use crate::story::Broken;

/// Batches of one partition in flight at once: as many as a broker recognises when they are sent again.
const IN_FLIGHT_MAX: usize = 5;
/// Orders in one batch, at most.
const BATCH_ORDERS_MAX: u64 = 4;
const PRODUCE_VERSION: i16 = 9;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
const TIMEOUT_MS: i32 = 30_000;

/// The producer.
#[derive(Default)]
pub struct Producer {
    id: Option<ProducerId>,
    /// Good answers heard.
    pub heard: Arc<AtomicU64>,
    lanes: [Lane; PARTITIONS as usize],
}

/// One partition.
#[derive(Default)]
struct Lane {
    /// Every order ever handed over, by its sequence.
    handed: Vec<Order>,
    /// What was acknowledged: all of them below this sequence.
    acknowledged: usize,
    /// Batches that are not acknowledged, in the order of their sequences.
    open: VecDeque<Open>,
}

struct Open {
    sequence: usize,
    records: usize,
    batch: Bytes,
    is_in_flight: bool,
    is_acknowledged: bool,
}

type Answer = BoxFuture<(usize, usize, Response)>;

impl Producer {
    /// Takes an id, if it has none.
    pub async fn begin(&mut self, broker: &Broker) -> Result<(), Broken> {
        if self.id.is_some() {
            return Ok(());
        }
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        match ask(broker, INIT_PRODUCER_ID_VERSION, Request::InitProducerId(request)).await.await {
            Response::InitProducerId(given) if given.error_code == 0 => {
                self.id = Some(ProducerId(given.producer_id.0));
                Ok(())
            }
            // The power is about to be off.
            Response::InitProducerId(refused) if is_passing(refused.error_code) => {
                std::future::pending().await
            }
            other => Err(Broken::Refused(format!("{other:?}"))),
        }
    }

    /// Takes over orders, to be sent in batches.
    pub fn hand_over(&mut self, orders: &[Order], chance: &SimChance) {
        let id = self.id.expect("it has begun");
        let mut gathering: [Vec<&Order>; PARTITIONS as usize] = Default::default();
        for order in orders {
            let number = order.partition.0 as usize;
            gathering[number].push(order);
            let is_full = gathering[number].len() as u64 > chance.between(0, BATCH_ORDERS_MAX);
            if is_full {
                self.lanes[number].add(id, &std::mem::take(&mut gathering[number]));
            }
        }
        for (lane, rest) in self.lanes.iter_mut().zip(&gathering) {
            lane.add(id, rest);
        }
    }

    /// Sends all that is open, again where need be, until it is acknowledged.
    pub async fn flush(&mut self, broker: &Broker) -> Result<(), Broken> {
        // Nothing of an earlier life is in flight any more.
        self.lanes.iter_mut().flat_map(|lane| &mut lane.open).for_each(|open| open.is_in_flight = false);
        let mut answers: FuturesUnordered<Answer> = FuturesUnordered::new();
        loop {
            for number in 0..self.lanes.len() {
                self.send(broker, number, &answers).await;
            }
            match answers.next().await {
                Some((number, sequence, response)) => {
                    if self.lanes[number].hear(number, sequence, response)? {
                        self.heard.fetch_add(1, Relaxed);
                    }
                }
                None if self.lanes.iter().all(|lane| lane.open.is_empty()) => return Ok(()),
                // The power is off; if it is not, the story finds itself stuck here.
                None => std::future::pending().await,
            }
        }
    }

    async fn send(&mut self, broker: &Broker, number: usize, answers: &FuturesUnordered<Answer>) {
        for open in self.lanes[number].open.iter_mut().take(IN_FLIGHT_MAX) {
            if open.is_in_flight || open.is_acknowledged {
                continue;
            }
            open.is_in_flight = true;
            let (sequence, request) = (open.sequence, request(number, open.batch.clone()));
            let answer = ask(broker, PRODUCE_VERSION, request).await;
            answers.push(Box::pin(async move { (number, sequence, answer.await) }));
        }
    }

    /// How many orders were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.lanes.iter().map(|lane| lane.acknowledged).sum()
    }

    /// The orders of a partition that were acknowledged: each at the offset that is its place here.
    pub fn acknowledged_of(&self, partition: Partition) -> &[Order] {
        let lane = &self.lanes[partition.0 as usize];
        &lane.handed[..lane.acknowledged]
    }
}

impl Lane {
    fn add(&mut self, id: ProducerId, orders: &[&Order]) {
        if orders.is_empty() {
            return;
        }
        let sequence = self.handed.len();
        let mut builder = BatchBuilder::new(Codec::Lz4);
        for order in orders {
            builder
                .push(order.timestamp_ms, Some(order.key.as_bytes()), Some(order.line.as_bytes()), &[])
                .unwrap();
        }
        builder.producer(id, ProducerEpoch(0), Sequence(sequence as i32));
        self.handed.extend(orders.iter().copied().cloned());
        self.open.push_back(Open {
            sequence,
            records: orders.len(),
            batch: builder.build().unwrap(),
            is_in_flight: false,
            is_acknowledged: false,
        });
    }

    /// Takes an answer; false when it says nothing.
    fn hear(&mut self, number: usize, sequence: usize, response: Response) -> Result<bool, Broken> {
        let Response::Produce(response) = response else {
            return Err(Broken::Refused(format!("{response:?}")));
        };
        let answer = &response.responses[0].partition_responses[0];
        if is_passing(answer.error_code) {
            return Ok(false);
        }
        if answer.error_code != 0 || answer.base_offset != sequence as i64 {
            return Err(Broken::Refused(format!(
                "partition {number}, sequence {sequence}, {} acknowledged: {} at offset {}",
                self.acknowledged,
                ErrorCode(answer.error_code),
                answer.base_offset
            )));
        }
        let open = self.open.iter_mut().find(|open| open.sequence == sequence);
        open.expect("it is acknowledged once").is_acknowledged = true;
        while let Some(first) = self.open.pop_front_if(|first| first.is_acknowledged) {
            self.acknowledged = first.sequence + first.records;
        }
        Ok(true)
    }
}

/// Whether a broker says this of a request on which another try may do better, as it does when its disk is gone.
pub fn is_passing(code: i16) -> bool {
    ErrorCode(code).is_retriable()
}

fn request(partition: usize, batch: Bytes) -> Request {
    let data = PartitionProduceData::default().with_index(partition as i32).with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str(ORDERS)))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS);
    Request::Produce(request.with_topic_data(vec![topic]))
}

/// Begins a request; what is returned waits for its answer.
pub async fn ask(broker: &Broker, version: i16, request: Request) -> BoxFuture<Response> {
    let key = request.spoken().key;
    let envelope = Envelope { key, version, correlation_id: 1, client_id: None };
    let frame = encode_request(&envelope, &request).unwrap();
    let requests = Arc::clone(&broker.requests);
    let Begun::Answer(answer) = requests.begin(&Session::of(Transport::Quic), frame).await else {
        panic!("a request with an answer was begun")
    };
    Box::pin(async move {
        let frame: Vec<u8> = answer.parts.await.expect("every answer can be written").concat();
        decode_response(key, version, Bytes::from(frame)).unwrap()
    })
}
