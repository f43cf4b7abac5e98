//! What Raft costs a lone voter on a real disk: from propose to applied, beside the bare log in the same run.
//!
//! `cargo bench -p tidemill-storage --bench proposals [-- FOLDER]`; the folder should lie on the disk in question.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // This is a shell: it measures real time and real files.

#[path = "turns/files.rs"]
mod files;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use files::{Counts, real_world};
use tidemill_core::effect::Effect;
use tidemill_core::entry::{Entry, EntryKind, PlacedBatch};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, GroupId, LogIndex, ShardId, Term};
use tidemill_core::seams::{Timestamp, World};
use tidemill_core::tables::Tables;
use tidemill_protocol::batch::{BatchBuilder, stamp};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::ids::{Offset, Partition, TopicId, TopicPartition};
use tidemill_storage::group::{Group, GroupOptions, Machine, Role};
use tidemill_storage::log::{EncodedEntry, GroupLog, LogEntry, LogId, LogOptions, Payload};

const MIB: f64 = 1_048_576.0;
const ME: BrokerId = BrokerId(1);
const ROUNDS: usize = 8;

/// Changes one row with each entry, as a shard's high watermark does.
struct Counter;

impl Machine for Counter {
    fn apply(
        &self,
        tables: &mut dyn Tables,
        index: LogIndex,
        _: &Entry,
        _: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        tables.put(Bytes::from_static(b"end"), Bytes::copy_from_slice(&index.0.to_be_bytes()));
        Ok(())
    }

    fn perform(&self, _: Term, _: Vec<Effect>) {}
}

fn main() -> Result<()> {
    let chosen = std::env::args().nth(1).filter(|argument| !argument.starts_with("--"));
    let place = tempfile::tempdir_in(chosen.unwrap_or_else(|| ".".to_owned()))?;
    let (world, counts) = real_world();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    println!("on {}", place.path().display());
    runtime.block_on(one_at_a_time(&world, &counts, place.path(), 1_000, 250))?;
    runtime.block_on(one_at_a_time(&world, &counts, place.path(), 1_048_000, 25))?;
    for (name, bytes, total) in
        [("1 KiB", 1_000, 200 << 20), ("16 KiB", 16_000, 400 << 20), ("1 MiB", 1_048_000, 600 << 20)]
    {
        runtime.block_on(many_in_flight(&world, place.path(), name, bytes, total))?;
    }
    runtime.block_on(starting_again(&world, place.path()))?;
    Ok(())
}

async fn one_at_a_time(
    world: &World,
    counts: &Counts,
    place: &Path,
    bytes: usize,
    count: usize,
) -> Result<()> {
    let log = open_log(world, place.join(format!("log-{bytes}")))?;
    append(&log, entry(0, bytes)).await?;
    let (group, term) = open_group(world, place.join(format!("group-{bytes}"))).await?;
    let (mut bare, mut raft) = (Vec::new(), Vec::new());
    let (mut log_syncs, mut group_syncs) = (0, 0);
    let mut index = 1;
    for _ in 0..ROUNDS {
        let before = counts.syncs();
        for _ in 0..count {
            let entry = entry(index, bytes);
            let begun = Instant::now();
            append(&log, entry).await?;
            bare.push(begun.elapsed());
            index += 1;
        }
        log_syncs += counts.syncs() - before;
        let before = counts.syncs();
        for _ in 0..count {
            let entry = plain(index, bytes);
            let begun = Instant::now();
            group.propose(term, entry).await?.await?;
            raft.push(begun.elapsed());
        }
        group_syncs += counts.syncs() - before;
    }
    println!("one entry of {bytes} bytes at a time, {} of each in turns of {count}:", bare.len());
    println!("  log, appended to durable:   {}, {log_syncs} syncs", quantiles(bare));
    println!("  group, proposed to applied: {}, {group_syncs} syncs", quantiles(raft));
    println!("  {} MiB written by both, so far", counts.bytes() >> 20);
    group.shutdown().await?;
    log.close().await?;
    Ok(())
}

