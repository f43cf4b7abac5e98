//! Every bound, with its unit and its reason; relations between them are asserted when this compiles.

use std::time::Duration;

use tidemill_protocol::batch::BatchLimits;

/// One mebibyte, in bytes.
pub const MIB: usize = 1 << 20;

// ---- what a client may send --------------------------------------------------------------------

/// A request frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 16 * MIB;
/// A response frame, record data included, in bytes.
pub const RESPONSE_BYTES_MAX: usize = 16 * MIB;
/// Any response frame, in bytes: there may be more partitions to tell of than record data. A client that asks for more gets
/// its stream ended.
pub const ANSWER_BYTES_MAX: usize = 128 * MIB;
/// Partitions that one answer about topics describes; topics beyond it are refused in their place. Each takes about 30
/// bytes of the frame, and five times that before it is written.
pub const METADATA_PARTITIONS_MAX: usize = 1 << 20;
/// What one answer may hold of committed offsets, in bytes; partitions beyond it are refused in their place.
pub const OFFSETS_ANSWER_BYTES_MAX: usize = 32 * MIB;
/// A record batch as produced, compressed, in bytes; a topic's `max.message.bytes` may not exceed it.
pub const BATCH_BYTES_MAX: usize = 8 * MIB;
/// The default of a topic's `max.message.bytes`: Kafka's own default plus the batch header, rounded up so
/// that a thousand records of 1 KiB fit.
pub const BATCH_BYTES_DEFAULT: usize = MIB + 64 * 1024;
/// Records in one batch.
pub const BATCH_RECORDS_MAX: usize = 100_000;
/// Bytes of a batch once it is decompressed for a task or a check.
pub const BATCH_INFLATED_BYTES_MAX: usize = 32 * MIB;
/// How many times its compressed size a batch may inflate to (beyond the first mebibyte).
pub const BATCH_INFLATE_RATIO_MAX: usize = 200;
/// Headers of one record.
pub const RECORD_HEADERS_MAX: usize = 64;
/// Headers that a dead letter has more than its record.
pub const DEAD_LETTER_FACTS_MAX: usize = 9;
/// What a batch may be at the door; its topic's own limit is looked at when it is decided.
pub const ACCEPTED_BATCH: BatchLimits = BatchLimits {
    batch_bytes: BATCH_BYTES_MAX,
    records: BATCH_RECORDS_MAX,
    headers: RECORD_HEADERS_MAX,
    inflated_bytes: BATCH_INFLATED_BYTES_MAX,
    inflate_ratio: BATCH_INFLATE_RATIO_MAX,
};
/// What a batch may be that a task reads: what is accepted, and the headers of a dead letter.
pub const READABLE_BATCH: BatchLimits =
    BatchLimits { headers: RECORD_HEADERS_MAX + DEAD_LETTER_FACTS_MAX, ..ACCEPTED_BATCH };
/// What any batch in a log may be. The dead letter of a record that was read is larger than that by the facts, and may
/// be larger than its topic takes.
pub const STORED_BATCH: BatchLimits = BatchLimits {
    batch_bytes: ENTRY_BYTES_MAX,
    headers: READABLE_BATCH.headers + DEAD_LETTER_FACTS_MAX,
    ..READABLE_BATCH
};
/// Requests of one stream that are being worked on: our own client's window.
pub const STREAM_REQUESTS_MAX: usize = 1_024;
/// Bytes of those requests: with so many under way, no more of the stream is read.
pub const STREAM_PENDING_BYTES_MAX: usize = 64 * MIB;
/// Bytes of produce requests waiting for their commit, over all clients of a broker.
pub const PRODUCE_PENDING_BYTES_MAX: usize = 256 * MIB;
/// The longest wait of a fetch.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);
/// Record bytes of one fetch response, whatever was asked for.
pub const FETCH_BYTES_MAX: usize = 8 * MIB;
/// The name of a consumer group, in bytes.
pub const CONSUMER_GROUP_NAME_BYTES_MAX: usize = 255;
/// What a client may keep with a committed offset, in bytes: Kafka's own default.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4 * 1024;
/// How long a commit of offsets is waited for before its client is told to try again: Kafka's own default.
pub const OFFSET_COMMIT_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long the move of a log start is waited for, whatever longer time a client names.
pub const DELETE_RECORDS_WAIT_MAX: Duration = Duration::from_secs(30);
/// Committed offsets that are looked at in one go, where somebody asks for all of a group's.
pub const GROUP_OFFSETS_PAGE: usize = 1_000;

