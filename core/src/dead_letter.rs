//! What a dead letter holds of the record that was given up: all of it, or as much as a batch can.
//!
//! The broker cuts by this, and the checker says by this whether a letter is of its record.

use bytes::Bytes;

use crate::limits;
use crate::plugin::Header;

/// The header of a dead letter that holds less than its record: what all of that took, in bytes.
pub const CUT_FROM: &str = "dead-letter-cut-from-bytes";
/// Bytes of a record that a dead letter holds: with what it says beside them it is as large as a batch may be.
const RECORD_BYTES_MAX: usize = limits::BATCH_BYTES_MAX - 16 * 1024;
/// What a header counts beside its name and value.
const HEADER_OVERHEAD: usize = 10;

/// What a dead letter keeps of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Of its key.
    pub key: Option<Bytes>,
    /// Of its value.
    pub value: Option<Bytes>,
    /// Its headers, or none of them.
    pub headers: Vec<Header>,
}

/// As much of a record as a dead letter can hold; and what all of it takes, where that is less. (A record that was
/// compressed may be larger than any batch.)
pub fn fitted(record: Kept) -> (Kept, Option<usize>) {
    let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    let taken = |headers: &[Header]| -> usize {
        headers.iter().map(|header| header.name.len() + length(&header.value) + HEADER_OVERHEAD).sum()
    };
    let whole = length(&record.key) + length(&record.value) + taken(&record.headers);
    if whole <= RECORD_BYTES_MAX {
        return (record, None);
    }
    let Kept { key, value, headers } = record;
    let headers = if taken(&headers) > RECORD_BYTES_MAX / 4 { Vec::new() } else { headers };
    let cut = |part: Bytes, most: usize| part.slice(..part.len().min(most));
    let key = key.map(|key| cut(key, RECORD_BYTES_MAX / 4));
    let left = RECORD_BYTES_MAX - taken(&headers) - length(&key);
    let value = value.map(|value| cut(value, left));
    (Kept { key, value, headers }, Some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_too_large_is_cut_and_says_so() {
        let header = |bytes| Header { name: "h".into(), value: Some(Bytes::from(vec![3; bytes])) };
        let bytes = |kept: &Kept| {
            let part = |part: &Option<Bytes>| part.as_ref().map(Bytes::len);
            (part(&kept.key), part(&kept.value), kept.headers.len())
        };
        let fit = |key: usize, value: usize, headers: &[usize]| {
            let headers = headers.iter().copied().map(header).collect();
            let part = |bytes| Some(Bytes::from(vec![1; bytes]));
            let (kept, whole) = fitted(Kept { key: part(key), value: part(value), headers });
            (bytes(&kept), whole)
        };
        const MAX: usize = RECORD_BYTES_MAX;
        assert_eq!(fit(7, MAX - 7, &[]), ((Some(7), Some(MAX - 7), 0), None));
        assert_eq!(fit(7, MAX, &[]), ((Some(7), Some(MAX - 7), 0), Some(MAX + 7)));
        assert_eq!(fit(0, MAX, &[9]), ((Some(0), Some(MAX - 20), 1), Some(MAX + 20)));
        assert_eq!(fit(MAX, 9, &[MAX]), ((Some(MAX / 4), Some(9), 0), Some(2 * MAX + 20)));
    }
}
