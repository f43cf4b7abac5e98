//! What is wrong with a history, and where.

use std::fmt;

/// Something that cannot be in a history in which each step happened exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The topic that it shows in.
    pub topic: String,
    /// Partition and offset, if it shows in one record.
    pub place: Option<(u32, u64)>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((partition, offset)) => write!(f, "{}/{partition}@{offset}: {}", self.topic, self.what),
            None => write!(f, "{}: {}", self.topic, self.what),
        }
    }
}

/// How many violations are told in full: a history that is wrong from its first record would fill the memory.
const TOLD_MAX: usize = 1_000;

/// The violations found so far.
#[derive(Default)]
pub(crate) struct Violations {
    told: Vec<Violation>,
    untold: u64,
}

impl Violations {
    pub(crate) fn add(&mut self, topic: &str, place: Option<(u32, u64)>, what: impl fmt::Display) {
        if self.told.len() < TOLD_MAX {
            self.told.push(Violation { topic: topic.to_owned(), place, what: what.to_string() });
        } else {
            self.untold += 1;
        }
    }

    pub(crate) fn into_list(mut self) -> Vec<Violation> {
        if self.untold > 0 {
            let what = format!("and {} more violations", self.untold);
            self.told.push(Violation { topic: "all topics".to_owned(), place: None, what });
        }
        self.told
    }
}
