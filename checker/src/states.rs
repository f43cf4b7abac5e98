//! The state that each task ended with is the one that its log leads to.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidemill_core::ids::TaskId;
use tidemill_core::tables::Key;

use crate::ledger::Ledger;
use crate::violation::{Report, Violation};

type State = BTreeMap<Bytes, Bytes>;

/// Compares the states that were kept with those that the logs lead to.
pub(crate) fn check(ledgers: &[Ledger], kept: &BTreeMap<TaskId, State>, report: &mut Report) {
    let mut folded: BTreeMap<TaskId, State> = BTreeMap::new();
    for (key, value) in ledgers.iter().flat_map(|ledger| ledger.tables.rows()) {
        if let Ok(Key::State(task, key)) = Key::decode(key) {
            folded.entry(task).or_default().insert(key, value.clone());
        }
    }
    let nothing = State::new();
    let tasks: BTreeSet<TaskId> = kept.keys().chain(folded.keys()).copied().collect();
    for task in tasks {
        let (kept, folded) = (kept.get(&task).unwrap_or(&nothing), folded.get(&task).unwrap_or(&nothing));
        if let Some(what) = difference(kept, folded) {
            report.violations.push(Violation::State { task, what });
        }
    }
}

fn difference(kept: &State, folded: &State) -> Option<String> {
    let shown = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
    for (key, value) in folded {
        match kept.get(key) {
            None => return Some(format!("{:?} is missing", shown(key))),
            Some(other) if other != value => return Some(format!("{:?} has another value", shown(key))),
            Some(_) => {}
        }
    }
    kept.keys()
        .find(|key| !folded.contains_key(*key))
        .map(|key| format!("{:?} should not be there", shown(key)))
}
