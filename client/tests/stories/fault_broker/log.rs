//! What the fault broker remembers: topics, their batches, and the producers of each partition. By the rules of a real
//! broker: a batch is written when its sequence is next, and recognised among a producer's last ones.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use tidemill_client::{ErrorCode, Offset};
use tidemill_protocol::batch::{self, BatchHeader, BatchLimits};
use tidemill_protocol::ids::{ProducerEpoch, ProducerId, Sequence};

pub const LIMITS: BatchLimits = BatchLimits {
    batch_bytes: 8 << 20,
    records: 100_000,
    headers: 64,
    inflated_bytes: 32 << 20,
    inflate_ratio: 200,
};

#[derive(Default)]
pub struct Log {
    pub topics: BTreeMap<String, Vec<PartitionLog>>,
    /// Counts appends, for those who wait for one.
    pub appends: u64,
    pub next_producer: i64,
}

#[derive(Default)]
pub struct PartitionLog {
    pub start: u64,
    pub end: u64,
    batches: Vec<(u64, Bytes)>,
    producers: BTreeMap<ProducerId, Producer>,
}

struct Producer {
    epoch: ProducerEpoch,
    last: Sequence,
    recent: VecDeque<(ProducerEpoch, Sequence, u32, u64)>,
}

impl PartitionLog {
    /// Writes a batch, or says why not; the offset of its first record.
    pub fn append(&mut self, batch: &Bytes, batch_bytes_max: usize) -> Result<u64, ErrorCode> {
        let header = batch::verify(batch, &LIMITS).map_err(|error| error.code())?;
        if batch.len() > batch_bytes_max {
            return Err(ErrorCode::MESSAGE_TOO_LARGE);
        }
        if header.producer_id.is_some()
            && let Some(known) = self.judge(&header)?
        {
            return Ok(known);
        }
        let base = self.end;
        let mut stamped = BytesMut::from(&batch[..]);
        batch::stamp(&mut stamped, Offset(base), 1);
        self.batches.push((base, stamped.freeze()));
        self.end += u64::from(header.record_count);
        if header.producer_id.is_some() {
            self.remember(&header, base);
        }
        Ok(base)
    }

    /// The offset, where it was written before.
    fn judge(&self, header: &BatchHeader) -> Result<Option<u64>, ErrorCode> {
        let (epoch, first) = (header.producer_epoch, header.base_sequence);
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return if first == Sequence(0) { Ok(None) } else { Err(ErrorCode::UNKNOWN_PRODUCER_ID) };
        };
        if epoch < producer.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if epoch > producer.epoch {
            return if first == Sequence(0) {
                Ok(None)
            } else {
                Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
            };
        }
        if first == producer.last.plus(1) {
            return Ok(None);
        }
        let known = producer.recent.iter().find(|(known_epoch, known_first, records, _)| {
            (*known_epoch, *known_first, *records) == (epoch, first, header.record_count)
        });
        match known {
            Some((.., base)) => Ok(Some(*base)),
            None if first.0 <= producer.last.0 => Err(ErrorCode::DUPLICATE_SEQUENCE_NUMBER),
            None => Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        }
    }

    fn remember(&mut self, header: &BatchHeader, base: u64) {
        let (epoch, last) = (header.producer_epoch, header.last_sequence());
        let producer = self.producers.entry(header.producer_id).or_insert(Producer {
            epoch,
            last,
            recent: VecDeque::new(),
        });
        (producer.epoch, producer.last) = (epoch, last);
        producer.recent.push_back((epoch, header.base_sequence, header.record_count, base));
        while producer.recent.len() > header.producer_id.window() as usize {
            producer.recent.pop_front();
        }
    }

    /// Whole batches from the one that holds `offset` on: at least one, and else up to `most` bytes.
    pub fn read(&self, offset: u64, most: usize) -> Bytes {
        let from = self.batches.partition_point(|(base, _)| *base <= offset).saturating_sub(1);
        let mut read = BytesMut::new();
        for (_, batch) in self.batches[from..].iter().filter(|_| offset < self.end) {
            if !read.is_empty() && read.len() + batch.len() > most {
                break;
            }
            read.extend_from_slice(batch);
        }
        read.freeze()
    }

    /// The first offset of a record of this time or later, and its time.
    pub fn find_time(&self, time_ms: i64) -> Option<(u64, i64)> {
        let records = self.batches.iter().flat_map(|(_, batch)| batch::decode(batch, &LIMITS).unwrap());
        let mut found =
            records.filter(|record| record.timestamp_ms >= time_ms && record.offset.0 >= self.start);
        found.next().map(|record| (record.offset.0, record.timestamp_ms))
    }

    /// Forgets everybody who ever wrote here, as a broker does after a week.
    pub fn forget_producers(&mut self) {
        self.producers.clear();
    }

    /// The highest epoch in which anybody wrote here.
    pub fn epoch(&self) -> Option<i16> {
        self.producers.values().map(|producer| producer.epoch.0).max()
    }

    /// Retention: nothing before `start` is there any more.
    pub fn trim(&mut self, start: u64) {
        self.start = start;
        let gone = self.batches.partition_point(|(base, _)| *base < start).saturating_sub(1);
        self.batches.drain(..gone);
    }
}
