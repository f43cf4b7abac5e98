//! The one queue of a log: everything that changes its files goes through it, in the order in which it was asked for.
//!
//! Votes, appends, truncations and marks share it, because Raft needs their order on disk: a vote is durable before
//! any entry appended after it. Its appends are bounded in bytes by `GroupLog::wait_for_room`; of everything else a
//! caller waits for the end before it asks for more.

use std::collections::VecDeque;

use tidemill_core::fault::Fault;
use tidemill_core::limits;

use super::chunk;
use super::cut::ROW_OVERHEAD;
use super::directory::Held;
use super::entry::{LogEntry, LogId};
use super::line::Line;
use super::promises::Promises;

/// Called once, with how it went.
pub(super) type Reply = Box<dyn FnOnce(Result<(), Fault>) + Send>;

/// A change of the promises.
pub(super) type Change = Box<dyn FnOnce(&mut Promises) + Send>;

/// Something to be done to the files.
pub(super) enum Work {
    /// Write entries behind the log.
    Append { entries: VecDeque<LogEntry>, done: Reply },
    /// Remove what lies above `last`.
    Truncate { last: Option<LogId>, done: Reply },
    /// Change what must be remembered.
    Promise { change: Change, done: Reply },
    /// Write entries of a snapshot behind those that are there.
    Install { entries: Vec<LogEntry>, done: Reply },
    /// Remove what was installed.
    Discard { done: Reply },
    /// Begin a new segment with the next append, if the active one has so many bytes.
    Roll { at_least: u64, done: Reply },
    /// Unlink a sealed segment; another, that was made out of sight, takes its place, if there is one.
    Exchange { old: Box<Held>, new: Option<Box<Held>>, done: Reply },
    /// List a sealed segment anew: something of it is gone.
    Relist { held: Box<Held>, done: Reply },
    /// Another line has taken the log's place, up to `upto`; `old` is to be removed. What was queued for it is done
    /// when this is.
    Replace { upto: LogId, number: u32, old: Box<Line>, done: Vec<Reply> },
}

impl Work {
    /// The entries that it appends, if it is an append.
    fn appended(&self) -> Option<&VecDeque<LogEntry>> {
        if let Work::Append { entries, .. } = self { Some(entries) } else { None }
    }

    /// Those who wait for it.
    pub(super) fn into_replies(self) -> Vec<Reply> {
        match self {
            Work::Append { done, .. }
            | Work::Truncate { done, .. }
            | Work::Promise { done, .. }
            | Work::Install { done, .. }
            | Work::Discard { done }
            | Work::Roll { done, .. }
            | Work::Exchange { done, .. }
            | Work::Relist { done, .. } => vec![done],
            Work::Replace { done, .. } => done,
        }
    }
}

/// What is written next.
pub(super) enum Next {
    /// A turn: entries for one chunk, and who waits for the last of them.
    Turn { entries: Vec<LogEntry>, done: Vec<Reply> },
    /// Anything else.
    Other(Work),
}

/// The most bytes that a chunk has, unless a single entry is larger: its page is filled to the last byte.
const CHUNK_BYTES_MAX: usize = limits::TURN_BYTES_TARGET - ROW_OVERHEAD;
const _: () = assert!(limits::TURN_BYTES_TARGET.is_power_of_two(), "a full turn fills a page");

/// How many entries, from the first on, one chunk can hold; at least one.
pub(super) fn fitting(entries: &[LogEntry]) -> usize {
    let mut bytes = chunk::bytes_of_none();
    let fits = entries.iter().take_while(|entry| {
        bytes += chunk::bytes_of(entry);
        bytes <= CHUNK_BYTES_MAX
    });
    fits.count().max(1)
}

/// Whether all entries of the next turn, and of those behind it, are derived; `None` when no entries come next.
pub(super) fn is_next_turn_derived(queue: &VecDeque<Work>) -> Option<bool> {
    let mut entries = queue.iter().map_while(Work::appended).flatten().peekable();
    entries.peek()?;
    Some(entries.all(LogEntry::is_derived))
}

/// Takes what comes next: of appends, as many as one turn can hold.
pub(super) fn take(queue: &mut VecDeque<Work>) -> Option<Next> {
    let mut turn = Vec::new();
    let mut replies = Vec::new();
    let mut bytes = chunk::bytes_of_none();
    while let Some(Work::Append { entries, .. }) = queue.front_mut() {
        while let Some(entry) = entries.front() {
            bytes += chunk::bytes_of(entry);
            if bytes > CHUNK_BYTES_MAX && !turn.is_empty() {
                return Some(Next::Turn { entries: turn, done: replies });
            }
            turn.extend(entries.pop_front());
        }
        // All its entries are in this turn.
        replies.extend(queue.pop_front().into_iter().flat_map(Work::into_replies));
    }
    if !turn.is_empty() || !replies.is_empty() {
        return Some(Next::Turn { entries: turn, done: replies });
    }
    queue.pop_front().map(Next::Other)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidemill_core::entry::{Entry, EntryKind};
    use tidemill_core::ids::{LogIndex, Term};
    use tidemill_core::seams::Timestamp;

    use super::*;
    use crate::log::{EncodedEntry, Payload};

    fn append(kinds: &[EntryKind]) -> Work {
        let entry = |kind: &EntryKind| {
            let entry =
                Entry { kind: *kind, append_time: Timestamp(0), meta: Bytes::new(), batches: Vec::new() };
            let id = LogId { term: Term(1), index: LogIndex(1) };
            LogEntry { id, payload: Payload::Entry(EncodedEntry::new(entry)) }
        };
        Work::Append { entries: kinds.iter().map(entry).collect(), done: Box::new(|_| ()) }
    }

    #[test]
    fn turns_of_steps_alone_are_told_from_those_that_a_client_waits_for() {
        use EntryKind::{Arrival, Produce, Step};
        let is_derived = |works: Vec<Work>| is_next_turn_derived(&works.into());
        let discard = || Work::Discard { done: Box::new(|_| ()) };
        assert_eq!(is_derived(vec![]), None);
        assert_eq!(is_derived(vec![discard(), append(&[Step])]), None);
        assert_eq!(is_derived(vec![append(&[Step]), append(&[Arrival, Step])]), Some(true));
        assert_eq!(is_derived(vec![append(&[Step]), append(&[Step, Produce])]), Some(false));
        assert_eq!(is_derived(vec![append(&[Step]), discard(), append(&[Produce])]), Some(true));
    }
}
