//! The state of a task: pairs of bytes, ordered by key, which outlive the step.

use std::collections::VecDeque;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::{Host, Pair};
use crate::{Failure, Refusal};

/// How many pairs a [`Scan`] fetches at once.
const PAGE: u32 = 256;

/// What a task keeps from step to step. Each partition's task has its own, and no other plugin sees it.
///
/// A step reads what it wrote. If it fails, its writes are undone.
#[derive(Clone, Copy)]
pub struct State<'a> {
    pub(crate) host: &'a dyn Host,
}

impl<'a> State<'a> {
    /// The value of `key`.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.host.state_get(key.as_ref())
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// [`Refusal::Limit`] for a key or value that is too large, and when the step has written too much.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Refusal> {
        self.host.state_put(key.as_ref(), value.as_ref())
    }

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// [`Refusal::Limit`] when the step has written too much.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<(), Refusal> {
        self.host.state_delete(key.as_ref())
    }

    /// The value of `key`, read as JSON.
    ///
    /// # Errors
    /// [`Failure::Reject`] when something else was written there.
    pub fn get_json<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>) -> Result<Option<T>, Failure> {
        let key = key.as_ref();
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = |error| Failure::reject(format_args!("the state of {}: {error}", key.escape_ascii()));
        serde_json::from_slice(&value).map(Some).map_err(wrong)
    }

    /// Sets the value of `key` to JSON.
    ///
    /// # Errors
    /// [`Failure::Reject`] when `value` cannot be written as JSON, or the broker refuses to keep it.
    pub fn put_json<T: Serialize + ?Sized>(&self, key: impl AsRef<[u8]>, value: &T) -> Result<(), Failure> {
        Ok(self.put(key, serde_json::to_vec(value)?)?)
    }

    /// The pairs with `start <= key`, and `key < end` if there is an end, in the order of the keys' bytes. They
    /// are fetched as the iterator goes, so what is written behind its place is seen.
    pub fn scan(&self, start: impl AsRef<[u8]>, end: Option<&[u8]>) -> Scan<'a> {
        let (start, end) = (start.as_ref().to_vec(), end.map(<[u8]>::to_vec));
        Scan { host: self.host, next: Some(start), end, page: VecDeque::new() }
    }

    /// The pairs whose keys begin with `prefix`, as [`State::scan`] gives them.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan<'a> {
        let prefix = prefix.as_ref();
        self.scan(prefix, behind_prefix(prefix).as_deref())
    }
}

/// The smallest key behind all that begin with `prefix`; none if there is no such key.
fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// A walk over a range of the state. It ends where the broker has nothing more, not where a page is short.
pub struct Scan<'a> {
    host: &'a dyn Host,
    /// Where the next page begins; none behind the last.
    next: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
    page: VecDeque<Pair>,
}

impl Iterator for Scan<'_> {
    type Item = (Vec<u8>, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() {
            let start = self.next.take()?;
            self.page = self.host.state_scan(&start, self.end.as_deref(), PAGE).into();
            self.next = self.page.back().map(|(key, _)| {
                let mut behind = key.clone();
                behind.push(0);
                behind
            });
        }
        self.page.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_lies_right_behind_it() {
        assert_eq!(behind_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(behind_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(behind_prefix(b"\xff"), None);
        assert_eq!(behind_prefix(b""), None);
    }
}
