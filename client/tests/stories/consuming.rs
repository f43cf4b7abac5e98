//! Consuming, to any broker.

use std::time::Duration;

use futures_util::StreamExt;
use tidemill_client::{
    Client, ConsumeError, ErrorCode, Moment, NewTopic, Offset, OutOfRange, Partition, Record, Start,
};

use crate::harness::{Harness, client_and_topic};

/// Writes records 0..count to partition 0, with times of 1,000 ms each.
pub async fn write(client: &Client, topic: &str, count: u64) {
    let builder = client.producer().batch_limit_bytes(1_000).batch_target_bytes(1_000);
    let producer = builder.build().await.unwrap();
    for n in 0..count {
        let record = Record::to(topic).partition(Partition(0)).value(format!("{n}"));
        drop(producer.send(record.timestamp_ms(n as i64 * 1_000)).await);
    }
    assert!(producer.close(Duration::from_secs(10)).await.is_clean());
}

/// Seeks by offset and time, to the beginning and to the end.
pub async fn seeks(harness: &dyn Harness) {
    let client = client_and_topic(harness, "seeks", 2).await;
    write(&client, "seeks", 1_000).await;
    let mut consumer = client
        .consumer()
        .read_partition("seeks", Partition(0), Start::Offset(Offset(990)))
        .max_wait(Duration::from_secs(20))
        .build()
        .await
        .unwrap();
    assert_eq!(consumer.next_record().await.unwrap().record.offset, Offset(990));
    let at = &consumer.progress()[0];
    assert_eq!((at.position, at.high_watermark, at.lag_records()), (Offset(991), Offset(1_000), 9));

    for (start, expected) in [
        (Start::Beginning, 0),
        (Start::Time(417_000), 417),
        (Start::Time(416_001), 417),
        (Start::Time(-5), 0),
        (Start::Offset(Offset(999)), 999),
        (Start::Offset(Offset(3)), 3),
    ] {
        consumer.seek("seeks", Partition(0), start).await.unwrap();
        let found = consumer.next_record().await.unwrap().record;
        assert_eq!(
            (found.offset, found.timestamp_ms),
            (Offset(expected), expected as i64 * 1_000),
            "{start:?}"
        );
        // And on from there, without a gap.
        let next = consumer.next_batch_before_end().await.unwrap();
        let next = next.and_then(|batch| batch.records.first().map(|record| record.offset.0));
        assert_eq!(next, (expected < 999).then_some(expected + 1), "{start:?}");
    }

    // Behind the end a question waits at the broker for up to 20 s; a seek does not.
    for start in [Start::End, Start::Time(2_000_000)] {
        consumer.seek_all(start).await.unwrap();
        assert!(consumer.is_at_end());
        let nothing = tokio::time::timeout(Duration::from_millis(100), consumer.next_batch()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        let soon = tokio::time::timeout(Duration::from_secs(5), async {
            consumer.seek_to_time(998_000).await.unwrap();
            consumer.next_batch().await.unwrap()
        });
        assert_eq!(soon.await.unwrap().records[0].offset, Offset(998));
    }

    // What is written while it waits comes at once.
    consumer.seek_to_end().await.unwrap();
    let writer = client.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        write(&writer, "seeks", 1).await;
    });
    let found = tokio::time::timeout(Duration::from_secs(5), consumer.next_record()).await.unwrap().unwrap();
    assert_eq!(found.record.offset, Offset(1_000));

    let nobody = consumer.seek("seeks", Partition(1), Start::Beginning).await;
    assert!(nobody.unwrap_err().message.contains("not assigned"));
    consumer.assign("seeks", Some(Partition(1)), Start::Beginning).await.unwrap();
    consumer.unassign("seeks", Some(Partition(0)));
    assert_eq!(consumer.progress().len(), 1);
    assert!(consumer.next_batch_before_end().await.unwrap().is_none());
}

