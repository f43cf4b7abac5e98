//! The bare rates of redb: one value, one table, one commit, one sync, and the next; on the disk of the broker.
//!
//! The settings are those of a shard's log: commits of one phase with checksums, redb's cache as large as a segment's,
//! and a new file when one has as many bytes as a segment.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::{Database, TableDefinition};
use tidemill_core::limits;

use crate::row::Row;
use crate::stage::{RECORD_BYTES, Stage};
use crate::times::{Stretch, Times};

const CHUNKS: TableDefinition<'static, (u64, u8), &'static [u8]> = TableDefinition::new("chunks");
/// A value that fills a page of 1 MiB, with what redb keeps beside it there: one byte more would take 2 MiB.
const CHUNK_BYTES: usize = limits::MIB - 17;
/// Before the measurement.
const WARM_COMMITS: u64 = 20;

/// Chunks of 1 MiB.
pub fn bulk(stage: &Stage<'_>, time: Duration) -> anyhow::Result<Row> {
    commits(stage, time, "redb bulk, 1 MiB a commit", CHUNK_BYTES)
}

/// Chunks of 1 KiB.
pub fn small(stage: &Stage<'_>, time: Duration) -> anyhow::Result<Row> {
    commits(stage, time, "redb, 1 KiB a commit", RECORD_BYTES)
}

fn commits(stage: &Stage<'_>, time: Duration, name: &'static str, bytes: usize) -> anyhow::Result<Row> {
    let folder = tempfile::Builder::new().prefix("redb-").tempdir_in(stage.folder())?;
    let value = vec![7; bytes];
    let mut log = Log::begin(folder.path())?;
    let (mut stretch, mut times, mut number) = (Stretch::of(time), Times::default(), 0);
    while stretch.lasts() {
        let begun = Instant::now();
        log.append(number, &value)?;
        times.since(begun);
        number += 1;
        if number == WARM_COMMITS {
            (stretch, times) = (Stretch::of(time), Times::default());
        }
    }
    let row = Row::new(name, stretch.elapsed());
    Ok(row.amount(times.count(), "commits", bytes).latency(times))
}

/// Files, one after the other.
struct Log {
    folder: PathBuf,
    database: Database,
    files: u32,
    bytes: u64,
}

impl Log {
    fn begin(folder: &Path) -> anyhow::Result<Log> {
        Ok(Log { folder: folder.to_owned(), database: make(folder, 0)?, files: 1, bytes: 0 })
    }

    fn append(&mut self, number: u64, value: &[u8]) -> anyhow::Result<()> {
        if self.bytes + value.len() as u64 > limits::SEGMENT_BYTES_DEFAULT {
            self.database = make(&self.folder, self.files)?;
            std::fs::remove_file(path(&self.folder, self.files - 1))?;
            (self.files, self.bytes) = (self.files + 1, 0);
        }
        let mut transaction = self.database.begin_write()?;
        transaction.set_two_phase_commit(false);
        transaction.open_table(CHUNKS)?.insert((number, 0), value)?;
        transaction.commit()?;
        self.bytes += value.len() as u64;
        Ok(())
    }
}

fn path(folder: &Path, file: u32) -> PathBuf {
    folder.join(format!("{file}.redb"))
}

fn make(folder: &Path, file: u32) -> anyhow::Result<Database> {
    let mut builder = Database::builder();
    builder.set_cache_size(limits::SEGMENT_CACHE_BYTES);
    Ok(builder.create(path(folder, file))?)
}
