//! Opening a log: what is there, whether it is all, and what to do about what is not.
//!
//! Sealed segments are taken from the directory without opening them. The others (one, seldom a few) are opened,
//! repaired if a crash left them open, verified page by page, and read once to make the index again.
//!
//! Then the log is held against the mark (`mark.rs`). redb commits a turn with one sync and, when the newest commit
//! does not verify, falls back to the one before. It cannot know whether that commit was ever acknowledged; the mark
//! can:
//!
//! ```text
//!   last turn found   ≥ the mark's    all that was acknowledged is there; a turn beyond it may be torn: ordinary
//!   last turn found   < the mark's    what was acknowledged is gone: a loss, remembered until it is made good
//! ```
//!
//! Removing whole segments, when a log is cut far back or replaced, also leaves turns below the mark; the floor
//! (`promises.rs`), written before, says so. What is damaged elsewhere than in the newest commit is a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::seams::Disk;

use super::LogOptions;
use super::directory::Held;
use super::directory::{Directory, Listed};
use super::entry::LogId;
use super::gone::{Gone, GoneFile, GoneOf};
use super::line::{Line, OpenSegment, after};
use super::mark::{Mark, MarkFile};
use super::promises::{self, Floor, PromiseFile, Promises};
use super::punch;
use super::segment::{self, Segment};
use super::tail::Tail;
use crate::database;

/// No turns: it is not known which are missing.
#[allow(clippy::reversed_empty_ranges)] // It is to be empty.
const UNKNOWN: RangeInclusive<u64> = 1..=0;

/// What opening a log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The last owner did not close the log.
    pub unclean: bool,
    /// A turn that was never acknowledged was found torn, and dropped. Ordinary and harmless.
    pub torn: bool,
    /// The mark of the last turn was gone or unreadable: had something been lost, nobody would know.
    pub unmarked: bool,
    /// What was acknowledged and is gone, found now or at an earlier start and not made good since. Such a replica
    /// must neither vote nor acknowledge until it has caught up: see [`GroupLog::clear_amnesia`].
    ///
    /// [`GroupLog::clear_amnesia`]: super::GroupLog::clear_amnesia
    pub amnesia: Option<Loss>,
}

/// What was durable, and is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The turns that are missing; empty when it is not known which.
    pub turns: RangeInclusive<u64>,
    /// The entries that are missing. `None` when the lost turns only cut entries off.
    pub entries: Option<RangeInclusive<LogIndex>>,
}

impl Loss {
    /// Everything that either lost.
    fn and(&self, other: &Loss) -> Loss {
        let turns = match (self.turns.is_empty(), other.turns.is_empty()) {
            (true, _) => other.turns.clone(),
            (_, true) => self.turns.clone(),
            _ => *self.turns.start().min(other.turns.start())..=*self.turns.end().max(other.turns.end()),
        };
        let entries = match (&self.entries, &other.entries) {
            (Some(one), Some(two)) => Some(*one.start().min(two.start())..=*one.end().max(two.end())),
            (one, two) => one.clone().or_else(|| two.clone()),
        };
        Loss { turns, entries }
    }
}

/// A log that was opened.
pub(super) struct Opened {
    pub(super) promises: PromiseFile,
    pub(super) mark: MarkFile,
    pub(super) directory: Directory,
    pub(super) gone_file: GoneFile,
    pub(super) gone: GoneOf,
    pub(super) line: Line,
    pub(super) incoming: Option<Line>,
    pub(super) committed: Option<LogId>,
    /// The last turn that any file knows of.
    pub(super) turn: u64,
    pub(super) next_segment: u64,
    pub(super) recovery: Recovery,
}

