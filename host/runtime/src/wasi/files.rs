//! The files of a deployment, as WASI's file system: its bundles, each a directory that can only be read.
//!
//! `wasmtime-wasi` opens and reads them: its directories let no path and no symbolic link lead out, and grant nothing but
//! reading. What it would tell of them otherwise differs from broker to broker, and from one run of a step to the next:
//! inodes, times, the order of a directory, how many bytes are there at once. So the functions that tell such things are
//! put in place of its own here, and the rest stays:
//!
//! | what a guest asks for | what it gets |
//! |---|---|
//! | times, link count, the size of a directory | 1970, one, none |
//! | the metadata hash | a hash of mount and number: what stands for an inode |
//! | the entries of a directory | in the order of their names |
//! | a stream of a file | as many bytes as it asks for, at once, up to [`limits::GUEST_FILE_READ_BYTES_MAX`] |
//! | syncing, advice | nothing, with success |
//! | more than [`limits::GUEST_FILES_OPEN_MAX`] at once | the end of the step |

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::limits;
use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, HostDescriptor,
    MetadataHashValue, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, FsResult, InputStream, Pollable, StreamError, StreamResult};

use crate::bundle::{Held, Node};
use crate::failure::{LimitReached, Stop};
use crate::step::Step;

/// What a guest is told: a value, or WASI's code for why not. The outer error ends the step.
type Told<T> = wasmtime::Result<Result<T, ErrorCode>>;

/// A directory that is being read.
struct Listing {
    held: Arc<[Held]>,
    next: usize,
}

/// Puts them in place of `wasmtime-wasi`'s; shadowing is allowed.
///
/// # Errors
/// wasmtime's, which would be a bug here.
pub(super) fn link(files: &mut LinkerInstance<'_, Step>) -> wasmtime::Result<()> {
    type Store<'a> = StoreContextMut<'a, Step>;
    type Fd = Resource<Descriptor>;
    files.resource("directory-entry-stream", ResourceType::host::<Listing>(), |mut store, rep| {
        store.data_mut().wasi().table.delete(Resource::<Listing>::new_own(rep))?;
        Ok(())
    })?;
    files.func_wrap("[method]descriptor.read-directory", |mut store: Store<'_>, (fd,): (Fd,)| {
        Ok((store.data_mut().list(&fd)?,))
    })?;
    files.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: Store<'_>, (listing,): (Resource<Listing>,)| {
            Ok((store.data_mut().next_held(&listing)?,))
        },
    )?;
    files.func_wrap(
        "[method]descriptor.read-via-stream",
        |mut store: Store<'_>, (fd, offset): (Fd, u64)| Ok((store.data_mut().stream(&fd, offset)?,)),
    )?;
    files.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: Store<'_>,
         (fd, follow, path, how, flags): (Fd, PathFlags, String, OpenFlags, DescriptorFlags)| {
            Box::new(async move { Ok((store.data_mut().open(fd, follow, path, how, flags).await?,)) })
        },
    )?;
    files.func_wrap_async("[method]descriptor.stat", |mut store: Store<'_>, (fd,): (Fd,)| {
        Box::new(async move { Ok((told(store.data_mut().filesystem().stat(fd).await.map(plain))?,)) })
    })?;
    files.func_wrap_async(
        "[method]descriptor.stat-at",
        |mut store: Store<'_>, (fd, follow, path): (Fd, PathFlags, String)| {
            Box::new(async move {
                let stat = store.data_mut().filesystem().stat_at(fd, follow, path).await;
                Ok((told(stat.map(plain))?,))
            })
        },
    )?;
    files.func_wrap("[method]descriptor.metadata-hash", |mut store: Store<'_>, (fd,): (Fd,)| {
        Ok((store.data_mut().hash(&fd)?,))
    })?;
    files.func_wrap_async(
        "[method]descriptor.metadata-hash-at",
        |mut store: Store<'_>, (fd, follow, path): (Fd, PathFlags, String)| {
            Box::new(async move { Ok((store.data_mut().hash_at(fd, follow, path).await?,)) })
        },
    )?;
    for name in ["[method]descriptor.sync", "[method]descriptor.sync-data"] {
        files.func_wrap(name, |_: Store<'_>, (_,): (Fd,)| Ok((Ok::<(), ErrorCode>(()),)))?;
    }
    files.func_wrap("[method]descriptor.advise", |_: Store<'_>, _: (Fd, u64, u64, Advice)| {
        Ok((Ok::<(), ErrorCode>(()),))
    })
}

