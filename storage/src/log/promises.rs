//! `vote.redb`: what a replica promised, and what it must remember of its log whatever happens to it.
//!
//! Small, written seldom, and always with two syncs: what was acknowledged is never given up for an older state, and
//! damage is reported, not repaired. Every page is verified when it is opened. It is the first file of a group's
//! folder to be made: where there is a log and no promises, somebody took them away.
//!
//! | key | value, big-endian |
//! |---|---|
//! | `vote` | term u64 · for whom, if anybody: 1 u8 · broker u64, else 0 u8 · committed u8 |
//! | `purged` | term u64 · index u64 |
//! | `line` | u32: which of several lines of segments is the log. A snapshot's records gather in the next one |
//! | `floor` | turn u64 · kept turn u64 · last entry as `vote`'s broker, with term u64 · index u64: see [`Floor`] |
//! | `holes` | n × (first index u64 · last index u64): see [`Promises::holes`] |
//! | `amnesia` | first turn u64 · last turn u64 · 1 u8 · first index u64 · last index u64, or 0 u8 |

use std::path::Path;

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, LogIndex, Term};
use tidemill_core::seams::Disk;
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::entry::{LogId, Vote};
use super::recovery::Loss;
use crate::database::{Commit, DatabaseFile};
use crate::version;

/// The file's name.
pub(super) const NAME: &str = "vote.redb";
const TABLE: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("promises");

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Promises {
    pub(super) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(super) line: u32,
    pub(super) floor: Option<Floor>,
    /// Indexes, first and last, that this log will never hold: they were lost, and Raft went on behind them because
    /// the state was already further.
    pub(super) holes: Vec<(u64, u64)>,
    pub(super) amnesia: Option<Loss>,
}

/// Written before whole segments are removed: turns below this one may be missing, if those up to `kept` are there and
/// the log still reaches `last`. The turn is the removal's own; a mark that bears it was written after the rest was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) turn: u64,
    /// The last turn of the segments that are kept.
    pub(super) kept: u64,
    pub(super) last: Option<LogId>,
}

impl Promises {
    /// Whether a hole explains that `after` follows `before`.
    pub(crate) fn has_hole(&self, before: LogIndex, after: LogIndex) -> bool {
        self.holes.iter().any(|(first, last)| *first > before.0 && *last < after.0)
    }
}

/// The file, open.
#[derive(Debug)]
pub(super) struct PromiseFile {
    file: DatabaseFile,
    promises: Promises,
}

impl PromiseFile {
    /// Makes the file in a new folder.
    pub(super) fn create(disk: &dyn Disk, folder: &Path) -> Result<PromiseFile, Fault> {
        let file = version::made(disk, &folder.join(NAME), Commit::TwoSyncs, |transaction| {
            transaction.open_table(TABLE)?;
            Ok(())
        })?;
        Ok(PromiseFile { file, promises: Promises::default() })
    }

    /// Opens the file, and says whether it had been left open; `None` when there is none.
    pub(super) fn open(disk: &dyn Disk, folder: &Path) -> Result<Option<(PromiseFile, bool)>, Fault> {
        let Some((file, repair)) = version::opened(disk, folder, NAME)? else { return Ok(None) };
        let row = |key: &'static str| -> Result<Option<Bytes>, Fault> {
            file.read(|transaction| {
                let table = transaction.open_table(TABLE)?;
                let row = ReadableTable::get(&table, key)?;
                Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
            })
        };
        let damaged = |malformed: Malformed| Fault::damaged(file.path().display().to_string(), malformed);
        let promises = Promises {
            vote: row("vote")?.map(read_vote).transpose().map_err(damaged)?,
            purged: row("purged")?.map(read_id).transpose().map_err(damaged)?,
            line: row("line")?.map(read_line).transpose().map_err(damaged)?.unwrap_or_default(),
            floor: row("floor")?.map(read_floor).transpose().map_err(damaged)?,
            holes: row("holes")?.map(read_holes).transpose().map_err(damaged)?.unwrap_or_default(),
            amnesia: row("amnesia")?.map(read_loss).transpose().map_err(damaged)?,
        };
        Ok(Some((PromiseFile { file, promises }, repair.unclean)))
    }

    pub(super) fn promises(&self) -> &Promises {
        &self.promises
    }

    /// Makes a change durable.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Promises)) -> Result<(), Fault> {
        let mut promises = self.promises.clone();
        change(&mut promises);
        let rows = [
            ("vote", promises.vote.map(write_vote)),
            ("purged", promises.purged.map(write_id)),
            ("line", Some(promises.line.to_be_bytes().to_vec())),
            ("floor", promises.floor.map(write_floor)),
            ("holes", Some(write_holes(&promises.holes))),
            ("amnesia", promises.amnesia.as_ref().map(write_loss)),
        ];
        self.file.write(Commit::TwoSyncs, |transaction| {
            let mut table = transaction.open_table(TABLE)?;
            for (key, row) in &rows {
                match row {
                    Some(row) => table.insert(*key, &row[..])?,
                    None => table.remove(*key)?,
                };
            }
            Ok(())
        })?;
        self.promises = promises;
        Ok(())
    }

    pub(super) fn close(&self) -> Result<(), Fault> {
        self.file.close()
    }
}

