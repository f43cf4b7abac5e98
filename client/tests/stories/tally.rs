//! What was sent, what was said of it, and what is in the log: the three must agree.
//!
//! Each record's value is its number among those of its partition, in the order in which they were accepted.

use std::collections::BTreeMap;
use std::fmt;

use tidemill_client::{Client, Offset, Partition, Receipt, Record, SendError, Start};

/// What was said of each record, by partition, in the order in which they were accepted.
#[derive(Debug, Default)]
pub struct Tally {
    partitions: BTreeMap<u32, Vec<Said>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Said {
    Nothing,
    Delivered(Option<Offset>),
    Refused,
    Expired,
    Fatal,
}

/// How many ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub delivered: usize,
    pub refused: usize,
    pub expired: usize,
    pub fatal: usize,
    /// Of those that expired, how many are in the log.
    pub expired_and_written: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { delivered, refused, expired, fatal, expired_and_written } = self;
        write!(
            f,
            "{delivered} delivered, {refused} refused, {expired} expired ({expired_and_written} of them written), "
        )?;
        write!(f, "{fatal} fatal")
    }
}

impl Tally {
    /// The next record for a partition, and its number.
    pub fn next(&mut self, topic: &str, partition: u32, bytes: usize) -> (Record, usize) {
        let said = self.partitions.entry(partition).or_default();
        said.push(Said::Nothing);
        let number = said.len() - 1;
        let value = format!("{number:0width$}", width = bytes.max(1));
        (Record::to(topic).partition(Partition(partition)).value(value), number)
    }

    /// What became of a record.
    pub fn said(&mut self, partition: u32, number: usize, result: Result<Receipt, SendError>) {
        let said = match result {
            Ok(receipt) => {
                assert_eq!(receipt.partition, Partition(partition));
                Said::Delivered(receipt.offset)
            }
            Err(SendError::Refused(_)) => Said::Refused,
            Err(SendError::Expired(_)) => Said::Expired,
            Err(SendError::Fatal(_)) => Said::Fatal,
        };
        let place = &mut self.partitions.get_mut(&partition).unwrap()[number];
        assert_eq!(*place, Said::Nothing, "said twice");
        *place = said;
    }

    /// Reads the topic and compares.
    pub async fn check(&self, client: &Client, topic: &str) -> Counts {
        let mut log: BTreeMap<u32, Vec<(usize, Offset)>> = BTreeMap::new();
        let mut consumer = client.consumer().read(topic, Start::Beginning).build().await.unwrap();
        while let Some(batch) = consumer.next_batch_before_end().await.unwrap() {
            let partition = log.entry(batch.partition.0).or_default();
            for record in batch.records {
                let value = record.value.unwrap();
                let number = std::str::from_utf8(&value).unwrap().parse().unwrap();
                assert_eq!(record.offset.0 as usize, partition.len(), "offsets have no gap");
                partition.push((number, record.offset));
            }
        }
        let mut counts = Counts::default();
        for (partition, said) in &self.partitions {
            let written = log.remove(partition).unwrap_or_default();
            let orderly = written.is_sorted_by(|(one, _), (other, _)| one < other);
            assert!(orderly, "partition {partition} is doubled or out of order: {}", around(&written));
            let written: BTreeMap<usize, Offset> = written.into_iter().collect();
            for (number, said) in said.iter().enumerate() {
                let found = written.get(&number);
                match said {
                    Said::Nothing => panic!("partition {partition}: nothing was said of {number}"),
                    Said::Delivered(offset) => {
                        assert!(
                            found.is_some(),
                            "partition {partition}: {number} was delivered, and is lost"
                        );
                        assert!(offset.is_none() || offset.as_ref() == found, "{number} lies elsewhere");
                        counts.delivered += 1;
                    }
                    Said::Refused => {
                        assert_eq!(
                            found, None,
                            "partition {partition}: {number} was refused, and is written"
                        );
                        counts.refused += 1;
                    }
                    Said::Expired => {
                        counts.expired += 1;
                        counts.expired_and_written += usize::from(found.is_some());
                    }
                    Said::Fatal => counts.fatal += 1,
                }
            }
            assert!(written.keys().all(|number| *number < said.len()), "something was made up");
        }
        assert!(log.values().all(Vec::is_empty), "partitions that nobody wrote to");
        counts
    }
}

/// The place where the order breaks.
fn around(written: &[(usize, Offset)]) -> String {
    let breaks = written.windows(2).position(|pair| pair[0].0 >= pair[1].0).unwrap_or_default();
    let (from, to) = (breaks.saturating_sub(3), (breaks + 5).min(written.len()));
    format!("{:?}", &written[from..to])
}
