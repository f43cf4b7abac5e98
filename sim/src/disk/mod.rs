//! A disk in memory that keeps apart what is durable and what a power cut may take.
//!
//! Each file is two images and a list: what the last sync made durable, what programs see, and the changes between
//! the two. Names are kept in the same way: a file that was created, removed or renamed is durable under its new
//! name only after [`sync_directory`](tidemill_core::seams::Disk::sync_directory). [`SimDisk::after_power_cut`] draws one of the disks that a power cut at
//! this moment could leave (`cut.rs` says which those are); it changes nothing, so that many can be drawn from one
//! moment; [`SimDisk::moment`] keeps one, to enumerate them. [`SimDisk::power_off`] then kills the disk itself: whoever still holds it gets errors.
//!
//! Beyond that it can be made to fail ([`SimDisk::fail`]), to be full ([`SimDisk::set_capacity`]), to rot
//! ([`SimDisk::flip_bit`]), and to tell of every operation before it happens ([`SimDisk::watch`]), which is where a
//! test cuts the power. It counts what it is asked to do.
//!
//! A lock here is held by a value, as elsewhere; power cuts release it.

mod cut;
mod files;
mod image;
mod moment;
mod pretence;
pub mod suite;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_core::seams::Chance;

use image::Image;
pub use moment::{Choice, Kind, Moment};
pub use pretence::Pretence;

/// What can be done to a disk, as [`SimDisk::watch`] and [`SimDisk::fail`] know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Bytes are read.
    Read,
    /// Bytes are written.
    Write,
    /// A file is cut or grown.
    SetLength,
    /// A range of a file is given back.
    Punch,
    /// A file is synced.
    Sync,
    /// A file is opened, or created.
    Open,
    /// A name is removed.
    Remove,
    /// A name is changed.
    Rename,
    /// A folder's names are synced.
    SyncDirectory,
}

/// What a disk was asked to do since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Syncs of files.
    pub syncs: u64,
}

/// A change that is not durable yet.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    SetLength(u64),
    Punch { offset: u64, length: u64 },
}

