//! Making a group's folder so that a power cut does not take it away again.

use std::io;
use std::path::Path;

use tidemill_core::seams::Disk;

/// Makes a folder and those above it that are missing, durably: the name of each is synced where it stands.
pub(crate) fn make(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
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
    missing
        .into_iter()
        .rev()
        .filter(|above| !above.as_os_str().is_empty())
        .try_for_each(|above| disk.sync_directory(above))
}
