//! The files of an author's folder, all of them, as they lie there.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use tidemill_core::limits;

use super::archive::{self, ArchiveError};

/// Why a folder does not become a bundle.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// It cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// A link, a device, a name that is not UTF-8.
    #[error("{path}: {what}, and a bundle holds regular files only")]
    Kind {
        /// Where.
        path: String,
        /// What is there.
        what: &'static str,
    },
    /// No bundle may be so.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Packs the files of a folder. Empty folders in it are passed over.
///
/// # Errors
/// [`GatherError`], also for symbolic links, wherever they lead.
pub fn gather(folder: &Path) -> Result<Vec<u8>, GatherError> {
    let at = |path: &str, error| GatherError::Io { path: folder.join(path).display().to_string(), error };
    let mut files = BTreeMap::new();
    let mut bytes = 0_u64;
    let root = Dir::open_ambient_dir(folder, ambient_authority()).map_err(|error| at("", error))?;
    let mut folders = vec![(String::new(), root)];
    while let Some((prefix, dir)) = folders.pop() {
        for entry in dir.entries().map_err(|error| at(&prefix, error))? {
            let entry = entry.map_err(|error| at(&prefix, error))?;
            let shown = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let wrong = |what| {
                let path = folder.join(&shown).display().to_string();
                Err(GatherError::Kind { path, what })
            };
            let Ok(name) = entry.file_name().into_string() else {
                return wrong("its name is not UTF-8");
            };
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().map_err(|error| at(&path, error))?;
            if kind.is_dir() {
                let inner = entry.open_dir().map_err(|error| at(&path, error))?;
                folders.push((format!("{path}/"), inner));
            } else if kind.is_file() {
                let most = (limits::BUNDLE_BYTES_MAX as u64).saturating_sub(bytes);
                let mut file = Vec::new();
                let opened = entry.open().map_err(|error| at(&path, error))?;
                // One byte more than there is room for says that it is too much.
                opened.take(most + 1).read_to_end(&mut file).map_err(|error| at(&path, error))?;
                bytes += file.len() as u64;
                files.insert(path, file);
            } else if kind.is_symlink() {
                return wrong("a symbolic link");
            } else {
                return wrong("neither a file nor a folder");
            }
            if files.len() > limits::BUNDLE_FILES_MAX {
                return Err(ArchiveError::TooMany.into());
            }
        }
    }
    Ok(archive::pack(&files.iter().map(|(path, file)| (path.clone(), &file[..])).collect())?)
}
