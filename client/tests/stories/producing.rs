//! Producing through cuts and restarts, to any broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidemill_client::{Acks, Client, Codec, Partition, Producer, Record, Start};
use tokio::task::JoinSet;

use crate::dice::Dice;
use crate::harness::{Harness, client_and_topic};
use crate::tally::{Counts, Tally};

const PARTITIONS: u32 = 4;
/// The limit of a batch into which one record of a tally fits, and no second.
pub const ONE_RECORD: usize = 130;

/// A producer that keeps many records under way, each in a batch of its own, until it is told to stop.
pub struct Torrent {
    task: tokio::task::JoinHandle<Tally>,
    stop: tokio::sync::watch::Sender<bool>,
    pub under_way: Arc<AtomicUsize>,
    pub done: Arc<AtomicUsize>,
}

impl Torrent {
    pub fn start(producer: Producer, topic: &'static str, most: usize, seed: u64) -> Torrent {
        let (under_way, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let (counter, ended) = (under_way.clone(), done.clone());
        let task = tokio::spawn(async move {
            let mut dice = Dice::new(seed);
            let mut tally = Tally::default();
            let mut waiting = JoinSet::new();
            while !*stopped.borrow() || !waiting.is_empty() {
                while !*stopped.borrow() && waiting.len() < most {
                    let partition = dice.below(u64::from(PARTITIONS)) as u32;
                    // Some that a broker may be told to refuse.
                    let bytes = if dice.permille(5) { 30 } else { 20 };
                    let (record, number) = tally.next(topic, partition, bytes);
                    let delivery = producer.send(record).await;
                    counter.fetch_add(1, Ordering::Relaxed);
                    waiting.spawn(async move { (partition, number, delivery.await) });
                }
                let Some(result) = waiting.join_next().await else { continue };
                let (partition, number, result) = result.unwrap();
                counter.fetch_sub(1, Ordering::Relaxed);
                ended.fetch_add(1, Ordering::Relaxed);
                tally.said(partition, number, result);
            }
            let report = producer.close(Duration::from_secs(10)).await;
            assert_eq!(report, Default::default(), "nothing is left");
            tally
        });
        Torrent { task, stop, under_way, done }
    }

    /// Waits until so many are under way, and so many more have ended.
    pub async fn wait(&self, under_way: usize, more: usize) {
        let done = self.done.load(Ordering::Relaxed) + more;
        let is_enough = || {
            self.under_way.load(Ordering::Relaxed) >= under_way && self.done.load(Ordering::Relaxed) >= done
        };
        for _ in 0..20_000 {
            if is_enough() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("it stands still: {:?} under way, {:?} done", self.under_way, self.done);
    }

    pub async fn stop(self) -> Tally {
        self.stop.send_replace(true);
        self.task.await.unwrap()
    }
}

/// Every record in a batch of its own, so that as many requests as records are under way.
pub async fn single_file(client: &Client) -> Producer {
    let builder =
        client.producer().linger(Duration::ZERO).batch_limit_bytes(ONE_RECORD).batch_target_bytes(1);
    builder.build().await.unwrap()
}

/// Cuts the connection `cuts` times with 1,000 requests under way.
pub async fn cuts(harness: &dyn Harness, cuts: usize, seed: u64) -> Counts {
    let client = client_and_topic(harness, "cuts", PARTITIONS).await;
    let torrent = Torrent::start(single_file(&client).await, "cuts", 1_200, seed);
    let mut dice = Dice::new(seed);
    for _ in 0..cuts {
        torrent.wait(1_000, dice.below(500) as usize).await;
        harness.cut(&client).await;
    }
    let counts = torrent.stop().await.check(&client, "cuts").await;
    client.close().await;
    counts
}

/// Restarts the broker `restarts` times under a producer.
pub async fn restarts(harness: &dyn Harness, restarts: usize, seed: u64) -> Counts {
    let client = client_and_topic(harness, "restarts", PARTITIONS).await;
    let torrent = Torrent::start(single_file(&client).await, "restarts", 1_200, seed);
    let mut dice = Dice::new(seed);
    for _ in 0..restarts {
        torrent.wait(500, 1 + dice.below(500) as usize).await;
        harness.restart().await;
    }
    let counts = torrent.stop().await.check(&client, "restarts").await;
    client.close().await;
    counts
}

/// Deliveries and sends that are dropped cancel nothing.
pub async fn dropped_futures(harness: &dyn Harness) {
    let client = client_and_topic(harness, "dropped", 1).await;
    let producer = client.producer().build().await.unwrap();
    for n in 0..500 {
        drop(producer.send(Record::to("dropped").value(format!("{n}"))).await);
    }
    // A send that is given up before it was accepted leaves nothing behind.
    let one = producer.free_bytes();
    let small = client.producer().buffer_bytes(300).linger(Duration::from_millis(50)).build().await.unwrap();
    let held = small.send(Record::to("dropped").value("5".repeat(3))).await;
    let big = "6".repeat(150);
    let waits = small.send(Record::to("dropped").value(big));
    assert!(tokio::time::timeout(Duration::from_millis(5), waits).await.is_err(), "there is no room for it");
    held.await.unwrap();
    assert_eq!(small.free_bytes(), 300);
    assert!(one <= producer.free_bytes());
    let report = producer.flush().await;
    assert!(report.is_clean());
    drop((producer, small));

    let mut consumer = client.consumer().read("dropped", Start::Beginning).build().await.unwrap();
    let mut found = Vec::new();
    while let Some(batch) = consumer.next_batch_before_end().await.unwrap() {
        found.extend(
            batch.records.into_iter().map(|record| String::from_utf8(record.value.unwrap().into()).unwrap()),
        );
    }
    found.retain(|value| value != "555");
    let expected: Vec<_> = (0..500).map(|n| n.to_string()).collect();
    assert_eq!(found, expected);
}

/// Batches of every codec come back as they were.
pub async fn codecs(harness: &dyn Harness) {
    let client = client_and_topic(harness, "codecs", 2).await;
    for codec in Codec::ALL {
        let producer = client.producer().codec(codec).build().await.unwrap();
        for n in 0..200 {
            let record = Record::to("codecs")
                .partition(Partition(1))
                .key(format!("{codec} {n}"))
                .value("x".repeat(n))
                .header("codec", codec.to_string())
                .timestamp_ms(n as i64);
            drop(producer.send(record).await);
        }
        assert!(producer.close(Duration::from_secs(10)).await.is_clean());
    }
    let mut consumer = client.consumer().read("codecs", Start::Beginning).build().await.unwrap();
    for codec in Codec::ALL {
        for n in 0..200 {
            let found = consumer.next_record().await.unwrap();
            assert_eq!(found.record.key.unwrap(), format!("{codec} {n}"));
            assert_eq!(found.record.value.unwrap().len(), n);
            assert_eq!(found.record.headers[0].value.as_ref().unwrap(), &codec.to_string());
            assert_eq!(found.record.timestamp_ms, n as i64);
        }
    }
    assert!(consumer.is_at_end());
}

/// Without acknowledgements, a peaceful network loses nothing, and a closed producer has sent everything.
pub async fn unacknowledged(harness: &dyn Harness) {
    let client = client_and_topic(harness, "unacknowledged", 2).await;
    let producer = client.producer().acks(Acks::None).build().await.unwrap();
    for n in 0..2_000 {
        let delivery = producer.send(Record::to("unacknowledged").key(format!("{n}")).value("x")).await;
        if n % 500 == 0 {
            assert_eq!(delivery.await.unwrap().offset, None);
        }
    }
    producer.close(Duration::from_secs(10)).await;
    client.close().await;
    let client = Client::connect(harness.config()).await.unwrap();
    let ends = client
        .admin()
        .offsets(&[0, 1].map(|n| ("unacknowledged", Partition(n), tidemill_client::Moment::End)))
        .await;
    let written: u64 = ends.into_iter().map(|end| end.unwrap().unwrap().0).sum();
    assert_eq!(written, 2_000);
}

/// Keys go where every client of Kafka sends them; records without a key are spread, in large batches.
pub async fn partitioning(harness: &dyn Harness) {
    let client = client_and_topic(harness, "partitioning", 8).await;
    let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
    for key in ["", "a", "customer-7", "ключ", "a-little-bit-long-string"] {
        let expected = tidemill_protocol::partitioner::partition_for_key(key.as_bytes(), 8);
        for _ in 0..3 {
            let receipt = producer.send(Record::to("partitioning").key(key).value("x")).await.await.unwrap();
            assert_eq!(receipt.partition, Partition(expected), "{key:?}");
        }
    }
    let mut seen = [0; 8];
    for _ in 0..200 {
        let receipt = producer.send(Record::to("partitioning").value("x")).await.await.unwrap();
        seen[receipt.partition.0 as usize] += 1;
    }
    assert!(seen.iter().filter(|times| **times > 0).count() >= 6, "{seen:?}");
    let beyond = producer.send(Record::to("partitioning").partition(Partition(8)).value("x")).await.await;
    assert!(beyond.unwrap_err().to_string().contains("UNKNOWN_TOPIC_OR_PARTITION"));
}