/// Opens the log in `folder`, or makes an empty one.
pub(super) fn open(disk: &dyn Disk, folder: &Path, options: &LogOptions) -> Result<Opened, Fault> {
    let failed = |error| Fault::disk(format!("opening {}", folder.display()), error);
    crate::folder::make(disk, folder).map_err(failed)?;
    let names = remove_unfinished(disk, folder).map_err(failed)?;
    let files: Vec<u64> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    let (mut promise_file, was_left_open) = match PromiseFile::open(disk, folder)? {
        Some(opened) => opened,
        None if files.is_empty() => (PromiseFile::create(disk, folder)?, false),
        None => {
            return Err(Fault::damaged(
                folder.join(promises::NAME).display().to_string(),
                "the file is missing",
            ));
        }
    };
    let (mark, marked) = MarkFile::open(disk, folder)?;
    let directory = Directory::open(disk, folder)?;
    let number = promise_file.promises().line;
    let (mut gone_file, mut gone) = GoneFile::open(disk, folder)?;
    let mut found = Found { unclean: was_left_open, ..Found::default() };
    found.look(disk, folder, &directory, (&files, &gone), number)?;
    found.give_back(disk, folder, &directory, (&mut gone_file, &mut gone))?;
    let mut log = found.line(number, promise_file.promises(), options)?;
    let gathered = found.open.iter().filter(|(_, segment)| segment.birth.line == number + 1);
    let gathered: Vec<u64> = gathered.map(|(number, _)| *number).collect();
    let incoming = match found.line(number + 1, &Promises::default(), options) {
        Ok(incoming) => {
            found.turn = found.turn.max(incoming.turn);
            incoming.line.last.is_some().then_some(incoming.line)
        }
        // It can be fetched again.
        Err(Fault::Damaged { what, why }) => {
            tracing::warn!(%what, %why, "a snapshot that was being installed is damaged, and dropped");
            found.drop_line(number + 1);
            // Those that were read before the damage was met are not among its open ones any more.
            let met: BTreeSet<u64> = found.dead.iter().copied().chain(gathered).collect();
            found.dead = met.into_iter().collect();
            directory.keep_lines(&[number])?;
            None
        }
        Err(fault) => return Err(fault),
    };
    remove(disk, folder, &found.dead).map_err(failed)?;

    let lost = mend(&mut promise_file, &mut log.line)?;
    let missing = marked.and_then(|mark| missing(mark, log.turn, log.line.last, promise_file.promises()));
    let loss = [lost, missing].into_iter().flatten().reduce(|one, two| one.and(&two));
    if let Some(loss) = &loss {
        let all = promise_file.promises().amnesia.as_ref().map_or(loss.clone(), |known| known.and(loss));
        if promise_file.promises().amnesia.as_ref() != Some(&all) {
            promise_file.change(|promises| promises.amnesia = Some(all))?;
        }
    }
    let promises = promise_file.promises();
    let recovery = Recovery {
        unclean: found.unclean,
        torn: found.fell_back && loss.is_none(),
        unmarked: marked.is_none() && log.line.lowest().is_some(),
        amnesia: promises.amnesia.clone(),
    };
    let floor_turn = promises.floor.map_or(0, |floor| floor.turn);
    let turn = log.turn.max(found.turn).max(floor_turn).max(marked.map_or(0, |mark| mark.turn));
    let next_segment =
        files.iter().copied().chain(marked.map(|mark| mark.segment)).max().map_or(1, |last| last + 1);
    // The others may have committed more than was durable here; what is left of it is committed, too.
    let committed = log.committed.max(promises.purged).min(log.line.last);
    let (promises, line) = (promise_file, log.line);
    Ok(Opened {
        promises,
        mark,
        directory,
        gone_file,
        gone,
        line,
        incoming,
        committed,
        turn,
        next_segment,
        recovery,
    })
}

/// What the mark says was synced, and is not there.
fn missing(mark: Mark, turn: u64, last: Option<LogId>, promises: &Promises) -> Option<Loss> {
    if turn >= mark.turn {
        return None;
    }
    // Whole segments may have been removed since, or are half removed; then what was to be kept must be there. A mark of
    // the removal's own turn says that it was finished by cutting a segment: nothing excuses that turn.
    let is_excused = |floor: Floor| {
        let reached = floor.last.is_none_or(|wanted| last.is_some_and(|last| last >= wanted));
        // Beyond both lies only what had been cut off before, and is back.
        let is_within = last <= mark.last.max(floor.last);
        floor.turn > mark.turn && turn >= floor.kept && reached && is_within
    };
    if promises.floor.is_some_and(is_excused) {
        return None;
    }
    let next = last.map_or(LogIndex(0), |last| after(last.index));
    let entries = mark.last.filter(|marked| marked.index >= next).map(|marked| next..=marked.index);
    Some(Loss { turns: turn + 1..=mark.turn, entries })
}

