//! Prints the records of a topic, from the beginning to the end or from an offset of one partition on.
//!
//! `cargo run -p tidemill-examples --example consume -- TOPIC [PARTITION OFFSET]`

use anyhow::Context;
use tidemill_client::{Offset, Partition, Start};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let topic = arguments.first().context("usage: consume TOPIC [PARTITION OFFSET]")?;
    let client = tidemill_examples::connect().await?;
    let consumer = match &arguments[1..] {
        [partition, offset] => {
            let start = Start::Offset(Offset(offset.parse()?));
            client.consumer().read_partition(topic, Partition(partition.parse()?), start)
        }
        _ => client.consumer().read(topic, Start::Beginning),
    };
    let mut consumer = consumer.build().await?;

    while let Some(batch) = consumer.next_batch_before_end().await? {
        for record in &batch.records {
            let value = record.value.as_deref().map_or("(deleted)".into(), String::from_utf8_lossy);
            println!("{}/{}: {value}", batch.partition.0, record.offset.0);
        }
    }
    for at in consumer.progress() {
        println!("partition {} was read up to offset {}", at.partition.0, at.position.0);
    }
    client.close().await;
    Ok(())
}
