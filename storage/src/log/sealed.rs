//! Sealed segments: those that were read lately are kept open, and no more than some.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::TableError;
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;
use tidemill_core::seams::Disk;
use tidemill_protocol::ids::TopicPartition;

use super::descents::{self, Descent};
use super::directory::{Held, Listed};
use super::gone::Gone;
use super::segment::{self, DESCENTS, SPANS, Seal};
use super::spans::{self, Span, Spans};
use crate::database::{DatabaseFile, Problem};
use crate::version;

/// The open ones of a group.
pub(super) struct SealedFiles {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    files: BTreeMap<u64, (Arc<DatabaseFile>, u64)>,
    uses: u64,
    /// How often one was closed because its file was to go, or was bad.
    forgotten: u64,
}

impl SealedFiles {
    pub(super) fn new(disk: Arc<dyn Disk>, folder: PathBuf) -> SealedFiles {
        SealedFiles { disk, folder, open: Mutex::default() }
    }

    /// Segment `number`, opened if it is not.
    pub(super) fn get(&self, number: u64) -> Result<Arc<DatabaseFile>, Fault> {
        let forgotten = {
            let mut open = self.open.lock();
            open.uses += 1;
            let uses = open.uses;
            if let Some((file, used)) = open.files.get_mut(&number) {
                *used = uses;
                return Ok(file.clone());
            }
            open.forgotten
        };
        let path = segment::path(&self.folder, number);
        let file = DatabaseFile::open_sealed(&*self.disk, &path, limits::SEALED_CACHE_BYTES)?;
        version::check(&file)?;
        if segment::read_seal(&file)?.is_none() {
            return Err(Fault::damaged(path.display().to_string(), "it is listed as sealed, and is not"));
        }
        let file = Arc::new(file);
        let mut open = self.open.lock();
        if open.forgotten != forgotten {
            // It may have been this one, which nobody would close again: its disk would not come back.
            return Ok(file);
        }
        open.uses += 1;
        let uses = open.uses;
        open.files.insert(number, (file.clone(), uses));
        if open.files.len() > limits::SEALED_OPEN_MAX {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used).map(|(number, _)| *number);
            oldest.map(|number| open.files.remove(&number));
        }
        Ok(file)
    }

    /// Closes a segment that is to be removed, or that could not be read.
    pub(super) fn forget(&self, number: u64) {
        let mut open = self.open.lock();
        open.forgotten += 1;
        open.files.remove(&number);
    }

    /// Closes all.
    pub(super) fn forget_all(&self) {
        self.open.lock().files.clear();
    }

    /// Looks at the spans of one partition in the segment that the directory's span of it names.
    pub(super) fn spans<T>(
        &self,
        listed: &Span,
        at: TopicPartition,
        gone: Option<&Gone>,
        look: impl FnOnce(&Spans<'_>) -> Result<T, Problem>,
    ) -> Result<T, Fault> {
        let file = self.get(listed.place)?;
        let never = |_: LogIndex, _: LogIndex| false;
        let result = file.read(|transaction| {
            let table = transaction.open_table(SPANS)?;
            look(&Spans { table: &table, prefix: &[], at, base: Some(listed.base), gone, is_hole: &never })
        });
        result.inspect_err(|_| self.forget(listed.place))
    }
}

/// What the directory holds of a sealed segment: all its spans, put together for each partition, and its covers.
pub(super) fn held(file: &DatabaseFile, listed: Listed, gone: Option<&Gone>) -> Result<Held, Fault> {
    let gone = gone.filter(|gone| gone.is_of(&listed));
    let spans = summarize(&rows(file, gone)?, listed.number);
    let seal = Seal { is_rest: listed.seal.is_rest || gone.is_some(), ..listed.seal };
    Ok(Held { listed: Listed { seal, ..listed }, spans, reaches: descents::reaches(&descents(file)?) })
}

/// All rows of its index of descent, in the order of their keys. A segment that was sealed before there was one has none.
fn descents(file: &DatabaseFile) -> Result<Vec<Descent>, Fault> {
    file.read(|transaction| {
        let table = match transaction.open_table(DESCENTS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let mut rows = Vec::new();
        for row in redb::ReadableTable::iter(&table)? {
            let (key, value) = row?;
            let read = Descent::decode(key.value(), value.value());
            rows.push(
                read.map_err(|malformed| Fault::damaged(file.path().display().to_string(), malformed))?,
            );
        }
        Ok(rows)
    })
}

/// All spans of a sealed segment, in the order of their keys; those of what is gone as that.
pub(super) fn rows(file: &DatabaseFile, gone: Option<&Gone>) -> Result<Vec<(TopicPartition, Span)>, Fault> {
    file.read(|transaction| {
        let table = transaction.open_table(SPANS)?;
        let mut spans = Vec::new();
        for row in redb::ReadableTable::iter(&table)? {
            let (key, value) = row?;
            let read = spans::decode_row(&[], key.value(), value.value());
            let (at, span) =
                read.map_err(|malformed| Fault::damaged(file.path().display().to_string(), malformed))?;
            spans.push((at, gone.map_or(span, |gone| gone.now(at, span))));
        }
        Ok(spans)
    })
}

/// One span for each partition, from all spans of segment `number` in the order of their keys.
pub(super) fn summarize(spans: &[(TopicPartition, Span)], number: u64) -> Vec<(TopicPartition, Span)> {
    let mut whole: Vec<(TopicPartition, Span)> = Vec::new();
    for (at, span) in spans {
        match whole.last_mut().filter(|(other, _)| other == at) {
            // What is gone comes first; the entries are those of the rest.
            Some((_, sum)) if sum.is_gone() && span.is_gone() => (sum.end, sum.last) = (span.end, span.last),
            Some((_, sum)) if sum.is_gone() => *sum = Span { base: sum.base, place: number, ..*span },
            Some((_, sum)) => {
                (sum.end, sum.last) = (span.end, span.last);
                sum.bytes += span.bytes;
                sum.max_timestamp_ms = sum.max_timestamp_ms.max(span.max_timestamp_ms);
            }
            None if span.is_gone() => whole.push((*at, *span)),
            None => whole.push((*at, Span { place: number, ..*span })),
        }
    }
    whole
}
