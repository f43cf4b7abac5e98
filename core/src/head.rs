//! The head state: the applied tables, and over them what was decided since and is not applied yet.
//!
//! Whatever can refuse decides against the head, so that `apply` never has to. The head exists on a leader only,
//! for one term: on any change of term it is dropped with all that was decided on it, because the entries it
//! stands for may never commit.
//!
//! ```text
//!   decide ──▶ entry k ──▶ fold ──▶ head: key → value, last written by k
//!                 │
//!                 └──▶ log ··· commit ──▶ apply ──▶ applied tables; then k is settled:
//!                                                   the head forgets what nobody after k wrote again
//! ```

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::fault::Fault;
use crate::tables::{Changes, Tables, View, keys_with, scan_with};

/// The number of a proposal on one leader in one term, from 1.
pub type Proposal = u64;

/// What was decided and is not applied yet.
#[derive(Debug, Default)]
pub struct Head {
    changes: Changes,
    writers: BTreeMap<Bytes, Proposal>,
    unsettled: VecDeque<(Proposal, Vec<Bytes>)>,
    last: Proposal,
}

impl Head {
    /// The head as tables to read, over the applied ones.
    pub fn over<'a>(&'a self, applied: &'a dyn View) -> HeadView<'a> {
        HeadView { changes: &self.changes, applied }
    }

    /// What a decided entry changes: `apply` is the group's own, run on tables that keep what it writes. It must be
    /// known before the entry is proposed: once it is, it may be applied at any moment, and cannot be applied again.
    ///
    /// # Errors
    /// The [`Fault`] that `apply` met; nothing has changed then.
    pub fn draft(
        &self,
        applied: &dyn View,
        apply: impl FnOnce(&mut dyn Tables) -> Result<(), Fault>,
    ) -> Result<Draft, Fault> {
        let mut drafting = Drafting { head: self.over(applied), draft: Draft::default() };
        apply(&mut drafting)?;
        Ok(drafting.draft)
    }

    /// Folds in the draft of the entry that was just proposed.
    pub fn fold(&mut self, draft: Draft) -> Proposal {
        self.last += 1;
        let written: Vec<Bytes> = draft.0.keys().cloned().collect();
        for key in &written {
            self.writers.insert(key.clone(), self.last);
        }
        self.changes.extend(draft.0);
        self.unsettled.push_back((self.last, written));
        self.last
    }

    /// Forgets what the applied tables show by now: that of every proposal up to `applied`.
    pub fn settle(&mut self, applied: Proposal) {
        while let Some((_, keys)) = self.unsettled.pop_front_if(|(proposal, _)| *proposal <= applied) {
            for key in keys {
                if self.writers.get(&key).is_some_and(|writer| *writer <= applied) {
                    self.writers.remove(&key);
                    self.changes.remove(&key);
                }
            }
        }
    }

    /// The number of the last proposal; 0 before the first.
    pub fn last(&self) -> Proposal {
        self.last
    }
}

/// The head over the applied tables.
pub struct HeadView<'a> {
    changes: &'a Changes,
    applied: &'a dyn View,
}

impl View for HeadView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.applied.get(key),
        }
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        scan_with(self.applied, self.changes, start, end, limit)
    }

    fn keys(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>, Fault> {
        keys_with(self.applied, self.changes, start, end, limit)
    }
}

/// What one entry changes.
#[derive(Debug, Default)]
pub struct Draft(Changes);

/// The head, and over it what an entry has written so far.
struct Drafting<'a> {
    head: HeadView<'a>,
    draft: Draft,
}

impl View for Drafting<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        HeadView { changes: &self.draft.0, applied: &self.head }.get(key)
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        scan_with(&self.head, &self.draft.0, start, end, limit)
    }

    fn keys(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>, Fault> {
        keys_with(&self.head, &self.draft.0, start, end, limit)
    }
}

impl Tables for Drafting<'_> {
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.draft.0.insert(key, Some(value));
    }

    fn delete(&mut self, key: Bytes) {
        self.draft.0.insert(key, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::MemoryTables;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn the_head_shows_what_is_decided_until_it_is_applied() {
        let mut applied = MemoryTables::default();
        let mut head = Head::default();
        let set = |value| {
            move |tables: &mut dyn Tables| {
                tables.put(bytes("a"), bytes(value));
                Ok(())
            }
        };
        for (number, value) in [(1, "one"), (2, "two")] {
            let draft = head.draft(&applied, set(value)).unwrap();
            assert_eq!(head.fold(draft), number);
        }
        assert_eq!(head.over(&applied).get(b"a"), Ok(Some(bytes("two"))));

        applied.put(bytes("a"), bytes("one"));
        head.settle(1);
        assert_eq!(head.over(&applied).get(b"a"), Ok(Some(bytes("two"))), "proposal 2 is still ahead");

        applied.put(bytes("a"), bytes("two"));
        head.settle(2);
        assert!(head.changes.is_empty() && head.writers.is_empty() && head.unsettled.is_empty());
        assert_eq!(head.over(&applied).get(b"a"), Ok(Some(bytes("two"))));
    }

    #[test]
    fn an_entry_may_be_applied_before_it_is_folded_in() {
        let mut applied = MemoryTables::default();
        let mut head = Head::default();
        let count = |tables: &mut dyn Tables| {
            assert_eq!(tables.get(b"a")?, None, "it is applied once");
            tables.put(bytes("a"), bytes("one"));
            Ok(())
        };
        let draft = head.draft(&applied, count).unwrap();
        count(&mut applied).unwrap();
        head.settle(1);
        head.fold(draft);
        head.settle(1);
        assert!(head.changes.is_empty() && head.writers.is_empty() && head.unsettled.is_empty());
    }

    #[test]
    fn a_removed_key_stays_removed_until_that_is_applied() {
        let mut applied = MemoryTables::default();
        applied.put(bytes("a"), bytes("old"));
        let mut head = Head::default();
        let removed = head.draft(&applied, |tables| {
            tables.delete(bytes("a"));
            Ok(())
        });
        assert_eq!(head.fold(removed.unwrap()), 1);
        assert_eq!(head.over(&applied).get(b"a"), Ok(None));
        assert_eq!(head.over(&applied).scan(b"", None, 10), Ok(vec![]));
    }
}
