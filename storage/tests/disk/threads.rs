//! With real threads: readers of history while segments are written, rolled and sealed under them.
#![allow(clippy::disallowed_methods)] // What is tested here is what only real threads do to each other.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_core::ids::LogIndex;
use tidemill_core::seams::{BoxFuture, Spawner};
use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::ids::Offset;
use tidemill_sim::disk::SimDisk;
use tidemill_storage::log::{GroupLog, LogOptions};

use super::world::{Life, Lots, append, at, batch, entry, id, placed};

struct Threads;

impl Spawner for Threads {
    fn task(&self, name: &'static str, future: BoxFuture<()>) {
        self.thread(name.to_owned(), future);
    }

    fn thread(&self, _name: String, future: BoxFuture<()>) {
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
        });
    }

    fn guest(&self, name: &'static str, future: BoxFuture<()>) {
        self.thread(name.to_owned(), future);
    }
}

const ENTRIES: u64 = 1_500;

/// Entry `index` holds one record of partition 0 and, every third, one of partition 1.
fn made(index: u64) -> tidemill_storage::log::LogEntry {
    let mut batches = vec![placed(at(1, 0), batch(Offset(index), 1, 900, index as i64))];
    if index.is_multiple_of(3) {
        batches.push(placed(at(1, 1), batch(Offset(index / 3), 1, 10, index as i64)));
    }
    entry(id(1, index), batches)
}

fn read(log: &GroupLog, lots: &Lots, applied: u64) {
    let upto = LogIndex(applied);
    let offset = lots.below(applied);
    let batches = log.batches(at(1, 0), Offset(offset), upto, 20_000).unwrap();
    assert!(!batches.is_empty(), "offset {offset} is below {applied}");
    for (nth, (index, placed)) in batches.iter().enumerate() {
        let header = BatchHeader::parse(&placed.batch).unwrap();
        assert_eq!((header.base_offset.0, index.0), (offset + nth as u64, offset + nth as u64));
    }
    let third = offset / 3;
    assert_eq!(log.index_of(at(1, 1), Offset(third)).unwrap(), Some(LogIndex(third * 3)));
    let next = offset.div_ceil(3) * 3;
    let found = log.next_with(LogIndex(offset), upto, &[at(1, 1)]).unwrap();
    assert_eq!(found, (next < applied).then_some(LogIndex(next)));
    let by_time = log.batch_for_time(at(1, 0), offset as i64, upto).unwrap();
    assert_eq!(by_time.map(|(index, _)| index), Some(LogIndex(offset)));
    let entries = log.entries(offset..applied, 10_000).unwrap();
    assert!(entries.iter().zip(offset..).all(|(entry, index)| *entry == made(index)) && !entries.is_empty());
}

#[test]
fn readers_see_history_whole_while_it_is_sealed_under_them() {
    let disk = SimDisk::new();
    let mut life = Life::on(&disk, 1);
    life.world.spawner = Arc::new(Threads);
    let options = LogOptions { segment_bytes: 100_000, tail_bytes: 20_000, ..LogOptions::default() };
    let (log, _) =
        GroupLog::open(&life.world, PathBuf::from("/data/shard-0"), options.clone(), life.on_fault())
            .unwrap();
    let (applied, reads) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..2)
        .map(|seed| {
            let (log, applied, reads, lots) = (log.clone(), applied.clone(), reads.clone(), Lots::new(seed));
            std::thread::spawn(move || {
                loop {
                    let upto = applied.load(Ordering::Acquire);
                    if upto > 0 {
                        read(&log, &lots, upto);
                        reads.fetch_add(1, Ordering::AcqRel);
                    }
                    if upto == ENTRIES {
                        return;
                    }
                }
            })
        })
        .collect();
    for index in 0..ENTRIES {
        life.run(append(&log, vec![made(index)])).unwrap();
        log.set_committed(id(1, index));
        applied.store(index + 1, Ordering::Release);
        // However slow the machine is, the readers come along.
        while reads.load(Ordering::Acquire) < index / 10 && !readers.iter().any(|reader| reader.is_finished())
        {
            std::thread::yield_now();
        }
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    life.run(log.close()).unwrap();
    assert_eq!(life.faults(), []);
    let (log, recovery) =
        GroupLog::open(&life.world, PathBuf::from("/data/shard-0"), options, life.on_fault()).unwrap();
    assert!(!recovery.unclean);
    (0..300).for_each(|seed| read(&log, &Lots::new(seed), ENTRIES));
    life.run(log.close()).unwrap();
}