/// How long the head of a request to the admin API may take, from the connection on, and the handshake before it.
pub const ADMIN_HEAD_WAIT_MAX: Duration = Duration::from_secs(10);
/// A document that is sent to the admin API, in bytes: a manifest as JSON, and room for many dead letters.
pub const ADMIN_DOCUMENT_BYTES_MAX: usize = MIB;
/// How long such a document may take to come in.
pub const ADMIN_DOCUMENT_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a component, or a bundle, may take to come in.
pub const ADMIN_COMPONENT_WAIT_MAX: Duration = Duration::from_secs(300);
/// How much of a body that is too large is read and dropped, in bytes, so that its sender hears of it.
pub const ADMIN_DROPPED_BYTES_MAX: usize = 4 * MIB;
/// A client that has sent part of a frame and is silent for so long gets its stream ended.
pub const FRAME_SILENCE_MAX: Duration = Duration::from_secs(10);
/// A client that takes nothing of an answer for so long gets its stream ended. One that works on what it was given
/// before may well read nothing meanwhile: Kafka's consumers by default for no longer (`max.poll.interval.ms`).
pub const ANSWER_SILENCE_MAX: Duration = Duration::from_secs(300);

// ---- topics ------------------------------------------------------------------------------------

/// Partitions of one topic.
pub const TOPIC_PARTITIONS_MAX: u32 = 1_024;
/// Topics of one affinity group; then the next group opens.
pub const AFFINITY_GROUP_TOPICS_MAX: u32 = 64;
/// Topics of one tenant.
pub const TENANT_TOPICS_MAX: usize = 20_000;
/// `retention.ms` of a topic that says nothing: seven days, as Kafka's.
pub const RETENTION_MS_DEFAULT: i64 = 7 * 24 * 60 * 60 * 1_000;

// ---- the disk ----------------------------------------------------------------------------------

/// The least reserve of a disk, in bytes: what was accepted and is not written yet has to fit.
pub const RESERVE_BYTES_MIN: u64 = 384 << 20;
/// Each of the files of zeros that give room when somebody else filled the disk, in bytes; whole MiB.
pub const BALLAST_BYTES: u64 = 64 << 20;

// ---- the log of a shard ------------------------------------------------------------------------