/// Offsets that are not there, by every policy.
pub async fn out_of_range(harness: &dyn Harness) {
    let client = client_and_topic(harness, "range", 1).await;
    write(&client, "range", 100).await;
    let build = |policy| {
        let builder = client.consumer().read("range", Start::Offset(Offset(5_000))).out_of_range(policy);
        async move { builder.build().await.unwrap() }
    };
    let mut fails = build(OutOfRange::Fail).await;
    match fails.next_batch().await {
        Err(ConsumeError::OutOfRange { offset, .. }) => assert_eq!(offset, Offset(5_000)),
        other => panic!("{other:?}"),
    }
    assert!(fails.progress()[0].is_halted);
    fails.seek_to_beginning().await.unwrap();
    assert_eq!(fails.next_record().await.unwrap().record.offset, Offset(0), "a seek starts it again");
    assert_eq!(build(OutOfRange::Beginning).await.next_record().await.unwrap().record.offset, Offset(0));
    let mut at_end = build(OutOfRange::End).await;
    assert!(at_end.next_batch_before_end().await.unwrap().is_none());
    write(&client, "range", 1).await;
    assert_eq!(at_end.next_record().await.unwrap().record.offset, Offset(100));
}

/// Reads while connections are cut: each record once, in order.
pub async fn cuts(harness: &dyn Harness) {
    const COUNT: u64 = 20_000;
    let client = client_and_topic(harness, "reading", 1).await;
    write(&client, "reading", COUNT).await;
    let builder = client.consumer().read("reading", Start::Beginning).fetch_bytes(5_000);
    let mut consumer = builder.prefetch_bytes(10_000).build().await.unwrap();
    for expected in 0..COUNT {
        if expected % 1_000 == 500 {
            harness.cut(&client).await;
        }
        let found = consumer.next().await.unwrap().unwrap();
        assert_eq!(found.record.offset, Offset(expected));
        assert_eq!(found.record.value.unwrap(), expected.to_string());
    }
    assert!(consumer.is_at_end());
}

/// Topics: made, refused, described, listed; offsets found.
pub async fn administration(harness: &dyn Harness) {
    let client = client_and_topic(harness, "there", 3).await;
    let admin = client.admin();
    let wanted = [NewTopic::new("there", 1), NewTopic::new("new", 2), NewTopic::new("none", 0)];
    let made = admin.create_topics(&wanted).await.unwrap();
    let codes: Vec<_> =
        made.iter().map(|(_, made)| made.as_ref().err().and_then(|error| error.code)).collect();
    assert_eq!(codes, [Some(ErrorCode::TOPIC_ALREADY_EXISTS), None, Some(ErrorCode::INVALID_PARTITIONS)]);
    let valid = admin.validate_topics(&[NewTopic::new("maybe", 1)]).await.unwrap();
    assert!(valid[0].1.is_ok());
    let names: Vec<_> = admin.topics().await.unwrap().iter().map(|topic| topic.name.to_string()).collect();
    assert!(["there", "new"].iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
    assert!(!names.contains(&"maybe".to_owned()));
    let described = admin.describe_topics(&["new", "absent"]).await.unwrap();
    assert_eq!(described[0].as_ref().unwrap().partitions.len(), 2);
    assert_eq!(described[1].as_ref().unwrap_err().code, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));

    write(&client, "there", 10).await;
    let zero = Partition(0);
    let found = admin
        .offsets(&[
            ("there", zero, Moment::End),
            ("there", zero, Moment::Beginning),
            ("there", zero, Moment::Time(4_500)),
            ("there", zero, Moment::Time(4_500_000)),
            ("there", Partition(9), Moment::End),
        ])
        .await;
    let found: Vec<_> =
        found.into_iter().map(|found| found.map(|offset| offset.map(|offset| offset.0))).collect();
    assert_eq!(found[..4], [Ok(Some(10)), Ok(Some(0)), Ok(Some(5)), Ok(None)]);
    assert_eq!(found[4].as_ref().unwrap_err().code, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
}
