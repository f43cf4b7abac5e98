//! Where the batches of a partition lie: spans of offsets, as rows of an ordered table.
//!
//! The same rows serve twice. A sealed segment has one for each chunk and partition; the directory has one for each
//! segment and partition. Keys are `prefix · topic 16 · partition u32 · base offset u64`, so that one range holds a
//! partition in the order of its offsets, which is the order of the log, too: whatever grows with the log grows along
//! these rows, and can be searched for by halves.
//!
//! ```text
//!   row: crc32c u32 · place varint · records varint · first index varint · (last - first) varint
//!        · max timestamp zigzag · bytes varint
//! ```
//!
//! `place` is the first index of the chunk, or the number of the segment. redb does not verify what it reads: the
//! checksum, over the key and the rest of the row, finds a row that has rotten. A rotten page may also hide a row. But
//! the spans of a partition *tile* its offsets: each begins where the one before it ends, and the first where it is
//! said to. A gap gives a hidden row away; only a hole in the log (see `promises.rs`) explains one. What was given back to
//! the disk (`reclaim.rs`) leaves a span without a place, so that they go on tiling: such a span is *gone*. It has no
//! timestamp, so that nobody who looks for a time finds it. What was given back where it lies is gone, too, though its
//! row still has a place (`gone.rs`).

use redb::{ReadOnlyTable, TableDefinition};
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_protocol::ids::{Offset, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::gone::Gone;
use crate::database::Problem;

const CRC_BYTES: usize = 4;
/// The place of what is gone.
const NOWHERE: u64 = u64::MAX;

/// Key and value as above.
pub(super) type SpanTable = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Some batches of a partition that lie together, and all that lie in that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The offset of the first record.
    pub(super) base: Offset,
    /// The offset behind the last.
    pub(super) end: Offset,
    /// The chunk, by its first index, or the segment, by its number.
    pub(super) place: u64,
    /// The first entry that holds any of them.
    pub(super) first: LogIndex,
    /// The last.
    pub(super) last: LogIndex,
    /// The latest timestamp of the records: in a segment, of this and all earlier spans of the segment. An earlier one
    /// that was given back where it lies counts still.
    pub(super) max_timestamp_ms: i64,
    /// What the batches take, in bytes.
    pub(super) bytes: u64,
}

impl Span {
    /// Batches that are gone, between two spans of a partition that held them.
    pub(super) fn gone(first: &Span, last: &Span) -> Span {
        let (base, end, first, last) = (first.base, last.end, first.first, last.last);
        Span { base, end, place: NOWHERE, first, last, max_timestamp_ms: i64::MIN, bytes: 0 }
    }

    /// Whether they are.
    pub(super) fn is_gone(&self) -> bool {
        self.place == NOWHERE
    }

    /// About how many of its bytes lie below an offset.
    pub(super) fn bytes_below(&self, offset: Offset) -> u64 {
        let (below, all) = (offset.min(self.end).0.saturating_sub(self.base.0), self.end.0 - self.base.0);
        (u128::from(self.bytes) * u128::from(below) / u128::from(all.max(1))) as u64
    }

    /// The row under `key`.
    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut writer = Writer::with_capacity(36);
        writer.u32(0).varint(self.place).varint(self.end.0 - self.base.0);
        writer.varint(self.first.0).varint(self.last.0 - self.first.0).zigzag(self.max_timestamp_ms);
        writer.varint(self.bytes);
        let crc = checksum(key, &writer.as_slice()[CRC_BYTES..]);
        writer.patch(0, &crc.to_be_bytes());
        writer.as_slice().to_vec()
    }

    fn decode(base: Offset, row: &[u8]) -> Result<Span, Malformed> {
        let mut reader = Reader::new(bytes::Bytes::copy_from_slice(row));
        reader.u32("checksum")?;
        let place = reader.varint("place")?;
        let end = base.0.checked_add(reader.varint("records")?).ok_or_else(|| reader.malformed("records"))?;
        let first = reader.varint("first index")?;
        let last =
            first.checked_add(reader.varint("last index")?).ok_or_else(|| reader.malformed("last index"))?;
        let max_timestamp_ms = reader.zigzag("timestamp")?;
        let bytes = reader.varint("bytes")?;
        reader.finish("span")?;
        let (first, last) = (LogIndex(first), LogIndex(last));
        Ok(Span { base, end: Offset(end), place, first, last, max_timestamp_ms, bytes })
    }
}