/// An entry, all its batches included, in bytes.
pub const ENTRY_BYTES_MAX: usize = 24 * MIB;
/// What a turn gathers before it is written, in bytes: beyond it more gathering buys nothing.
pub const TURN_BYTES_TARGET: usize = 4 * MIB;
/// From so many bytes on a write is worth a way past the page cache.
pub const DIRECT_WRITE_BYTES_MIN: usize = 256 * 1024;
/// Of a larger one, as many bytes go at once.
pub const DIRECT_WRITE_BYTES_MAX: usize = MIB;
/// Zeros that are written ahead of small commits into a file that has grown, in bytes.
pub const ZEROS_AHEAD_BYTES: usize = 512 * 1024;
/// The most bytes of a write that zeros are worth: a larger one pays for its own place.
pub const ZEROS_AHEAD_WRITE_BYTES_MAX: usize = 64 * 1024;
/// From so many bytes on that one partition has in a turn, they lie apart from those of others: so they can be given back
/// to the disk alone. With fewer, pages of their own would cost more than they give.
pub const APART_BYTES_MIN: usize = 8 * 1024;
/// Bytes that must have died in a segment before it is looked at for what can be given back of it.
pub const PUNCH_BYTES_MIN: u64 = 256 * 1024;
/// Bytes of chunks that are written in one commit while a segment is written anew.
pub const REWRITE_BYTES_MAX: usize = 2 * TURN_BYTES_TARGET;
/// Bytes appended and not yet durable, per shard; appends wait beyond it.
pub const UNSYNCED_BYTES_MAX: usize = 64 * MIB;
/// Bytes of recent entries kept in memory for readers, per shard.
pub const TAIL_BYTES_MAX: usize = 32 * MIB;
/// Bytes of entries, or of rows of a snapshot, in one message to a replica, unless a single one is larger.
pub const RAFT_PAGE_BYTES: usize = 4 * MIB;
/// Entries in one message to a replica.
pub const RAFT_PAGE_ENTRIES_MAX: u64 = 1_024;
/// Proposals and peers' messages that wait for Raft, per group; whoever has more waits.
pub const RAFT_QUEUE_MAX: u64 = 1_024;
/// Bytes after which a segment is sealed. Active segments of one broker hold about 1 GiB together.
pub const SEGMENT_BYTES_DEFAULT: u64 = 128 * MIB as u64;
/// Age after which a segment is sealed.
pub const SEGMENT_AGE_MAX: Duration = Duration::from_secs(3600);
/// Bytes of log after which the state is checkpointed.
pub const CHECKPOINT_LOG_BYTES: u64 = 64 * MIB as u64;
/// Time after which a changed state is checkpointed.
pub const CHECKPOINT_AGE_MAX: Duration = Duration::from_secs(5);
/// Keys that are looked at in one go where all that begins alike is removed.
pub const DELETED_PAGE_KEYS: usize = 1_000;
/// What redb may cache of a segment that is written, in bytes: half of it gathers a turn's pages.
pub const SEGMENT_CACHE_BYTES: usize = 16 * MIB;
/// What redb may cache of a sealed segment, in bytes: its inner pages and some of its index.
pub const SEALED_CACHE_BYTES: usize = MIB;
/// Sealed segments that are kept open, per shard.
pub const SEALED_OPEN_MAX: usize = 16;
/// Bytes of chunks read from disk that are kept for those who read the same history, per shard.
pub const CHUNK_CACHE_BYTES: usize = 8 * MIB;
/// What redb may cache of a group's small files, in bytes: its promises, its directory of segments.
pub const SMALL_FILE_CACHE_BYTES: usize = MIB;
/// What redb may cache of a group's state, in bytes.
pub const STATE_CACHE_BYTES: usize = 16 * MIB;
/// The largest state or directory that is verified page by page whenever it is opened, in bytes.
pub const VERIFIED_FILE_BYTES_MAX: u64 = 256 * MIB as u64;
/// Offsets of a partition that one row of the index of descent covers; a power of two. About what a step takes.
pub const DESCENT_COVER_MAX: u64 = 1_024;
/// The distance between two parents beyond which a row does not cover both: records in between have no descendants there,
/// and whoever asks for them looks in vain.
pub const DESCENT_GAP_MAX: u64 = 64;
/// Rows of the index of descent that are kept in one ordered map while their segment is not sealed.
pub const DESCENT_BLOCK_ROWS: usize = 4_096;

// ---- backups -----------------------------------------------------------------------------------

/// The list of a backup's files, in bytes: about 200 for each.
pub const BACKUP_MANIFEST_BYTES_MAX: usize = 64 * MIB;
/// What is read of a file at once to copy it, in bytes.
pub const BACKUP_PIECE_BYTES: usize = MIB;

// ---- plugins -----------------------------------------------------------------------------------

