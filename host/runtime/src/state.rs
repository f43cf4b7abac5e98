//! A task's state as one step sees it: what is stored, and over it what the step itself has staged.
//!
//! Reads and scans show both as one. Nothing is written here: the changes come out with the step's other effects,
//! the last one of each key, in the order of the keys, whether or not they change anything. So they depend on the
//! guest's calls alone.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::limits;
use tidemill_core::plugin::{StateChange, StateView};

use crate::failure::{Denied, LimitReached, Refusal, Stop};

/// How many stored pairs a scan reads at first; more while they are small.
const PAGE_PAIRS: usize = 16;
/// A page of less than this many bytes is followed by one of more pairs.
const PAGE_BYTES_SMALL: usize = 64 * 1024;

/// The state, with one step's changes over it.
pub(crate) struct StagedState {
    stored: Arc<dyn StateView>,
    changes: BTreeMap<Bytes, Option<Bytes>>,
    /// What `changes` counts; see [`cost`].
    bytes: u64,
    bytes_max: u64,
}

/// What a change counts towards the step's limit.
fn cost(key: &Bytes, value: Option<&Bytes>) -> u64 {
    (key.len() + value.map_or(0, Bytes::len) + limits::STATE_CHANGE_BYTES) as u64
}

impl StagedState {
    /// No changes yet; together they may count `bytes_max`.
    pub(crate) fn new(stored: Arc<dyn StateView>, bytes_max: u64) -> StagedState {
        StagedState { stored, changes: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// The value of a key, as the step left it.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Stop> {
        match self.changes.get(key) {
            Some(staged) => Ok(staged.clone()),
            None if key.len() > limits::STATE_KEY_BYTES_MAX => Ok(None),
            None => Ok(self.stored.get(key)?),
        }
    }

    /// What its changes count.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Stages a new value, or with `None` that the key goes. `beside` is what else counts towards the limit.
    pub(crate) fn change(&mut self, key: Bytes, value: Option<Bytes>, beside: u64) -> Result<(), Denied> {
        if key.len() > limits::STATE_KEY_BYTES_MAX {
            return Err(Refusal::Limit(LimitReached::state_key(key.len())).into());
        }
        if let Some(value) = &value
            && value.len() > limits::STATE_VALUE_BYTES_MAX
        {
            return Err(Refusal::Limit(LimitReached::state_value(value.len())).into());
        }
        let before = self.changes.get(&key).map_or(0, |staged| cost(&key, staged.as_ref()));
        let bytes = self.bytes - before + cost(&key, value.as_ref());
        if bytes + beside > self.bytes_max {
            return Err(Stop::Limit(LimitReached::state_bytes(self.bytes_max, bytes + beside)).into());
        }
        self.bytes = bytes;
        self.changes.insert(key, value);
        Ok(())
    }

    /// At most `limit` pairs with `start <= key < end`, in the order of the keys; fewer when they are large, but
    /// always one if there is any.
    pub(crate) fn scan(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<(Bytes, Bytes)>, Stop> {
        let limit = limits::STATE_SCAN_MAX.min(limit as usize);
        let mut pairs = Vec::new();
        if limit == 0 || end.is_some_and(|end| end <= start) {
            return Ok(pairs);
        }
        let range = (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded));
        let mut staged = self.changes.range::<[u8], _>(range).peekable();
        let mut stored = Pages::new(&*self.stored, start, end);
        let mut bytes = 0;
        while pairs.len() < limit && bytes < limits::STATE_SCAN_BYTES_MAX {
            let (key, value) = match (staged.peek(), stored.peek()?) {
                (None, None) => break,
                (Some((ours, _)), Some((theirs, _))) if theirs < *ours => stored.next_pair(),
                (None, Some(_)) => stored.next_pair(),
                (Some((ours, value)), theirs) => {
                    if theirs.is_some_and(|(theirs, _)| theirs == *ours) {
                        stored.next_pair();
                    }
                    let pair = ((*ours).clone(), (*value).clone());
                    staged.next();
                    pair
                }
            };
            if let Some(value) = value {
                bytes += key.len() + value.len();
                pairs.push((key, value));
            }
        }
        Ok(pairs)
    }

    /// The last change of each key, in the order of the keys.
    pub(crate) fn into_changes(self) -> Vec<StateChange> {
        self.changes.into_iter().map(|(key, value)| StateChange { key, value }).collect()
    }
}

/// Stored pairs of a range, a few at a time: a thousand values of a mebibyte are never held at once.
struct Pages<'a> {
    stored: &'a dyn StateView,
    /// Where the next page starts, until the last was read.
    next: Option<Vec<u8>>,
    end: Option<&'a [u8]>,
    pairs: usize,
    page: VecDeque<(Bytes, Bytes)>,
}

