//! Each step consumes the range right after the step before it.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_core::entry::Entry;
use tidemill_core::ids::{Cursor, Generation, LogIndex, ShardId, StepNumber, TaskId};
use tidemill_core::rows::{TaskRow, TaskStatus};
use tidemill_core::shard::letters;
use tidemill_core::shard::step::{self, Outcome};
use tidemill_core::tables::{self, Key, MemoryTables};
use tidemill_core::task::TaskSpec;
use tidemill_protocol::ids::Position;

use crate::violation::{Report, Violation};

/// Where each task stands.
#[derive(Default)]
pub(crate) struct Chains {
    stands: BTreeMap<TaskId, (Generation, StepNumber, Cursor)>,
    /// The dead letters that were given to their task again.
    redriven: BTreeSet<Position>,
}

impl Chains {
    /// What is wrong with the place of a step in its task's chain.
    pub(crate) fn follow(
        &mut self,
        shard: ShardId,
        index: LogIndex,
        entry: &Entry,
        tables: &MemoryTables,
        report: &mut Report,
    ) -> Vec<Violation> {
        report.steps += 1;
        let meta = match step::meta(entry) {
            Ok(meta) => meta,
            Err(fault) => return vec![Violation::Log { shard, index, what: fault.to_string() }],
        };
        let mut wrong = Vec::new();
        let mut say = |what: String| {
            wrong.push(Violation::Step { task: meta.task, step: meta.step, shard, index, what });
        };
        let row = tables::read::<TaskRow>(tables, &Key::Task(meta.task)).ok().flatten();
        let Some(row) = row else {
            say("its task was never started".into());
            return wrong;
        };
        let first = (row.generation, StepNumber(0), row.cursor);
        let (before, last, end) = *self.stands.entry(meta.task).or_insert(first);
        let spec = tables::read::<TaskSpec>(tables, &Key::Spec(meta.task.deployment)).ok().flatten();
        // A generation that begins anew leaves the place, and nothing else.
        let has_restarted = spec.is_some_and(|spec| before < spec.restarted);
        let end = if has_restarted { row.cursor } else { end };
        if meta.step != last.next() {
            say(format!("the step before it was {}", last.0));
        }
        if meta.from != end {
            say(format!("it begins at {:?}, and the step before it ended at {end:?}", meta.from));
        }
        if meta.generation != row.generation {
            say(format!("generation {} took it, and {} is at work", meta.generation.0, row.generation.0));
        }
        if row.status != TaskStatus::Running {
            say(format!("its task was to take none: it is {:?}", row.status));
        }
        let stays = matches!(meta.outcome, Outcome::Failed { .. } | Outcome::Stopped { .. });
        let changes = meta.state.len() + meta.timers.len() + meta.fired.len();
        if stays && (meta.from != meta.to || !entry.batches.is_empty() || changes > 0) {
            say("it failed, and yet consumed or changed something".into());
        }
        let is_of_timers = !meta.fired.is_empty();
        if !stays && !is_of_timers && meta.letter.is_none() && meta.to <= meta.from {
            say("it consumed nothing".into());
        }
        if is_of_timers && meta.to != meta.from {
            say("it was given timers, and yet consumed records".into());
        }
        if let Some(letter) = meta.letter {
            let at = format!("dead letter {}/{}", letter.at.partition.0, letter.offset.0);
            if meta.to != meta.from || is_of_timers {
                say(format!("it was given {at}, and yet records or timers, too"));
            }
            if !matches!(letters::waiting(tables, letter), Ok(Some(_))) {
                say(format!("it was given {at}, which nobody redrove"));
            }
            if !stays && !self.redriven.insert(letter) {
                say(format!("it was given {at} a second time"));
            }
        }
        if meta.to.index > index {
            say("it consumed what lies behind itself".into());
        }
        self.stands.insert(meta.task, (meta.generation, meta.step, meta.to));
        wrong
    }

    /// How many tasks took steps.
    pub(crate) fn tasks(&self) -> usize {
        self.stands.len()
    }
}