/// A component as deployed, in bytes (JavaScript and Python guests take 12 to 18 MB).
pub const COMPONENT_BYTES_MAX: usize = 64 * MIB;
/// A manifest, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;
/// A deployment's configuration, keys and values together, in bytes.
pub const CONFIG_BYTES_MAX: usize = 64 * 1024;
/// Topics that a plugin subscribes to, or may publish to.
pub const PLUGIN_TOPICS_MAX: usize = 16;
/// Bundles of a plugin.
pub const BUNDLES_MAX: usize = 8;
/// The archive of a bundle, in bytes: as much as a component.
pub const BUNDLE_BYTES_MAX: usize = 64 * MIB;
/// Files of a bundle.
pub const BUNDLE_FILES_MAX: usize = 4_096;
/// The path of a file within its bundle, in bytes; and where a bundle is mounted.
pub const BUNDLE_PATH_BYTES_MAX: usize = 255;
/// Files, folders and streams of bundles that a guest may hold open at once.
pub const GUEST_FILES_OPEN_MAX: usize = 64;
/// Bytes of a file that a guest reads at once.
pub const GUEST_FILE_READ_BYTES_MAX: usize = 64 * 1024;
/// Steps of one task that may be on their way to the disk while it takes the next.
pub const STEPS_AHEAD_MAX: usize = 64;
/// Timers of a task that are counted when people ask how many there are.
pub const TIMERS_COUNTED_MAX: usize = 10_000;
/// Events of one step.
pub const STEP_EVENTS_MAX: usize = 1_000;
/// Bytes of the events of one step, unless a single one is larger.
pub const STEP_INPUT_BYTES_MAX: usize = MIB;
/// The default of what one step may emit, in bytes of keys, values and headers.
pub const STEP_OUTPUT_BYTES_DEFAULT: usize = 4 * MIB;
/// The most that a manifest may allow a step to emit, in bytes.
pub const STEP_OUTPUT_BYTES_MAX: usize = 8 * MIB;
/// The default of how many records one step may emit.
pub const STEP_OUTPUT_RECORDS_DEFAULT: usize = 100_000;
/// The most records that a manifest may allow a step to emit.
pub const STEP_OUTPUT_RECORDS_MAX: usize = 100_000;
/// The default of what one step may write to its state, in bytes.
pub const STEP_STATE_BYTES_DEFAULT: usize = 4 * MIB;
/// The most that a manifest may allow a step to write to its state, in bytes.
pub const STEP_STATE_BYTES_MAX: usize = 8 * MIB;
/// A key of a task's state, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 1_024;
/// A value of a task's state, in bytes.
pub const STATE_VALUE_BYTES_MAX: usize = MIB;
/// Pairs that one scan of the state returns.
pub const STATE_SCAN_MAX: usize = 1_000;
/// Bytes of keys and values after which a scan of the state returns what it has; one pair it always returns.
pub const STATE_SCAN_BYTES_MAX: usize = MIB;
/// What each change of the state counts beside its key and value, in bytes: about what an entry and the
/// broker's memory spend on it, so that a million tiny changes are as dear as they are.
pub const STATE_CHANGE_BYTES: usize = 32;
/// What each change of a timer counts beside its name, in bytes: an entry says which record set it.
pub const TIMER_CHANGE_BYTES: usize = 96;
/// The default memory of an instance, in bytes.
pub const GUEST_MEMORY_DEFAULT: usize = 64 * MIB;
/// The most memory that a manifest may ask for, in bytes.
pub const GUEST_MEMORY_MAX: usize = 256 * MIB;
/// The default processor time of one step.
pub const GUEST_CPU_DEFAULT: Duration = Duration::from_millis(500);
/// The most processor time that a manifest may ask for.
pub const GUEST_CPU_MAX: Duration = Duration::from_secs(10);
/// How often a running guest lets others run, and its deadline is looked at.
pub const GUEST_TICK: Duration = Duration::from_millis(5);
/// Ticks without a guest after which none is looked for until the next step begins.
pub const GUEST_QUIET_TICKS: u32 = 200;
/// The call stack of an instance, in bytes. (A Rust guest keeps a second one in its linear memory.)
pub const GUEST_STACK_BYTES: usize = 512 * 1024;
/// Elements of one table of a component (Python guests need about 50,000).
pub const GUEST_TABLE_ELEMENTS_MAX: usize = 50_000;
/// Core instances of one component (Python guests are made of about 40), and tables.
pub const GUEST_CORE_INSTANCES_MAX: u32 = 64;
/// Linear memories of one component.
pub const GUEST_MEMORIES_MAX: u32 = 4;
/// Handles that a guest may hold at once; the contract gives it one.
pub const GUEST_HANDLES_MAX: usize = 1_000;
/// Random bytes that a guest of WASI may ask for at once.
pub const GUEST_RANDOM_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the host's memory that each record of one `emit` may take beside its own bytes.
pub const GUEST_RECORD_OVERHEAD: usize = 128;
/// What a header of an emitted record counts beside its name and value, in bytes: the host keeps about four times as much.
pub const HEADER_BYTES: usize = 16;
/// A reason or a panic's message, as far as it is kept, in bytes.
pub const GUEST_REASON_BYTES_MAX: usize = 4 * 1024;
/// Frames of a backtrace, from the innermost out.
pub const GUEST_BACKTRACE_FRAMES_MAX: usize = 32;
/// Instructions that stand for a millisecond where time must not decide: about what a processor of today runs.
pub const GUEST_FUEL_PER_MS: u64 = 1_000_000;
/// Guests at once, of all tasks of a broker. Each reserves address space, and uses memory as it touches it.
pub const GUESTS_DEFAULT: u32 = 256;
/// A line of a guest's log, in bytes.
pub const GUEST_LOG_LINE_BYTES_MAX: usize = 1_024;
/// Lines of one step's log.
pub const GUEST_LOG_LINES_MAX: usize = 1_000;
/// How long a line of a plugin's log may wait for others to be written with.
pub const LOG_WRITE_EVERY: Duration = Duration::from_millis(200);
/// Lines of one plugin that wait to be written, per shard, in bytes with what each takes beside its words: with the pause
/// between two writes, this is how much it may log in a second. A step's lines fit, as they usually are.
pub const LOG_WAITING_BYTES_MAX: usize = 256 * 1024;
/// Lines of all plugins that wait to be written, per shard, in bytes.
pub const LOG_WAITING_SHARD_BYTES_MAX: usize = 4 * MIB;
/// `retention.ms` of a plugin's log when it is made: a day.
pub const LOG_RETENTION_MS: i64 = 24 * 60 * 60 * 1_000;
/// `retention.bytes` of a plugin's log when it is made, of each partition.
pub const LOG_RETENTION_BYTES: i64 = 16 * MIB as i64;
/// Lines of a plugin's log in one answer of the admin API.
pub const LOG_LINES_SHOWN_MAX: usize = 1_000;
/// Other versions of its state that a plugin may declare to read.
pub const STATE_VERSIONS_MAX: usize = 64;
/// A task with records to consume and none consumed for so long is *stalled*.
pub const STALLED_AFTER: Duration = Duration::from_secs(30);
/// Records that a task has not consumed are *expiring* in the last part of the time, or of the bytes, that their topic
/// keeps: one in so many …
pub const EXPIRING_SHARE: u64 = 10;
/// … and of the time, so much at most.
pub const EXPIRING_SOON: Duration = Duration::from_secs(24 * 60 * 60);
/// Dead letters that are looked at for one answer.
pub const LETTERS_LOOKED_MAX: usize = 100_000;
/// Reasons that are told apart in one answer about dead letters.
pub const LETTER_REASONS_MAX: usize = 100;
/// Records of a trace, when nothing else is said.
pub const TRACE_RECORDS_DEFAULT: usize = 1_000;
/// The most records that a trace may be asked for.
pub const TRACE_RECORDS_MAX: usize = 10_000;
/// Generations of descendants of a trace, and of ancestors, when nothing else is said: as many as a chain may have.
pub const TRACE_DEPTH_DEFAULT: u32 = HOPS_DEFAULT;
/// Entries of logs that are read for one trace.
pub const TRACE_ENTRIES_MAX: usize = 20_000;
/// Dead letters that one entry discards, or has redriven.
pub const LETTERS_OF_ENTRY_MAX: usize = 4_096;
/// Attempts at one event before the failure policy decides, by default.
pub const ATTEMPTS_DEFAULT: u32 = 3;
/// The most attempts that a manifest may ask for.
pub const ATTEMPTS_MAX: u32 = 100;
/// Hops from a chain's first record beyond which nothing is derived, by default.
pub const HOPS_DEFAULT: u32 = 16;
/// The most hops that a declared cycle may ask for.
pub const HOPS_MAX: u32 = 1_000;
/// Memory that compiling a component may take, in bytes.
pub const COMPILE_MEMORY_MAX: u64 = 2 << 30;
/// Processor time that it may take.
pub const COMPILE_CPU_MAX: Duration = Duration::from_secs(60);
/// Wall time that it may take.
pub const COMPILE_WALL_MAX: Duration = Duration::from_secs(120);
/// Machine code of a component, in bytes: two to three times its size, as measured.
pub const ARTIFACT_BYTES_MAX: usize = 4 * COMPONENT_BYTES_MAX;

