//! Every error that a client can see, in one table: Kafka's code and name, whether trying again may help,
//! whether what was asked for took effect, what it means here, and what to do. `docs/errors.md` is made from it.

use std::fmt;

/// A code of Kafka's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i16);

/// Whether what was asked for took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did.
    Applied,
    /// It did not, and will not.
    NotApplied,
    /// It may have, or may yet.
    Unknown,
}

/// What the table says of a code.
#[derive(Debug, Clone, Copy)]
pub struct ErrorRow {
    /// The code.
    pub code: ErrorCode,
    /// Kafka's name for it.
    pub name: &'static str,
    /// Whether the same request may succeed later.
    pub retriable: bool,
    /// Whether it took effect.
    pub outcome: Outcome,
    /// What it means here.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

macro_rules! table {
    ($($code:literal $name:ident $retriable:literal $outcome:ident $meaning:literal $remedy:literal)*) => {
        impl ErrorCode {
            $(#[doc = $meaning] pub const $name: ErrorCode = ErrorCode($code);)*
        }

        /// The table, by code.
        pub const TABLE: &[ErrorRow] = &[$(ErrorRow {
            code: ErrorCode($code),
            name: stringify!($name),
            retriable: $retriable,
            outcome: Outcome::$outcome,
            meaning: $meaning,
            remedy: $remedy,
        }),*];
    };
}

table! {
    -1 UNKNOWN_SERVER_ERROR false Unknown
        "The broker met something that it did not expect."
        "Look into the broker's log; report it."
    0 NONE false Applied
        "No error."
        "Nothing."
    1 OFFSET_OUT_OF_RANGE false NotApplied
        "The offset lies before the log start offset or behind the high watermark."
        "Seek to an offset that is there; the error carries none, so ask with ListOffsets."
    2 CORRUPT_MESSAGE true NotApplied
        "The batch's bytes are not those that its producer wrote: its CRC or its length does not hold."
        "Send it again; when it stays, look for a fault on the way."
    3 UNKNOWN_TOPIC_OR_PARTITION true NotApplied
        "There is no such topic or partition, or not yet on this broker."
        "Create the topic, or wait for its creation to spread."
    4 INVALID_FETCH_SIZE false NotApplied
        "The number of bytes to fetch is negative."
        "Ask for 0 bytes or more."
    5 LEADER_NOT_AVAILABLE true NotApplied
        "The partition's shard has no leader just now."
        "Try again after a moment."
    6 NOT_LEADER_OR_FOLLOWER true Unknown
        "This broker does not lead the partition's shard, or ceased to while it worked on the request."
        "Ask for metadata and send it to the leader; an idempotent producer does so without doubling anything."
    7 REQUEST_TIMED_OUT true Unknown
        "The request was not finished within its own time limit."
        "Try again; an idempotent producer does so without doubling anything."
    8 BROKER_NOT_AVAILABLE true NotApplied
        "The broker is starting or stopping."
        "Try again after a moment."
    10 MESSAGE_TOO_LARGE false NotApplied
        "The batch is larger than its topic takes (max.message.bytes)."
        "Make smaller batches, or raise the topic's limit."
    12 OFFSET_METADATA_TOO_LARGE false NotApplied
        "The words that go with a committed offset are longer than 4 KiB."
        "Keep them elsewhere, and commit a reference."
    15 COORDINATOR_NOT_AVAILABLE true Unknown
        "The shard in which the offset is kept has no leader just now, or lost it before the commit was known."
        "Try again after a moment: a committed offset may be committed again."
    17 INVALID_TOPIC_EXCEPTION false NotApplied
        "The name cannot be a topic's."
        "Use 1 to 249 of the characters a-z A-Z 0-9 . _ -"
    18 RECORD_LIST_TOO_LARGE false NotApplied
        "The request holds more record batches for one partition than one."
        "Send one batch for a partition and request."
    19 NOT_ENOUGH_REPLICAS true NotApplied
        "Too few replicas of the shard answer to commit anything."
        "Wait until a quorum is back."
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND true Unknown
        "The batch was appended, and the quorum was lost before it was committed."
        "Try again; an idempotent producer does so without doubling anything."
    21 INVALID_REQUIRED_ACKS false NotApplied
        "The acknowledgement asked for is none of 0, 1 and all."
        "Ask for one of them; 1 and all both wait for the quorum."
    22 ILLEGAL_GENERATION false NotApplied
        "The request names a generation of a consumer group, and groups whose members share partitions are not offered."
        "Assign partitions yourself (assign, not subscribe): then the generation is -1."
    24 INVALID_GROUP_ID false NotApplied
        "The group has no name, or one of more than 255 bytes."
        "Set group.id to something shorter."
    25 UNKNOWN_MEMBER_ID false NotApplied
        "The request names a member of a consumer group, and groups whose members share partitions are not offered."
        "Assign partitions yourself (assign, not subscribe): then there is no member."
    29 TOPIC_AUTHORIZATION_FAILED false NotApplied
        "The principal may not do this with the topic, or there is none of that name."
        "Ask whoever manages the tenant for a grant."
    32 INVALID_TIMESTAMP false NotApplied
        "The batch claims LogAppendTime, which lies under the producer's CRC and is not offered."
        "Send CreateTime; the append time stands in the envelope."
    35 UNSUPPORTED_VERSION false NotApplied
        "The broker does not speak this version of the request."
        "Ask for ApiVersions and use a version in the range."
    36 TOPIC_ALREADY_EXISTS false NotApplied
        "There is a topic of that name."
        "Use it, or choose another name."
    37 INVALID_PARTITIONS false NotApplied
        "The number of partitions is not possible."
        "Use 1 to 1,024; it is fixed for the topic's life."
    38 INVALID_REPLICATION_FACTOR false NotApplied
        "The replication factor is neither -1 nor the number of the cluster's brokers."
        "Leave it to the cluster: -1."
    39 INVALID_REPLICA_ASSIGNMENT false NotApplied
        "The request says where partitions are to lie."
        "Leave it out: the cluster places affinity groups."
    40 INVALID_CONFIG false NotApplied
        "A setting is not known, or its value is not possible."
        "The message names the setting."
    42 INVALID_REQUEST false NotApplied
        "The request contradicts itself, or its bytes are no request."
        "The message says what is wrong; repair the client."
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT false NotApplied
        "The batch has another magic than 2."
        "Use a client of Kafka 0.11 or later."
    44 POLICY_VIOLATION false NotApplied
        "A limit of the cluster, or something is in use."
        "The message names the limit."
    45 OUT_OF_ORDER_SEQUENCE_NUMBER false NotApplied
        "A batch of this producer is missing before this one."
        "Send the missing one first; if that cannot be, take a new producer epoch."
    46 DUPLICATE_SEQUENCE_NUMBER false Applied
        "The batch was written before, longer ago than the producer's window, so its offset is not known."
        "Take it as written."
    47 INVALID_PRODUCER_EPOCH false NotApplied
        "The producer has a newer epoch: this one is fenced."
        "Make a new producer."
    48 INVALID_TXN_STATE false NotApplied
        "The batch is part of a transaction, and transactions are not offered."
        "Write without transactions; a chain of plugins is exactly-once by itself."
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED false NotApplied
        "The request names a transactional id, and transactions are not offered."
        "Leave transactional.id out; a chain of plugins is exactly-once by itself."
    56 KAFKA_STORAGE_ERROR true Unknown
        "The broker's disk is full, or it failed."
        "Try again, or go to another broker; the broker's log says what its disk needs."
    59 UNKNOWN_PRODUCER_ID false NotApplied
        "Nothing is known of this producer in this partition, and the batch is not its first."
        "Take a new producer epoch and begin with sequence 0."
    74 FENCED_LEADER_EPOCH true NotApplied
        "The leader epoch in the request is older than the shard's term."
        "Ask for metadata."
    75 UNKNOWN_LEADER_EPOCH true NotApplied
        "The leader epoch in the request is newer than the shard's term here."
        "Try again after a moment."
    76 UNSUPPORTED_COMPRESSION_TYPE false NotApplied
        "There is no such compression codec."
        "Use none, gzip, snappy, lz4 or zstd."
    78 OFFSET_NOT_AVAILABLE true NotApplied
        "A new leader does not know yet how far its predecessor's commits reached."
        "Try again after a moment."
    87 INVALID_RECORD false NotApplied
        "The batch's records are none, or their counts contradict one another."
        "The message says what is wrong; repair the client."
    89 THROTTLING_QUOTA_EXCEEDED true NotApplied
        "The tenant's quota is used up for now."
        "Wait for the time that the response names."
    100 UNKNOWN_TOPIC_ID true NotApplied
        "There is no topic of that id: it was deleted, or made again under another."
        "Ask for metadata."
    103 INCONSISTENT_TOPIC_ID true NotApplied
        "The topic of that name has another id."
        "Ask for metadata."
}

impl ErrorCode {
    /// What the table says of it; of a code that is not there, what it says of an unknown server error.
    pub fn row(self) -> &'static ErrorRow {
        TABLE.iter().find(|row| row.code == self).unwrap_or(&TABLE[0])
    }

    /// Whether the same request may succeed later.
    pub fn is_retriable(self) -> bool {
        self.row().retriable
    }

    /// Whether it is an error at all.
    pub fn is_error(self) -> bool {
        self != ErrorCode::NONE
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TABLE.iter().find(|row| row.code == *self) {
            Some(row) => f.write_str(row.name),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Applied => "applied",
            Outcome::NotApplied => "not applied",
            Outcome::Unknown => "unknown",
        })
    }
}

