//! Consuming from a broker that drops, damages or spreads what it has.

use tidemill_client::{ConsumeError, Offset, OutOfRange, Partition, Record, Start};

use crate::consuming::write;
use crate::fault_broker::FaultBroker;
use crate::harness::client_and_topic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_overtakes_a_reader() {
    let broker = FaultBroker::start(0);
    let client = client_and_topic(&broker, "trimmed", 1).await;
    write(&client, "trimmed", 1_000).await;
    let builder = client.consumer().read("trimmed", Start::Beginning).out_of_range(OutOfRange::Beginning);
    let mut consumer = builder.fetch_bytes(2_000).prefetch_bytes(2_000).build().await.unwrap();
    assert_eq!(consumer.next_record().await.unwrap().record.offset, Offset(0));
    broker.log().topics.get_mut("trimmed").unwrap()[0].trim(900);
    let mut last = 0;
    while let Some(batch) = consumer.next_batch_before_end().await.unwrap() {
        for record in batch.records {
            assert!(
                record.offset.0 == last + 1 || (last < 900 && record.offset.0 == 900),
                "{last} {record:?}"
            );
            last = record.offset.0;
        }
    }
    assert_eq!(last, 999);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rotted_is_not_returned() {
    let broker = FaultBroker::start(0);
    let client = client_and_topic(&broker, "rotten", 1).await;
    write(&client, "rotten", 1).await;
    broker.faults(|faults| faults.rots = true);
    let mut consumer = client.consumer().read("rotten", Start::Beginning).build().await.unwrap();
    match consumer.next_record().await {
        Err(ConsumeError::Corrupt { offset, why, .. }) => {
            assert_eq!(offset, Offset(0));
            assert!(why.to_string().contains("CRC"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert!(consumer.next_batch_before_end().await.unwrap().is_none(), "it has halted");
    broker.peace();
    consumer.seek_to_beginning().await.unwrap();
    assert_eq!(consumer.next_record().await.unwrap().record.value.unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_partitions_share_the_streams() {
    let broker = FaultBroker::start(0);
    let client = client_and_topic(&broker, "wide", 300).await;
    let producer = client.producer().build().await.unwrap();
    for n in 0..900 {
        drop(producer.send(Record::to("wide").partition(Partition(n % 300)).value(format!("{n}"))).await);
    }
    assert!(producer.flush().await.is_clean());
    let mut consumer = client.consumer().read("wide", Start::Beginning).build().await.unwrap();
    let mut found = 0;
    while let Some(batch) = consumer.next_batch_before_end().await.unwrap() {
        found += batch.records.len();
    }
    assert_eq!(found, 900);
}