// ---- how they fit together ---------------------------------------------------------------------

/// What an entry holds beside the records of its batches, at most, in bytes, for one mebibyte of records or less.
const ENTRY_OVERHEAD_MAX: usize = 4 * MIB;

const _: () = assert!(
    FRAME_BYTES_MAX >= BATCH_BYTES_MAX + MIB,
    "a frame must hold the largest batch and what stands around it"
);
const _: () = assert!(
    STREAM_PENDING_BYTES_MAX >= 2 * FRAME_BYTES_MAX
        && STREAM_PENDING_BYTES_MAX <= PRODUCE_PENDING_BYTES_MAX / 2,
    "a stream holds the largest frame beside others, and leaves room for other streams"
);
const _: () = assert!(
    ADMIN_DOCUMENT_BYTES_MAX >= 8 * MANIFEST_BYTES_MAX,
    "a document holds the largest manifest, whatever its letters take in JSON"
);
const _: () = assert!(
    ENTRY_BYTES_MAX >= STEP_OUTPUT_BYTES_MAX + STEP_STATE_BYTES_MAX + ENTRY_OVERHEAD_MAX,
    "an entry must hold the largest step"
);
const _: () = assert!(
    ENTRY_BYTES_MAX >= FRAME_BYTES_MAX + ENTRY_OVERHEAD_MAX,
    "an entry must hold the batches of the largest frame"
);
const _: () = assert!(
    RESPONSE_BYTES_MAX >= FETCH_BYTES_MAX + BATCH_BYTES_MAX,
    "a fetch returns at least one batch, whatever its size, behind what it has"
);
const _: () = assert!(
    ANSWER_BYTES_MAX >= RESPONSE_BYTES_MAX
        && ANSWER_BYTES_MAX >= 64 * METADATA_PARTITIONS_MAX
        && ANSWER_BYTES_MAX >= 2 * OFFSETS_ANSWER_BYTES_MAX,
    "what an answer may hold can be sent"
);
const _: () =
    assert!(UNSYNCED_BYTES_MAX >= 2 * ENTRY_BYTES_MAX, "one turn can be synced while the next gathers");
