//! Real files, real time and real threads, as plainly as the measurement needs them, and counted.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidemill_core::ids::BrokerId;
use tidemill_core::seams::{
    BoxFuture, Chance, Clock, Disk, DiskFile, DiskLock, OpenMode, Spawner, Timestamp, Transport, Unreachable,
    World,
};

/// What was written.
#[derive(Clone, Default)]
pub struct Counts(Arc<[AtomicU64; 2]>);

impl Counts {
    pub fn bytes(&self) -> u64 {
        self.0[0].load(Ordering::Relaxed)
    }

    pub fn syncs(&self) -> u64 {
        self.0[1].load(Ordering::Relaxed)
    }
}

pub fn real_world() -> (World, Counts) {
    let counts = Counts::default();
    let world = World {
        clock: Arc::new(RealClock(Instant::now())),
        chance: Arc::new(NoChance),
        disk: Arc::new(Files(counts.clone())),
        transport: Arc::new(Alone),
        spawner: Arc::new(Threads),
    };
    (world, counts)
}

struct RealClock(Instant);

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

struct NoChance;

impl Chance for NoChance {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(4);
    }
}

struct Alone;

impl Transport for Alone {
    fn call(&self, to: BrokerId, _message: Bytes) -> BoxFuture<Result<Bytes, Unreachable>> {
        Box::pin(async move { Err(Unreachable(to)) })
    }
}

struct Threads;

impl Spawner for Threads {
    fn task(&self, name: &'static str, future: BoxFuture<()>) {
        self.thread(name.to_owned(), future);
    }

    fn thread(&self, name: String, future: BoxFuture<()>) {
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.map(|runtime| runtime.block_on(future))
        };
        std::thread::Builder::new().name(name).spawn(run).map(drop).unwrap_or_else(|error| panic!("{error}"));
    }

    fn guest(&self, name: &'static str, future: BoxFuture<()>) {
        self.thread(name.to_owned(), future);
    }
}

struct Files(Counts);

#[derive(Debug)]
struct RealFile(File, Arc<[AtomicU64; 2]>);

#[derive(Debug)]
struct NoLock;

impl DiskLock for NoLock {}

impl Disk for Files {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read);
        options.create_new(mode == OpenMode::CreateNew).create(mode == OpenMode::CreateOrWrite);
        Ok(Box::new(RealFile(options.open(path)?, self.0.0.clone())))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names =
            std::fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn create_folders(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_directory(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn DiskLock>> {
        Ok(Box::new(NoLock))
    }

    fn space(&self, _folder: &Path) -> io::Result<(u64, u64)> {
        Ok((1 << 40, 1 << 40))
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.1[0].fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn punch(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1[1].fetch_add(1, Ordering::Relaxed);
        self.0.sync_data()
    }
}
