//! Every bound of this crate, with its unit and its reason.

use std::time::Duration;

use tidemill_protocol::batch::BatchLimits;

/// One mebibyte, in bytes.
pub const MIB: usize = 1 << 20;

/// A response frame. Brokers send no larger ones.
pub const RESPONSE_BYTES_MAX: usize = 16 * MIB;
/// Requests of one stream that wait for their answer: as many as a broker works on at once.
pub const STREAM_REQUESTS_MAX: usize = 1_024;
/// Requests that wait to be written to a stream. Few, so that batches go on filling while the network is the
/// narrowest place.
pub const STREAM_QUEUE: usize = 4;
/// Streams of one connection that carry produce requests. Partitions beyond it share them. A broker allows 256
/// streams on a connection: enough are left for fetches and questions.
pub const PRODUCE_STREAMS_MAX: u64 = 64;
/// Streams of one consumer to one broker. Partitions beyond it share them.
pub const FETCH_STREAMS_MAX: usize = 16;
/// What a record in the buffer counts beside its bytes: what it costs to keep its sender informed.
pub const RECORD_OVERHEAD_BYTES: usize = 64;
/// Records in one batch: brokers refuse more.
pub const BATCH_RECORDS_MAX: u32 = 100_000;
/// Record bytes of one fetch response, all partitions together: brokers give no more.
pub const FETCH_BYTES_MAX: usize = 8 * MIB;
/// A PEM text with certificates, in bytes.
pub const PEM_BYTES_MAX: usize = 256 * 1024;

/// Addresses of one name that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// The first wait after something failed; each further one is twice as long.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(20);
/// The longest wait after something failed.
pub const BACKOFF_MOST: Duration = Duration::from_secs(1);
/// How long an answer may be doubted that a broker gives about sequences, when the client does not know what became
/// of an earlier attempt. Longer than a leader that was replaced may think that it leads.
pub const DOUBT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a stream that ends may take to deliver what was written to it.
pub const FINISH_WAIT: Duration = Duration::from_secs(5);

/// What a batch may be that is read. The bounds are a broker's own, but for the ratio: a consumer inflates what its
/// topic's producers were allowed to write.
pub const READ: BatchLimits = BatchLimits {
    batch_bytes: 8 * MIB,
    records: BATCH_RECORDS_MAX as usize,
    headers: 10_000,
    inflated_bytes: 64 * MIB,
    inflate_ratio: 10_000,
};

const _: () = assert!(RESPONSE_BYTES_MAX >= FETCH_BYTES_MAX + READ.batch_bytes, "a fetch fits into a frame");
