//! Sends each line of the standard input to a topic, and says where it went.
//!
//! `cargo run -p tidemill-examples --example produce -- TOPIC < lines.txt`

use std::time::Duration;

use anyhow::Context;
use tidemill_client::Record;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let topic = std::env::args().nth(1).context("usage: produce TOPIC")?;
    let client = tidemill_examples::connect().await?;
    let producer = client.producer().build().await?;

    let mut deliveries = Vec::new();
    for line in std::io::stdin().lines() {
        // Waits while the buffer is full, not for the broker.
        deliveries.push(producer.send(Record::to(topic.as_str()).value(line?)).await);
    }
    for (number, delivery) in deliveries.into_iter().enumerate() {
        match delivery.await {
            Ok(receipt) => {
                let offset =
                    receipt.offset.map_or_else(|| "somewhere".to_owned(), |offset| offset.0.to_string());
                println!("line {}: partition {}, offset {offset}", number + 1, receipt.partition.0);
            }
            Err(error) => println!("line {}: {error}", number + 1),
        }
    }
    let report = producer.close(Duration::from_secs(10)).await;
    client.close().await;
    anyhow::ensure!(report.is_clean(), "not everything was written: {report:?}");
    Ok(())
}
