//! Producing to a broker that stalls, refuses, forgets, contradicts itself and dies: what is said of each record is
//! true, and what is not affected goes on.

use std::time::{Duration, Instant};

use tidemill_client::{Client, ErrorCode, Partition, Producer, Record, SendError, Start, TrySendError};
use tokio::task::JoinSet;

use crate::dice::{Dice, seed};
use crate::fault_broker::FaultBroker;
use crate::harness::{Harness, client_and_topic};
use crate::producing::{ONE_RECORD, Torrent, single_file};
use crate::tally::Tally;

const SECOND: Duration = Duration::from_secs(1);

/// Sends records and keeps what will be said of them.
struct Sent {
    topic: &'static str,
    tally: Tally,
    waiting: JoinSet<(u32, usize, Result<tidemill_client::Receipt, SendError>)>,
}

impl Sent {
    fn new(topic: &'static str) -> Sent {
        Sent { topic, tally: Tally::default(), waiting: JoinSet::new() }
    }

    async fn send(&mut self, producer: &Producer, partition: u32, bytes: usize) {
        let (record, number) = self.tally.next(self.topic, partition, bytes);
        let delivery = producer.send(record).await;
        self.waiting.spawn(async move { (partition, number, delivery.await) });
    }

    /// Waits for all that was sent.
    async fn settle(&mut self) {
        while let Some(said) = self.waiting.join_next().await {
            let (partition, number, result) = said.unwrap();
            self.tally.said(partition, number, result);
        }
    }
}

fn stall(broker: &FaultBroker, partition: i32) {
    broker.faults(|faults| faults.stalled.extend([partition]));
}

fn release(broker: &FaultBroker) {
    broker.faults(|faults| faults.stalled.clear());
}

