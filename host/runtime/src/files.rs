//! The files of a deployment, as the contract's own interface gives them: by whole paths, a piece at a time. They are those
//! that guests of WASI find (`wasi/files.rs`); this is for the others, the Rust SDK's among them.
//!
//! What is there is known from the archive, and no path is handed to the operating system that is not in it.

use tidemill_core::fault::Fault;
use tidemill_core::limits;

use crate::bundle::{Bundle, Node};
use crate::failure::Stop;
use crate::step::Step;

/// Why a guest is not given what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Nothing is there.
    Missing,
    /// A folder for a file, or a file for a folder.
    Kind,
}

impl Step {
    /// At most `length` bytes of a file, from `offset` on; fewer only at its end, or beyond
    /// [`limits::GUEST_FILE_READ_BYTES_MAX`].
    ///
    /// # Errors
    /// The outer is a fault of the disk, which ends the step.
    pub(crate) fn read_file(
        &self,
        path: &str,
        offset: u64,
        length: u32,
    ) -> Result<Result<Vec<u8>, Absent>, Stop> {
        let Some((bundle, within, node)) = self.file_at(path) else { return Ok(Err(Absent::Missing)) };
        let Some(size) = node.size else { return Ok(Err(Absent::Kind)) };
        let most = u64::from(length).min(limits::GUEST_FILE_READ_BYTES_MAX as u64);
        let read = bundle.read(within, size, offset, most);
        Ok(Ok(read.map_err(|error| Fault::disk(format!("reading {path} of a bundle"), error))?))
    }

    /// How many bytes a file has.
    pub(crate) fn file_size(&self, path: &str) -> Result<u64, Absent> {
        let (.., node) = self.file_at(path).ok_or(Absent::Missing)?;
        node.size.ok_or(Absent::Kind)
    }

    /// The names in a folder, in their order; those of folders end with `/`.
    pub(crate) fn list_folder(&self, path: &str) -> Result<Vec<String>, Absent> {
        match self.file_at(path).ok_or(Absent::Missing)? {
            (.., node) if node.size.is_some() => Err(Absent::Kind),
            (.., node) => {
                let name = |is_folder, name: &str| format!("{name}{}", if is_folder { "/" } else { "" });
                Ok(node.holds.iter().map(|held| name(held.is_folder, &held.name)).collect())
            }
        }
    }

    fn file_at<'a>(&'a self, path: &'a str) -> Option<(&'a Bundle, &'a str, &'a Node)> {
        self.input.files.iter().find_map(|files| {
            let within = match path.strip_prefix(&files.at)? {
                "" => "",
                rest => rest.strip_prefix('/')?,
            };
            Some((&files.bundle, within, files.bundle.find(within)?))
        })
    }
}
