//! Giving back a part of a sealed segment where it lies: the pages of what lies apart and is dead (`apart.rs`).
//!
//! ```text
//!   find the pages ─▶ gone.redb says it ─▶ the directory lists it ─▶ readers know ─▶ punch ─▶ sync ─▶ gone.redb: done
//! ```
//!
//! Nobody writes a sealed segment, so what its tree of pages says stays true, but that some of its leaves are holes. redb
//! is never led to one: rows are looked up by keys that are known to be there, and those of what is gone are not. A
//! power cut after the first step leaves pages that are there, or zeros, or some of each: a start does it again.
//!
//! redb does not say where a row lies. But it reads through a file of ours, a page at a time, and the page of a row
//! bears its key.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;
use tidemill_core::seams::{Disk, OpenMode};
use tidemill_protocol::ids::TopicPartition;

use super::apart::{self, BODIES, BodyKey};
use super::cut;
use super::directory::{Held, Listed};
use super::gone::Gone;
use super::reclaim::{Plan, Reclaimed};
use super::sealed;
use super::segment;
use super::shared::Shared;
use super::work::Work;
use super::{GroupLog, wait};
use crate::database::DatabaseFile;

/// What is to be given back of a segment.
pub(super) struct Punch {
    /// The segment as it is to be listed.
    pub(super) held: Box<Held>,
    pub(super) gone: Gone,
    /// What batches take in the pages.
    pub(super) dead: u64,
}

impl Punch {
    /// What the pages take.
    pub(super) fn bytes(&self) -> u64 {
        bytes_of(&self.gone.pages)
    }
}

/// Where the rows of bodies lie in a file, as they are read.
type Seen = Arc<Mutex<BTreeMap<BodyKey, Range<u64>>>>;

impl GroupLog {
    /// Gives back a part of a segment; unless the log was replaced meanwhile.
    pub(super) async fn punch(&self, punch: Punch, reclaimed: &mut Reclaimed) -> Result<(), Fault> {
        let (shared, number, bytes) = (self.shared(), punch.held.listed.number, punch.bytes());
        let written_bytes = shared.say_gone(number, &punch.gone)?;
        wait(Some(self.ask(self.memory(), |done| Work::Relist { held: punch.held, done }))).await?;
        if !shared.is_sealed(number)? {
            return shared.gone_file.lock().forget(&*shared.disk, &shared.folder, &[number]);
        }
        shared.look_no_more(number, &punch.gone);
        shared.punch(number, &punch.gone)?;
        reclaimed.punched += 1;
        reclaimed.freed_bytes += bytes;
        reclaimed.written_bytes += written_bytes;
        Ok(())
    }
}

impl Shared {
    /// What could be given back of a segment where it lies; `None` where nothing can.
    pub(super) fn to_punch(&self, listed: &Listed, plan: &Plan) -> Result<Option<Punch>, Fault> {
        let path = segment::path(&self.folder, listed.number);
        if plan.fresh.iter().all(|(_, span)| span.bytes < limits::APART_BYTES_MIN as u64)
            || !self.may_punch(&path)?
        {
            return Ok(None);
        }
        let mut chunks: BTreeMap<LogIndex, BTreeSet<TopicPartition>> = BTreeMap::new();
        for (at, span) in &plan.fresh {
            if span.bytes >= limits::APART_BYTES_MIN as u64 {
                chunks.entry(LogIndex(span.place)).or_default().insert(*at);
            }
        }
        let (file, seen) = watched(&*self.disk, &path)?;
        let (mut pages, mut dead) = (Vec::new(), 0);
        for (first, wanted) in chunks {
            let taken = pages_of(&file, &seen, first, &wanted, &mut pages)?;
            dead += taken;
        }
        let known = self.gone.read().get(&listed.number).cloned();
        let mut gone = known.unwrap_or_else(|| Gone::nothing(listed));
        for (at, below) in plan.below(listed) {
            let known = gone.below.entry(at).or_insert(below);
            *known = below.max(*known);
        }
        if pages.is_empty() {
            return Ok(None);
        }
        gone.left += plan.fresh_bytes().saturating_sub(dead);
        gone.given_back += bytes_of(&pages);
        // Those that could not be given back when they were to be are tried again.
        gone.pages = joined([std::mem::take(&mut gone.pages), pages].concat());
        let held = Box::new(sealed::held(&file, *listed, Some(&gone))?);
        Ok(Some(Punch { held, gone, dead }))
    }

