//! How fast it goes, client and fault broker sharing one machine: `cargo test --release -p tidemill-client --test
//! stories figures -- --ignored --nocapture`. The fault broker writes to memory and answers at once, so what is
//! measured is the client and QUIC.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidemill_client::{Client, Codec, Partition, ProducerBuilder, Record, Start};

use crate::fault_broker::FaultBroker;
use crate::harness::client_and_topic;

const KIB: usize = 1 << 10;
const TIME: Duration = Duration::from_secs(4);

/// Produces records of 1 KiB to one partition with `in_flight` of them under way; records a second, and the 50th and
/// 99th percentile of the time from send to receipt.
async fn produce(builder: ProducerBuilder, topic: &str, in_flight: usize) -> (f64, Duration, Duration) {
    let producer = builder.build().await.unwrap();
    let topic = std::sync::Arc::<str>::from(topic);
    // Not all alike, so that codecs have something to do, and not chance either.
    let text: Vec<u8> = (0..64 * KIB as u32).map(|n| b'a' + (n.wrapping_mul(n >> 3) % 17) as u8).collect();
    let text = bytes::Bytes::from(text);
    let (start, mut sent, mut took) = (Instant::now(), 0usize, Vec::new());
    let mut waiting = VecDeque::new();
    while start.elapsed() < TIME {
        let at = sent * 97 % (63 * KIB);
        let record = Record::to(topic.clone()).partition(Partition(0)).value(text.slice(at..at + KIB));
        let begun = Instant::now();
        waiting.push_back((begun, producer.send(record).await));
        sent += 1;
        if waiting.len() >= in_flight {
            // As a closed loop does: make room for the next hundredth.
            for _ in 0..(in_flight / 100).max(1) {
                let (begun, delivery) = waiting.pop_front().unwrap();
                delivery.await.unwrap();
                took.push(begun.elapsed());
            }
        }
    }
    assert!(producer.close(TIME).await.is_clean());
    let rate = sent as f64 / start.elapsed().as_secs_f64();
    took.sort();
    (rate, took[took.len() / 2], took[took.len() * 99 / 100])
}

async fn consume(client: &Client, topic: &str) -> f64 {
    let mut consumer = client.consumer().read(topic, Start::Beginning).build().await.unwrap();
    let (start, mut records) = (Instant::now(), 0);
    while let Some(batch) = consumer.next_batch_before_end().await.unwrap() {
        records += batch.records.len();
    }
    records as f64 / start.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn figures() {
    type Case = (&'static str, usize, fn(ProducerBuilder) -> ProducerBuilder);
    let cases: [Case; 8] = [
        ("one under way, no linger", 1, |builder| builder.linger(Duration::ZERO)),
        ("1,000 under way, each a batch", 1_000, |builder| builder.batch_limit_bytes(KIB + 200)),
        ("1,000 under way, defaults", 1_000, |builder| builder),
        ("1,000 under way, no linger", 1_000, |builder| builder.linger(Duration::ZERO)),
        ("1,000 under way, target 256 KiB", 1_000, |builder| builder.batch_target_bytes(256 * KIB)),
        ("20,000 under way, defaults", 20_000, |builder| builder),
        ("batches of 1,000, 8 under way", 8_000, |builder| {
            builder.batch_target_bytes(1_000 * (KIB + 10)).linger(Duration::from_millis(50))
        }),
        ("batches of 1,000 in lz4, 8 under way", 8_000, |builder| {
            builder.batch_target_bytes(1_000 * (KIB + 10)).linger(Duration::from_millis(50)).codec(Codec::Lz4)
        }),
    ];
    println!("| records of 1 KiB, one partition | records/s | p50 ms | p99 ms | consumed/s |");
    println!("|---|---|---|---|---|");
    for (name, in_flight, settle) in cases {
        let broker = FaultBroker::start(0);
        let client = client_and_topic(&broker, "figures", 1).await;
        let (rate, p50, p99) = produce(settle(client.producer()), "figures", in_flight).await;
        let consumed = consume(&client, "figures").await;
        let (p50, p99) = (p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3);
        println!("| {name} | {rate:.0} | {p50:.2} | {p99:.2} | {consumed:.0} |");
    }
}
