//! Makes a topic if there is none, and describes it: its partitions, and how many records each holds.
//!
//! `cargo run -p tidemill-examples --example admin -- TOPIC [PARTITIONS]`

use anyhow::Context;
use tidemill_client::{ErrorCode, Moment, NewTopic, Partition};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).context("usage: admin TOPIC [PARTITIONS]")?;
    let partitions = std::env::args().nth(2).map_or(Ok(4), |count| count.parse())?;
    let client = tidemill_examples::connect().await?;
    let admin = client.admin();

    for (name, made) in admin.create_topics(&[NewTopic::new(&name, partitions)]).await? {
        match made {
            Ok(topic) => println!("{name} is made, with {} partitions", topic.partitions),
            Err(error) if error.code == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => println!("{name} was there"),
            Err(error) => anyhow::bail!("{name} cannot be made: {error}"),
        }
    }
    let topic = admin.describe_topics(&[&name]).await?.remove(0)?;
    for number in 0..topic.partitions.len() as u32 {
        let ends = [Moment::Beginning, Moment::End].map(|moment| (name.as_str(), Partition(number), moment));
        let ends: Vec<_> = admin.offsets(&ends).await.into_iter().collect::<Result<_, _>>()?;
        let [start, end] = [ends[0], ends[1]].map(|offset| offset.unwrap_or_default().0);
        println!("partition {number}: {} records, offsets {start} to {end}", end - start);
    }
    client.close().await;
    Ok(())
}
