//! How a chunk is cut into rows so that little of the disk is wasted.
//!
//! redb gives a large value a page of its own, a power of two in size, and writes all of it. A chunk of 1.1 MiB in
//! one row would be written as 2 MiB. So a chunk is cut: rows that fill their pages to the last byte, then one for
//! the rest, once the rest wastes little. A turn of a single page or less is never cut.

/// What a row takes of its page beside its value: the leaf's head (4), the value's end (4), the key (9).
pub(super) const ROW_OVERHEAD: usize = 17;
/// redb's smallest page.
pub(super) const PAGE: usize = 4096;
/// Rows of one chunk; the last takes what is left, whatever it wastes.
const ROWS_MAX: usize = 6;

/// The lengths of the rows for a chunk of `length` bytes, in order.
pub(super) fn rows(length: usize) -> Vec<usize> {
    let mut rows = Vec::new();
    let mut rest = length;
    loop {
        let page = page_for(rest);
        let wasted = page - rest - ROW_OVERHEAD;
        let allowed = PAGE.max(length / 16);
        if wasted <= allowed || page == PAGE || rows.len() + 1 == ROWS_MAX {
            rows.push(rest);
            return rows;
        }
        let full = page / 2 - ROW_OVERHEAD;
        rows.push(full);
        rest -= full;
    }
}

/// The size of the page that a row with a value of `length` bytes takes.
pub(super) fn page_for(length: usize) -> usize {
    (length + ROW_OVERHEAD).next_power_of_two().max(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_and_little_is_wasted() {
        for length in (1..40_000).chain((40_000..30_000_000).step_by(9_973)) {
            let rows = rows(length);
            assert_eq!(rows.iter().sum::<usize>(), length);
            assert!(rows.len() <= ROWS_MAX && rows.iter().all(|row| *row > 0), "{length}: {rows:?}");
            let pages: usize = rows.iter().map(|row| page_for(*row)).sum();
            assert!(pages <= length + length / 8 + 2 * PAGE, "{length} bytes take {pages}");
        }
    }

    #[test]
    fn what_fits_a_page_is_not_cut() {
        for power in 12..25 {
            assert_eq!(rows((1 << power) - ROW_OVERHEAD).len(), 1);
        }
        assert_eq!(rows(100).len(), 1);
    }
}
