//! `turn.mark`: the last turn that was synced, so that one that is missing later is missed.
//!
//! ```text
//!  0        4         8      16        24          32           40          48
//! ┌────────┬─────────┬──────┬─────────┬───────────┬────────────┬───────────┬────────┐
//! │ "tmrk" │ version │ turn │ segment │ last term │ last index │ entries + │ crc32c │   at 0 and again at 512
//! │        │   u32   │ u64  │   u64   │    u64    │    u64     │ zeros u64 │  u32   │
//! └────────┴─────────┴──────┴─────────┴───────────┴────────────┴───────────┴────────┘
//! ```
//!
//! The two slots are written in turns, each in a sector of its own, so that a torn write leaves the other; the one with
//! the higher turn counts. `entries` is 1 when there is a last entry, else 0. The mark is written after the turn was
//! synced and before it is acknowledged, and is itself never synced but when a log is closed: after the end of the
//! process it is always there, and after a power cut it may be older, never newer, than the log.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{LogIndex, Term};
use tidemill_core::seams::{Disk, DiskFile, OpenMode};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::entry::LogId;

const NAME: &str = "turn.mark";
const MAGIC: [u8; 4] = *b"tmrk";
const VERSION: u32 = 1;
const SLOT_BYTES: usize = 52;
const CRC_AT: usize = 48;
const SLOTS_AT: [u64; 2] = [0, 512];

/// A turn that was synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) turn: u64,
    /// The segment it was written to.
    pub(super) segment: u64,
    /// The last entry of the log after it.
    pub(super) last: Option<LogId>,
}

/// The file, open.
#[derive(Debug)]
pub(super) struct MarkFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    next: usize,
}

impl MarkFile {
    /// Opens the file, making it when it is not there, and returns the newest readable mark.
    ///
    /// # Errors
    /// [`Fault::Disk`], or [`Fault::Newer`].
    pub(super) fn open(disk: &dyn Disk, folder: &Path) -> Result<(MarkFile, Option<Mark>), Fault> {
        let path = folder.join(NAME);
        let failed = |error: io::Error| Fault::disk(format!("opening {}", path.display()), error);
        let file = disk.open(&path, OpenMode::CreateOrWrite).map_err(failed)?;
        if file.is_empty().map_err(failed)? {
            file.set_len(SLOTS_AT[1] + SLOT_BYTES as u64).map_err(failed)?;
            file.sync_data().and_then(|()| disk.sync_directory(folder)).map_err(failed)?;
        }
        let mut newest: Option<(usize, Mark)> = None;
        for (slot, at) in SLOTS_AT.into_iter().enumerate() {
            let mut bytes = vec![0; SLOT_BYTES];
            match file.read_at(at, &mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                result => result.map_err(failed)?,
            }
            let Some(mark) = read(Bytes::from(bytes), &path)? else { continue };
            if newest.is_none_or(|(_, other)| mark.turn > other.turn) {
                newest = Some((slot, mark));
            }
        }
        let next = newest.map_or(0, |(slot, _)| 1 - slot);
        Ok((MarkFile { path, file, next }, newest.map(|(_, mark)| mark)))
    }

    /// Writes a mark over the older of the two.
    pub(super) fn write(&mut self, mark: Mark) -> Result<(), Fault> {
        let mut writer = Writer::with_capacity(SLOT_BYTES);
        writer.raw(&MAGIC).u32(VERSION).u64(mark.turn).u64(mark.segment);
        writer.u64(mark.last.map_or(0, |id| id.term.0)).u64(mark.last.map_or(0, |id| id.index.0));
        writer.u64(mark.last.is_some().into());
        let crc = crc32c::crc32c(writer.as_slice());
        writer.u32(crc);
        let written = self.file.write_at(SLOTS_AT[self.next], writer.as_slice());
        written.map_err(|error| Fault::disk(format!("writing {}", self.path.display()), error))?;
        self.next = 1 - self.next;
        Ok(())
    }

    /// Makes the marks durable, for a log that is closed.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.file.sync_data().map_err(|error| Fault::disk(format!("syncing {}", self.path.display()), error))
    }
}

/// Bytes as a slot whose magic and checksum hold, whatever else is wrong with it.
pub(super) fn resealed(bytes: &[u8]) -> Bytes {
    let mut slot = bytes.to_vec();
    slot.resize(SLOT_BYTES, 0);
    slot[..4].copy_from_slice(&MAGIC);
    let crc = crc32c::crc32c(&slot[..CRC_AT]).to_be_bytes();
    slot[CRC_AT..].copy_from_slice(&crc);
    Bytes::from(slot)
}

/// Reads a slot; `None` when it was never written, or is torn.
pub(super) fn read(slot: Bytes, path: &Path) -> Result<Option<Mark>, Fault> {
    let crc = crc32c::crc32c(&slot[..CRC_AT]).to_be_bytes();
    if slot[..4] != MAGIC || slot[CRC_AT..] != crc {
        return Ok(None);
    }
    let fields = |slot| -> Result<(u32, Mark), Malformed> {
        let mut reader = Reader::new(slot);
        reader.bytes(MAGIC.len(), "magic")?;
        let version = reader.u32("version")?;
        let (turn, segment) = (reader.u64("turn")?, reader.u64("segment")?);
        let id = LogId { term: Term(reader.u64("last term")?), index: LogIndex(reader.u64("last index")?) };
        let last = (reader.u64("entries")? == 1).then_some(id);
        Ok((version, Mark { turn, segment, last }))
    };
    let (version, mark) = fields(slot)?;
    match version {
        VERSION => Ok(Some(mark)),
        found => Err(Fault::Newer { what: path.display().to_string(), found, known: VERSION }),
    }
}
