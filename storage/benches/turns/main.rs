//! What a turn costs on a real disk, beside what a bare redb commit of the same size costs in the same run.
//!
//! `cargo bench -p tidemill-storage --bench turns [-- FOLDER]`; the folder should lie on the disk in question.
//! Every figure is printed with the load that gave it; latencies are from append to acknowledgement.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // This is a shell: it measures real time and real files.

mod descent;
mod files;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use files::{Counts, real_world};
use redb::{Database, TableDefinition};
use tidemill_core::entry::{Entry, EntryKind, PlacedBatch};
use tidemill_core::ids::{LogIndex, Term};
use tidemill_core::seams::{Timestamp, World};
use tidemill_protocol::batch::{BatchBuilder, stamp};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::ids::{Offset, Partition, TopicId, TopicPartition};
use tidemill_storage::log::{EncodedEntry, GroupLog, LogEntry, LogId, LogOptions, Payload};

const TABLE: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("bare");
const MIB: f64 = 1_048_576.0;

fn main() -> Result<()> {
    let chosen = std::env::args().nth(1).filter(|argument| !argument.starts_with("--"));
    let place = tempfile::tempdir_in(chosen.unwrap_or_else(|| ".".to_owned()))?;
    let (world, counts) = real_world();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    println!("on {}", place.path().display());
    runtime.block_on(descent::appending(&world, place.path()))?;
    for (name, bytes, turns) in [("1 MiB", 1_048_000, 40), ("64 KiB", 65_000, 100), ("1 KiB", 1_000, 300)] {
        runtime.block_on(side_by_side(&world, &counts, place.path(), (name, bytes), turns))?;
    }
    for (name, bytes, total) in [
        ("1 MiB", 1_048_000, 600 << 20),
        ("100-900 KB", 0, 600 << 20),
        ("16 KiB", 16_000, 400 << 20),
        ("1 KiB", 1_000, 100 << 20),
    ] {
        let folder = place.path().join(format!("many-{bytes}"));
        println!(
            "log, entries of {name}, as fast as it takes: {}",
            runtime.block_on(flat_out(&world, &counts, folder, bytes, total))?
        );
    }
    runtime.block_on(reopening(&world, place.path()))?;
    Ok(())
}

/// Latencies of commits of so many bytes each.
#[derive(Default)]
struct Latency {
    all: Vec<Duration>,
    bytes: usize,
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.all.clone();
        sorted.sort();
        let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        let seconds = self.all.iter().sum::<Duration>().as_secs_f64();
        let rate = (self.all.len() * self.bytes) as f64 / MIB / seconds;
        write!(f, "p50 {:7.3} ms, p99 {:7.3} ms, {rate:6.1} MiB/s", at(0.5), at(0.99))
    }
}

const ROUNDS: u64 = 8;

/// One commit at a time, bare and ours in turns, so that whatever else the machine does hits both.
async fn side_by_side(
    world: &World,
    counts: &Counts,
    place: &Path,
    (name, bytes): (&str, usize),
    turns: u64,
) -> Result<()> {
    let database =
        Database::builder().set_cache_size(16 << 20).create(place.join(format!("bare-{bytes}.redb")))?;
    let log = open(world, place.join(format!("one-{bytes}")))?;
    append(&log, entry(0, bytes)).await?;
    let value = vec![7; bytes];
    let (mut bare, mut ours) =
        (Latency { bytes, ..Latency::default() }, Latency { bytes, ..Latency::default() });
    let mut written = 0;
    for round in 0..ROUNDS {
        for turn in round * turns..(round + 1) * turns {
            let begun = Instant::now();
            let transaction = database.begin_write()?;
            transaction.open_table(TABLE)?.insert(turn, &value[..])?;
            transaction.commit()?;
            bare.all.push(begun.elapsed());
        }
        let before = counts.bytes();
        for turn in round * turns..(round + 1) * turns {
            let entry = entry(turn + 1, bytes);
            let begun = Instant::now();
            append(&log, entry).await?;
            ours.all.push(begun.elapsed());
        }
        written += counts.bytes() - before;
    }
    let amplification = written as f64 / (ROUNDS * turns) as f64 / bytes as f64;
    println!("bare redb, one value of {name} a commit: {bare}");
    println!("log, one entry of {name} a turn:         {ours}, {amplification:.2} bytes written a byte");
    log.close().await?;
    Ok(())
}