/// Raft never goes back below the purge mark. If the log ends before it, the rest is lost, and Raft goes on behind.
fn mend(promises: &mut PromiseFile, line: &mut Line) -> Result<Option<Loss>, Fault> {
    let Some(purged) =
        promises.promises().purged.filter(|purged| line.last.is_none_or(|last| last < *purged))
    else {
        return Ok(None);
    };
    let last = line.last.replace(purged);
    let Some(last) = last else {
        // Nothing was kept below the purge mark: a snapshot without records took the log's place.
        line.first = after(purged.index);
        return Ok(None);
    };
    if promises.promises().has_hole(last.index, after(purged.index)) {
        return Ok(None);
    }
    let hole = (last.index.0 + 1, purged.index.0);
    promises.change(|promises| promises.holes.push(hole))?;
    Ok(Some(Loss { turns: UNKNOWN, entries: Some(after(last.index)..=purged.index) }))
}

/// Removes files that were being made when their maker ended; returns the names that are left.
fn remove_unfinished(disk: &dyn Disk, folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let names = disk.list(folder)?;
    let of_log = [promises::NAME, super::directory::NAME, super::gone::NAME]
        .map(|name| database::hidden(&folder.join(name)));
    let is_unfinished = |path: &PathBuf| {
        let as_segment = path.with_extension("").with_extension("redb");
        let is_segment = database::hidden(&as_segment) == *path && segment::number_of(&as_segment).is_some();
        is_segment || of_log.contains(path)
    };
    let (unfinished, kept): (Vec<PathBuf>, Vec<PathBuf>) = names.into_iter().partition(is_unfinished);
    unfinished.iter().try_for_each(|path| disk.remove(path))?;
    Ok(kept)
}

fn remove(disk: &dyn Disk, folder: &Path, numbers: &[u64]) -> std::io::Result<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    numbers.iter().try_for_each(|number| disk.remove(&segment::path(folder, *number)))?;
    disk.sync_directory(folder)
}

/// The segments of a folder.
#[derive(Default)]
struct Found {
    sealed: BTreeMap<u64, Listed>,
    /// By number.
    open: BTreeMap<u64, Segment>,
    /// Segments of lines that are no more, to be removed.
    dead: Vec<u64>,
    /// A segment of the line that is being installed is missing.
    has_gap: bool,
    unclean: bool,
    fell_back: bool,
    /// The last turn of any of them.
    turn: u64,
}

/// A line, read.
struct Read {
    line: Line,
    turn: u64,
    committed: Option<LogId>,
}

impl Found {
    fn look(
        &mut self,
        disk: &dyn Disk,
        folder: &Path,
        directory: &Directory,
        (files, gone): (&[u64], &GoneOf),
        line: u32,
    ) -> Result<(), Fault> {
        let is_dead = |of: u32| !(line..=line + 1).contains(&of);
        for listed in directory.listed()? {
            if is_dead(listed.line) {
                self.dead.push(listed.number);
            } else {
                self.sealed.insert(listed.number, listed);
            }
        }
        directory.keep_lines(&[line, line + 1])?;
        for gone in self.sealed.extract_if(.., |number, _| !files.contains(number)) {
            self.has_gap = true;
            if gone.1.line == line {
                let what = segment::path(folder, gone.0).display().to_string();
                return Err(Fault::damaged(what, "the file is missing"));
            }
        }
        let known: Vec<u64> = self.sealed.keys().chain(&self.dead).copied().collect();
        for number in files.iter().copied().filter(|number| !known.contains(number)) {
            let path = segment::path(folder, number);
            if let Some(held) = segment::read_sealed(disk, &path, gone)? {
                if is_dead(held.listed.line) {
                    self.dead.push(number);
                } else {
                    self.adopt(disk, folder, directory, (held, gone))?;
                }
                continue;
            }
            let (segment, repair) = Segment::open(disk, &path)?;
            self.turn = self.turn.max(segment.birth.turn);
            if is_dead(segment.birth.line) {
                self.dead.push(number);
                continue;
            }
            self.unclean |= repair.unclean;
            self.fell_back |= repair.fell_back;
            // The power went between the seal and the close: there is nothing left to be done but that.
            if segment::read_seal(&segment.file)?.is_some() {
                segment.file.close()?;
                let sealed = segment::read_sealed(disk, &path, gone)?;
                let held = sealed
                    .ok_or_else(|| Fault::damaged(path.display().to_string(), "it cannot be closed"))?;
                self.adopt(disk, folder, directory, (held, gone))?;
                continue;
            }
            self.open.insert(number, segment);
        }
        if self.has_gap {
            // What a snapshot brought can be fetched again.
            self.drop_line(line + 1);
            directory.keep_lines(&[line])?;
        }
        Ok(())
    }

