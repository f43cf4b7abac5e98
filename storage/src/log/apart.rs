//! What of a chunk lies apart: the batches of each partition that has many bytes in it, in rows of their own.
//!
//! ```text
//!   a turn     a1 b1 a2 c1 b2 a3          entries, in order
//!   chunk      ·  ·  ·  c1 ·  ·  a″ b″    the entries without those batches, and what their rows do not take
//!   bodies     a1 a2 a3′ │ b1 b2′         rows that fill pages: each page holds one partition, and nothing else
//! ```
//!
//! redb gives a large value a page of its own. So the pages of one partition can be given back to the disk without a
//! byte of any other, in a file that nobody writes any more (`punch.rs`). That is also why no row is small: two small
//! ones would share a page. A rest that would waste a page stays in the chunk.
//!
//! Key of a row: `first index of the chunk u64 · topic 16 · partition u32 · number u8`.

use std::collections::BTreeMap;

use redb::TableDefinition;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;
use tidemill_protocol::ids::TopicPartition;

use super::cut::PAGE;
use super::entry::{LogEntry, Payload};

pub(super) type BodyKey = [u8; 29];
pub(super) const BODIES: TableDefinition<'static, &'static BodyKey, &'static [u8]> =
    TableDefinition::new("bodies");

/// What a row takes of its page beside its value: the leaf's head (4), the value's end (4), the key.
pub(super) const BODY_OVERHEAD: usize = 8 + size_of::<BodyKey>();
/// The smallest value of a row: two of these do not fit one page.
const ROW_BYTES_MIN: usize = PAGE - BODY_OVERHEAD - PAGE / 4;
const _: () = assert!(2 * ROW_BYTES_MIN > PAGE && limits::APART_BYTES_MIN >= ROW_BYTES_MIN);
/// Rows of one partition in a chunk. What the last leaves is a small part of the whole.
const ROWS_MAX: usize = 5;

/// A batch that lies apart: so many bytes of an entry, from a place in it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) entry: usize,
    pub(super) begins: usize,
    pub(super) length: usize,
}

/// The batches of one partition in a chunk.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) at: TopicPartition,
    /// In the order of the log.
    pub(super) pieces: Vec<Piece>,
    /// The lengths of its rows; what is left of the batches stays in the chunk.
    pub(super) rows: Vec<usize>,
}

impl Body {
    /// What its rows take of it.
    pub(super) fn taken(&self) -> usize {
        self.rows.iter().sum()
    }
}

/// What of these entries is to lie apart, in the order of partitions.
pub(super) fn bodies(entries: &[LogEntry]) -> Vec<Body> {
    let mut pieces: BTreeMap<TopicPartition, Vec<Piece>> = BTreeMap::new();
    for (number, logged) in entries.iter().enumerate() {
        let Payload::Entry(entry) = &logged.payload else { continue };
        for (begins, placed) in entry.places().filter(|(_, placed)| placed.away.is_none()) {
            let piece = Piece { entry: number, begins, length: placed.batch.len() };
            pieces.entry(placed.at).or_default().push(piece);
        }
    }
    let bodies = pieces.into_iter().map(|(at, pieces)| {
        let rows = rows(pieces.iter().map(|piece| piece.length).sum());
        Body { at, pieces, rows }
    });
    bodies.filter(|body| !body.rows.is_empty()).collect()
}

/// The lengths of the rows for so many bytes of one partition; none when they stay in the chunk.
fn rows(bytes: usize) -> Vec<usize> {
    let (mut rows, mut rest) = (Vec::new(), bytes);
    while bytes >= limits::APART_BYTES_MIN && rest >= ROW_BYTES_MIN && rows.len() < ROWS_MAX {
        let page = body_page(rest);
        let wasted = page - rest - BODY_OVERHEAD;
        if wasted <= (PAGE / 4).max(bytes / 16) {
            rows.push(rest);
            break;
        }
        let full = page / 2 - BODY_OVERHEAD;
        rows.push(full);
        rest -= full;
    }
    rows
}

/// The size of the page that a row with a value of `length` bytes takes.
pub(super) fn body_page(length: usize) -> usize {
    (length + BODY_OVERHEAD).next_power_of_two().max(PAGE)
}

/// The key of a row.
pub(super) fn body_key(first: LogIndex, at: TopicPartition, number: usize) -> BodyKey {
    let mut key = [0; size_of::<BodyKey>()];
    key[..8].copy_from_slice(&first.0.to_be_bytes());
    key[8..24].copy_from_slice(&at.topic.0);
    key[24..28].copy_from_slice(&at.partition.0.to_be_bytes());
    key[28] = number as u8;
    key
}

/// The key below those of all chunks that begin at `first` or later.
pub(super) fn keys_from(first: LogIndex) -> BodyKey {
    let mut key = [0; size_of::<BodyKey>()];
    key[..8].copy_from_slice(&first.0.to_be_bytes());
    key
}

/// The key of the row that a page of the file holds, if that is what it is: redb's leaf with a single pair, of a key of
/// fixed width and a value of any.
pub(super) fn key_on_page(page: &[u8]) -> Option<BodyKey> {
    let is_leaf_of_one = page.first() == Some(&1) && page.get(2..4) == Some(&[1, 0]);
    page.get(8..BODY_OVERHEAD).filter(|_| is_leaf_of_one)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fill_their_pages_and_leave_little() {
        for bytes in (1..70_000).chain((70_000..25_000_000).step_by(9_973)) {
            let rows = rows(bytes);
            assert_eq!(rows.is_empty(), bytes < limits::APART_BYTES_MIN, "{bytes}");
            assert!(
                rows.iter().all(|row| *row >= ROW_BYTES_MIN) && rows.len() <= ROWS_MAX,
                "{bytes}: {rows:?}"
            );
            let (taken, pages) =
                (rows.iter().sum::<usize>(), rows.iter().map(|row| body_page(*row)).sum::<usize>());
            assert!(
                pages <= taken + (PAGE / 4).max(bytes / 16) + rows.len() * BODY_OVERHEAD,
                "{bytes}: {rows:?}"
            );
            if bytes >= limits::APART_BYTES_MIN {
                assert!(
                    bytes - taken <= ROW_BYTES_MIN.max(bytes / 16),
                    "{bytes}: {} are left",
                    bytes - taken
                );
            }
        }
    }
}