/// The table as a page.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Errors\n\nMade from the table in `protocol/src/error.rs`; `cargo xtask docs` writes it.\n\n\
         The codes and names are Kafka's. *Retry* says whether the same request may succeed later, *effect* whether\n\
         what was asked for took effect. Clients know 8, 19, 20, 29, 78, 89 and 103 already; this version answers none of them:\n\
         they are for several brokers, tenants and quotas.\n\n\
         | code | name | retry | effect | what it means | what to do |\n|---|---|---|---|---|---|\n",
    );
    for row in TABLE {
        let retry = if row.retriable { "yes" } else { "no" };
        let (code, name, effect) = (row.code.0, row.name, row.outcome);
        page += &format!("| {code} | `{name}` | {retry} | {effect} | {} | {} |\n", row.meaning, row.remedy);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_kafkas() {
        for row in TABLE.iter().filter(|row| row.code.is_error()) {
            let kafkas = kafka_protocol::ResponseError::try_from_code(row.code.0).expect(row.name);
            let name: String = row.name.split('_').map(capitalised).collect();
            // Kafka's Java name of code 17 ends in "Exception", which the crate leaves as it is.
            assert_eq!(format!("{kafkas:?}"), name, "{}", row.code.0);
        }
    }

    fn capitalised(word: &str) -> String {
        let (first, rest) = word.split_at(1);
        first.to_owned() + &rest.to_lowercase()
    }

    #[test]
    fn what_may_be_tried_again_is_kafkas() {
        let differs = |row: &&ErrorRow| {
            let kafkas = kafka_protocol::ResponseError::try_from_code(row.code.0);
            row.retriable != kafkas.is_some_and(|error| error.is_retriable())
        };
        let differing: Vec<_> = TABLE.iter().filter(differs).map(|row| row.code).collect();
        // Kafka gives this to tools that look for a broker's process; ours to whoever comes while it starts or stops.
        assert_eq!(differing, [ErrorCode::BROKER_NOT_AVAILABLE]);
    }

    #[test]
    fn each_code_stands_once_and_in_order() {
        assert!(TABLE.is_sorted_by(|one, other| one.code < other.code));
    }

    #[test]
    fn outcomes_and_retries_agree() {
        for row in TABLE {
            let applied = row.outcome == Outcome::Applied;
            assert!(!(applied && row.retriable), "{}: what took effect is not tried again", row.name);
            assert!(row.meaning.ends_with('.') && !row.remedy.is_empty(), "{}", row.name);
        }
        assert_eq!(ErrorCode(12_345).row().code, ErrorCode::UNKNOWN_SERVER_ERROR);
        assert_eq!(ErrorCode(12_345).to_string(), "error 12345");
    }

    #[test]
    fn the_page_has_a_line_for_each_code() {
        let page = markdown();
        let lines = page.lines().filter(|line| line.ends_with('|') && line.contains('`')).count();
        assert_eq!(lines, TABLE.len());
        let line = "| 10 | `MESSAGE_TOO_LARGE` | no | not applied | The batch is larger than its topic takes";
        assert!(page.contains(line), "{page}");
    }
}
