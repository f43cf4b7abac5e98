//! The power is cut while a backup is made, and while one is restored.
//!
//! The broker's own disk stays as it is; what lies on the disk with the backups is kept at every moment, and every image
//! that a power cut could leave there is looked at. Either there is a backup, and then it is whole, or there is none. Either
//! a folder that was restored is whole, or no broker starts on it, and the same restore finishes it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::ids::BrokerId;
use tidemill_core::seams::{Disk, DiskFile, DiskLock, OpenMode, World};
use tidemill_host::backup::BackupError;
use tidemill_host::backup::place::Place;
use tidemill_host::backup::restore::{is_unfinished, restore};
use tidemill_host::backup::verify::verify;
use tidemill_host::broker::{Broker, BrokerOptions};
use tidemill_host::identity;
use tidemill_host::metrics::Metrics;
use tidemill_sim::broker::SimBroker;
use tidemill_sim::chance::SimChance;
use tidemill_sim::clock::SimClock;
use tidemill_sim::disk::{Operation, SimDisk};
use tidemill_sim::lab::{Lab, Named, Recorder, Story};
use tidemill_sim::net::SimNet;
use tidemill_storage::log::LogOptions;

use crate::chain::chain;
use crate::producer::Producer;

const IMAGES: u64 = 2_000;
const DATA: &str = "/data";
const BACKUPS: &str = "/backups";
const RESTORED: &str = "/restored";
const ORDERS: usize = 12;

/// What lies in the data folder is on one disk, and all else on another.
struct Two {
    data: SimDisk,
    rest: SimDisk,
}

impl Two {
    fn of(&self, path: &Path) -> &SimDisk {
        if path.starts_with(DATA) { &self.data } else { &self.rest }
    }
}

impl Disk for Two {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.of(path).open(path, mode)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.of(folder).list(folder)
    }

    fn create_folders(&self, folder: &Path) -> io::Result<()> {
        self.of(folder).create_folders(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.of(path).remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.of(from).rename(from, to)
    }

    fn sync_directory(&self, folder: &Path) -> io::Result<()> {
        self.of(folder).sync_directory(folder)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.of(path).lock(path)
    }

    fn space(&self, folder: &Path) -> io::Result<(u64, u64)> {
        self.of(folder).space(folder)
    }
}

/// A broker with some orders, on a disk of its own, and its world: in that, backups lie on `rest`.
async fn broker(rest: &SimDisk, seed: u64) -> (SimBroker, World, Arc<Broker>) {
    let chance = SimChance::new(seed);
    let net = SimNet::new(chance.fork());
    let place = SimBroker::new(BrokerId(1), SimDisk::new(), SimClock::start(), chance.fork(), &net);
    let disk = Arc::new(Two { data: place.disk.clone(), rest: rest.clone() });
    let world = World { disk, ..place.world.clone() };
    let options = BrokerOptions {
        folder: DATA.into(),
        shards: 1,
        reserve_bytes: 0,
        retention_interval: Duration::from_secs(300),
        log: LogOptions { segment_bytes: 16 * 1024, ..LogOptions::default() },
    };
    let on_fault = Arc::new(|fault| panic!("{fault}"));
    let opened =
        Broker::open(options, world.clone(), chain().tools(), Arc::new(Metrics::default()), on_fault).await;
    let broker = opened.unwrap();
    chain().make_topics(&broker).await.unwrap();
    (place, world, broker)
}

