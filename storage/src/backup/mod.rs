//! Copying groups while they go on, and checking such a copy.
//!
//! A copy is the folder that a group would have had, had it been closed right after its *cut*. The cuts of several
//! groups are taken at one moment, so that the copies fit together:
//!
//! ```text
//!   1. Source::of   each group: nothing is given back any more; its last durable checkpoint is held
//!   2. cut          all groups: how far each is committed, at one and the same moment
//!   3. Source::copy each group: sealed segments as they are, the rest written anew up to the cut
//! ```
//!
//! Nobody is stopped for it. What is known to be committed only grows, and grows before anything of it shows (openraft
//! saves it before it applies). So when all groups are looked at twice and nothing has moved in between, there was a
//! moment at which all of that was true at once; and whatever one group did because of an entry of another, it did
//! after that entry was committed. The tables were held before the cut, so they are never ahead of the log.
//!
//! Where the files go, what they are called and which of them are there already is the caller's.

mod check;

use std::path::Path;

use tidemill_core::fault::Fault;
use tidemill_core::seams::Disk;
use tokio::sync::MutexGuard;

use crate::group::Group;
use crate::log::{LogCopy, LogId, SealedFile};
use crate::state::Dump;

pub use check::{Checked, check};

/// How often the groups are looked at for one cut: each look takes less than a microsecond for a group, and one commit
/// in between spoils it.
const LOOKS_MAX: usize = 10_000;

/// A group that is about to be copied.
pub struct Source<'a> {
    group: &'a Group,
    state: Dump,
    _held: MutexGuard<'a, ()>,
}

/// A group's copy up to its cut.
pub struct Copy<'a> {
    source: &'a Source<'a>,
    log: LogCopy,
}

impl<'a> Source<'a> {
    /// Holds what is needed of a group. Until it is dropped, none of the group's disk is given back.
    pub async fn of(group: &'a Group) -> Source<'a> {
        let held = group.log().hold().await;
        Source { group, state: group.tables().dump(), _held: held }
    }

    /// Begins the copy up to `cut`.
    pub fn copy(&'a self, cut: LogId) -> Copy<'a> {
        Copy { source: self, log: self.group.log().copy_upto(cut) }
    }
}

/// How far each group is committed, at one moment; `None` when so much is committed all the time that none was found, or
/// a group has nothing yet.
pub fn cut(sources: &[Source<'_>]) -> Option<Vec<LogId>> {
    let look = || sources.iter().map(|source| source.group.log().committed_hint()).collect::<Vec<_>>();
    let mut before = look();
    for _ in 0..LOOKS_MAX {
        let now = look();
        if now == before {
            return now.into_iter().collect();
        }
        before = now;
    }
    None
}

impl Copy<'_> {
    /// The segments that are taken over as they are. Their files never change.
    pub fn sealed(&self) -> Vec<SealedFile> {
        self.source.group.log().sealed_of(&self.log)
    }

    /// Writes the rest into `folder`, which must be empty: entries behind the sealed segments, promises, mark and
    /// tables, durably. A fault is the copy's, not the group's.
    ///
    /// # Errors
    /// A [`Fault`] when it cannot be written, or the group cannot be read.
    pub fn write_rest(&self, disk: &dyn Disk, folder: &Path) -> Result<(), Fault> {
        let state = &self.source.state;
        self.source.group.log().write_rest(&self.log, disk, folder, state.checkpoint().applied)?;
        state.write_to(disk, folder)
    }
}