    /// Whether the file system gives back parts of files. It is asked with a page behind the end of one.
    fn may_punch(&self, path: &Path) -> Result<bool, Fault> {
        if self.cannot_punch.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let asked = self.disk.open(path, OpenMode::Write).and_then(|file| {
            let end = file.len()?.next_multiple_of(PAGE);
            file.punch(end, PAGE)
        });
        match asked {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                tracing::info!("this file system gives back no parts of files: only whole segments go");
                self.cannot_punch.store(true, Ordering::Relaxed);
                Ok(false)
            }
            asked => asked.map(|()| true).map_err(|error| failed(path, error)),
        }
    }

    /// Says durably what is gone; returns what it takes to say so.
    pub(super) fn say_gone(&self, number: u64, gone: &Gone) -> Result<u64, Fault> {
        self.gone_file.lock().put(&*self.disk, &self.folder, number, gone)
    }

    /// From now on nobody here looks for what is gone; whoever did is done.
    pub(super) fn look_no_more(&self, number: u64, gone: &Gone) {
        self.gone.write().insert(number, gone.clone());
        self.chunks.clear();
    }

    /// Gives the pages back that nobody looks for any more, and says that it is done.
    pub(super) fn punch(&self, number: u64, gone: &Gone) -> Result<(), Fault> {
        give_back(&*self.disk, &segment::path(&self.folder, number), &gone.pages)?;
        let done = gone.done();
        self.say_gone(number, &done)?;
        self.gone.write().insert(number, done);
        Ok(())
    }

    /// Segments are no more: nothing need be said of them.
    pub(super) fn forget_gone(&self, numbers: &[u64]) -> Result<(), Fault> {
        self.in_vain.lock().retain(|number, _| !numbers.contains(number));
        let known: Vec<u64> = {
            let mut gone = self.gone.write();
            numbers.iter().copied().filter(|number| gone.remove(number).is_some()).collect()
        };
        self.gone_file.lock().forget(&*self.disk, &self.folder, &known)
    }
}

const PAGE: u64 = cut::PAGE as u64;

fn bytes_of(pages: &[Range<u64>]) -> u64 {
    pages.iter().map(|pages| pages.end - pages.start).sum()
}

fn failed(path: &Path, error: std::io::Error) -> Fault {
    Fault::disk(format!("giving back parts of {}", path.display()), error)
}

/// Gives pages of a file back, durably.
pub(super) fn give_back(disk: &dyn Disk, path: &Path, pages: &[Range<u64>]) -> Result<(), Fault> {
    let give = || {
        let file = disk.open(path, OpenMode::Write)?;
        pages.iter().try_for_each(|pages| file.punch(pages.start, pages.end - pages.start))?;
        file.sync_data()
    };
    give().map_err(|error| failed(path, error))
}

/// A segment's file, opened anew, and what is seen while it is read.
fn watched(disk: &dyn Disk, path: &Path) -> Result<(DatabaseFile, Seen), Fault> {
    let seen = Seen::default();
    let told = seen.clone();
    let see = move |offset: u64, page: &[u8]| {
        if let Some(key) = apart::key_on_page(page) {
            told.lock().insert(key, offset..offset + page.len() as u64);
        }
    };
    Ok((DatabaseFile::open_watched(disk, path, limits::SEALED_CACHE_BYTES, Box::new(see))?, seen))
}

/// Adds the pages of these partitions in a chunk; returns how many bytes of batches they hold.
fn pages_of(
    file: &DatabaseFile,
    seen: &Seen,
    first: LogIndex,
    wanted: &BTreeSet<TopicPartition>,
    pages: &mut Vec<Range<u64>>,
) -> Result<u64, Fault> {
    file.read(|transaction| {
        let Some((_, frame, _)) = segment::frame_with(file, transaction, first)? else { return Ok(0) };
        let apart: Vec<_> = frame.bodies.iter().filter(|apart| wanted.contains(&apart.at)).collect();
        if apart.is_empty() || frame.first() != first {
            return Ok(0);
        }
        let table = transaction.open_table(BODIES)?;
        let mut bytes = 0;
        for apart in apart {
            let body = segment::body(file, &table, first, apart)?;
            let key = |number| apart::body_key(first, apart.at, number);
            let of_body: Vec<_> =
                (0..body.rows).filter_map(|number| seen.lock().remove(&key(number))).collect();
            // Else redb keeps its pages in another way than we know, and they stay.
            if of_body.len() == body.rows && bytes_of(&of_body) == body.disk_bytes {
                pages.extend(of_body);
                bytes += apart.taken as u64;
            }
        }
        seen.lock().clear();
        Ok(bytes)
    })
}

/// Ranges in order, those that touch as one.
fn joined(mut pages: Vec<Range<u64>>) -> Vec<Range<u64>> {
    pages.sort_unstable_by_key(|pages| pages.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for pages in pages {
        match joined.last_mut().filter(|last| last.end == pages.start) {
            Some(last) => last.end = pages.end,
            None => joined.push(pages),
        }
    }
    joined
}
