//! Files as one sequence of bytes: a tar archive, of which there is one for the same files.
//!
//! It holds regular files only, in the order of their paths; folders follow from these. Times, owners and modes are all
//! the same. What is read is packed again and must come out alike, so that nothing can hide in an archive that this
//! reader passes over and another does not: links, devices, attributes, bytes behind the end.

use std::collections::BTreeMap;
use std::io::Cursor;

use tar::{Archive, Builder, EntryType, Header};
use tidemill_core::bundle::check_path;
use tidemill_core::limits;

use crate::failure::shortened;

/// Files by their paths.
pub type Files<'a> = BTreeMap<String, &'a [u8]>;

/// Why bytes are no archive of a bundle, or files do not become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Too large.
    #[error("it has {0} bytes, and the limit is {max}; nothing raises it", max = limits::BUNDLE_BYTES_MAX)]
    TooLarge(usize),
    /// Too many files.
    #[error("it has more than {max} files, and nothing raises that limit", max = limits::BUNDLE_FILES_MAX)]
    TooMany,
    /// No file.
    #[error("it holds no file")]
    Empty,
    /// It cannot be read.
    #[error("it is no tar archive, or a broken one: {0}")]
    Broken(String),
    /// An entry that is no regular file.
    #[error("{path:?} is {what}: a bundle holds regular files only")]
    Kind {
        /// Its path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A path that leads elsewhere, or cannot be read.
    #[error("the path {path:?}: {why}")]
    Path {
        /// The path.
        path: String,
        /// Why.
        why: String,
    },
    /// It is there twice.
    #[error("{0:?} is there twice")]
    Twice(String),
    /// It is a file and a folder.
    #[error("{0:?} is a file, and a folder too")]
    Both(String),
    /// It is not what would have been packed.
    #[error(
        "it is not as `tidemill plugin deploy` packs the same files: in the order of their paths, without times, owners, attributes or bytes behind the end"
    )]
    Other,
}

/// The archive of these files.
///
/// # Errors
/// [`ArchiveError`] for files that no bundle may have.
pub fn pack(files: &Files<'_>) -> Result<Vec<u8>, ArchiveError> {
    check(files)?;
    let bytes: usize = files.values().map(|file| file.len().saturating_add(1_024)).sum();
    if bytes > limits::BUNDLE_BYTES_MAX {
        return Err(ArchiveError::TooLarge(bytes));
    }
    let mut archive = Builder::new(Vec::new());
    for (path, file) in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(file.len() as u64);
        header.set_mode(0o444);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let appended = archive.append_data(&mut header, path, *file);
        appended.map_err(|error| ArchiveError::Broken(error.to_string()))?;
    }
    let archive = archive.into_inner().map_err(|error| ArchiveError::Broken(error.to_string()))?;
    if archive.len() > limits::BUNDLE_BYTES_MAX {
        return Err(ArchiveError::TooLarge(archive.len()));
    }
    Ok(archive)
}

/// The files of an archive.
///
/// # Errors
/// [`ArchiveError`] for whatever [`pack`] does not make.
pub fn read(archive: &[u8]) -> Result<Files<'_>, ArchiveError> {
    if archive.len() > limits::BUNDLE_BYTES_MAX {
        return Err(ArchiveError::TooLarge(archive.len()));
    }
    let broken = |error: std::io::Error| {
        ArchiveError::Broken(shortened(error.to_string().replace(char::is_control, " "), 256))
    };
    let mut files = Files::new();
    let mut reader = Archive::new(Cursor::new(archive));
    for entry in reader.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let path = named(&entry.path_bytes())?;
        if let Some(what) = other_kind(entry.header().entry_type()) {
            return Err(ArchiveError::Kind { path, what });
        }
        let range = usize::try_from(entry.raw_file_position()).ok().and_then(|start| {
            let size = usize::try_from(entry.size()).ok()?;
            archive.get(start..start.checked_add(size)?)
        });
        let file = range.ok_or_else(|| ArchiveError::Broken("it is cut short".into()))?;
        if files.len() >= limits::BUNDLE_FILES_MAX {
            return Err(ArchiveError::TooMany);
        }
        if files.insert(path.clone(), file).is_some() {
            return Err(ArchiveError::Twice(path));
        }
    }
    if pack(&files)? == archive { Ok(files) } else { Err(ArchiveError::Other) }
}

fn named(path: &[u8]) -> Result<String, ArchiveError> {
    let wrong = |why: String| {
        let path = String::from_utf8_lossy(path).into_owned();
        ArchiveError::Path { path: shortened(path, limits::BUNDLE_PATH_BYTES_MAX), why }
    };
    let path = std::str::from_utf8(path).map_err(|_| wrong("it is not UTF-8".into()))?;
    check_path(path).map_err(wrong)?;
    Ok(path.to_owned())
}

/// What an entry is that is no regular file.
fn other_kind(kind: EntryType) -> Option<&'static str> {
    match kind {
        EntryType::Regular => None,
        EntryType::Symlink => Some("a symbolic link"),
        EntryType::Link => Some("a hard link"),
        EntryType::Directory => Some("a folder by itself"),
        EntryType::Char | EntryType::Block => Some("a device"),
        EntryType::Fifo => Some("a pipe"),
        _ => Some("of a kind that bundles do not have"),
    }
}

/// What must hold of the files of a bundle.
fn check(files: &Files<'_>) -> Result<(), ArchiveError> {
    if files.is_empty() {
        return Err(ArchiveError::Empty);
    }
    if files.len() > limits::BUNDLE_FILES_MAX {
        return Err(ArchiveError::TooMany);
    }
    for path in files.keys() {
        check_path(path).map_err(|why| ArchiveError::Path { path: path.clone(), why })?;
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        if let Some(file) = above.into_iter().find(|above| files.contains_key(*above)) {
            return Err(ArchiveError::Both(file.to_owned()));
        }
    }
    Ok(())
}
