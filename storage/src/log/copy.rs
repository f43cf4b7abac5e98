//! A copy of a log up to one entry, while the log goes on.
//!
//! ```text
//!   ┌────────┬────────┬──────────────────┬────────┐
//!   │ sealed │ sealed │ sealed or rolled │ active │
//!   └────────┴────────┴────────────▲─────┴────────┘
//!    whole files       entries up to the cut, in a segment of the copy's own
//! ```
//!
//! A sealed segment never changes, but that parts of it are given back: its file is the copy, whichever of these were there
//! when it was copied, and what is gone is said beside it. Everything behind the last that lies wholly below the cut is
//! read as any reader would, and written into a new segment; votes and marks are written to fit. So what is copied is
//! the folder of a log that was closed right after the cut. While [`GroupLog::hold`] is held no segment is given back.
//!
//! The directory is left out: a start makes it again from the sealed segments.

use std::path::{Path, PathBuf};

use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;
use tidemill_core::seams::{Disk, Timestamp};
use tokio::sync::MutexGuard;

use super::GroupLog;
use super::directory::Listed;
use super::entry::{LogEntry, LogId};
use super::gone::GoneFile;
use super::line::after;
use super::mark::{Mark, MarkFile};
use super::promises::{PromiseFile, Promises};
use super::segment::{self, Birth, Segment};
use super::work;

/// A sealed segment that a copy takes over as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its last entry.
    pub last: LogId,
    /// Its last turn.
    pub turn: u64,
}

/// What of a log a copy up to a cut consists of.
#[derive(Debug)]
pub(crate) struct LogCopy {
    cut: LogId,
    line: u32,
    first: LogIndex,
    sealed: Vec<Listed>,
    next_segment: u64,
}

impl GroupLog {
    /// No segment is unlinked or written anew until what is returned is dropped.
    pub(crate) async fn hold(&self) -> MutexGuard<'_, ()> {
        self.shared().reclaiming.lock().await
    }

    /// What a copy up to `cut`, an entry that is committed, consists of.
    pub(crate) fn copy_upto(&self, cut: LogId) -> LogCopy {
        let memory = self.memory();
        let sealed = memory.line.sealed.values();
        LogCopy {
            cut,
            line: memory.line.number,
            first: memory.line.lowest().unwrap_or(memory.line.first),
            sealed: sealed.filter(|listed| listed.seal.last.index <= cut.index).copied().collect(),
            next_segment: memory.next_segment,
        }
    }

    /// The files that are taken over as they are.
    pub(crate) fn sealed_of(&self, copy: &LogCopy) -> Vec<SealedFile> {
        let file = |listed: &Listed| SealedFile {
            path: segment::path(&self.shared().folder, listed.number),
            last: listed.seal.last,
            turn: listed.seal.turn,
        };
        copy.sealed.iter().map(file).collect()
    }

    /// Writes the rest of a copy into `folder`: a segment with the entries behind the sealed ones, the promises, and
    /// the mark. `state` is the last entry that the copy of the tables covers.
    pub(crate) fn write_rest(
        &self,
        copy: &LogCopy,
        disk: &dyn Disk,
        folder: &Path,
        state: Option<LogId>,
    ) -> Result<(), Fault> {
        let mut promises = self.memory().promises.clone();
        // Raft may have forgotten more since the tables were copied: what they lack it still needs.
        promises.purged = promises.purged.min(state);
        (promises.line, promises.floor) = (copy.line, None);
        let mark = self.write_entries(copy, disk, folder, &promises)?;
        let mut file = PromiseFile::create(disk, folder)?;
        file.change(|new| *new = promises)?;
        file.close()?;
        let (mut file, _) = GoneFile::open(disk, folder)?;
        for listed in &copy.sealed {
            if let Some(gone) = self.shared().gone.read().get(&listed.number) {
                file.put(disk, folder, listed.number, gone)?;
            }
        }
        file.close()?;
        let (mut marks, _) = MarkFile::open(disk, folder)?;
        marks.write(mark)?;
        marks.sync()
    }

    /// Returns the mark of the last turn.
    fn write_entries(
        &self,
        copy: &LogCopy,
        disk: &dyn Disk,
        folder: &Path,
        promises: &Promises,
    ) -> Result<Mark, Fault> {
        let sealed = copy.sealed.last();
        let mut rest = Rest {
            disk,
            folder,
            line: copy.line,
            made: self.shared().clock.now(),
            segment_bytes: self.shared().options.segment_bytes,
            next_segment: copy.next_segment,
            active: None,
            mark: Mark {
                turn: sealed.map_or(0, |listed| listed.seal.turn),
                segment: sealed.map_or(0, |listed| listed.number),
                last: sealed.map(|listed| listed.seal.last),
            },
        };
        let mut next = rest.mark.last.map_or(copy.first, |last| after(last.index));
        while next <= copy.cut.index {
            let page = self.entries(next.0..copy.cut.index.0 + 1, limits::TURN_BYTES_TARGET)?;
            let Some(last) = page.last() else { break };
            next = after(last.id.index);
            for run in page.chunk_by(|one, other| after(one.id.index) == other.id.index) {
                rest.write(run)?;
            }
        }
        rest.close()?;
        let reached = rest.mark.last;
        let is_whole = match reached {
            Some(last) => last == copy.cut || promises.has_hole(last.index, after(copy.cut.index)),
            None => promises.purged >= Some(copy.cut),
        };
        if is_whole {
            return Ok(rest.mark);
        }
        Err(Fault::damaged(
            "the log",
            format!("it was to be copied up to {:?}, and reaches {reached:?}", copy.cut),
        ))
    }
}

/// The segments that a copy has of its own.
struct Rest<'a> {
    disk: &'a dyn Disk,
    folder: &'a Path,
    line: u32,
    made: Timestamp,
    segment_bytes: u64,
    next_segment: u64,
    /// The one that is written, and what is in it.
    active: Option<(Segment, u64)>,
    /// What was written last.
    mark: Mark,
}

impl Rest<'_> {
    /// Writes entries that follow one another. Those behind a hole begin a segment, as they did in the log.
    fn write(&mut self, run: &[LogEntry]) -> Result<(), Fault> {
        let mut left = run;
        while let Some(first) = left.first() {
            let chunk = &left[..work::fitting(left)];
            left = &left[chunk.len()..];
            let follows = self.mark.last.is_some_and(|last| after(last.index) == first.id.index);
            let is_full = self.active.as_ref().is_some_and(|(_, bytes)| *bytes >= self.segment_bytes);
            if is_full || !follows {
                self.close()?;
            }
            let last = chunk.last().map(|entry| entry.id);
            self.mark.turn += 1;
            let mark = self.mark;
            let (segment, bytes) = match &mut self.active {
                Some(active) => active,
                none => {
                    let number = self.next_segment;
                    self.next_segment += 1;
                    let birth = Birth {
                        number,
                        line: self.line,
                        first: first.id.index,
                        previous: mark.last.filter(|_| follows),
                        committed: mark.last,
                        turn: mark.turn - 1,
                        made: self.made,
                    };
                    none.insert((Segment::create(self.disk, self.folder, birth, 0)?, 0))
                }
            };
            // All of it is committed.
            *bytes += segment.write(chunk, mark.turn, last)?;
            self.mark = Mark { turn: mark.turn, segment: segment.birth.number, last };
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        self.active.take().map_or(Ok(()), |(segment, _)| segment.file.close())
    }
}