    /// Takes in a sealed segment that the directory does not list. Of two that hold the same stretch, the one with the
    /// higher number was made to take the other's place: power was cut before that was gone.
    fn adopt(
        &mut self,
        disk: &dyn Disk,
        folder: &Path,
        directory: &Directory,
        (found, gone): (Held, &GoneOf),
    ) -> Result<(), Fault> {
        let listed = found.listed;
        let same = |other: &&Listed| (other.line, other.first) == (listed.line, listed.first);
        match self.sealed.values().find(same).copied() {
            None => directory.add(&found)?,
            Some(other) if other.number > listed.number => {
                self.dead.push(listed.number);
                return Ok(());
            }
            Some(other) => {
                let path = segment::path(folder, other.number);
                let old = segment::read_sealed(disk, &path, gone)?
                    .ok_or_else(|| Fault::damaged(path.display().to_string(), "it is not closed"))?;
                directory.exchange(&old, Some(&found))?;
                self.sealed.remove(&other.number);
                self.dead.push(other.number);
            }
        }
        self.sealed.insert(listed.number, listed);
        Ok(())
    }

    /// Does again what may have been cut short: giving back parts of segments. What is said of segments that are no more
    /// is forgotten.
    fn give_back(
        &mut self,
        disk: &dyn Disk,
        folder: &Path,
        directory: &Directory,
        (file, gone): (&mut GoneFile, &mut GoneOf),
    ) -> Result<(), Fault> {
        let is_there = |number: &u64, gone: &Gone| self.sealed.get(number).is_some_and(|it| gone.is_of(it));
        let stale: Vec<u64> =
            gone.extract_if(.., |number, gone| !is_there(number, gone)).map(|(number, _)| number).collect();
        file.forget(disk, folder, &stale)?;
        let cut_short: Vec<u64> =
            gone.iter().filter(|(_, gone)| !gone.pages.is_empty()).map(|(number, _)| *number).collect();
        for number in cut_short {
            let path = segment::path(folder, number);
            let held = segment::read_sealed(disk, &path, gone)?
                .ok_or_else(|| Fault::damaged(path.display().to_string(), "it is not closed"))?;
            directory.add(&held)?;
            self.sealed.insert(number, held.listed);
            let Some(gone) = gone.get_mut(&number) else { continue };
            let done = gone.done();
            let given = punch::give_back(disk, &path, &gone.pages)
                .and_then(|()| file.put(disk, folder, number, &done));
            match given {
                Ok(_) => *gone = done,
                // Nobody looks for it; whoever gives back more of the segment, or the next start, tries again.
                Err(fault) => tracing::warn!(%fault, "a part of the disk is not given back for now"),
            }
        }
        Ok(())
    }

    fn drop_line(&mut self, line: u32) {
        let sealed = self.sealed.extract_if(.., |_, listed| listed.line == line).map(|(number, _)| number);
        let open =
            self.open.extract_if(.., |_, segment| segment.birth.line == line).map(|(number, _)| number);
        self.dead.extend(sealed.chain(open));
    }

