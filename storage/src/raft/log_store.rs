//! openraft's log, over ours.
//!
//! What lies at or below the purge mark is gone to openraft, though the log still has it: readers of records go to the
//! [`GroupLog`] itself.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};

use futures_util::{Stream, StreamExt, stream};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use tidemill_core::fault::Fault;
use tidemill_core::limits;

use super::progress::Progress;
use super::reign::{Entered, Reign};
use super::standing;
use super::types::{self, RaftEntryOf, RaftLogId, RaftVote, TypeConfig};
use crate::log::{GroupLog, LogEntry, LogId, Payload};

/// openraft's log.
pub struct LogStore {
    reader: LogReader,
    reign: Reign,
    entered: Entered,
}

/// Reads openraft's log; one for each follower, and one for the machine.
#[derive(Clone)]
pub struct LogReader {
    log: GroupLog,
    progress: Progress,
}

impl LogStore {
    /// Over an open log. `progress` knows where the terms ended that are applied, and `entered` is told how many
    /// proposals are in it.
    pub fn new(log: GroupLog, progress: Progress, entered: Entered) -> LogStore {
        LogStore { reader: LogReader { log, progress }, reign: Reign::default(), entered }
    }

    /// What becomes of an entry when it enters the log: see [`super::reign`].
    fn admit(&mut self, entry: RaftEntryOf) -> LogEntry {
        let id = types::log_id(&entry.log_id());
        let payload = match entry.payload {
            EntryPayload::Blank => Payload::Blank,
            EntryPayload::Normal(proposed) => {
                self.reign.admit(proposed, id.index).map_or(Payload::Blank, Payload::Entry)
            }
            EntryPayload::Membership(membership) => {
                Payload::Membership(standing::encode_membership(&membership))
            }
        };
        LogEntry { id, payload }
    }
}

impl LogReader {
    /// Entries of `range` above the purge mark, as many as fit `max_bytes`, at least one if there is any.
    fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, Fault> {
        let first = self.log.purged().map_or(0, |purged| purged.index.0 + 1);
        let range = range.start.max(first)..range.end;
        if range.is_empty() {
            return Ok(Vec::new());
        }
        self.log.entries(range, max_bytes)
    }

    fn raft_entries(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<RaftEntryOf>> {
        let entries = self.read(range, max_bytes).map_err(other)?;
        entries.into_iter().map(|entry| types::raft_entry(entry).map_err(other)).collect()
    }

    /// Where the terms ended of which something lies in `range`; the last of them at its end.
    fn terms(&self, range: Range<u64>) -> Result<Vec<LogId>, Fault> {
        let mut terms = self.progress.terms();
        terms.retain(|last| range.contains(&last.index.0));
        // Only what was not applied yet is not known: the end of the log.
        let mut next = terms.last().map_or(range.start, |last| last.index.0 + 1);
        while next < range.end {
            let page = self.read(next..range.end, limits::RAFT_PAGE_BYTES)?;
            let Some(last) = page.last() else { break };
            next = last.id.index.0 + 1;
            for entry in &page {
                terms.pop_if(|last| last.term == entry.id.term);
                terms.push(entry.id);
            }
        }
        Ok(terms)
    }
}

pub(super) fn other(fault: Fault) -> io::Error {
    io::Error::other(fault)
}

fn plain(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogReader {
    /// All of them: openraft asks so for a few dozen entries at a time, when it starts.
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<RaftEntryOf>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.raft_entries(plain(&range), usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.log.vote().map(types::raft_vote))
    }

    /// As many as fit a page: what one message to a follower holds.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<RaftEntryOf>> {
        self.raft_entries(start..end, limits::RAFT_PAGE_BYTES)
    }

    /// Page by page: what the machine applies takes one page of memory, however much there is of it.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<RaftEntryOf>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let pages = stream::unfold((self.clone(), plain(&range)), |(reader, range)| async move {
            if range.is_empty() {
                return None;
            }
            let page = reader.raft_entries(range.clone(), limits::RAFT_PAGE_BYTES);
            let next = match page.as_ref().map(|entries| entries.last()) {
                Ok(Some(last)) => last.log_id().index() + 1..range.end,
                Ok(None) | Err(_) => range.end..range.end,
            };
            let items: Vec<_> = match page {
                Ok(entries) => entries.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            Some((stream::iter(items), (reader, next)))
        });
        Box::pin(pages.flatten())
    }

    async fn get_key_log_ids(&mut self, range: RangeInclusive<RaftLogId>) -> io::Result<Vec<RaftLogId>> {
        let terms = self.terms(range.start().index()..range.end().index() + 1).map_err(other)?;
        Ok(terms.into_iter().map(types::raft_log_id).collect())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let log = &self.reader.log;
        Ok(LogState {
            last_purged_log_id: log.purged().map(types::raft_log_id),
            last_log_id: log.last_id().map(types::raft_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        self.reader.log.save_vote(types::vote(vote)).await.map_err(other)
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.reader.log.set_committed(types::log_id(&committed));
        }
        Ok(())
    }

    /// What is committed is applied again before anything else happens; what was lost of it cannot be.
    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        let log = &self.reader.log;
        Ok(log.committed_hint().min(log.last_id()).map(types::raft_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntryOf> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(|entry| self.admit(entry)).collect();
        let done = Box::new(move |end: Result<(), Fault>| callback.io_completed(end.map_err(other)));
        self.reader.log.append(entries, done);
        self.reign.tell(&self.entered);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        self.reader.log.truncate_after(last.as_ref().map(types::log_id)).await.map_err(other)
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        let upto = types::log_id(&upto);
        self.reader.log.purge(upto).await.map_err(other)?;
        self.reader.progress.forget(upto);
        Ok(())
    }
}