fn entry(index: u64, bytes: usize) -> LogEntry {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(index as i64, None, Some(&vec![index as u8; bytes - 150]), &[]).unwrap_or_default();
    let mut batch = builder.build().map(|batch| batch.to_vec()).unwrap_or_default();
    stamp(&mut batch, Offset(index), 1);
    let at = TopicPartition { topic: TopicId([1; 16]), partition: Partition(0) };
    let placed = PlacedBatch { away: None, at, envelope: Bytes::from_static(&[0; 16]), batch: batch.into() };
    let (kind, append_time) = (EntryKind::Produce, Timestamp(index));
    let entry = Entry { kind, append_time, meta: Bytes::new(), batches: vec![placed] };
    LogEntry {
        id: LogId { term: Term(1), index: LogIndex(index) },
        payload: Payload::Entry(EncodedEntry::new(entry)),
    }
}

fn open(world: &World, folder: PathBuf) -> Result<GroupLog> {
    let on_fault = Arc::new(|fault| panic!("{fault}"));
    Ok(GroupLog::open(world, folder, LogOptions::default(), on_fault)?.0)
}

async fn flat_out(
    world: &World,
    counts: &Counts,
    folder: PathBuf,
    bytes: usize,
    total: usize,
) -> Result<String> {
    let log = open(world, folder)?;
    append(&log, entry(0, bytes.max(1_000))).await?;
    let (start, written, syncs) = (Instant::now(), counts.bytes(), counts.syncs());
    let (mut payload, mut index, mut waiting) = (0, 1, VecDeque::new());
    let mut lots: u64 = 1;
    while payload < total {
        lots = lots.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = if bytes > 0 { bytes } else { 100_000 + (lots >> 33) as usize % 800_000 };
        let entry = entry(index, size);
        (payload, index) = (payload + size, index + 1);
        log.wait_for_room().await;
        log.set_committed(LogId { term: Term(1), index: LogIndex(index - 2) });
        let (tell, told) = tokio::sync::oneshot::channel();
        log.append(vec![entry], Box::new(move |result| drop(tell.send(result))));
        waiting.push_back(told);
        // Some are in flight, so that turns gather; not all, so that memory is bounded.
        if waiting.len() > 1_000 {
            waiting.pop_front().context("an append")?.await??;
        }
    }
    for told in waiting {
        told.await??;
    }
    let seconds = start.elapsed().as_secs_f64();
    let amplification = (counts.bytes() - written) as f64 / payload as f64;
    let syncs = counts.syncs() - syncs;
    log.close().await?;
    let rate = payload as f64 / MIB / seconds;
    Ok(format!("{rate:7.1} MiB/s, {syncs} syncs, {amplification:.2} bytes written a byte"))
}

/// A segment that is nearly full, as a killed process leaves it.
async fn reopening(world: &World, place: &Path) -> Result<()> {
    for (name, bytes) in [("1 MiB", 1_048_000), ("16 KiB", 16_000), ("1 KiB", 1_000)] {
        let (folder, copy) = (place.join(format!("left-{bytes}")), place.join(format!("copy-{bytes}")));
        let log = open(world, folder.clone())?;
        let mut told = Vec::new();
        for index in 0..(126 << 20) / bytes as u64 {
            log.wait_for_room().await;
            let (tell, last) = tokio::sync::oneshot::channel();
            log.append(vec![entry(index, bytes)], Box::new(move |result| drop(tell.send(result))));
            told = vec![last];
        }
        for told in told {
            told.await??;
        }
        copy_folder(&folder, &copy)?;
        let begun = Instant::now();
        let left_open = open(world, copy.clone())?;
        let killed = begun.elapsed();
        left_open.close().await?;
        let begun = Instant::now();
        let closed = open(world, copy)?;
        println!(
            "reopening an active segment of 126 MiB in entries of {name}: {:.0} ms after a kill, {:.0} ms after a close",
            killed.as_secs_f64() * 1e3,
            begun.elapsed().as_secs_f64() * 1e3
        );
        closed.close().await?;
        log.close().await?;
    }
    Ok(())
}

async fn append(log: &GroupLog, entry: LogEntry) -> Result<()> {
    let (tell, told) = tokio::sync::oneshot::channel();
    log.append(vec![entry], Box::new(move |result| drop(tell.send(result))));
    Ok(told.await??)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}
