//! The simulated disk as programs see it: the contract of [`Disk`], over its state.

use std::io;
use std::path::{Path, PathBuf};

use tidemill_core::seams::{Disk, DiskFile, DiskLock, OpenMode};

use super::{Change, Contents, FileNumber, NameChange, Operation, Pretence, SimDisk, State, cut};

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.begin(Operation::Open, path)?;
        let mut state = self.state.lock();
        let number = match (state.names.get(path).copied(), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(number), _) => number,
            (None, OpenMode::Read | OpenMode::Write) => return Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::CreateNew | OpenMode::CreateOrWrite) => {
                if path
                    .parent()
                    .is_some_and(|folder| !folder.as_os_str().is_empty() && !state.folders.contains(folder))
                {
                    return Err(io::ErrorKind::NotFound.into());
                }
                state.next_file += 1;
                let number = state.next_file;
                state.files.insert(number, Contents::default());
                state.names.insert(path.to_owned(), number);
                state.note(path, NameChange::Add(path.to_owned(), number));
                number
            }
        };
        let may_write = mode != OpenMode::Read;
        state.files.entry(number).or_default().opened += 1;
        Ok(Box::new(SimFile { disk: self.clone(), path: path.to_owned(), number, may_write }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state.lock();
        if state.is_off {
            return Err(io::Error::other("the power is off"));
        }
        let within = |path: &&PathBuf| path.parent() == Some(folder);
        let folders = state.folders.iter().filter(within);
        let mut names: Vec<PathBuf> = state.names.keys().filter(within).chain(folders).cloned().collect();
        names.sort();
        Ok(names)
    }

    fn create_folders(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.folders.extend(folder.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.begin(Operation::Remove, path)?;
        let mut state = self.state.lock();
        if state.names.remove(path).is_some() {
            state.note(path, NameChange::Remove(path.to_owned()));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(Operation::Rename, from)?;
        let mut state = self.state.lock();
        let number = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), number);
        if from.parent() == to.parent() {
            state.note(to, NameChange::Rename(from.to_owned(), to.to_owned()));
        } else {
            // Each folder's names are its own to sync: until both are, the file may have either name, both, or none.
            state.note(to, NameChange::Add(to.to_owned(), number));
            state.note(from, NameChange::Remove(from.to_owned()));
        }
        Ok(())
    }

    fn sync_directory(&self, folder: &Path) -> io::Result<()> {
        self.begin(Operation::SyncDirectory, folder)?;
        let mut state = self.state.lock();
        let changes = state.name_changes.remove(folder).unwrap_or_default();
        cut::rename_all(&mut state.durable_names, &changes);
        let within: Vec<PathBuf> =
            state.folders.iter().filter(|name| name.parent() == Some(folder)).cloned().collect();
        state.durable_folders.extend(within);
        state.drop_nameless();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.state.lock();
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned() }))
    }

    fn space(&self, _folder: &Path) -> io::Result<(u64, u64)> {
        let state = self.state.lock();
        let used: u64 = state.files.values().map(|file| file.seen.len()).sum();
        let capacity = state.capacity.unwrap_or(1 << 40);
        Ok((capacity.saturating_sub(used), capacity))
    }
}

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    number: FileNumber,
    may_write: bool,
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimFile({})", self.path.display())
    }
}

impl SimFile {
    fn change<T>(&self, change: impl FnOnce(&mut State, &mut Contents) -> io::Result<T>) -> io::Result<T> {
        if !self.may_write {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut state = self.disk.state.lock();
        state.catch_up(self.number);
        let mut file = state.files.remove(&self.number).ok_or(io::ErrorKind::NotFound)?;
        let result = change(&mut state, &mut file);
        state.files.insert(self.number, file);
        result
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if let Some(file) = state.files.get_mut(&self.number) {
            file.opened -= 1;
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state.lock();
        if state.is_off {
            return Err(io::Error::other("the power is off"));
        }
        Ok(state.files.get(&self.number).map_or(0, |file| file.seen.len()))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.begin(Operation::Read, &self.path)?;
        let mut state = self.disk.state.lock();
        state.counts.reads += 1;
        state.counts.bytes_read += buffer.len() as u64;
        let file = state.files.get(&self.number).ok_or(io::ErrorKind::NotFound)?;
        if file.seen.read(offset, buffer) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.begin(Operation::Write, &self.path)?;
        if self.disk.state.lock().pretends(Pretence::NoWrites, self.number) {
            return Ok(());
        }
        self.change(|state, file| {
            let end = offset + bytes.len() as u64;
            state.room_for(file, end)?;
            state.counts.writes += 1;
            state.counts.bytes_written += bytes.len() as u64;
            file.seen.write(offset, bytes);
            file.changes.push(Change::Write { offset, bytes: bytes.into() });
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.begin(Operation::SetLength, &self.path)?;
        self.change(|state, file| {
            state.room_for(file, length)?;
            file.seen.set_len(length);
            file.changes.push(Change::SetLength(length));
            Ok(())
        })
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.begin(Operation::Punch, &self.path)?;
        self.change(|state, file| {
            if state.has_no_holes {
                return Err(io::ErrorKind::Unsupported.into());
            }
            file.seen.punch(offset, length);
            file.changes.push(Change::Punch { offset, length });
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let begun = self.disk.begin(Operation::Sync, &self.path);
        let mut state = self.disk.state.lock();
        state.counts.syncs += 1;
        if state.pretends(Pretence::LateSync, self.number) {
            state.catch_up(self.number);
            state.late.insert(self.number);
            return begun;
        }
        let file = state.files.get_mut(&self.number).ok_or(io::ErrorKind::NotFound)?;
        if begun.is_err() {
            file.changes.clear();
        }
        file.make_durable();
        begun
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state.lock().locks.remove(&self.path);
    }
}

impl DiskLock for SimLock {}