/// Reads bytes as each of the promises; what can be read is written and read alike.
pub(super) fn reread(row: &Bytes) {
    fn same<T: PartialEq + std::fmt::Debug>(
        row: &Bytes,
        read: impl Fn(Bytes) -> Result<T, Malformed>,
        write: impl Fn(&T) -> Vec<u8>,
    ) {
        if let Ok(promise) = read(row.clone()) {
            assert_eq!(read(write(&promise).into()), Ok(promise));
        }
    }
    same(row, read_vote, |vote| write_vote(*vote));
    same(row, read_id, |id| write_id(*id));
    same(row, read_line, |line| line.to_be_bytes().to_vec());
    same(row, read_floor, |floor| write_floor(*floor));
    same(row, read_holes, |holes| write_holes(holes));
    same(row, read_loss, write_loss);
}

fn write_vote(vote: Vote) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.u64(vote.term.0).u8(vote.node.is_some().into());
    if let Some(broker) = vote.node {
        writer.u64(broker.0);
    }
    writer.u8(vote.committed.into());
    writer.as_slice().to_vec()
}

fn read_vote(row: Bytes) -> Result<Vote, Malformed> {
    let mut reader = Reader::new(row);
    let term = Term(reader.u64("vote's term")?);
    let node = match reader.u8("vote")? {
        0 => None,
        _ => Some(BrokerId(reader.u64("vote's broker")?)),
    };
    let committed = reader.u8("vote's outcome")? == 1;
    reader.finish("vote")?;
    Ok(Vote { term, node, committed })
}

fn write_id(id: LogId) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.u64(id.term.0).u64(id.index.0);
    writer.as_slice().to_vec()
}

fn read_id(row: Bytes) -> Result<LogId, Malformed> {
    let mut reader = Reader::new(row);
    let id = LogId { term: Term(reader.u64("term")?), index: LogIndex(reader.u64("index")?) };
    reader.finish("log id")?;
    Ok(id)
}

fn read_line(row: Bytes) -> Result<u32, Malformed> {
    let mut reader = Reader::new(row);
    let line = reader.u32("line")?;
    reader.finish("line")?;
    Ok(line)
}

fn write_floor(floor: Floor) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.u64(floor.turn).u64(floor.kept).u8(floor.last.is_some().into());
    if let Some(last) = floor.last {
        writer.raw(&write_id(last));
    }
    writer.as_slice().to_vec()
}

fn read_floor(row: Bytes) -> Result<Floor, Malformed> {
    let mut reader = Reader::new(row);
    let (turn, kept) = (reader.u64("floor's turn")?, reader.u64("floor's kept turn")?);
    let last = match reader.u8("floor")? {
        0 => None,
        1 => {
            let rest = reader.remaining();
            Some(read_id(reader.bytes(rest, "floor")?)?)
        }
        _ => return Err(reader.malformed("floor")),
    };
    reader.finish("floor")?;
    Ok(Floor { turn, kept, last })
}

fn write_holes(holes: &[(u64, u64)]) -> Vec<u8> {
    let mut writer = Writer::new();
    for (first, last) in holes {
        writer.u64(*first).u64(*last);
    }
    writer.as_slice().to_vec()
}

fn read_holes(row: Bytes) -> Result<Vec<(u64, u64)>, Malformed> {
    let mut reader = Reader::new(row);
    let mut holes = Vec::new();
    while reader.remaining() > 0 {
        holes.push((reader.u64("hole")?, reader.u64("hole")?));
    }
    Ok(holes)
}

fn write_loss(loss: &Loss) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.u64(*loss.turns.start()).u64(*loss.turns.end()).u8(loss.entries.is_some().into());
    if let Some(entries) = &loss.entries {
        writer.u64(entries.start().0).u64(entries.end().0);
    }
    writer.as_slice().to_vec()
}

fn read_loss(row: Bytes) -> Result<Loss, Malformed> {
    let mut reader = Reader::new(row);
    let turns = reader.u64("lost turns")?..=reader.u64("lost turns")?;
    let entries = match reader.u8("lost entries")? {
        0 => None,
        _ => Some(LogIndex(reader.u64("lost entries")?)..=LogIndex(reader.u64("lost entries")?)),
    };
    reader.finish("loss")?;
    Ok(Loss { turns, entries })
}

/// What the `vote.redb` of a folder says, for whoever only looks.
pub(crate) fn promised(disk: &dyn Disk, folder: &Path) -> Result<Promises, Fault> {
    let opened = PromiseFile::open(disk, folder)?;
    let missing = || Fault::damaged(folder.join(NAME).display().to_string(), "the file is missing");
    opened.map(|(file, _)| file.promises).ok_or_else(missing)
}