impl Step {
    async fn open(
        &mut self,
        fd: Resource<Descriptor>,
        follow: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> Told<Resource<Descriptor>> {
        self.check_room()?;
        told(self.filesystem().open_at(fd, follow, path, how, flags).await)
    }

    fn stream(&mut self, fd: &Resource<Descriptor>, offset: u64) -> Told<Resource<DynInputStream>> {
        self.check_room()?;
        let table = &mut self.wasi().table;
        let file = match table.get(fd)? {
            Descriptor::File(file) => file.file.clone(),
            Descriptor::Dir(_) => return Ok(Err(ErrorCode::IsDirectory)),
        };
        let reading: DynInputStream = Box::new(Reading { file, offset });
        Ok(Ok(table.push(reading)?))
    }

    fn list(&mut self, fd: &Resource<Descriptor>) -> Told<Resource<Listing>> {
        self.check_room()?;
        if let Descriptor::File(_) = self.wasi().table.get(fd)? {
            return Ok(Err(ErrorCode::NotDirectory));
        }
        let Some((_, node)) = self.node(fd)? else { return Ok(Err(ErrorCode::Io)) };
        let listing = Listing { held: node.holds.clone(), next: 0 };
        Ok(Ok(self.wasi().table.push(listing)?))
    }

    fn next_held(&mut self, listing: &Resource<Listing>) -> Told<Option<DirectoryEntry>> {
        let listing = self.wasi().table.get_mut(listing)?;
        let held = listing.held.get(listing.next);
        listing.next += usize::from(held.is_some());
        Ok(Ok(held.map(|held| DirectoryEntry {
            type_: if held.is_folder { DescriptorType::Directory } else { DescriptorType::RegularFile },
            name: held.name.clone(),
        })))
    }

    fn hash(&mut self, fd: &Resource<Descriptor>) -> Told<MetadataHashValue> {
        let Some((mount, node)) = self.node(fd)? else { return Ok(Err(ErrorCode::Io)) };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&node.number.to_be_bytes()).update(mount.as_bytes());
        let [lower, upper] = [0, 8].map(|at| {
            let hash = hasher.finalize();
            u64::from_be_bytes(hash.as_bytes()[at..at + 8].try_into().expect("it has 32 bytes"))
        });
        Ok(Ok(MetadataHashValue { lower, upper }))
    }

    async fn hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        follow: PathFlags,
        path: String,
    ) -> Told<MetadataHashValue> {
        let opened = self.open(fd, follow, path, OpenFlags::empty(), DescriptorFlags::READ).await?;
        let opened = match opened {
            Ok(opened) => opened,
            Err(code) => return Ok(Err(code)),
        };
        let hash = self.hash(&opened);
        self.wasi().table.delete(opened)?;
        hash
    }

    /// What an open file or folder is in its bundle, and where that is mounted. None if somebody changed the folder from
    /// under the broker.
    fn node(&mut self, fd: &Resource<Descriptor>) -> wasmtime::Result<Option<(&str, &Node)>> {
        let about = match self.wasi().table.get(fd)? {
            Descriptor::File(file) => file.file.metadata(),
            Descriptor::Dir(dir) => dir.dir.metadata(),
        };
        let Ok(about) = about else { return Ok(None) };
        let place = (about.dev(), about.ino());
        Ok(self.input.files.iter().find_map(|files| Some((&*files.at, files.bundle.node(place)?))))
    }

    /// Ends a step that holds too much open: what it holds is the broker's.
    fn check_room(&mut self) -> wasmtime::Result<()> {
        let is_open = |entry: &&mut (dyn std::any::Any + Send)| {
            entry.is::<Descriptor>() || entry.is::<DynInputStream>() || entry.is::<Listing>()
        };
        let open = self.wasi().table.iter_mut().filter(is_open).count();
        if open >= limits::GUEST_FILES_OPEN_MAX {
            return Err(Stop::Limit(LimitReached::files_open(open + 1)).into());
        }
        Ok(())
    }
}

fn told<T>(result: FsResult<T>) -> Told<T> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

/// What is the same of a file wherever it lies.
fn plain(stat: DescriptorStat) -> DescriptorStat {
    let size = if stat.type_ == DescriptorType::Directory { 0 } else { stat.size };
    let epoch = Some(Datetime { seconds: 0, nanoseconds: 0 });
    DescriptorStat {
        type_: stat.type_,
        link_count: 1,
        size,
        data_access_timestamp: epoch,
        data_modification_timestamp: epoch,
        status_change_timestamp: epoch,
    }
}

/// A file, from an offset on. It never has a guest wait: what it read at once does not depend on how fast a disk is.
struct Reading {
    file: Arc<std::fs::File>,
    offset: u64,
}

impl InputStream for Reading {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut bytes = vec![0; size.min(limits::GUEST_FILE_READ_BYTES_MAX)];
        let mut read = 0;
        while read < bytes.len() {
            let now = self.file.read_at(&mut bytes[read..], self.offset);
            match now.map_err(|error| StreamError::LastOperationFailed(error.into()))? {
                0 if read == 0 => return Err(StreamError::Closed),
                0 => break,
                now => (read, self.offset) = (read + now, self.offset + now as u64),
            }
        }
        bytes.truncate(read);
        Ok(bytes.into())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Reading {
    async fn ready(&mut self) {}
}
