//! Backups: consistent copies of a broker that goes on meanwhile, in a folder of their own.
//!
//! ```text
//!   DIR/lock                    held by who writes
//!   DIR/manifests/NAME.json     a backup: what its files are called and hold; written last
//!   DIR/files/DIGEST            the files of all backups, by the BLAKE3 of what they hold
//!   DIR/making/                 where the next ones are made
//! ```
//!
//! A backup without its manifest does not exist; what else lies in the folder is removed by whoever writes there next.
//! A sealed segment never changes, so the second backup of a broker finds most of its files there already.
//!
//! | file | holds |
//! |---|---|
//! | [`manifest`] | what a backup consists of |
//! | [`place`] | the folder with backups: names, files, leftovers |
//! | [`create`] | making one of a broker that runs |
//! | [`job`] | doing that beside everything else, and saying how far it is |
//! | [`verify`] | reading one whole, from its files alone |
//! | [`restore`] | making a data folder of one |
//!
//! Which bytes a group's copy consists of is storage's own: `storage/src/backup/`.

pub mod create;
pub mod job;
pub mod manifest;
pub mod place;
pub mod restore;
pub mod verify;

use std::io;
use std::path::Path;

use tidemill_core::fault::Fault;

/// Why a backup was not made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// What was asked for cannot be; whoever asked must act.
    #[error("{0}")]
    Refused(String),
    /// A file or folder cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// Something is damaged, or newer than this program.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Names the file or folder of an error.
fn at(path: &Path) -> impl Fn(io::Error) -> BackupError + '_ {
    move |error| BackupError::Io { path: path.display().to_string(), error }
}