/// The key of a span.
pub(super) fn key(prefix: &[u8], at: TopicPartition, base: Offset) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + 28);
    key.extend_from_slice(prefix);
    key.extend_from_slice(&at.topic.0);
    key.extend_from_slice(&at.partition.0.to_be_bytes());
    key.extend_from_slice(&base.0.to_be_bytes());
    key
}

/// The partition and base offset of a key.
pub(super) fn place_of(prefix: &[u8], key: &[u8]) -> Result<(TopicPartition, Offset), Malformed> {
    let mut reader = Reader::new(bytes::Bytes::copy_from_slice(key));
    reader.bytes(prefix.len(), "prefix")?;
    let topic = tidemill_protocol::ids::TopicId(reader.array("topic")?);
    let partition = tidemill_protocol::ids::Partition(reader.u32("partition")?);
    let base = Offset(reader.u64("base offset")?);
    reader.finish("span key")?;
    Ok((TopicPartition { topic, partition }, base))
}

/// One row, whatever partition it is of.
pub(super) fn decode_row(prefix: &[u8], key: &[u8], row: &[u8]) -> Result<(TopicPartition, Span), Malformed> {
    let crc = row.first_chunk().map(|crc| u32::from_be_bytes(*crc));
    if crc != Some(checksum(key, row.get(CRC_BYTES..).unwrap_or_default())) {
        return Err(Malformed { what: "checksum of a span", at: 0 });
    }
    let (at, base) = place_of(prefix, key)?;
    Ok((at, Span::decode(base, row)?))
}

/// A row whose checksum holds, whatever else is wrong with it.
pub(super) fn resealed(key: &[u8], row: &[u8]) -> Vec<u8> {
    let mut row = row.to_vec();
    row.resize(row.len().max(CRC_BYTES), 0);
    let crc = checksum(key, &row[CRC_BYTES..]).to_be_bytes();
    row[..CRC_BYTES].copy_from_slice(&crc);
    row
}

fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), rest)
}

/// The spans of one partition.
pub(super) struct Spans<'a> {
    pub(super) table: &'a ReadOnlyTable<&'static [u8], &'static [u8]>,
    pub(super) prefix: &'a [u8],
    pub(super) at: TopicPartition,
    /// Where the first span begins, if that is known.
    pub(super) base: Option<Offset>,
    /// What is gone of the segment, if these are its own.
    pub(super) gone: Option<&'a Gone>,
    /// Whether the log has a hole between these two entries.
    pub(super) is_hole: &'a dyn Fn(LogIndex, LogIndex) -> bool,
}