async fn start(topic: &'static str, partitions: u32) -> (FaultBroker, Client) {
    let broker = FaultBroker::start(0);
    let client = client_and_topic(&broker, topic, partitions).await;
    (broker, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_wrong_at_once() {
    let seed = seed("everything_goes_wrong_at_once");
    let mut dice = Dice::new(seed);
    for round in 0..4 {
        let broker = FaultBroker::start(seed + round);
        let client = client_and_topic(&broker, "chaos", 4).await;
        let builder =
            client.producer().linger(Duration::ZERO).batch_limit_bytes(ONE_RECORD).batch_target_bytes(1);
        let builder = builder.delivery_deadline(Duration::from_millis(400)).doubt_patience(SECOND / 10);
        let torrent = Torrent::start(builder.build().await.unwrap(), "chaos", 1_200, seed + round);
        broker.faults(|faults| {
            faults.cut_before = 1;
            faults.cut_after = 1;
            faults.refuse = 3;
            faults.unsure = 3;
            faults.confused = 1;
            faults.lingers = Duration::from_millis(3);
            faults.commit = Duration::from_millis(2);
            faults.batch_bytes_max = 95;
        });
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(100 + dice.below(200))).await;
            let (partition, pause) = (dice.below(4) as i32, Duration::from_millis(dice.below(600)));
            match dice.below(3) {
                0 => broker.restart().await,
                1 => broker.cut(&client).await,
                _ => {
                    stall(&broker, partition);
                    tokio::time::sleep(pause).await;
                    release(&broker);
                }
            }
        }
        broker.peace();
        torrent.wait(0, 500).await;
        let counts = torrent.stop().await.check(&client, "chaos").await;
        println!("round {round}: {counts}");
        assert_eq!(counts.fatal, 0);
        assert!(counts.delivered > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expiry_takes_a_new_epoch_in_its_partition_alone() {
    let (broker, client) = start("expiry", 2).await;
    let producer = client.producer().delivery_deadline(SECOND / 3).build().await.unwrap();
    let mut sent = Sent::new("expiry");
    for partition in [0, 1] {
        sent.send(&producer, partition, 10).await;
    }
    sent.settle().await;

    stall(&broker, 0);
    for _ in 0..20 {
        sent.send(&producer, 0, 10).await;
        sent.send(&producer, 1, 10).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    sent.settle().await;
    // The stalled requests are worked on now, late, and are still in front of what follows.
    release(&broker);
    for _ in 0..20 {
        sent.send(&producer, 0, 10).await;
        sent.send(&producer, 1, 10).await;
    }
    sent.settle().await;

    let counts = sent.tally.check(&client, "expiry").await;
    assert_eq!((counts.delivered, counts.refused, counts.expired, counts.fatal), (62, 0, 20, 0), "{counts}");
    let log = broker.log();
    assert_eq!(log.topics["expiry"][0].epoch(), Some(1));
    assert_eq!(log.topics["expiry"][1].epoch(), Some(0), "the other partition is not touched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_behind_an_expired_batch_gets_through() {
    for cut in [false, true] {
        let (broker, client) = start("ghost", 1).await;
        let builder =
            client.producer().linger(Duration::ZERO).batch_target_bytes(1).batch_limit_bytes(ONE_RECORD);
        let producer = builder.delivery_deadline(SECOND / 2).build().await.unwrap();
        let mut sent = Sent::new("ghost");
        stall(&broker, 0);
        sent.send(&producer, 0, 20).await;
        tokio::time::sleep(SECOND / 4).await;
        for _ in 0..10 {
            sent.send(&producer, 0, 20).await;
        }
        // The first has expired, the others have not.
        tokio::time::sleep(SECOND * 3 / 8).await;
        if cut {
            broker.cut(&client).await;
        }
        release(&broker);
        sent.settle().await;
        let counts = sent.tally.check(&client, "ghost").await;
        assert_eq!((counts.expired, counts.delivered), (1, 10), "{counts}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_partition_holds_up_no_other() {
    let (broker, client) = start("isolation", 16).await;
    let producer = client.producer().build().await.unwrap();
    stall(&broker, 0);
    let mut sent = Sent::new("isolation");
    for _ in 0..100 {
        sent.send(&producer, 0, 1_000).await;
    }
    let start = Instant::now();
    for partition in 1..16 {
        let record = Record::to("isolation").partition(Partition(partition)).value("x");
        producer.send(record).await.await.unwrap();
    }
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    release(&broker);
    sent.settle().await;
    assert_eq!(producer.close(SECOND).await, Default::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_sent_is_refused() {
    let (broker, client) = start("unsent", 1).await;
    let producer = client.producer().delivery_deadline(SECOND / 4).build().await.unwrap();
    producer.prepare("unsent").await.unwrap();
    broker.cut(&client).await;
    // So that the client hears of it: what it sends to a broker that died without a word may have arrived.
    tokio::time::sleep(SECOND / 10).await;
    drop(broker);
    let sent = producer.send(Record::to("unsent").value("x")).await;
    let Err(SendError::Refused(error)) = sent.await else { panic!("it was never sent") };
    assert!(error.retriable && error.outcome == tidemill_client::Outcome::NotApplied, "{error}");

    drop(producer.send(Record::to("unsent").value("x")).await);
    let report = producer.close(Duration::ZERO).await;
    assert_eq!((report.refused, report.unsent_records()), (1, 1), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_reports_what_is_unsent() {
    let (broker, client) = start("close", 2).await;
    let builder =
        client.producer().linger(Duration::ZERO).batch_target_bytes(1).batch_limit_bytes(ONE_RECORD);
    let producer = builder.in_flight(3).build().await.unwrap();
    stall(&broker, 0);
    let mut sent = Sent::new("close");
    for _ in 0..10 {
        sent.send(&producer, 0, 20).await;
        sent.send(&producer, 1, 20).await;
    }
    tokio::time::sleep(SECOND / 10).await;
    let start = Instant::now();
    let report = producer.clone().close(SECOND / 10).await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    assert_eq!((report.expired, report.refused, report.fatal), (3, 7, 0), "{report:?}");
    assert_eq!(report.unsent.len(), 1);
    assert_eq!((report.unsent[0].partition, report.unsent[0].records), (Partition(0), 7));
    let late = producer.send(Record::to("close").value("x")).await.await;
    assert!(matches!(late, Err(SendError::Refused(_))), "{late:?}");
    release(&broker);
    sent.settle().await;
    let counts = sent.tally.check(&client, "close").await;
    assert_eq!((counts.delivered, counts.expired, counts.refused), (10, 3, 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_client_leaves_nobody_waiting() {
    let (broker, client) = start("closed", 1).await;
    let producer = client.producer().build().await.unwrap();
    let mut consumer = client.consumer().read("closed", Start::Beginning).build().await.unwrap();
    stall(&broker, 0);
    let sent = producer.send(Record::to("closed").value("x")).await;
    tokio::time::sleep(SECOND / 20).await;
    client.close().await;
    let ended = tokio::time::timeout(SECOND, sent).await.unwrap();
    assert!(matches!(ended, Err(SendError::Expired(_))), "{ended:?}");
    let ended = tokio::time::timeout(SECOND * 3, consumer.next_batch()).await.unwrap();
    assert!(ended.unwrap_err().to_string().contains("closed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flush_waits_for_what_was_sent_before() {
    let (broker, client) = start("flush", 1).await;
    let producer = client.producer().linger(Duration::from_secs(60)).build().await.unwrap();
    for _ in 0..10 {
        drop(producer.send(Record::to("flush").value("x")).await);
    }
    let start = Instant::now();
    let report = producer.flush().await;
    assert!(start.elapsed() < SECOND, "it lingers no longer");
    assert_eq!((report.delivered, report.is_clean()), (10, true));
    assert_eq!(producer.flush().await, Default::default(), "nothing is counted twice");
    assert_eq!(broker.log().topics["flush"][0].end, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_buffer_refuses_and_waits() {
    let (broker, client) = start("full", 1).await;
    let producer = client.producer().buffer_bytes(10_000).linger(Duration::ZERO).build().await.unwrap();
    let record = || Record::to("full").value("x".repeat(900));
    assert!(matches!(producer.try_send(record()), Ok(_) | Err(TrySendError::NotReady(_))));
    producer.prepare("full").await.unwrap();
    producer.flush().await;
    stall(&broker, 0);
    let mut taken = Vec::new();
    let refused = loop {
        match producer.try_send(record()) {
            Ok(delivery) => taken.push(delivery),
            Err(refused) => break refused,
        }
    };
    assert!((8..=10).contains(&taken.len()), "{}", taken.len());
    assert_eq!(refused, TrySendError::Full(record()), "the record comes back");

    let waits = producer.send(refused.into_record());
    let mut waits = std::pin::pin!(waits);
    assert!(tokio::time::timeout(SECOND / 10, &mut waits).await.is_err(), "it waits for room");
    release(&broker);
    waits.await.await.unwrap();
    for delivery in taken {
        delivery.await.unwrap();
    }
    assert_eq!(producer.free_bytes(), 10_000, "all room is given back");

    let huge = producer.send(Record::to("full").value("x".repeat(10_001))).await.await;
    assert!(
        matches!(huge, Err(SendError::Refused(error)) if error.code == Some(ErrorCode::MESSAGE_TOO_LARGE))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_batch_takes_no_other_with_it() {
    let (broker, client) = start("refused", 1).await;
    let builder = client.producer().linger(Duration::ZERO).batch_target_bytes(1).batch_limit_bytes(900);
    let producer = builder.build().await.unwrap();
    broker.faults(|faults| {
        faults.batch_bytes_max = 500;
        faults.commit = Duration::from_millis(2);
    });
    let mut sent = Sent::new("refused");
    for n in 0..300 {
        sent.send(&producer, 0, if n % 30 == 7 { 800 } else { 400 }).await;
    }
    sent.settle().await;
    let counts = sent.tally.check(&client, "refused").await;
    assert_eq!((counts.delivered, counts.refused, counts.expired), (290, 10, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_was_replaced_is_over() {
    let (broker, client) = start("fatal", 2).await;
    let producer = client.producer().build().await.unwrap();
    producer.send(Record::to("fatal").value("x")).await.await.unwrap();
    broker.faults(|faults| faults.fenced = true);
    let fatal = producer.send(Record::to("fatal").value("x")).await.await;
    let Err(SendError::Fatal(error)) = fatal else { panic!("{fatal:?}") };
    assert_eq!(error.code, Some(ErrorCode::INVALID_PRODUCER_EPOCH));
    broker.peace();
    let next = producer.send(Record::to("fatal").value("x")).await.await;
    assert!(matches!(next, Err(SendError::Fatal(_))), "{next:?}");
    assert!(producer.close(SECOND).await.is_clean());
    let anew = client.producer().build().await.unwrap();
    anew.send(Record::to("fatal").value("x")).await.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_forgot_the_producer_is_told_a_new_epoch() {
    let (broker, client) = start("forgotten", 1).await;
    let producer = single_file(&client).await;
    let mut sent = Sent::new("forgotten");
    for _ in 0..5 {
        for _ in 0..50 {
            sent.send(&producer, 0, 20).await;
        }
        sent.settle().await;
        broker.log().topics.get_mut("forgotten").unwrap()[0].forget_producers();
    }
    let counts = sent.tally.check(&client, "forgotten").await;
    assert_eq!(counts.delivered, 250);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_epochs_are_used_up_there_is_another_id() {
    let broker = FaultBroker::start(0);
    broker.faults(|faults| faults.first_epoch = i16::MAX - 1);
    let client = client_and_topic(&broker, "epochs", 1).await;
    let builder = client.producer().delivery_deadline(SECOND / 4).doubt_patience(SECOND / 20);
    let producer = builder.build().await.unwrap();
    let mut sent = Sent::new("epochs");
    for _ in 0..3 {
        sent.send(&producer, 0, 20).await;
        sent.settle().await;
        stall(&broker, 0);
        sent.send(&producer, 0, 20).await;
        sent.settle().await;
        release(&broker);
    }
    sent.send(&producer, 0, 20).await;
    sent.settle().await;
    let counts = sent.tally.check(&client, "epochs").await;
    assert_eq!((counts.delivered, counts.expired), (4, 3), "{counts}");
    assert_eq!(broker.log().next_producer, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_with_kafkas_window_is_respected() {
    let seed = seed("a_broker_with_kafkas_window_is_respected");
    let broker = FaultBroker::start(seed);
    broker.faults(|faults| faults.narrow = true);
    let client = client_and_topic(&broker, "narrow", 4).await;
    let torrent = Torrent::start(single_file(&client).await, "narrow", 1_200, seed);
    for _ in 0..10 {
        torrent.wait(500, 200).await;
        broker.cut(&client).await;
    }
    let counts = torrent.stop().await.check(&client, "narrow").await;
    assert_eq!((counts.refused, counts.expired, counts.fatal), (0, 0, 0), "{counts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_topic_is_refused_soon() {
    let (_broker, client) = start("known", 1).await;
    let producer = client.producer().build().await.unwrap();
    let start = Instant::now();
    let refused = producer.send(Record::to("unknown").value("x")).await.await;
    let Err(SendError::Refused(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.code, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    let unready = producer.try_send(Record::to("unknown").value("x"));
    assert!(matches!(unready, Err(TrySendError::NotReady(_))), "{unready:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_turned_away_with_a_reason() {
    let (broker, _client) = start("strangers", 1).await;
    let mut config = broker.config();
    config.tls = crate::certificates::Certificates::make().client();
    let error = Client::connect(config.clone()).await.unwrap_err();
    assert!(!error.retriable && error.message.contains("certificate"), "{error}");
    config.tls = broker.config().tls.server_name("somebody-else");
    let error = Client::connect(config.clone()).await.unwrap_err();
    assert!(!error.retriable && error.message.contains("certificate"), "{error}");
    drop(broker);
    config.connect_timeout = SECOND / 5;
    let error = Client::connect(config).await.unwrap_err();
    assert!(error.retriable, "{error}");
}
