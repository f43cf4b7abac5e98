//! A batch of one partition, from its first record to its end.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tidemill_protocol::batch::{BatchBuilder, Unwritable, restamp_producer};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use tokio::sync::Semaphore;

use super::delivery::{Ended, Fate};
use super::sequence::{End, Entry, Identity};
use crate::record::Record;
use crate::runtime::Instant;

/// Who wrote a batch that no broker is to recognise.
pub(super) const NOBODY: Identity = Identity { id: ProducerId::NONE, epoch: ProducerEpoch(-1) };

/// Room that is taken in the producer's buffer, until this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    buffer: Arc<Semaphore>,
    bytes: usize,
}

impl Room {
    /// `bytes` were taken from `buffer` for good.
    pub fn new(buffer: Arc<Semaphore>, bytes: usize) -> Room {
        Room { buffer, bytes }
    }

    fn join(&mut self, mut other: Room) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.buffer.add_permits(self.bytes);
    }
}

/// A batch that gathers records, or is closed.
#[derive(Debug)]
pub(super) struct Batch {
    body: Body,
    records: u32,
    deadline: Instant,
    fate: Arc<Fate>,
    was_sent: bool,
    room: Option<Room>,
}

#[derive(Debug)]
enum Body {
    Open(BatchBuilder),
    Built {
        bytes: Bytes,
        identity: Identity,
        sequence: Sequence,
    },
    /// What could not be built.
    Nothing,
}

/// A batch that still takes records.
#[derive(Debug)]
pub(super) struct OpenBatch {
    builder: BatchBuilder,
    fate: Arc<Fate>,
    room: Room,
    /// When its first record was accepted.
    pub since: Instant,
}

impl OpenBatch {
    /// Without records, which would be no batch: one follows at once.
    pub fn new(codec: Codec, room: Room, since: Instant) -> OpenBatch {
        OpenBatch { builder: BatchBuilder::new(codec), fate: Arc::default(), room, since }
    }

    /// Adds a record; its place among those of the batch.
    ///
    /// # Errors
    /// When no batch can hold it.
    pub fn push(&mut self, record: &Record, timestamp_ms: i64) -> Result<u32, Unwritable> {
        let headers: Vec<_> =
            record.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref())).collect();
        self.builder.push(timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers)?;
        Ok(self.fate.join())
    }

    /// Adds the room that a record takes.
    pub fn widen(&mut self, room: Room) {
        self.room.join(room);
    }

    pub fn fate(&self) -> &Arc<Fate> {
        &self.fate
    }

    pub fn records(&self) -> u32 {
        self.builder.len()
    }

    /// Bytes, before compression.
    pub fn bytes(&self) -> usize {
        self.builder.plain_bytes()
    }

    /// No more records.
    pub fn close(self, deadline: Instant) -> Batch {
        Batch {
            records: self.builder.len(),
            body: Body::Open(self.builder),
            deadline,
            fate: self.fate,
            was_sent: false,
            room: Some(self.room),
        }
    }
}

impl Batch {
    /// Compresses it and writes its header.
    ///
    /// # Errors
    /// When the codec fails.
    pub fn build(&mut self, identity: Identity, sequence: Sequence) -> Result<(), Unwritable> {
        if let Body::Open(mut builder) = std::mem::replace(&mut self.body, Body::Nothing) {
            builder.producer(identity.id, identity.epoch, sequence);
            self.body = Body::Built { bytes: builder.build()?, identity, sequence };
        }
        Ok(())
    }

    /// Its bytes under an identity; they are changed only where it is another than before.
    pub fn bytes(&mut self, identity: Identity, sequence: Sequence) -> Bytes {
        self.was_sent = true;
        let Body::Built { bytes, identity: old_identity, sequence: old_sequence } = &mut self.body else {
            unreachable!("a batch is built before it is sent");
        };
        if (*old_identity, *old_sequence) != (identity, sequence) {
            // The stream may still hold the old bytes: then they are copied.
            let mut changed =
                std::mem::take(bytes).try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
            restamp_producer(&mut changed, identity.id, identity.epoch, sequence);
            *bytes = changed.freeze();
            (*old_identity, *old_sequence) = (identity, sequence);
        }
        bytes.clone()
    }
}

impl Entry for Batch {
    fn records(&self) -> u32 {
        self.records
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn end(&mut self, end: End) {
        // Who learns of it finds the room free; but what expired may have to stay in the line for a while.
        if !matches!(end, End::Expired(_)) {
            self.room = None;
        }
        self.fate.end(Ended { end, was_sent: self.was_sent });
    }
}
