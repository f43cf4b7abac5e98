//! The parts that messages are made of.
//!
//! ```text
//! vote:  term u64 · there u8 · broker u64 · committed u8
//! id:    there u8 · term u64 · index u64
//! entry: term u64 · index u64 · payload u8 (0 blank, 1 entry, 2 membership) · bytes, behind a length u32
//! ```

use tidemill_core::ids::{BrokerId, LogIndex, Term};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use crate::log::{EncodedEntry, LogEntry, LogId, Payload, Vote};

pub(super) fn write_vote(w: &mut Writer, vote: Vote) {
    w.u64(vote.term.0).u8(vote.node.is_some().into()).u64(vote.node.unwrap_or_default().0);
    w.u8(vote.committed.into());
}

pub(super) fn read_vote(r: &mut Reader) -> Result<Vote, Malformed> {
    let term = Term(r.u64("term")?);
    let is_there = read_flag(r, "whether there is a vote")?;
    let node = BrokerId(r.u64("broker")?);
    Ok(Vote { term, node: is_there.then_some(node), committed: read_flag(r, "whether a vote won")? })
}

pub(super) fn read_flag(r: &mut Reader, what: &'static str) -> Result<bool, Malformed> {
    match r.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(r.malformed(what)),
    }
}

pub(super) fn write_entries(w: &mut Writer, entries: &[LogEntry]) {
    w.u32(entries.len() as u32);
    for entry in entries {
        let payload = match entry.payload {
            Payload::Blank => 0,
            Payload::Entry(_) => 1,
            Payload::Membership(_) => 2,
        };
        w.u64(entry.id.term.0).u64(entry.id.index.0).u8(payload).blob(entry.payload.bytes());
    }
}

/// Reads entries, of which each follows the one before.
pub(super) fn read_entries(r: &mut Reader) -> Result<Vec<LogEntry>, Malformed> {
    let mut entries: Vec<LogEntry> = Vec::new();
    for _ in 0..r.u32("number of entries")? {
        let at = r.position();
        let entry = read_entry(r)?;
        if entries.last().is_some_and(|before| !follows(before.id, entry.id)) {
            return Err(Malformed { what: "order of entries", at });
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Whether an entry may stand right behind another.
pub(super) fn follows(before: LogId, next: LogId) -> bool {
    before.index.0.checked_add(1) == Some(next.index.0) && before.term <= next.term
}

fn read_entry(r: &mut Reader) -> Result<LogEntry, Malformed> {
    let term = Term(r.u64("term")?);
    let id = LogId { term, index: LogIndex(r.u64("index")?) };
    let payload = r.u8("payload")?;
    let bytes = r.blob("entry")?;
    let payload = match payload {
        0 if bytes.is_empty() => Payload::Blank,
        1 => Payload::Entry(EncodedEntry::parse(bytes).map_err(|_| r.malformed("entry"))?),
        2 => Payload::Membership(bytes),
        _ => return Err(r.malformed("payload")),
    };
    Ok(LogEntry { id, payload })
}
