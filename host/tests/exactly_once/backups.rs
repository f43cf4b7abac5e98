//! Backups of a broker on which the chain runs: each is a broker of one moment.
//!
//! Several are taken, one after the other, while orders come in and steps are in flight. Each is verified, restored, and
//! held against the original entry by entry, row by row, up to its cut. Then a broker is opened on it, runs to its rest,
//! and must have done everything exactly once: what had left a shard at the cut and had not arrived arrives now, and
//! what had arrived is not taken twice.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tidemill_checker::{History, check};
use tidemill_core::entry::Entry;
use tidemill_core::ids::{BrokerId, LogIndex};
use tidemill_core::seams::OpenMode;
use tidemill_core::tables::{MemoryTables, View};
use tidemill_core::{catalog, shard};
use tidemill_host::backup::manifest::Manifest;
use tidemill_host::backup::place::Place;
use tidemill_host::backup::restore::restore;
use tidemill_host::backup::verify::verify;
use tidemill_host::broker::{Broker, BrokerOptions};
use tidemill_sim::broker::SimBroker;
use tidemill_sim::chance::SimChance;
use tidemill_sim::clock::SimClock;
use tidemill_sim::disk::SimDisk;
use tidemill_sim::for_seeds;
use tidemill_sim::net::SimNet;
use tidemill_storage::log::{EncodedEntry, GroupLog, LogEntry, LogOptions, Payload};
use tidemill_storage::state::{StateOptions, StateStore};

use crate::chain::chain;
use crate::life::{End, Life};
use crate::producer::Producer;
use crate::proof::Kept;
use crate::story::{Broken, SEGMENT_BYTES, rests};

const SEEDS: u64 = 4;
const ORDERS: usize = 240;
const BACKUPS: usize = 4;
const BACKUPS_IN: &str = "/backups";
/// How long after orders were handed over a backup is asked for, at most, in microseconds: while they are handled.
const PAUSE_US_MAX: u64 = 4_000;
const LOOK: Duration = Duration::from_millis(20);

fn options(folder: PathBuf, shards: u16) -> BrokerOptions {
    BrokerOptions {
        folder,
        shards,
        reserve_bytes: 0,
        retention_interval: Duration::from_secs(300),
        log: LogOptions { segment_bytes: SEGMENT_BYTES, ..LogOptions::default() },
    }
}

/// The entries of all groups, by the names of their folders.
type Logs = BTreeMap<String, Vec<LogEntry>>;

/// What the original came to.
struct Original {
    disk: SimDisk,
    logs: Logs,
    manifests: Vec<Manifest>,
    /// Steps in flight when each backup was asked for.
    in_flight: Vec<u64>,
}