impl Spans<'_> {
    /// The last span that begins at `offset` or before.
    pub(super) fn at_or_before(&self, offset: Offset) -> Result<Option<Span>, Problem> {
        let (low, high) = (self.key(Offset(0)), self.key(offset));
        let row = self.table.range::<&[u8]>(&low[..]..=&high[..])?.next_back().transpose()?;
        row.map(|(key, value)| self.read(key.value(), value.value())).transpose()
    }

    /// The first span that begins at `offset` or later.
    pub(super) fn at_or_after(&self, offset: Offset) -> Result<Option<Span>, Problem> {
        let (low, high) = (self.key(offset), self.key(Offset(u64::MAX)));
        let row = self.table.range::<&[u8]>(&low[..]..=&high[..])?.next().transpose()?;
        row.map(|(key, value)| self.read(key.value(), value.value())).transpose()
    }

    /// The span that holds `offset`, or the first behind it.
    pub(super) fn holding(&self, offset: Offset) -> Result<Option<Span>, Problem> {
        let before = self.at_or_before(offset)?;
        if let Some(span) = before.filter(|span| offset < span.end) {
            return Ok(Some(span));
        }
        let after = self.at_or_after(offset)?;
        self.must_tile(before, after)?;
        Ok(after)
    }

    /// The first span for which `is_there` holds; once it does, it must for all that follow.
    pub(super) fn first_where(&self, is_there: impl Fn(&Span) -> bool) -> Result<Option<Span>, Problem> {
        let (Some(first), Some(last)) = (self.at_or_after(Offset(0))?, self.at_or_before(Offset(u64::MAX))?)
        else {
            return Ok(None);
        };
        self.must_tile(None, Some(first))?;
        if is_there(&first) {
            return Ok(Some(first));
        }
        if !is_there(&last) {
            return Ok(None);
        }
        // It does not hold for `before`, it does for `found`, and what we look for lies between.
        let (mut before, mut found) = (first, last);
        loop {
            let middle = Offset(before.end.0 + (found.base.0.saturating_sub(before.end.0)) / 2);
            let span = self.at_or_before(middle)?.filter(|span| span.base > before.base);
            match span {
                Some(span) if span.base < found.base => {
                    if is_there(&span) {
                        found = span;
                    } else {
                        before = span;
                    }
                }
                _ => {
                    // Nothing begins in the lower half: what does in the upper half, if anything, comes next.
                    let next = self.at_or_after(Offset(middle.0.saturating_add(1)))?;
                    match next {
                        Some(next) if next.base < found.base => {
                            if is_there(&next) {
                                found = next;
                            } else {
                                before = next;
                            }
                        }
                        _ => break,
                    }
                }
            }
        }
        self.must_tile(Some(before), Some(found))?;
        Ok(Some(found))
    }

    /// Where the newest batches begin that take at least so many bytes: those from `from` on, which take `held` and are
    /// counted already, whether they are in here yet or not, and whole spans before them. `None` when nothing is before
    /// those.
    pub(super) fn newest(
        &self,
        bytes: u64,
        held: u64,
        from: Option<Offset>,
    ) -> Result<Option<Offset>, Problem> {
        let mut held = held;
        let (low, high) = (self.key(Offset(0)), self.key(Offset(u64::MAX)));
        for row in self.table.range::<&[u8]>(&low[..]..=&high[..])?.rev() {
            let (key, value) = row?;
            let span = self.read(key.value(), value.value())?;
            if from.is_some_and(|from| span.base >= from) {
                continue;
            }
            if held >= bytes {
                return Ok(Some(span.end));
            }
            if span.is_gone() {
                break;
            }
            held += span.bytes;
        }
        Ok(None)
    }

    /// The first span for which `is_it` holds, found by looking at each.
    pub(super) fn first_matching(&self, is_it: impl Fn(&Span) -> bool) -> Result<Option<Span>, Problem> {
        let (low, high) = (self.key(Offset(0)), self.key(Offset(u64::MAX)));
        for row in self.table.range::<&[u8]>(&low[..]..=&high[..])? {
            let (key, value) = row?;
            let span = self.read(key.value(), value.value())?;
            if is_it(&span) {
                return Ok(Some(span));
            }
        }
        Ok(None)
    }

    /// Refuses a gap between two spans of which one is said to follow the other, or before the first.
    fn must_tile(&self, before: Option<Span>, after: Option<Span>) -> Result<(), Problem> {
        let Some(after) = after else { return Ok(()) };
        let expected = before.map(|before| before.end).or(self.base);
        let is_hole = before.is_some_and(|before| (self.is_hole)(before.last, after.first));
        match expected {
            Some(expected) if expected != after.base && !is_hole => {
                let TopicPartition { topic, partition } = self.at;
                let what = format!("the index of topic {topic}, partition {}", partition.0);
                let why = format!("nothing is known between offsets {} and {}", expected.0, after.base.0);
                Err(Fault::damaged(what, why).into())
            }
            _ => Ok(()),
        }
    }

    fn key(&self, base: Offset) -> Vec<u8> {
        key(self.prefix, self.at, base)
    }

    fn read(&self, key: &[u8], row: &[u8]) -> Result<Span, Problem> {
        let now = |(at, span)| self.gone.map_or(span, |gone| gone.now(at, span));
        let read = decode_row(self.prefix, key, row).map(now);
        Ok(read.map_err(|malformed| Fault::damaged("a row of an index", malformed))?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use tidemill_core::seams::Disk;
    use tidemill_protocol::ids::{Partition, TopicId};
    use tidemill_sim::disk::SimDisk;

    use super::*;
    use crate::database::{Commit, DatabaseFile};

    const TABLE: SpanTable = TableDefinition::new("spans");

    fn partition(number: u32) -> TopicPartition {
        TopicPartition { topic: TopicId([7; 16]), partition: Partition(number) }
    }

    /// Spans that tile, from their lengths.
    fn tiled(lengths: &[u64]) -> Vec<Span> {
        let mut base = Offset(100);
        let span = |(nth, length): (usize, &u64)| {
            let (first, last) = (LogIndex(nth as u64 * 10), LogIndex(nth as u64 * 10 + 5));
            let end = base.plus(*length);
            let span =
                Span { base, end, place: nth as u64, first, last, max_timestamp_ms: nth as i64, bytes: 9 };
            base = end;
            span
        };
        lengths.iter().enumerate().map(span).collect()
    }

    fn file_of(spans: &[Span]) -> DatabaseFile {
        let disk = SimDisk::new();
        disk.create_folders(Path::new("/d")).unwrap();
        let file = DatabaseFile::create(&disk, Path::new("/d/a.redb"), 1 << 20).unwrap();
        file.write(Commit::OneSync, |transaction| {
            let mut table = transaction.open_table(TABLE)?;
            for (number, spans) in [(1, &spans[..1]), (2, spans), (3, &spans[..1])] {
                for span in spans {
                    let key = key(b"x", partition(number), span.base);
                    table.insert(&key[..], &span.encode(&key)[..])?;
                }
            }
            Ok(())
        })
        .unwrap();
        file
    }

    fn look<T>(file: &DatabaseFile, look: impl FnOnce(&Spans<'_>) -> Result<T, Problem>) -> Result<T, Fault> {
        file.read(|transaction| {
            let table = transaction.open_table(TABLE)?;
            let (at, base) = (partition(2), Some(Offset(100)));
            look(&Spans { table: &table, prefix: b"x", at, base, gone: None, is_hole: &|_, _| false })
        })
    }

    #[test]
    fn the_newest_bytes_are_the_same_while_a_span_moves_in_here_from_memory() {
        let spans = tiled(&[5, 7, 11, 13]);
        let moving = spans[3];
        let (before, moved) = (file_of(&spans[..3]), file_of(&spans));
        for bytes in 0..40 {
            let newest =
                |file: &DatabaseFile, held, from| look(file, |spans| spans.newest(bytes, held, from));
            let expected = match bytes {
                0..=9 => Some(moving.base),
                10..=18 => Some(spans[1].end),
                19..=27 => Some(spans[0].end),
                _ => None,
            };
            assert_eq!(newest(&before, moving.bytes, Some(moving.base)), Ok(expected), "{bytes}");
            assert_eq!(newest(&moved, moving.bytes, Some(moving.base)), Ok(expected), "{bytes}");
            let expected = if bytes == 0 { Some(moving.end) } else { expected };
            assert_eq!(newest(&moved, 0, None), Ok(expected), "{bytes}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn halving_finds_what_looking_at_each_finds(lengths in prop::collection::vec(1_u64..2_000, 1..40)) {
            let spans = tiled(&lengths);
            let file = file_of(&spans);
            for from in 0..spans.len() as u64 * 10 + 2 {
                let reaches = |span: &Span| span.last >= LogIndex(from);
                let expected = spans.iter().copied().find(reaches);
                prop_assert_eq!(look(&file, |spans| spans.first_where(reaches)), Ok(expected));
            }
            for span in &spans {
                for offset in [span.base, Offset(span.end.0 - 1)] {
                    prop_assert_eq!(look(&file, |spans| spans.holding(offset)), Ok(Some(*span)));
                }
            }
            let end = spans[spans.len() - 1].end;
            prop_assert_eq!(look(&file, |spans| spans.holding(end)), Ok(None));
            prop_assert_eq!(look(&file, |spans| spans.holding(Offset(0))), Ok(Some(spans[0])));
        }

        #[test]
        fn a_row_that_is_gone_leaves_a_gap_that_is_seen(
            lengths in prop::collection::vec(1_u64..2_000, 3..20),
            chosen in any::<prop::sample::Index>(),
        ) {
            let mut spans = tiled(&lengths);
            let gone = spans.remove(chosen.index(lengths.len() - 1));
            let file = file_of(&spans);
            let by_offset = look(&file, |spans| spans.holding(gone.base));
            let is_damaged = |result: Result<Option<Span>, Fault>| matches!(result, Err(Fault::Damaged { .. }));
            prop_assert!(is_damaged(by_offset), "by offset");
            let by_index = look(&file, |spans| spans.first_where(|span| span.last >= gone.first));
            prop_assert!(is_damaged(by_index), "by index");
        }
    }
}
