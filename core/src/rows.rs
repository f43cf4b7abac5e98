//! The rows of a shard's tables, byte by byte. (Rows of the catalog are JSON: they change seldom and grow.)

use bytes::Bytes;
use tidemill_protocol::ids::{Offset, ProducerEpoch, Sequence, TopicId};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use crate::ids::{Cursor, Generation, LogIndex, StepNumber};
use crate::seams::Timestamp;
use crate::tables::Row;

/// What a shard knows of itself: `append time u64`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardRow {
    /// The append time of the last entry: that of the next is not below it.
    pub append_time: Timestamp,
}

impl Row for ShardRow {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u64(self.append_time.0);
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let append_time = Timestamp(reader.u64("append time")?);
        reader.finish("shard row")?;
        Ok(ShardRow { append_time })
    }
}

/// A partition: `log start u64 · end u64 · batch bytes max u32`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionRow {
    /// The first offset that is retained.
    pub log_start: Offset,
    /// The first offset that is free. In the applied tables this is the high watermark.
    pub end: Offset,
    /// The topic's `max.message.bytes`.
    pub batch_bytes_max: u32,
}

impl Row for PartitionRow {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u64(self.log_start.0).u64(self.end.0).u32(self.batch_bytes_max);
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let row = PartitionRow {
            log_start: Offset(reader.u64("log start")?),
            end: Offset(reader.u64("end")?),
            batch_bytes_max: reader.u32("batch bytes max")?,
        };
        reader.finish("partition row")?;
        Ok(row)
    }
}

/// A producer in a partition: `epoch i16 · last sequence i32 · batches u64 · append time u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerRow {
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of its last record.
    pub last_sequence: Sequence,
    /// How many batches it wrote: the number of the next [`RecentBatch`].
    pub batches: u64,
    /// When it wrote the last one.
    pub append_time: Timestamp,
}

impl Row for ProducerRow {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u16(self.epoch.0 as u16).u32(self.last_sequence.0 as u32);
        writer.u64(self.batches).u64(self.append_time.0);
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let row = ProducerRow {
            epoch: ProducerEpoch(reader.u16("epoch")? as i16),
            last_sequence: Sequence(reader.u32("sequence")? as i32),
            batches: reader.u64("batches")?,
            append_time: Timestamp(reader.u64("append time")?),
        };
        reader.finish("producer row")?;
        Ok(row)
    }
}

/// One of a producer's last batches: `epoch i16 · first sequence i32 · records u32 · base offset u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentBatch {
    /// The epoch it was written with.
    pub epoch: ProducerEpoch,
    /// The sequence of its first record.
    pub base_sequence: Sequence,
    /// How many records it has.
    pub records: u32,
    /// Where it lies.
    pub base_offset: Offset,
}

impl Row for RecentBatch {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u16(self.epoch.0 as u16).u32(self.base_sequence.0 as u32);
        writer.u32(self.records).u64(self.base_offset.0);
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let row = RecentBatch {
            epoch: ProducerEpoch(reader.u16("epoch")? as i16),
            base_sequence: Sequence(reader.u32("sequence")? as i32),
            records: reader.u32("records")?,
            base_offset: Offset(reader.u64("base offset")?),
        };
        reader.finish("recent batch")?;
        Ok(row)
    }
}

/// A task: `status u8 · generation u32 · step u64 · cursor index u64 · skip u32 · attempts u32 ·
/// inputs n u16 · n × (topic id 16 · next offset u64) · reason text`; and, once a log start has passed it:
/// `jumps u32 · passed over u64`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskRow {
    /// Whether it takes steps.
    pub status: TaskStatus,
    /// The generation at work; a lower one is fenced.
    pub generation: Generation,
    /// Its last committed step.
    pub step: StepNumber,
    /// What it has consumed.
    pub cursor: Cursor,
    /// Failed attempts at the event that the cursor stands at.
    pub attempts: u32,
    /// Per input, in the order of its spec: the topic, and the first offset that is not consumed.
    pub positions: Vec<(TopicId, Offset)>,
    /// Why it last failed, or stopped; empty when it did not.
    pub reason: String,
    /// How often a log start has passed its place.
    pub jumps: u32,
    /// Records that it passed over because of that, since it last began anew.
    pub passed_over: u64,
}

/// Whether a task takes steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TaskStatus {
    /// It does.
    #[default]
    Running = 0,
    /// Its failure policy stopped it, at an event or because a log start had passed it.
    Stopped = 1,
    /// Somebody paused its plugin.
    Paused = 2,
}

