//! Record batches: Kafka's RecordBatch, magic 2, byte for byte from the producer to the disk to the consumer.
//!
//! ```text
//!  0            8        12              16      17    21           23                  27
//! ┌────────────┬────────┬───────────────┬───────┬─────┬────────────┬───────────────────┬───
//! │ base offset│ length │ leader epoch  │ magic │ CRC │ attributes │ last offset delta │ …
//! └────────────┴────────┴───────────────┴───────┴─────┴────────────┴───────────────────┴───
//!  ◀── stamped by the broker ──────────▶         the CRC-32C covers all that follows it
//!
//!  27               35              43            51               53              57             61
//! ┌────────────────┬───────────────┬─────────────┬────────────────┬───────────────┬──────────────┬─────────
//! │ base timestamp │ max timestamp │ producer id │ producer epoch │ base sequence │ record count │ records
//! └────────────────┴───────────────┴─────────────┴────────────────┴───────────────┴──────────────┴─────────
//! ```
//!
//! Base offset and leader epoch lie outside the CRC so that a broker can stamp them. Records are compressed
//! together, or not at all; a broker inflates them only for its own tasks, and within bounds.
//!
//! Source: the documentation of Apache Kafka, "Implementation: Message Format, Record Batch".

mod builder;
mod header;
mod records;
mod verify;

pub use builder::{BatchBuilder, Unwritable, restamp_producer};
pub use header::{BatchHeader, HEADER_BYTES, split, stamp};
pub use records::{Record, RecordHeader, decode};
pub use verify::{BatchError, BatchLimits, verify};