fn entries(log: &GroupLog) -> Vec<LogEntry> {
    let mut all: Vec<LogEntry> = Vec::new();
    loop {
        let next = all.last().map_or(0, |last| last.id.index.0 + 1);
        let page = log.entries(next..u64::MAX, 4 << 20).unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn logs(broker: &Broker) -> Logs {
    let shards = broker.shards.iter().map(|shard| (format!("shard-{}", shard.id.0), shard.group.log()));
    let all = shards.chain([("catalog".to_owned(), broker.catalog.group().log())]);
    all.map(|(name, log)| (name, entries(log))).collect()
}

async fn backed_up(broker: &Broker, life: &Life, name: &str) -> Result<(), Broken> {
    let fault = |why: String| Broken::Fault(format!("backup {name}: {why}"));
    let begun = broker.backups.begin(Path::new(BACKUPS_IN), Some(name.to_owned()));
    begun.map_err(|error| fault(error.to_string()))?;
    loop {
        let job = broker.backups.newest().expect("one was begun");
        match job.end {
            None => life.pause(Duration::from_millis(1)).await,
            Some(Ok(_)) => return Ok(()),
            Some(Err(why)) => return Err(fault(why)),
        }
    }
}

/// The chain runs, and is backed up meanwhile.
async fn original(chance: &SimChance, clock: &SimClock, net: &SimNet) -> Result<Original, Broken> {
    let shards = chance.between(2, 8) as u16;
    let disk = SimDisk::new();
    let life = Life::on(disk.clone(), options("/data".into(), shards), clock, net, chance);
    let mut in_flight = Vec::new();
    let living = async |life: &Life| {
        let broker = life.open().await?;
        chain().deploy(&broker).await?;
        let mut producer = Producer::default();
        producer.begin(&broker).await?;
        for (number, part) in chain().orders[..ORDERS].chunks(ORDERS / BACKUPS).enumerate() {
            producer.hand_over(part, chance);
            let flushing = producer.flush(&broker);
            let backing = async {
                life.pause(Duration::from_micros(chance.between(0, PAUSE_US_MAX))).await;
                in_flight.push(broker.metrics.steps_in_flight());
                backed_up(&broker, life, &format!("b{number}")).await
            };
            let (flushed, backed) = tokio::join!(flushing, backing);
            flushed.and(backed)?;
            if chance.happens(500) {
                // Long enough for tables to be checkpointed.
                life.pause(Duration::from_secs(chance.between(1, 30))).await;
            }
            for shard in &broker.shards {
                // What lies there is sealed with the next append, and copied as a file.
                shard.group.log().roll(1).await?;
            }
        }
        while !rests(&broker)? {
            life.pause(LOOK).await;
        }
        Ok(logs(&broker))
    };
    let End::Rest(logs, disk) = life.live(living).await? else { panic!("no power cut was planned") };
    let place = Place::new(std::sync::Arc::new(disk.clone()), BACKUPS_IN);
    let manifests = place.names().unwrap().iter().map(|name| place.manifest(name).unwrap()).collect();
    Ok(Original { disk, logs, manifests, in_flight })
}

/// Holds a restored folder against the original: every entry up to the cut, and the tables that they lead to.
fn compare(place: &SimBroker, folder: &Path, manifest: &Manifest, logs: &Logs) {
    for cut in &manifest.groups {
        let folder = folder.join(&cut.group);
        let on_fault = || std::sync::Arc::new(|fault| panic!("{fault}"));
        let (log, recovery) =
            GroupLog::open(&place.world, folder.clone(), LogOptions::default(), on_fault()).unwrap();
        assert_eq!(
            (recovery.amnesia, recovery.unmarked, recovery.torn),
            (None, false, false),
            "{}",
            cut.group
        );
        let upto = cut.index as usize + 1;
        let found = entries(&log);
        assert_eq!(found, logs[&cut.group][..upto], "the entries of {}", cut.group);
        assert_eq!(log.committed_hint(), found.last().map(|last| last.id), "all of it is committed");

        let (store, checkpoint) =
            StateStore::open(&place.world, folder, StateOptions::default(), on_fault()).unwrap();
        let covered = checkpoint.applied.map_or(0, |applied| applied.index.0 as usize + 1);
        assert!(covered <= upto, "the tables are ahead of the log");
        let apply = |tables: &mut dyn tidemill_core::tables::Tables, entry: &LogEntry| {
            let Payload::Entry(inner) = &entry.payload else { return };
            let effects = &mut Vec::new();
            match cut.group.as_str() {
                "catalog" => catalog::apply(tables, inner, effects).unwrap(),
                _ => shard::apply(tables, entry.id.index, inner, effects).unwrap(),
            }
        };
        let mut wanted = MemoryTables::default();
        logs[&cut.group][..upto].iter().for_each(|entry| apply(&mut wanted, entry));
        found[covered..].iter().for_each(|entry| store.write(|tables| apply(tables, entry)));
        let rows: Vec<(Bytes, Bytes)> = store.scan(b"", None, usize::MAX).unwrap();
        assert!(
            rows.iter().map(|(key, value)| (key, value)).eq(wanted.rows()),
            "the tables of {}",
            cut.group
        );
    }
}

/// What both histories have of a moment they share, they have alike.
fn shares(kept: &History, manifest: &Manifest, logs: &Logs) {
    for (shard, log) in &kept.shards {
        let cut = manifest.groups.iter().find(|cut| cut.group == format!("shard-{}", shard.0)).unwrap();
        let upto = |index: LogIndex| index.0 <= cut.index;
        let found =
            log.iter().filter(|logged| upto(logged.index)).map(|logged| (logged.index, &logged.bytes));
        let was = logs[&cut.group].iter().filter(|entry| upto(entry.id.index)).filter_map(|entry| {
            let Payload::Entry(inner) = &entry.payload else { return None };
            Some((entry.id.index, EncodedEntry::bytes(inner)))
        });
        assert!(found.eq(was), "shard {}", shard.0);
    }
}

/// Returns how many backups were asked for while steps were in flight, and how many sealed segments they share.
async fn tell(seed: u64) -> Result<(usize, usize), Broken> {
    let chance = SimChance::new(seed);
    let (clock, net) = (SimClock::start(), SimNet::new(chance.fork()));
    let original = original(&chance, &clock, &net).await?;
    assert_eq!(original.manifests.len(), BACKUPS);
    let mut disk = original.disk.clone();
    for (number, manifest) in original.manifests.iter().enumerate() {
        let name = &manifest.name;
        let place = Place::new(std::sync::Arc::new(disk.clone()), BACKUPS_IN);
        let verified = verify(&place, name).unwrap();
        assert_eq!(verified.damage, Vec::<String>::new(), "{name}");
        let batches: u64 = verified.groups.values().map(|group| group.batches).sum();
        // The first may be taken before anything was produced.
        assert!(number == 0 || batches > 0, "{name} holds records");

        // On a disk of its own, because opening a log and its tables changes them.
        let looking =
            SimBroker::new(BrokerId(1), disk.after_process_end(), clock.clone(), chance.fork(), &net);
        let folder = PathBuf::from(format!("/looked-{number}"));
        let from = Place::new(looking.world.disk.clone(), BACKUPS_IN);
        restore(&looking.world, &from, name, &folder).unwrap();
        compare(&looking, &folder, manifest, &original.logs);
        drop(looking);

        let folder = PathBuf::from(format!("/restored-{number}"));
        let restoring = SimBroker::new(BrokerId(1), disk, clock.clone(), chance.fork(), &net);
        let from = Place::new(restoring.world.disk.clone(), BACKUPS_IN);
        restore(&restoring.world, &from, name, &folder).unwrap();
        disk = restoring.kill();
        let shards = manifest.groups.len() as u16 - 1;
        let life = Life::on(disk, options(folder, shards), &clock, &net, &chance);
        let living = async |life: &Life| {
            let broker = life.open().await?;
            assert!(broker.losses.is_empty());
            let restored = broker.restored.as_ref().expect("it says where it comes from");
            assert_eq!((&restored.backup, &restored.origin), (name, &manifest.incarnation));
            assert_ne!(broker.identity.incarnation, manifest.incarnation);
            assert_eq!(broker.identity.cluster, manifest.cluster);
            while !rests(&broker)? {
                life.pause(LOOK).await;
            }
            // A backup of what was restored is another's, also where segments have the same numbers.
            backed_up(&broker, life, &format!("again-{number}")).await?;
            Kept::of(&broker).map_err(Broken::from)
        };
        let End::Rest(kept, left) = life.live(living).await? else { panic!("no power cut was planned") };
        shares(&kept.history, manifest, &original.logs);
        let report = check(&kept.history, &chain().scratch()).await;
        assert!(report.holds(), "{name}: {:?}", report.violations);
        assert_eq!(report.pending, 0, "{name}: everything has arrived");
        disk = left;
        let place = Place::new(std::sync::Arc::new(disk.clone()), BACKUPS_IN);
        assert_eq!(verify(&place, &format!("again-{number}")).unwrap().damage, Vec::<String>::new());
    }
    let shared = shared_segments(&disk, &original);
    println!(
        "seed {seed}: steps in flight {:?}, entries at the cuts {:?}",
        original.in_flight,
        original.manifests.iter().map(entries_of).collect::<Vec<_>>()
    );
    Ok((original.in_flight.iter().filter(|steps| **steps > 0).count(), shared))
}

fn entries_of(manifest: &Manifest) -> u64 {
    manifest.groups.iter().map(|cut| cut.index + 1).sum()
}

/// Sealed segments are there once, for all backups: returns how many a backup has from the one before.
fn shared_segments(disk: &SimDisk, original: &Original) -> usize {
    let sealed = |manifest: &Manifest| -> BTreeMap<String, String> {
        let files = manifest.files.iter().filter(|file| file.sealed.is_some());
        files.map(|file| (file.path.clone(), file.digest.clone())).collect()
    };
    let all: Vec<_> = original.manifests.iter().map(sealed).collect();
    let mut shared = 0;
    for pair in all.windows(2) {
        // Unless they were written anew, which gives them other numbers.
        for (path, digest) in pair[1].iter().filter(|(path, _)| pair[0].contains_key(*path)) {
            assert_eq!(pair[0][path], *digest, "{path}");
            shared += 1;
        }
    }
    use tidemill_core::seams::Disk as _;
    for file in original.manifests.iter().flat_map(|manifest| &manifest.files) {
        let path = Path::new(BACKUPS_IN).join("files").join(&file.digest);
        assert_eq!(disk.open(&path, OpenMode::Read).unwrap().len().unwrap(), file.bytes);
    }
    shared
}

#[test]
fn a_backup_of_a_broker_under_load_is_a_broker_of_one_moment() {
    let (busy, shared) = (Cell::new(0), Cell::new(0));
    for_seeds(SEEDS, |seed| {
        let told = tidemill_sim::run(tell(seed)).unwrap_or_else(|broken| panic!("{broken}"));
        busy.set(busy.get() + told.0);
        shared.set(shared.get() + told.1);
    });
    println!("{} backups while steps were in flight; {} segments shared", busy.get(), shared.get());
    let is_one = std::env::var_os("TIDEMILL_SEED").is_some();
    assert!(busy.get() > 0 || is_one, "the broker was never busy");
    assert!(shared.get() > 0 || is_one, "no backup had a segment from the one before");
}

/// The comparison finds something: entries that one shard has from another's later moment are no history.
#[test]
fn groups_of_two_moments_are_no_backup() {
    let spoiled = |seed| {
        tidemill_sim::run(async move {
            let chance = SimChance::new(seed);
            let (clock, net) = (SimClock::start(), SimNet::new(chance.fork()));
            let original = original(&chance, &clock, &net).await.unwrap();
            let (early, late) = (&original.manifests[0], &original.manifests[1]);
            let mut history = History::default();
            for (number, cut) in late.groups.iter().filter(|cut| cut.group != "catalog").enumerate() {
                // Every other shard stands where the earlier backup has it.
                let of = if number % 2 == 0 { early } else { late };
                let cut = of.groups.iter().find(|other| other.group == cut.group).unwrap();
                let shard = tidemill_core::ids::ShardId(cut.group["shard-".len()..].parse().unwrap());
                let log = history.shards.entry(shard).or_default();
                for entry in &original.logs[&cut.group][..=cut.index as usize] {
                    let Payload::Entry(inner) = &entry.payload else { continue };
                    let bytes = inner.bytes().clone();
                    assert!(Entry::parse(&bytes).is_ok());
                    log.push(tidemill_checker::Logged { index: entry.id.index, term: entry.id.term, bytes });
                }
            }
            !check(&history, &chain().scratch()).await.holds()
        })
    };
    assert!((0..8).any(spoiled), "of shards of different moments the checker finds one");
}