const _: () = assert!(
    SEGMENT_CACHE_BYTES >= 4 * TURN_BYTES_TARGET,
    "half of the cache holds a turn and the pages around it"
);
const _: () = assert!(
    BATCH_INFLATED_BYTES_MAX >= BATCH_BYTES_MAX,
    "a batch that may be stored may also be read by a task"
);
const _: () = assert!(
    LOG_WAITING_BYTES_MAX + MIB / 2 <= BATCH_BYTES_DEFAULT
        && LOG_WAITING_SHARD_BYTES_MAX <= ENTRY_BYTES_MAX / 2,
    "the lines that wait go into one batch for each task, and into one entry"
);
const _: () = assert!(
    STEP_STATE_BYTES_DEFAULT >= STATE_KEY_BYTES_MAX + STATE_VALUE_BYTES_MAX + STATE_CHANGE_BYTES,
    "a step may write the largest value that there can be"
);
const _: () = assert!(
    COMPILE_MEMORY_MAX >= 2 * (COMPONENT_BYTES_MAX + ARTIFACT_BYTES_MAX) as u64,
    "who compiles the largest component has room for it and for what comes out, and as much again to work with"
);
const _: () = assert!(
    DESCENT_COVER_MAX.is_power_of_two() && DESCENT_COVER_MAX >= STEP_EVENTS_MAX as u64,
    "a step that takes records in a row has one row in the index of descent"
);
