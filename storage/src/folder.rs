//! Making a folder so that a power cut does not take it away again: a group's, and the broker's own above it.

use std::io;
use std::path::Path;

use tidemill_core::seams::Disk;

/// Makes a folder and those above it that are missing, durably: the name of each is synced where it stands.
///
/// # Errors
/// As the disk's.
pub fn make(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for candidate in folder.ancestors() {
        let Some(above) = candidate.parent() else { break };
        if disk.list(above)?.iter().any(|name| name == candidate) {
            break;
        }
        missing.push(above);
    }
    if missing.is_empty() {
        return Ok(());
    }
    disk.create_folders(folder)?;
    // What has no name above it stands in the working directory.
    let here = |above| if above == Path::new("") { Path::new(".") } else { above };
    missing.into_iter().rev().try_for_each(|above| disk.sync_directory(here(above)))
}