async fn many_in_flight(world: &World, place: &Path, name: &str, bytes: usize, total: usize) -> Result<()> {
    let count = total / bytes;
    let log = open_log(world, place.join(format!("many-log-{bytes}")))?;
    append(&log, entry(0, bytes)).await?;
    let begun = Instant::now();
    let mut waiting = VecDeque::new();
    for index in 1..=count as u64 {
        let entry = entry(index, bytes);
        log.wait_for_room().await;
        waiting.push_back(start_append(&log, entry));
        if waiting.len() >= 1_000 {
            waiting.pop_front().expect("there are a thousand").await??;
        }
    }
    for appended in waiting {
        appended.await??;
    }
    let bare = begun.elapsed();
    log.close().await?;

    let (group, term) = open_group(world, place.join(format!("many-group-{bytes}"))).await?;
    let begun = Instant::now();
    let mut waiting = VecDeque::new();
    for index in 1..=count as u64 {
        waiting.push_back(group.propose(term, plain(index, bytes)).await?);
        if waiting.len() >= 1_000 {
            waiting.pop_front().expect("there are a thousand").await?;
        }
    }
    for proposed in waiting {
        proposed.await?;
    }
    let raft = begun.elapsed();
    group.shutdown().await?;
    let rate = |time: Duration| {
        let seconds = time.as_secs_f64();
        format!(
            "{:7.1} MiB/s, {:8.0} entries/s",
            (count * bytes) as f64 / MIB / seconds,
            count as f64 / seconds
        )
    };
    println!("{count} entries of {name}, up to 1,000 in flight:");
    println!("  log, appended to durable:   {}", rate(bare));
    println!("  group, proposed to applied: {}", rate(raft));
    Ok(())
}

async fn starting_again(world: &World, place: &Path) -> Result<()> {
    let folder = place.join("again");
    let mut terms = Vec::new();
    let mut times = Vec::new();
    for life in 0..20 {
        let begun = Instant::now();
        let (group, term) = open_group(world, folder.clone()).await?;
        times.push(begun.elapsed());
        terms.push(term);
        for index in 0..200 {
            group.propose(term, plain(life * 200 + index, 16_000)).await?.await?;
        }
        group.shutdown().await?;
    }
    times.remove(0);
    println!("a lone voter starts again and leads, {} lives: {}", times.len(), quantiles(times));
    Ok(())
}

fn quantiles(mut all: Vec<Duration>) -> String {
    all.sort();
    let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms", at(0.5), at(0.9), at(0.99))
}

fn plain(index: u64, bytes: usize) -> Entry {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(index as i64, None, Some(&vec![index as u8; bytes - 150]), &[]).unwrap_or_default();
    let mut batch = builder.build().map(|batch| batch.to_vec()).unwrap_or_default();
    stamp(&mut batch, Offset(index), 1);
    let at = TopicPartition { topic: TopicId([1; 16]), partition: Partition(0) };
    let placed = PlacedBatch { away: None, at, envelope: Bytes::from_static(&[0; 16]), batch: batch.into() };
    Entry {
        kind: EntryKind::Produce,
        append_time: Timestamp(index),
        meta: Bytes::new(),
        batches: vec![placed],
    }
}

fn entry(index: u64, bytes: usize) -> LogEntry {
    let payload = Payload::Entry(EncodedEntry::new(plain(index, bytes)));
    LogEntry { id: LogId { term: Term(1), index: LogIndex(index) }, payload }
}

fn open_log(world: &World, folder: PathBuf) -> Result<GroupLog> {
    Ok(GroupLog::open(world, folder, LogOptions::default(), Arc::new(|fault| panic!("{fault}")))?.0)
}

fn start_append(log: &GroupLog, entry: LogEntry) -> tokio::sync::oneshot::Receiver<Result<(), Fault>> {
    let (tell, told) = tokio::sync::oneshot::channel();
    log.append(vec![entry], Box::new(move |result| drop(tell.send(result))));
    told
}

async fn append(log: &GroupLog, entry: LogEntry) -> Result<()> {
    Ok(start_append(log, entry).await??)
}

/// Opens a lone voter, forms it if it is new, and waits until it leads.
async fn open_group(world: &World, folder: PathBuf) -> Result<(Group, Term)> {
    let options = GroupOptions::new(folder, GroupId::Shard(ShardId(0)), ME);
    let (group, _) =
        Group::open(options, world, Arc::new(Counter), Arc::new(|fault| panic!("{fault}"))).await?;
    group.form(&BTreeSet::from([ME])).await?;
    let mut leadership = group.leadership();
    let leads = leadership.wait_for(|now| now.role == Role::Leader).await?.term;
    Ok((group, leads))
}
