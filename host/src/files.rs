//! Small files, whole: read at once, and replaced so that a power cut leaves the old one or the new one.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tidemill_core::ids::Digest;
use tidemill_core::seams::{Disk, OpenMode};

/// The bytes of a file of at most `most` bytes; `None` when there is no such file.
///
/// # Errors
/// As the disk's; [`io::ErrorKind::FileTooLarge`] beyond `most`.
pub fn read(disk: &dyn Disk, path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let length = usize::try_from(file.len()?).ok().filter(|length| *length <= most);
    let length = length.ok_or(io::ErrorKind::FileTooLarge)?;
    let mut bytes = vec![0; length];
    file.read_at(0, &mut bytes)?;
    Ok(Some(bytes))
}

/// The bytes of a file that is named after their SHA-256; `None` also where it is damaged. Errors as [`read`].
///
/// # Errors
/// As the disk's.
pub fn read_known(disk: &dyn Disk, path: &Path, wanted: Digest, most: usize) -> io::Result<Option<Bytes>> {
    Ok(read(disk, path, most)?.filter(|bytes| digest(bytes) == wanted).map(Bytes::from))
}

/// The SHA-256 of a component, or a bundle.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Puts `bytes` in the place of a file, durably and at once.
///
/// # Errors
/// As the disk's.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    disk.remove(&beside)?;
    let file = disk.open(&beside, OpenMode::CreateNew)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&beside, path)?;
    disk.sync_directory(folder)
}