async fn back_up(broker: &Broker, name: &str) -> Result<(), String> {
    broker.backups.begin(Path::new(BACKUPS), Some(name.to_owned())).map_err(|error| error.to_string())?;
    loop {
        if let Some(end) = broker.backups.newest().and_then(|job| job.end) {
            return end.map(drop);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What was said to be done.
#[derive(Debug, Clone, Default)]
struct Promise {
    begun: Vec<String>,
    made: Vec<String>,
    deleted: Vec<String>,
    restored: bool,
}

struct BackupStory;

/// A place, in a world that has nothing but a copy of this disk: the end of a world is the end of its disk.
fn on(disk: &SimDisk) -> (SimBroker, Place) {
    let chance = SimChance::new(1);
    let net = SimNet::new(chance.fork());
    let broker = SimBroker::new(BrokerId(1), disk.after_process_end(), SimClock::start(), chance, &net);
    let place = Place::new(broker.world.disk.clone(), BACKUPS);
    (broker, place)
}

/// Whether a folder holds what the backup holds, and a broker would take it.
fn is_whole(world: &World, place: &Place, folder: &Path) -> bool {
    let manifest = place.manifest("two").unwrap();
    for file in &manifest.files {
        let opened = world.disk.open(&folder.join(&file.path), OpenMode::Read).unwrap();
        let mut bytes = vec![0; opened.len().unwrap() as usize];
        opened.read_at(0, &mut bytes).unwrap();
        assert_eq!(blake3_of(&bytes), file.digest, "{}", file.path);
    }
    let (identity, _lock) = identity::take(world, folder).unwrap();
    (identity.cluster, identity.broker) == (manifest.cluster, manifest.broker)
}

fn blake3_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

impl Story for BackupStory {
    type Promise = Promise;
    type Found = (Vec<String>, bool);

    fn name(&self) -> &'static str {
        "backup"
    }

    fn live(&self, disk: &SimDisk, seed: u64, recorder: &Recorder<Promise>) {
        tidemill_sim::run(async {
            let (place, world, broker) = broker(disk, seed).await;
            let mut producer = Producer::default();
            producer.begin(&broker).await.unwrap();
            for (name, orders) in ["one", "two"].into_iter().zip(chain().orders.chunks(ORDERS)) {
                producer.hand_over(orders, &SimChance::new(seed));
                producer.flush(&broker).await.unwrap();
                for shard in &broker.shards {
                    // Something is sealed then, and the next backup finds it there.
                    shard.group.log().roll(1).await.unwrap();
                }
                recorder.promise(|promise| promise.begun.push(name.to_owned()));
                back_up(&broker, name).await.unwrap();
                recorder.promise(|promise| promise.made.push(name.to_owned()));
            }
            let backups = Place::new(world.disk.clone(), BACKUPS);
            recorder.promise(|promise| promise.deleted.push("one".to_owned()));
            backups.delete("one").unwrap();
            restore(&world, &backups, "two", Path::new(RESTORED)).unwrap();
            recorder.promise(|promise| promise.restored = true);
            // Its disk must not be gone before this is kept.
            drop(broker);
            drop(place);
        });
    }

    fn recover(&self, disk: &SimDisk, promise: &Promise) -> Result<Self::Found, Named> {
        let (broker, place) = on(disk);
        let disk = &broker.disk;
        let names = place.names().unwrap();
        assert!(names.iter().all(|name| promise.begun.contains(name)), "{names:?}");
        for name in promise.made.iter().filter(|name| !promise.deleted.contains(*name)) {
            assert!(names.contains(name), "the backup {name} was made, and is gone");
        }
        for name in &names {
            let verified = verify(&place, name).map_err(|error| Named(format!("{name}: {error}")))?;
            // One that is being deleted still has its manifest, or is none.
            if !verified.damage.is_empty() {
                return Err(Named(format!("{name}: {:?}", verified.damage)));
            }
        }
        let folder = Path::new(RESTORED);
        let is_unfinished = is_unfinished(disk, folder).unwrap();
        let has_identity = disk.list(folder).unwrap().contains(&folder.join(identity::FILE));
        if is_unfinished {
            let taken = identity::take(&broker.world, folder);
            assert!(matches!(taken, Err(identity::FolderError::HalfRestored(_))), "no broker starts on it");
        }
        let is_restored = has_identity && !is_unfinished;
        if is_restored {
            assert!(is_whole(&broker.world, &place, folder));
        } else {
            assert!(!promise.restored, "the folder was restored, and is not");
            let held = disk.files().into_iter().filter(|(path, _)| path.starts_with(folder));
            let is_nothing = |path: &Path| path.ends_with("lock") || path.ends_with("restoring.json.new");
            let held: Vec<_> = held.filter(|(path, _)| !is_nothing(path)).collect();
            assert!(is_unfinished || held.is_empty(), "a broker would take {held:?} for a new folder");
        }
        Ok((names, is_restored))
    }

    /// Restoring again finishes it, and another backup cleans up.
    fn go_on(&self, disk: &SimDisk) {
        let (helper, place) = on(disk);
        let disk = &helper.disk;
        let names = place.names().unwrap();
        let folder = Path::new(RESTORED);
        let is_done = disk.list(folder).unwrap().contains(&folder.join(identity::FILE))
            && !is_unfinished(disk, folder).unwrap();
        if names.contains(&"two".to_owned()) && !is_done {
            restore(&helper.world, &place, "two", folder).unwrap();
            assert!(is_whole(&helper.world, &place, folder));
        }
        tidemill_sim::run(async {
            let (at, _, broker) = broker(disk, 99).await;
            back_up(&broker, "another").await.unwrap();
            drop((broker, at));
        });
        let wanted: Vec<String> = place
            .names()
            .unwrap()
            .iter()
            .flat_map(|name| place.manifest(name).unwrap().files.into_iter().map(|file| file.digest))
            .collect();
        for (path, _) in disk.files().into_iter().filter(|(path, _)| path.starts_with("/backups/files")) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(wanted.contains(&name), "{name} is nobody's");
        }
        assert!(disk.list(Path::new("/backups/making")).unwrap().is_empty());
        assert_eq!(verify(&place, "another").unwrap().damage, Vec::<String>::new());
    }
}

#[test]
fn a_power_cut_leaves_a_whole_backup_or_none_and_a_whole_folder_or_none() {
    let number = |name| std::env::var(name).ok().and_then(|number: String| number.parse().ok());
    let lab = Lab {
        images: number("TIDEMILL_BACKUP_IMAGES").unwrap_or(IMAGES),
        seed: number("TIDEMILL_SEED").unwrap_or(0),
        threads: 2,
        images_per_life: IMAGES as usize,
        // What rots in a backup is for `verify` to find: the next test.
        flips_every: usize::MAX,
        only: std::env::var("TIDEMILL_IMAGE").ok(),
    };
    match lab.run(&BackupStory) {
        Ok(report) => {
            assert!(report.images() > 0, "there is no image {:?}", lab.only);
            println!("{report}");
        }
        Err(failure) => panic!("{failure}"),
    }
}

/// Every file of a backup with one bit flipped is damaged, and no folder comes of it that a broker starts on.
#[test]
fn a_flipped_bit_is_found_by_verify_and_by_restore() {
    tidemill_sim::run(async {
        let disk = SimDisk::new();
        let (_place, world, broker) = broker(&disk, 5).await;
        back_up(&broker, "one").await.unwrap();
        let backups = Place::new(world.disk.clone(), BACKUPS);
        let manifest = backups.manifest("one").unwrap();
        assert!(manifest.files.len() >= 8, "{manifest:?}");
        for (number, file) in manifest.files.iter().enumerate() {
            let path = Path::new(BACKUPS).join("files").join(&file.digest);
            let byte = file.bytes / 2;
            assert!(disk.flip_bit(&path, byte, 3));
            let damage = verify(&backups, "one").unwrap().damage;
            // Two groups may have files that are alike, which are one file here.
            assert!(damage.iter().any(|what| what.starts_with(&file.path)), "{damage:?}");
            assert!(damage.iter().all(|what| what.contains(&file.digest)), "{damage:?}");
            let folder = PathBuf::from(format!("{RESTORED}-{number}"));
            let refused = restore(&world, &backups, "one", &folder).unwrap_err();
            assert!(matches!(refused, BackupError::Fault(_)), "{refused}");
            let taken = identity::take(&world, &folder);
            assert!(matches!(taken, Err(identity::FolderError::HalfRestored(_))));
            assert!(disk.flip_bit(&path, byte, 3));
        }
        assert_eq!(verify(&backups, "one").unwrap().damage, Vec::<String>::new());
    });
}

/// A disk that fails or is full while a backup is made costs that backup, and nothing else.
#[test]
fn a_failing_disk_costs_the_backup_and_not_the_broker() {
    tidemill_sim::run(async {
        let disk = SimDisk::new();
        let (_place, world, broker) = broker(&disk, 5).await;
        let backups = Place::new(world.disk.clone(), BACKUPS);
        for operation in [Operation::Write, Operation::Sync, Operation::Rename, Operation::SyncDirectory] {
            for nth in [0, 3] {
                disk.fail(operation, "/backups/", nth);
                assert!(back_up(&broker, "one").await.is_err(), "{operation:?} {nth}");
                assert_eq!(backups.names().unwrap(), Vec::<String>::new());
            }
        }
        let used: u64 = disk.files().iter().map(|(_, bytes)| bytes).sum();
        disk.set_capacity(Some(used + 100_000));
        let full = back_up(&broker, "one").await.unwrap_err();
        assert!(full.contains("free"), "{full}");
        disk.set_capacity(None);
        back_up(&broker, "one").await.unwrap();
        // The broker takes records as before.
        let mut producer = Producer::default();
        producer.begin(&broker).await.unwrap();
        producer.hand_over(&chain().orders[..ORDERS], &SimChance::new(1));
        producer.flush(&broker).await.unwrap();
        assert_eq!(producer.acknowledged(), ORDERS);
    });
}
