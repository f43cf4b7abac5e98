//! A folder made of an archive, and what guests are told of each thing in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt as _, OpenOptions, OpenOptionsExt as _};

use super::archive::{self, ArchiveError, Files};
use super::{Bundle, Held, Node, Opened, Place};

/// Why there is no folder of an archive.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is no archive of a bundle.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The disk failed.
    #[error("{}: {error}", folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
}

pub(super) fn unpack(archive: &[u8], folder: &Path) -> Result<Bundle, UnpackError> {
    let files = archive::read(archive)?;
    let made = make(&files, folder).map_err(|error| UnpackError::Io { folder: folder.to_owned(), error });
    Ok(Bundle(Arc::new(made?)))
}

fn make(files: &Files<'_>, folder: &Path) -> io::Result<Opened> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = folder.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Dir::create_ambient_dir_all(parent, ambient_authority())?;
    let parent = Dir::open_ambient_dir(parent, ambient_authority())?;
    match parent.remove_dir_all(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => parent.create_dir(name)?,
    }
    let root = parent.open_dir(name)?;

    let mut folders = BTreeSet::from([""]);
    for (path, bytes) in files {
        for (at, _) in path.match_indices('/') {
            if folders.insert(&path[..at]) {
                root.create_dir(&path[..at])?;
            }
        }
        // Two names that a file system takes for one end here.
        let mut file = root.open_with(path, OpenOptions::new().write(true).create_new(true).mode(0o444))?;
        file.write_all(bytes)?;
    }
    let all: BTreeSet<&str> = files.keys().map(String::as_str).chain(folders.iter().copied()).collect();
    let (mut nodes, mut paths) = (BTreeMap::<Place, Node>::new(), BTreeMap::new());
    for (number, path) in all.into_iter().enumerate() {
        let about = if path.is_empty() { root.dir_metadata()? } else { root.metadata(path)? };
        let (size, holds) =
            if about.is_dir() { (None, held(files, path)) } else { (Some(about.len()), Arc::from([])) };
        let place = (about.dev(), about.ino());
        nodes.insert(place, Node { number: number as u64, size, holds });
        paths.insert(path.to_owned(), place);
    }
    Ok(Opened { folder: folder.to_owned(), dir: root, nodes, paths })
}

/// What a folder holds, in the order of names.
fn held(files: &Files<'_>, folder: &str) -> Arc<[Held]> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let below = files.range(prefix.clone()..).map_while(|(path, _)| path.strip_prefix(&prefix));
    let names: BTreeMap<&str, bool> =
        below.map(|path| path.split_once('/').map_or((path, false), |(name, _)| (name, true))).collect();
    names.into_iter().map(|(name, is_folder)| Held { name: name.to_owned(), is_folder }).collect()
}
