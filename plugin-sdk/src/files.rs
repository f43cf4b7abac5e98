//! The files that are deployed with a plugin, to be read.

use serde::de::DeserializeOwned;

use crate::host::Host;

/// The files of the deployment's bundles: each `[[bundle]]` of the manifest is a folder, which lies at its `mount`. They are
/// the same in every step of a version.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    pub(crate) host: &'a dyn Host,
}

/// A file that is not there, or is not what the plugin needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct FileError {
    /// Its whole path.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

impl FileError {
    pub(crate) fn new(path: &str, why: impl ToString) -> FileError {
        FileError { path: path.to_owned(), why: why.to_string() }
    }
}

impl Files<'_> {
    /// The bytes of a file, by its whole path: `/data/places.json` for `places.json` of the bundle at `/data`.
    ///
    /// # Errors
    /// [`FileError`] when there is no such file.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.host.file(path)
    }

    /// The text of a file.
    ///
    /// # Errors
    /// [`FileError`] when there is no such file, or it is not UTF-8.
    pub fn text(&self, path: &str) -> Result<String, FileError> {
        String::from_utf8(self.read(path)?).map_err(|error| FileError::new(path, error))
    }

    /// What a file holds as JSON.
    ///
    /// # Errors
    /// [`FileError`] when there is no such file, or it does not hold that.
    pub fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, FileError> {
        serde_json::from_slice(&self.read(path)?).map_err(|error| FileError::new(path, error))
    }

    /// The names in a folder, in their order; those of folders end with `/`.
    ///
    /// # Errors
    /// [`FileError`] when there is no such folder.
    pub fn list(&self, path: &str) -> Result<Vec<String>, FileError> {
        self.host.folder(path)
    }
}
