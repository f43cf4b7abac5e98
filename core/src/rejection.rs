//! Rejections: expected, and told to whoever asked. Nothing of what was asked for took effect.

use tidemill_protocol::batch::BatchError;
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{NameError, Offset, ProducerEpoch, Sequence, TopicPartition};

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// No such partition in this shard.
    #[error("there is no partition {} of topic {}", .0.partition.0, .0.topic)]
    NoPartition(TopicPartition),
    /// The batch is none.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch is larger than its topic takes.
    #[error("the batch has {bytes} bytes, and the topic takes {limit} (max.message.bytes)")]
    BatchTooLarge {
        /// Its size.
        bytes: usize,
        /// The topic's limit.
        limit: usize,
    },
    /// What goes with a committed offset is too long.
    #[error("the metadata of a committed offset have {bytes} bytes, and {limit} are kept")]
    OffsetMetadata {
        /// Their size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A batch of the producer is missing before this one.
    #[error("the next sequence of this producer is {expected}, and the batch begins with {found}", expected = .expected.0, found = .found.0)]
    OutOfOrder {
        /// The sequence that was due.
        expected: Sequence,
        /// The one that came.
        found: Sequence,
    },
    /// The batch was written before, so long ago that its offset is not remembered.
    #[error("sequence {} was written before, further back than the producer's window", .0.0)]
    LongWritten(Sequence),
    /// The producer has a newer epoch.
    #[error("the producer's epoch is {}, and the batch has {}", .current.0, .found.0)]
    Fenced {
        /// The newest epoch seen.
        current: ProducerEpoch,
        /// The batch's.
        found: ProducerEpoch,
    },
    /// Nothing is known of the producer here, and the batch is not its first.
    #[error("this producer is not known here, and its sequence {} is not 0", .0.0)]
    UnknownProducer(Sequence),
    /// The offset is not there.
    #[error("offset {} is outside {}..{}", .asked, .start.0, .end.0)]
    OffsetOutOfRange {
        /// What was asked for.
        asked: i64,
        /// The first retained offset.
        start: Offset,
        /// The high watermark.
        end: Offset,
    },
    /// Not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A topic cannot have so many partitions.
    #[error("{partitions} partitions: use 1 to {most}")]
    Partitions {
        /// What was asked for.
        partitions: u32,
        /// The most.
        most: u32,
    },
    /// A topic's setting cannot be so, in words that name it.
    #[error("{0}")]
    Setting(String),
    /// A group of topics that cannot be, in words.
    #[error("affinity: {0}")]
    Affinity(String),
    /// A request that contradicts itself, in words.
    #[error("{0}")]
    Invalid(String),
    /// The thing exists.
    #[error("{0} exists already")]
    Exists(String),
    /// The thing does not exist.
    #[error("there is no {0}")]
    Missing(String),
    /// Something needs it, in words that name what.
    #[error("{0}")]
    InUse(String),
    /// Tasks stand below a log start, in words that name the way on.
    #[error("{0}")]
    Behind(String),
    /// A limit, in words that name it.
    #[error("{0}")]
    Limit(String),
    /// The disk is full but for what is kept for those who can empty it.
    #[error(
        "the disk is full: less is free than the {reserve} bytes that are kept (storage.reserve); fetching, trimming and deleting go on"
    )]
    DiskFull {
        /// What is kept, in bytes.
        reserve: u64,
    },
    /// This broker does not lead the group.
    #[error("this broker does not lead the shard")]
    NotLeader,
}

impl Rejection {
    /// The field of a request that it is about, where it is about one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Rejection::Name(_) => Some("name"),
            Rejection::Partitions { .. } => Some("partitions"),
            Rejection::Affinity(_) => Some("affinity"),
            // The words begin with its name.
            Rejection::Setting(why) => why.split([':', ' ']).next(),
            _ => None,
        }
    }

    /// What a client of Kafka's protocol is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Rejection::NoPartition(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Rejection::Batch(error) => error.code(),
            Rejection::BatchTooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            Rejection::OffsetMetadata { .. } => ErrorCode::OFFSET_METADATA_TOO_LARGE,
            Rejection::OutOfOrder { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            Rejection::LongWritten(_) => ErrorCode::DUPLICATE_SEQUENCE_NUMBER,
            Rejection::Fenced { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
            Rejection::UnknownProducer(_) => ErrorCode::UNKNOWN_PRODUCER_ID,
            Rejection::OffsetOutOfRange { .. } | Rejection::Behind(_) => ErrorCode::OFFSET_OUT_OF_RANGE,
            Rejection::Name(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
            Rejection::Partitions { .. } => ErrorCode::INVALID_PARTITIONS,
            Rejection::Setting(_) => ErrorCode::INVALID_CONFIG,
            Rejection::Invalid(_) | Rejection::Affinity(_) => ErrorCode::INVALID_REQUEST,
            Rejection::Exists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
            Rejection::Missing(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Rejection::InUse(_) | Rejection::Limit(_) => ErrorCode::POLICY_VIOLATION,
            Rejection::DiskFull { .. } => ErrorCode::KAFKA_STORAGE_ERROR,
            Rejection::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        }
    }
}