impl<'a> Pages<'a> {
    fn new(stored: &'a dyn StateView, start: &[u8], end: Option<&'a [u8]>) -> Pages<'a> {
        Pages { stored, next: Some(start.to_vec()), end, pairs: PAGE_PAIRS, page: VecDeque::new() }
    }

    fn peek(&mut self) -> Result<Option<&(Bytes, Bytes)>, Stop> {
        if self.page.is_empty()
            && let Some(start) = self.next.take()
        {
            self.page = self.stored.scan(&start, self.end, self.pairs)?.into();
            // The first key that is greater than the last of a full page is that key with a zero behind it.
            let full = self.page.len() >= self.pairs;
            self.next = self.page.back().filter(|_| full).map(|(key, _)| [key, &[0][..]].concat());
            let bytes: usize = self.page.iter().map(|(key, value)| key.len() + value.len()).sum();
            self.pairs = if bytes < PAGE_BYTES_SMALL { self.pairs * 4 } else { PAGE_PAIRS };
        }
        Ok(self.page.front())
    }

    /// The pair that was peeked at.
    fn next_pair(&mut self) -> (Bytes, Option<Bytes>) {
        let (key, value) = self.page.pop_front().expect("it was peeked at");
        (key, Some(value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemill_core::fault::Fault;

    use super::*;

    struct Map(BTreeMap<Bytes, Bytes>);

    impl StateView for Map {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
            Ok(self.0.get(key).cloned())
        }

        fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
            let range = (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded));
            Ok(self.0.range::<[u8], _>(range).take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
    }

    fn staged(stored: &BTreeMap<Bytes, Bytes>) -> StagedState {
        StagedState::new(Arc::new(Map(stored.clone())), 1 << 20)
    }

    fn keys() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(0_u8..4, 0..4).prop_map(Bytes::from)
    }

    fn maps() -> impl Strategy<Value = BTreeMap<Bytes, Bytes>> {
        prop::collection::btree_map(
            keys(),
            prop::collection::vec(any::<u8>(), 0..3).prop_map(Bytes::from),
            0..60,
        )
    }

    proptest! {
        #[test]
        fn it_reads_like_one_map(
            stored in maps(),
            changes in prop::collection::vec((keys(), prop::option::of(keys())), 0..40),
            (start, end, limit) in (keys(), prop::option::of(keys()), 0_u32..100),
        ) {
            let mut state = staged(&stored);
            let mut model = stored;
            for (key, value) in changes {
                state.change(key.clone(), value.clone(), 0).unwrap();
                match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
            }
            prop_assert_eq!(state.get(&start).unwrap(), model.get(&start).cloned());
            let inside = |key: &Bytes| *key >= start && end.as_ref().is_none_or(|end| key < end);
            let expected: Vec<_> = model.into_iter().filter(|(key, _)| inside(key)).take(limit as usize).collect();
            prop_assert_eq!(state.scan(&start, end.as_deref(), limit).unwrap(), expected);
        }
    }

    #[test]
    fn a_scan_of_large_values_comes_in_parts() {
        let value = Bytes::from(vec![7; 400 * 1024]);
        let stored: BTreeMap<_, _> = (0..40_u8).map(|i| (Bytes::from(vec![i]), value.clone())).collect();
        let state = staged(&stored);
        let mut start = vec![0];
        let mut seen = 0;
        loop {
            let part = state.scan(&start, None, 1_000).unwrap();
            let Some((last, _)) = part.last() else { break };
            assert!(part.len() <= 3);
            seen += part.len();
            start = [last, &[0][..]].concat();
        }
        assert_eq!(seen, 40);
    }

    #[test]
    fn the_limit_counts_what_will_be_written_and_ends_the_step() {
        let mut state = StagedState::new(Arc::new(Map(BTreeMap::new())), 200);
        let (key, value) = (Bytes::from_static(b"key"), Bytes::from(vec![0; 150]));
        for _ in 0..10 {
            state.change(key.clone(), Some(value.clone()), 0).unwrap();
        }
        let stop = Stop::Limit(LimitReached::state_bytes(200, 185 + 36));
        assert_eq!(state.change(Bytes::from_static(b"key2"), None, 0), Err(Denied::Stopped(stop)));
        state.change(key.clone(), None, 0).unwrap();
        state.change(Bytes::from_static(b"key2"), None, 0).unwrap();
        let changes: Vec<_> =
            state.into_changes().into_iter().map(|change| (change.key, change.value)).collect();
        assert_eq!(changes, [(key, None), (Bytes::from_static(b"key2"), None)]);
    }

    #[test]
    fn a_key_or_value_that_is_too_long_is_refused_and_the_step_goes_on() {
        let mut state = staged(&BTreeMap::new());
        let long = Bytes::from(vec![0; limits::STATE_KEY_BYTES_MAX + 1]);
        let refusal = Refusal::Limit(LimitReached::state_key(long.len()));
        assert_eq!(state.change(long.clone(), None, 0), Err(Denied::Refused(refusal)));
        assert_eq!(state.get(&long), Ok(None));
        let large = Bytes::from(vec![0; limits::STATE_VALUE_BYTES_MAX + 1]);
        let refusal = Refusal::Limit(LimitReached::state_value(large.len()));
        assert_eq!(state.change(Bytes::new(), Some(large), 0), Err(Denied::Refused(refusal)));
        assert_eq!(state.into_changes(), []);
    }
}