/// A change of a folder's names that is not durable yet.
#[derive(Debug, Clone)]
enum NameChange {
    Add(PathBuf, FileNumber),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

type FileNumber = u64;

#[derive(Debug, Clone, Default)]
struct Contents {
    durable: Image,
    seen: Image,
    changes: Vec<Change>,
    /// Changes that were made durable, ever.
    synced: u64,
    opened: usize,
}

type Names = BTreeMap<PathBuf, FileNumber>;
type Watcher = Arc<dyn Fn(Operation, &Path) + Send + Sync>;

#[derive(Default)]
struct State {
    files: BTreeMap<FileNumber, Contents>,
    names: Names,
    durable_names: Names,
    name_changes: BTreeMap<PathBuf, Vec<NameChange>>,
    folders: BTreeSet<PathBuf>,
    durable_folders: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    next_file: FileNumber,
    capacity: Option<u64>,
    has_no_holes: bool,
    failures: Vec<Failure>,
    counts: Counts,
    is_dark: bool,
    is_off: bool,
    watcher: Option<Watcher>,
    pretences: Vec<(Pretence, &'static str, &'static str)>,
    /// Files whose sync is put off.
    late: BTreeSet<FileNumber>,
}

struct Failure {
    operation: Operation,
    path_part: String,
    skip: u64,
}

/// The disk. Cheap to clone; all clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> SimDisk {
        SimDisk::holding(BTreeMap::new(), BTreeSet::from([PathBuf::from("/")]))
    }

    /// A disk that a power cut at this moment could leave. This one goes on as if nothing had happened.
    pub fn after_power_cut(&self, chance: &dyn Chance) -> SimDisk {
        let (images, folders) = cut::draw(&self.state.lock(), chance);
        SimDisk::holding(images, folders)
    }

    /// The disk as programs see it: what the end of the process, but not of the power, leaves.
    pub fn after_process_end(&self) -> SimDisk {
        let state = self.state.lock();
        let kept = |number: &FileNumber| state.files.get(number).map(|file| file.seen.clone());
        let images = state.names.iter().filter_map(|(path, number)| Some((path.clone(), kept(number)?)));
        SimDisk::holding(images.collect(), state.folders.clone())
    }

    fn holding(images: BTreeMap<PathBuf, Image>, folders: BTreeSet<PathBuf>) -> SimDisk {
        let mut state = State { durable_folders: folders.clone(), folders, ..State::default() };
        for (path, image) in images {
            state.next_file += 1;
            let number = state.next_file;
            state
                .files
                .insert(number, Contents { durable: image.clone(), seen: image, ..Contents::default() });
            state.names.insert(path.clone(), number);
            state.durable_names.insert(path, number);
        }
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Ends this disk: all that still use it get errors.
    pub fn power_off(&self) {
        let mut state = self.state.lock();
        state.is_off = true;
        state.watcher = None;
    }

    /// From now on nothing becomes durable: every sync fails, and all else goes on in memory. So a program can be heard
    /// out after [`SimDisk::after_power_cut`]: whatever it says to be durable, it must have made so before.
    pub fn darken(&self) {
        self.state.lock().is_dark = true;
    }

    /// Calls `watcher` before every operation but reads, with nothing of the disk locked.
    pub fn watch(&self, watcher: impl Fn(Operation, &Path) + Send + Sync + 'static) {
        self.state.lock().watcher = Some(Arc::new(watcher));
    }

    /// Ends [`SimDisk::watch`].
    pub fn unwatch(&self) {
        self.state.lock().watcher = None;
    }

    /// Lets the `nth` (from 0) operation of this kind on a path that contains `path_part` fail, once. What a failed
    /// sync should have made durable never will be, as on a kernel that drops such pages.
    pub fn fail(&self, operation: Operation, path_part: impl Into<String>, nth: u64) {
        let failure = Failure { operation, path_part: path_part.into(), skip: nth };
        self.state.lock().failures.push(failure);
    }

    /// Bounds the bytes that all files may have together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Makes it one that cannot give back a part of a file.
    pub fn refuse_holes(&self) {
        self.state.lock().has_no_holes = true;
    }

    /// What a file takes of the disk, in bytes: the pages of it that hold something.
    pub fn taken(&self, path: &Path) -> u64 {
        self.pages_written(path).len() as u64 * 4096
    }

    /// Turns one bit of a file, in what is durable and in what is seen. Returns whether the file has such a byte.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) -> bool {
        let mut state = self.state.lock();
        let Some(number) = state.names.get(path).copied() else { return false };
        let Some(file) = state.files.get_mut(&number) else { return false };
        file.seen.flip_bit(byte, bit) && file.durable.flip_bit(byte, bit)
    }

    /// All files and their lengths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state.lock();
        let length = |number: &FileNumber| state.files.get(number).map_or(0, |file| file.seen.len());
        state.names.iter().map(|(path, number)| (path.clone(), length(number))).collect()
    }

    /// The pages of a file, by number, that were ever written and not given back.
    pub fn pages_written(&self, path: &Path) -> Vec<u64> {
        let state = self.state.lock();
        let file = state.names.get(path).and_then(|number| state.files.get(number));
        file.map_or_else(Vec::new, |file| file.seen.pages().map(|(page, _)| page).collect())
    }

    /// A number that stands for all names and bytes as programs see them: two disks on which the same was done have
    /// the same.
    pub fn digest(&self) -> u64 {
        let state = self.state.lock();
        let mut hash = cut::Fnv::default();
        let mut mix = |bytes: &[u8]| hash.mix(bytes);
        for (path, number) in &state.names {
            mix(path.to_string_lossy().as_bytes());
            if let Some(file) = state.files.get(number) {
                mix(&file.seen.len().to_be_bytes());
                file.seen.pages().for_each(|(page, bytes)| {
                    mix(&page.to_be_bytes());
                    mix(bytes);
                });
            }
        }
        hash.sum()
    }

    /// What it was asked to do.
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Tells the watcher, and fails if it is time to.
    fn begin(&self, operation: Operation, path: &Path) -> io::Result<()> {
        let watcher = self.state.lock().watcher.clone();
        if let (Some(watcher), true) = (watcher, operation != Operation::Read) {
            watcher(operation, path);
        }
        let mut state = self.state.lock();
        let makes_durable = matches!(operation, Operation::Sync | Operation::SyncDirectory);
        if state.is_off || (state.is_dark && makes_durable) {
            return Err(io::Error::other("the power is off"));
        }
        let text = path.to_string_lossy();
        let mut fails = None;
        for (at, failure) in state.failures.iter_mut().enumerate() {
            if failure.operation == operation && text.contains(&failure.path_part) {
                match failure.skip.checked_sub(1) {
                    Some(left) => failure.skip = left,
                    None => fails = Some(at),
                }
            }
        }
        if let Some(at) = fails {
            state.failures.remove(at);
            return Err(io::Error::other("the disk was told to fail here"));
        }
        Ok(())
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        SimDisk::new()
    }
}

impl State {
    /// Whether `file`, which is taken out of the state while it changes, may reach to `end`.
    fn room_for(&self, file: &Contents, end: u64) -> io::Result<()> {
        let others: u64 = self.files.values().map(|file| file.seen.len()).sum();
        match self.capacity {
            Some(capacity) if end > file.seen.len() && others + end > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    /// Drops what has no name any more, now or after a power cut, and nobody has open.
    fn drop_nameless(&mut self) {
        let named = |number: &FileNumber| {
            let added = |change: &NameChange| matches!(change, NameChange::Add(_, added) if added == number);
            self.names.values().chain(self.durable_names.values()).any(|name| name == number)
                || self.name_changes.values().flatten().any(added)
        };
        let gone: Vec<FileNumber> = self
            .files
            .iter()
            .filter(|(number, file)| file.opened == 0 && !named(number))
            .map(|(n, _)| *n)
            .collect();
        gone.iter().for_each(|number| drop(self.files.remove(number)));
    }

    fn note(&mut self, path: &Path, change: NameChange) {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        self.name_changes.entry(folder).or_default().push(change);
    }
}

impl Contents {
    /// What a power cut leaves to choose from.
    fn unseen(&self) -> Contents {
        let (durable, changes) = (self.durable.clone(), self.changes.clone());
        Contents { durable, changes, synced: self.synced, ..Contents::default() }
    }

    fn make_durable(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            change.apply(&mut self.durable);
            self.synced += 1;
        }
    }
}

impl Change {
    fn apply(&self, image: &mut Image) {
        match self {
            Change::Write { offset, bytes } => image.write(*offset, bytes),
            Change::SetLength(length) => image.set_len(*length),
            Change::Punch { offset, length } => image.punch(*offset, *length),
        }
    }
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDisk")
    }
}
