//! Checking a copy of a group from its files alone: nothing of them is changed, and each is held in memory while it is
//! looked at.
//!
//! Every chunk, every batch and its envelope, and every row is held against its checksum; entries must follow one
//! another from the first to the last; the tables must lie between what Raft has forgotten and the log's end.

use std::path::Path;
use std::sync::Arc;

use tidemill_core::entry::Entry;
use tidemill_core::envelope;
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;
use tidemill_core::seams::Disk;
use tidemill_protocol::batch;
use tidemill_protocol::ids::Offset;

use crate::log::offline::{self, Copied, OfflineSegment};
use crate::log::{LogId, Payload, promised};
use crate::state;

/// What a copy of a group holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Entries of its log.
    pub entries: u64,
    /// Record batches in them.
    pub batches: u64,
    /// Rows of its tables.
    pub rows: u64,
    /// The last entry of its log.
    pub last: Option<LogId>,
    /// The last entry that its tables show.
    pub applied: Option<LogId>,
}

/// Checks the copy of a group that lies in `folder`.
///
/// # Errors
/// The first [`Fault`] that is found.
pub fn check(disk: &Arc<dyn Disk>, folder: &Path) -> Result<Checked, Fault> {
    let failed = |error| Fault::disk(format!("listing {}", folder.display()), error);
    let copied = Copied(disk.clone());
    let promises = promised(&copied, folder)?;
    let mut checked = Checked::default();
    let mut segments = Vec::new();
    for number in offline::segments(&**disk, folder).map_err(failed)? {
        // The order is that of their entries: one that was written anew has a higher number than those behind it.
        let about = OfflineSegment::read(disk.clone(), folder, number)?.about().clone();
        segments.push((about.first, number));
    }
    segments.sort_unstable();
    for (_, number) in segments {
        for turn in OfflineSegment::read(disk.clone(), folder, number)?.turns()? {
            for entry in turn?.entries {
                let next = checked.last.map(|last| LogIndex(last.index.0 + 1));
                let follows = next.is_none_or(|next| {
                    next == entry.id.index || promises.has_hole(LogIndex(next.0 - 1), entry.id.index)
                });
                if !follows || checked.last.is_some_and(|last| last.term > entry.id.term) {
                    let what = format!("segment {number} of {}", folder.display());
                    let why = format!("entry {:?} does not follow {:?}", entry.id, checked.last);
                    return Err(Fault::damaged(what, why));
                }
                checked.last = Some(entry.id);
                checked.entries += 1;
                if let Payload::Entry(inner) = &entry.payload {
                    checked.batches += check_batches(inner, entry.id.index)?;
                }
            }
        }
    }
    let (rows, checkpoint) = state::check(&copied, folder)?;
    (checked.rows, checked.applied) = (rows, checkpoint.applied);
    if checkpoint.applied > checked.last.max(promises.purged) || checkpoint.applied < promises.purged {
        let why = format!(
            "its tables show {:?}, its log ends with {:?}, and Raft has forgotten up to {:?}",
            checkpoint.applied, checked.last, promises.purged
        );
        return Err(Fault::damaged(folder.display().to_string(), why));
    }
    Ok(checked)
}

/// Returns how many there are.
fn check_batches(entry: &Entry, index: LogIndex) -> Result<u64, Fault> {
    for placed in &entry.batches {
        let what = || format!("a batch of partition {} in entry {}", placed.at.partition.0, index.0);
        let header = batch::verify(&placed.batch, &limits::STORED_BATCH)
            .map_err(|error| Fault::damaged(what(), error))?;
        if placed.away.is_some() && header.base_offset != Offset(0) {
            return Err(Fault::damaged(what(), "it waits to be shipped, and has an offset"));
        }
        if !envelope::is_sealed_for(&placed.envelope, placed.at, &header) {
            return Err(Fault::damaged(what(), "its envelope belongs to another"));
        }
    }
    Ok(entry.batches.len() as u64)
}