    /// Puts a line together, and reads what is not sealed of it.
    fn line(&mut self, number: u32, promises: &Promises, options: &LogOptions) -> Result<Read, Fault> {
        let mut line = Line { number, tail: Tail::new(options.tail_bytes), ..Line::default() };
        let (mut turn, mut committed, mut empty) = (0, None, None);
        let mut sealed: Vec<Listed> =
            self.sealed.values().filter(|listed| listed.line == number).copied().collect();
        sealed.sort_by_key(|listed| listed.first);
        for listed in sealed {
            follows(line.last, listed.first, promises, || format!("segment {}", listed.number))?;
            turn = turn.max(listed.seal.turn);
            (line.last, committed) = (Some(listed.seal.last), Some(listed.seal.last));
            line.sealed.insert(listed.first, listed);
        }
        for (number, segment) in self.open.extract_if(.., |_, segment| segment.birth.line == number) {
            let mut open = OpenSegment::new(Arc::new(segment));
            committed = committed.max(open.segment.birth.committed);
            read_segment(&mut open, &mut line, &mut committed, promises)?;
            if open.last.is_some() {
                if let Some(empty) = empty {
                    return Err(Fault::damaged(
                        empty,
                        format!("it is empty, and segment {number} follows it"),
                    ));
                }
                turn = turn.max(open.turn);
                line.open.push_back(open);
            } else {
                // It knows of the turns before it, which does not mean that they are there. Only the newest may be
                // empty: one in which nothing was written is removed before the next is begun.
                empty = Some(open.segment.file.path().display().to_string());
                self.dead.push(number);
            }
        }
        line.has_active = line.open.back().is_some_and(|open| open.bytes < options.segment_bytes);
        line.first = line.lowest().unwrap_or_default();
        Ok(Read { line, turn, committed })
    }
}

/// Reads all chunks of an unsealed segment into the line's index and tail.
fn read_segment(
    open: &mut OpenSegment,
    line: &mut Line,
    committed: &mut Option<LogId>,
    promises: &Promises,
) -> Result<(), Fault> {
    let name = || open.segment.file.path().display().to_string();
    let birth = open.segment.birth;
    let mut next = birth.first;
    if open.segment.has_chunk_from(next)? {
        follows(line.last, birth.first, promises, name)?;
        if birth.previous.is_some()
            && line.last.is_some_and(|last| after(last.index) == next)
            && line.last != birth.previous
        {
            let why =
                format!("it follows {:?}, and the log before it ends with {:?}", birth.previous, line.last);
            return Err(Fault::damaged(name(), why));
        }
    }
    while let Some(chunk) = open.segment.chunk_with(next)? {
        if chunk.entries[0].id.index != next || chunk.turn < open.turn {
            return Err(Fault::damaged(name(), format!("its chunks are out of order at entry {}", next.0)));
        }
        for entry in &chunk.entries {
            line.index.add(entry)?;
            line.tail.push(entry.clone());
            open.last = Some(entry.id);
            next = after(entry.id.index);
        }
        line.tail.trim(next);
        open.chunks.push(chunk.entries[0].id.index);
        open.bytes += chunk.disk_bytes;
        open.turn = chunk.turn;
        *committed = (*committed).max(chunk.committed);
    }
    if open.segment.has_chunk_from(next)? {
        return Err(Fault::damaged(name(), format!("entry {} is missing from it", next.0)));
    }
    open.turn = open.turn.max(open.segment.cut_turn()?.unwrap_or_default());
    line.last = open.last.or(line.last);
    Ok(())
}

/// Refuses a segment that does not go on where the one before it ends.
fn follows(
    last: Option<LogId>,
    first: LogIndex,
    promises: &Promises,
    name: impl Fn() -> String,
) -> Result<(), Fault> {
    let Some(last) = last else { return Ok(()) };
    if after(last.index) == first || (last.index < first && promises.has_hole(last.index, first)) {
        return Ok(());
    }
    Err(Fault::damaged(
        name(),
        format!("it begins with entry {}, and the log before it ends with {}", first.0, last.index.0),
    ))
}
