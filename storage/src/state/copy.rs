//! A copy of a checkpoint, as a `state.redb` of its own; and reading one without changing it.

use std::path::Path;

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::limits;
use tidemill_core::seams::Disk;
use tidemill_core::tables::Changes;

use super::Checkpoint;
use super::base::StateFile;
use super::transfer::Dump;

impl Dump {
    /// Writes all of it into `folder`, as a broker would leave it, durably.
    pub(crate) fn write_to(&self, disk: &dyn Disk, folder: &Path) -> Result<(), Fault> {
        let staged = StateFile::stage(disk, folder)?;
        each_page(self, |page| staged.add(page))?;
        staged.write(&Changes::new(), self.checkpoint())?;
        staged.show(disk)?;
        staged.close()
    }
}

/// Reads every row of the `state.redb` in `folder`, and returns how many there are and how far they are. The disk must
/// bear to have what it opens written to: see `log/offline.rs`.
pub(crate) fn check(disk: &dyn Disk, folder: &Path) -> Result<(u64, Checkpoint), Fault> {
    let dump = Dump::of(StateFile::look(disk, folder)?.base()?);
    let mut rows = 0;
    each_page(&dump, |page| {
        rows += page.len() as u64;
        Ok(())
    })?;
    Ok((rows, dump.checkpoint().clone()))
}

/// Takes all rows, page by page, each of which was held against its checksum.
fn each_page(dump: &Dump, mut take: impl FnMut(&[(Bytes, Bytes)]) -> Result<(), Fault>) -> Result<(), Fault> {
    let mut after: Option<Bytes> = None;
    loop {
        let page = dump.page(after.as_deref(), limits::RAFT_PAGE_BYTES)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        take(&page)?;
    }
}
