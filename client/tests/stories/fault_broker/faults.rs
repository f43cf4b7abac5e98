//! What goes wrong, how often, and on whose word.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::dice::Dice;

/// Chances are of a thousand produce requests.
#[derive(Debug, Clone)]
pub struct Faults {
    pub dice: Dice,
    /// The connection is cut before the request is looked at.
    pub cut_before: u64,
    /// The batch is written, and the connection cut.
    pub cut_after: u64,
    /// Refused for a while, and not written.
    pub refuse: u64,
    /// "I am not the leader", written or not.
    pub unsure: u64,
    /// Answered with an error that is not to be tried again, written or not.
    pub confused: u64,
    /// What was read from a connection that is cut is worked on for a while: each request waits up to so long.
    pub lingers: Duration,
    /// From the writing of a batch to its answer.
    pub commit: Duration,
    /// Produce requests for these partitions wait.
    pub stalled: BTreeSet<i32>,
    /// Batches that are larger are refused for good.
    pub batch_bytes_max: usize,
    /// Producers get Kafka's window.
    pub narrow: bool,
    /// Epochs begin here.
    pub first_epoch: i16,
    /// Every batch is told that its producer was replaced.
    pub fenced: bool,
    /// What is fetched has a bit flipped.
    pub rots: bool,
}

impl Faults {
    /// None.
    pub fn none(seed: u64) -> Faults {
        Faults {
            dice: Dice::new(seed),
            cut_before: 0,
            cut_after: 0,
            refuse: 0,
            unsure: 0,
            confused: 0,
            lingers: Duration::ZERO,
            commit: Duration::ZERO,
            stalled: BTreeSet::new(),
            batch_bytes_max: usize::MAX,
            narrow: false,
            first_epoch: 0,
            fenced: false,
            rots: false,
        }
    }
}

/// What happens to a produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Normal,
    CutBefore,
    CutAfter,
    Refuse,
    /// Whether it is written.
    Unsure(bool),
    Confused(bool),
}

impl Faults {
    pub fn draw(&mut self) -> Fate {
        let mut at = self.dice.below(1_000);
        let written = self.dice.below(2) == 0;
        let fates = [
            (self.cut_before, Fate::CutBefore),
            (self.cut_after, Fate::CutAfter),
            (self.refuse, Fate::Refuse),
            (self.unsure, Fate::Unsure(written)),
            (self.confused, Fate::Confused(written)),
        ];
        for (chance, fate) in fates {
            if at < chance {
                return fate;
            }
            at -= chance;
        }
        Fate::Normal
    }
}
