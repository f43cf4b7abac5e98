//! What one replica asks of another.
//!
//! ```text
//! 1 append            vote · previous id · committed id · entries
//! 2 vote              vote · last id · transfer u8 · pre u8
//! 3 transfer          vote · to u64 · last id
//! 4 snapshot begin    vote · id · standing · afresh u8
//! 5 snapshot records  id · entries
//! 6 snapshot rows     id · after · rows n u32 · n × (key · value)
//! 7 snapshot end      vote · id · first: there u8 · index u64
//! ```
//!
//! Standing, keys and values stand behind a length of four bytes; `after` is a key behind `there u8`. The id of a
//! snapshot is that of the last entry that it covers. The parts are drawn in `parts.rs`.

use bytes::Bytes;
use tidemill_core::ids::{BrokerId, GroupId, LogIndex};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::parts::{follows, read_entries, read_flag, read_vote, write_entries, write_vote};
use super::{begin, check, leave_room, read_group, seal, write_group};
use crate::log::{LogEntry, LogId, Vote};
use crate::raft::standing::{read_id, write_id};

/// What one replica asks of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Raft's AppendEntries.
    Append {
        /// The leader's vote.
        vote: Vote,
        /// The entry before them.
        previous: Option<LogId>,
        /// How far the leader knows entries to be committed.
        committed: Option<LogId>,
        /// The entries, right behind `previous`. None of them is of a later term than the leader's.
        entries: Vec<LogEntry>,
    },
    /// Raft's RequestVote, or the question before it whether it would be granted.
    Vote {
        /// The candidate's vote.
        vote: Vote,
        /// Its last entry.
        last: Option<LogId>,
        /// Whether the leader asked it to take over.
        transfer: bool,
        /// Whether it is only a question.
        pre: bool,
    },
    /// The leader wants another to lead.
    Transfer {
        /// The leader's vote.
        vote: Vote,
        /// Who is to lead.
        to: BrokerId,
        /// The leader's last entry, which it must have.
        last: Option<LogId>,
    },
    /// Part of a snapshot.
    Snapshot(Part),
}

/// A part of a snapshot, on its way to a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A snapshot is coming: what is there of it already?
    Begin {
        /// The leader's vote.
        vote: Vote,
        /// The last entry that it covers.
        snapshot: LogId,
        /// What its checkpoint holds for Raft.
        standing: Bytes,
        /// What is there of records is of no use, and to be dropped.
        afresh: bool,
    },
    /// Records below the snapshot.
    Records {
        /// Which.
        snapshot: LogId,
        /// The entries.
        entries: Vec<LogEntry>,
    },
    /// Rows of the snapshot's tables.
    Rows {
        /// Which.
        snapshot: LogId,
        /// The last key sent before them.
        after: Option<Bytes>,
        /// Keys and values, by key.
        rows: Vec<(Bytes, Bytes)>,
    },
    /// The snapshot is complete.
    End {
        /// The leader's vote.
        vote: Vote,
        /// Which.
        snapshot: LogId,
        /// The first record that must be there, if there are any.
        first: Option<LogIndex>,
    },
}

impl Ask {
    /// Writes it for a group.
    pub fn encode(&self, group: GroupId) -> Bytes {
        let mut w = Writer::with_capacity(128 + self.bytes());
        w.u8(super::VERSION).u8(self.kind());
        write_group(&mut w, group);
        let checksum = leave_room(&mut w);
        match self {
            Ask::Append { vote, previous, committed, entries } => {
                write_vote(&mut w, *vote);
                write_id(&mut w, *previous);
                write_id(&mut w, *committed);
                write_entries(&mut w, entries);
            }
            Ask::Vote { vote, last, transfer, pre } => {
                write_vote(&mut w, *vote);
                write_id(&mut w, *last);
                w.u8((*transfer).into()).u8((*pre).into());
            }
            Ask::Transfer { vote, to, last } => {
                write_vote(&mut w, *vote);
                w.u64(to.0);
                write_id(&mut w, *last);
            }
            Ask::Snapshot(Part::Begin { vote, snapshot, standing, afresh }) => {
                write_vote(&mut w, *vote);
                write_id(&mut w, Some(*snapshot));
                w.blob(standing).u8((*afresh).into());
            }
            Ask::Snapshot(Part::Records { snapshot, entries }) => {
                write_id(&mut w, Some(*snapshot));
                write_entries(&mut w, entries);
            }
            Ask::Snapshot(Part::Rows { snapshot, after, rows }) => {
                write_id(&mut w, Some(*snapshot));
                w.u8(after.is_some().into()).blob(after.as_deref().unwrap_or_default());
                w.u32(rows.len() as u32);
                rows.iter().for_each(|(key, value)| {
                    w.blob(key).blob(value);
                });
            }
            Ask::Snapshot(Part::End { vote, snapshot, first }) => {
                write_vote(&mut w, *vote);
                write_id(&mut w, Some(*snapshot));
                w.u8(first.is_some().into()).u64(first.unwrap_or_default().0);
            }
        }
        seal(w, checksum)
    }

