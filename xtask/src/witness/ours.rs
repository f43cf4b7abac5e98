//! What our own client writes for the witnesses: the topic `ours`, with every codec and all that a record can be.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::ensure;
use tidemill_client::{Codec, Partition, Record, RecordHeader};
use xtask::client;
use xtask::process::Broker;

use super::judge::TIME;

const PARTITIONS: u32 = 4;
const RECORDS: i64 = 10;

/// Makes and fills the topic.
///
/// # Errors
/// When the broker refuses.
pub fn write(broker: &Broker) -> anyhow::Result<()> {
    broker.run(&["topic", "create", "ours", "--partitions", &PARTITIONS.to_string()])?;
    for (codec, first) in Codec::ALL.into_iter().zip((0..).step_by(RECORDS as usize)) {
        for partition in 0..PARTITIONS {
            let mut lines = String::new();
            for n in first..first + RECORDS {
                writeln!(lines, r#"{{"id":"{n}","at":{},"by":"tidemill produce"}}"#, TIME + 1_000 * n)?;
            }
            produce(broker, partition, codec, &lines)?;
        }
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(oddities(broker))
}

/// As a user does it.
fn produce(broker: &Broker, partition: u32, codec: Codec, lines: &str) -> anyhow::Result<()> {
    let mut command = broker.command();
    command.args(["produce", "ours", "--key", "id", "--timestamp", "at", "--compression"]);
    command.args([&codec.to_string(), "--partition", &partition.to_string()]);
    command.args(["--header", "by=tidemill", "--header", "by=again"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    child.stdin.take().expect("it is piped").write_all(lines.as_bytes())?;
    ensure!(child.wait()?.success(), "tidemill produce failed");
    Ok(())
}

/// What the command cannot write and the client can: null keys, values and headers, and what is empty.
async fn oddities(broker: &Broker) -> anyhow::Result<()> {
    let client = client::connect(broker).await?;
    for codec in Codec::ALL {
        let producer = client.producer().codec(codec).build().await?;
        for partition in (0..PARTITIONS).map(Partition) {
            let blank = || Record::to("ours").partition(partition).timestamp_ms(TIME + 60_000);
            let mut nothing = blank().key("key").value("a null header").header("by", "tidemill");
            nothing.headers.push(RecordHeader { name: "nothing".into(), value: None });
            let records = [
                nothing,
                blank().key("tombstone"),
                blank().value("no key"),
                blank().key("").value(""),
                blank(),
            ];
            for record in records {
                producer.send(record).await.await?;
            }
        }
        ensure!(producer.close(std::time::Duration::from_secs(30)).await.is_clean(), "not all was written");
    }
    client.close().await;
    Ok(())
}