impl Row for TaskRow {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u8(self.status as u8).u32(self.generation.0).u64(self.step.0);
        writer.u64(self.cursor.index.0).u32(self.cursor.skip).u32(self.attempts);
        writer.u16(self.positions.len() as u16);
        for (topic, next) in &self.positions {
            writer.raw(&topic.0).u64(next.0);
        }
        writer.text(&self.reason);
        // Without these, it is what versions wrote that knew nothing of them.
        if self.jumps > 0 {
            writer.u32(self.jumps).u64(self.passed_over);
        }
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let status = match reader.u8("status")? {
            0 => TaskStatus::Running,
            1 => TaskStatus::Stopped,
            2 => TaskStatus::Paused,
            _ => return Err(Malformed { what: "status", at: 0 }),
        };
        let generation = Generation(reader.u32("generation")?);
        let step = StepNumber(reader.u64("step")?);
        let index = LogIndex(reader.u64("cursor")?);
        let cursor = Cursor { index, skip: reader.u32("cursor")? };
        let attempts = reader.u32("attempts")?;
        let mut positions = Vec::new();
        for _ in 0..reader.u16("inputs")? {
            let topic = TopicId(reader.array("input")?);
            positions.push((topic, Offset(reader.u64("input")?)));
        }
        let reason = reader.text("reason")?;
        let (jumps, passed_over) = match reader.remaining() {
            0 => (0, 0),
            _ => match reader.u32("jumps")? {
                // What is not there is not written.
                0 => return Err(reader.malformed("jumps")),
                jumps => (jumps, reader.u64("passed over")?),
            },
        };
        reader.finish("task row")?;
        Ok(TaskRow { status, generation, step, cursor, attempts, positions, reason, jumps, passed_over })
    }
}

/// The last step of a task that reached, or was sent to, a partition of another shard:
/// `generation u32 · step u64`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkRow {
    /// The generation that took the step.
    pub generation: Generation,
    /// The step.
    pub step: StepNumber,
}

impl Row for LinkRow {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u32(self.generation.0).u64(self.step.0);
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let generation = Generation(reader.u32("generation")?);
        let row = LinkRow { generation, step: StepNumber(reader.u64("step")?) };
        reader.finish("link row")?;
        Ok(row)
    }
}

/// What became of a dead letter: `what u8 · append time u64`. Without a row, it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetterRow {
    /// What became of it.
    pub fate: Fate,
    /// When, by the append time of the entry that says so.
    pub at: Timestamp,
}

/// What may become of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nobody wants it any more.
    Discarded = 1,
    /// Its record was given to its plugin again, which handled it.
    Redriven = 2,
    /// Its record was given to its plugin again, and failed: a new letter says why.
    FailedAgain = 3,
}

impl Row for LetterRow {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u8(self.fate as u8).u64(self.at.0);
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let fate = match reader.u8("fate")? {
            1 => Fate::Discarded,
            2 => Fate::Redriven,
            3 => Fate::FailedAgain,
            _ => return Err(Malformed { what: "fate", at: 0 }),
        };
        let at = Timestamp(reader.u64("append time")?);
        reader.finish("letter row")?;
        Ok(LetterRow { fate, at })
    }
}

/// A dead letter that waits to be given to its plugin again: `topic id 16 · attempts u32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedriveRow {
    /// The topic that its record lay in.
    pub source: TopicId,
    /// Failed attempts at it since it waits.
    pub attempts: u32,
}

impl Row for RedriveRow {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.raw(&self.source.0).u32(self.attempts);
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let source = TopicId(reader.array("source")?);
        let attempts = reader.u32("attempts")?;
        reader.finish("redrive row")?;
        Ok(RedriveRow { source, attempts })
    }
}

/// Where the entry of a step lies whose batches wait to be shipped: `log index u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingRow {
    /// The step's entry.
    pub index: LogIndex,
}

impl Row for PendingRow {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u64(self.index.0);
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let index = LogIndex(reader.u64("log index")?);
        reader.finish("pending row")?;
        Ok(PendingRow { index })
    }
}

/// What a group committed last for a partition: `offset u64 · leader epoch i32 · append time u64 · metadata text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffsetRow {
    /// The first offset that it has not consumed.
    pub offset: Offset,
    /// The leader epoch that the client told with it; -1 when it told none.
    pub leader_epoch: i32,
    /// When it was committed.
    pub append_time: Timestamp,
    /// Whatever the client wants to be told again.
    pub metadata: String,
}

impl Row for GroupOffsetRow {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u64(self.offset.0).u32(self.leader_epoch as u32).u64(self.append_time.0).text(&self.metadata);
        writer.finish()
    }

    fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let row = GroupOffsetRow {
            offset: Offset(reader.u64("offset")?),
            leader_epoch: reader.u32("leader epoch")? as i32,
            append_time: Timestamp(reader.u64("append time")?),
            metadata: reader.text("metadata")?,
        };
        reader.finish("group offset row")?;
        Ok(row)
    }
}