    /// Reads it, and for which group it is.
    ///
    /// # Errors
    /// [`Malformed`] when it is no ask.
    pub fn decode(message: &Bytes) -> Result<(GroupId, Ask), Malformed> {
        let mut reader = Reader::new(message.clone());
        let r = &mut reader;
        let kind = begin(r)?;
        let group = read_group(r)?;
        check(r, message)?;
        let ask = match kind {
            1 => read_append(r)?,
            2 => Ask::Vote {
                vote: read_vote(r)?,
                last: read_id(r)?,
                transfer: read_flag(r, "transfer")?,
                pre: read_flag(r, "pre")?,
            },
            3 => Ask::Transfer { vote: read_vote(r)?, to: BrokerId(r.u64("broker")?), last: read_id(r)? },
            4..=7 => Ask::Snapshot(read_part(kind, r)?),
            _ => return Err(Malformed { what: "kind", at: 1 }),
        };
        reader.finish("ask")?;
        Ok((group, ask))
    }

    /// Who says this, by its own word. `None` where a message needs no author.
    pub fn author(&self) -> Option<BrokerId> {
        match self {
            Ask::Append { vote, .. }
            | Ask::Vote { vote, .. }
            | Ask::Transfer { vote, .. }
            | Ask::Snapshot(Part::Begin { vote, .. })
            | Ask::Snapshot(Part::End { vote, .. }) => vote.node,
            Ask::Snapshot(Part::Records { .. }) | Ask::Snapshot(Part::Rows { .. }) => None,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Ask::Append { .. } => 1,
            Ask::Vote { .. } => 2,
            Ask::Transfer { .. } => 3,
            Ask::Snapshot(Part::Begin { .. }) => 4,
            Ask::Snapshot(Part::Records { .. }) => 5,
            Ask::Snapshot(Part::Rows { .. }) => 6,
            Ask::Snapshot(Part::End { .. }) => 7,
        }
    }

    /// About how many bytes of entries and rows it has.
    fn bytes(&self) -> usize {
        match self {
            Ask::Append { entries, .. } | Ask::Snapshot(Part::Records { entries, .. }) => {
                entries.iter().map(|entry| 32 + entry.payload.bytes().len()).sum()
            }
            Ask::Snapshot(Part::Rows { rows, .. }) => {
                rows.iter().map(|(key, value)| 8 + key.len() + value.len()).sum()
            }
            Ask::Snapshot(Part::Begin { standing, .. }) => standing.len(),
            Ask::Vote { .. } | Ask::Transfer { .. } | Ask::Snapshot(Part::End { .. }) => 0,
        }
    }
}

fn read_append(r: &mut Reader) -> Result<Ask, Malformed> {
    let (vote, previous, committed) = (read_vote(r)?, read_id(r)?, read_id(r)?);
    let at = r.position();
    let entries = read_entries(r)?;
    let is_in_order = match (previous, entries.first()) {
        (Some(previous), Some(first)) => follows(previous, first.id),
        (None, Some(first)) => first.id.index == LogIndex(0),
        (_, None) => true,
    };
    let last = entries.last().map(|last| last.id).max(previous);
    if !vote.committed || !is_in_order || last.is_some_and(|last| last.term > vote.term) {
        return Err(Malformed { what: "append", at });
    }
    Ok(Ask::Append { vote, previous, committed, entries })
}

fn read_part(kind: u8, r: &mut Reader) -> Result<Part, Malformed> {
    Ok(match kind {
        4 => Part::Begin {
            vote: read_vote(r)?,
            snapshot: read_snapshot(r)?,
            standing: r.blob("standing")?,
            afresh: read_flag(r, "afresh")?,
        },
        5 => Part::Records { snapshot: read_snapshot(r)?, entries: read_entries(r)? },
        6 => read_rows(r)?,
        _ => Part::End { vote: read_vote(r)?, snapshot: read_snapshot(r)?, first: read_first(r)? },
    })
}

fn read_rows(r: &mut Reader) -> Result<Part, Malformed> {
    let snapshot = read_snapshot(r)?;
    let is_there = read_flag(r, "after")?;
    let after = Some(r.blob("after")?).filter(|_| is_there);
    let mut rows: Vec<(Bytes, Bytes)> = Vec::new();
    for _ in 0..r.u32("number of rows")? {
        let (key, value) = (r.blob("key")?, r.blob("value")?);
        let before = rows.last().map(|(key, _)| key).or(after.as_ref());
        if before.is_some_and(|before| *before >= key) {
            return Err(r.malformed("order of rows"));
        }
        rows.push((key, value));
    }
    Ok(Part::Rows { snapshot, after, rows })
}

fn read_snapshot(r: &mut Reader) -> Result<LogId, Malformed> {
    read_id(r)?.ok_or_else(|| r.malformed("snapshot"))
}

fn read_first(r: &mut Reader) -> Result<Option<LogIndex>, Malformed> {
    let is_there = read_flag(r, "first")?;
    Ok(Some(LogIndex(r.u64("first")?)).filter(|_| is_there))
}
