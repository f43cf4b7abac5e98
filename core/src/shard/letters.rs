//! Dead letters: what becomes of them.
//!
//! ```text
//!            discard                          a step that goes well ──▶ redriven
//!   open ───────────────▶ discarded          │
//!     │                       ▲              │
//!     │ redrive               │ discard      │
//!     └──────▶ waiting ───────┴──────────────┤
//!       ▲         │                          │
//!       └─────────┘                          a step that gives it up ──▶ failed again, and a new letter
//!   the plugin goes, or does not read that topic any more
//! ```
//!
//! A letter that is redriven is given to its plugin again, as the record that it was. The letter, the place of the record
//! and the task are all in one shard, so what waits is a row of the shard's, and goes in the entry of the step that is
//! given it: it happens once, whoever dies meanwhile. Letters of a task are given in the order of their offsets.

use serde::{Deserialize, Serialize};
use tidemill_protocol::ids::{Offset, Partition, Position, TopicId, TopicPartition};

use super::control::{self, Control};
use super::step::Outcome;
use super::{Deciding, partition};
use crate::effect::Effect;
use crate::entry::Entry;
use crate::fault::Fault;
use crate::ids::{DeploymentId, TaskId};
use crate::rows::{Fate, LetterRow, RedriveRow, TaskRow};
use crate::seams::Timestamp;
use crate::tables::{self, Key, Tables, View, end_of_prefix};
use crate::task::TaskSpec;
use crate::text;

/// Dead letters of one task to be given to it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// The plugin.
    pub deployment: DeploymentId,
    /// Its dead-letter topic.
    #[serde(with = "text")]
    pub topic: TopicId,
    /// The partition, which is the task's.
    pub partition: u32,
    /// The letters.
    pub letters: Vec<Redriven>,
}

/// A dead letter to be given to its plugin again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// Its offset in the dead-letter topic.
    pub offset: u64,
    /// The topic that its record lay in.
    #[serde(with = "text")]
    pub source: TopicId,
}

impl Redrive {
    fn at(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: Partition(self.partition) }
    }

    fn task(&self) -> TaskId {
        TaskId { deployment: self.deployment, partition: Partition(self.partition) }
    }
}

/// Why a letter is not redriven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRedriven {
    /// There is none.
    #[error("no letter lies there any more")]
    NotThere,
    /// It waits already.
    #[error("it waits already to be given to its plugin again")]
    Waits,
    /// It was.
    #[error("it was redriven already")]
    Redriven,
    /// It was, and failed.
    #[error("it was redriven already and failed again: redrive the new letter that says why")]
    FailedAgain,
    /// Nobody wanted it.
    #[error("it was discarded")]
    Discarded,
    /// The plugin was deleted, or reads other topics.
    #[error("the plugin as it is now does not read the topic that its record lay in")]
    NotRead,
}

/// What becomes of each letter.
pub type Verdict = Result<(), NotRedriven>;

/// Looks at each letter, and makes the entry of those that are to wait, if any.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn decide(deciding: &Deciding, redrive: &Redrive) -> Result<(Vec<Verdict>, Option<Entry>), Fault> {
    let verdicts = verdicts(deciding.head, redrive)?;
    let taken = redrive.letters.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_ok());
    let letters: Vec<Redriven> = taken.map(|(letter, _)| *letter).collect();
    if letters.is_empty() {
        return Ok((verdicts, None));
    }
    let entry = control::decide(deciding, &Control::RedriveLetters(Redrive { letters, ..redrive.clone() }))?;
    Ok((verdicts, Some(entry)))
}

/// Looks at each letter.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn verdicts(view: &dyn View, redrive: &Redrive) -> Result<Vec<Verdict>, Fault> {
    redrive.letters.iter().map(|letter| may_wait(view, redrive, *letter)).collect()
}

/// Whether the letter may wait for its task now.
fn may_wait(view: &(impl View + ?Sized), redrive: &Redrive, letter: Redriven) -> Result<Verdict, Fault> {
    let (at, offset) = (redrive.at(), Offset(letter.offset));
    let spec = tables::read::<TaskSpec>(view, &Key::Spec(redrive.deployment))?;
    let task = tables::read::<TaskRow>(view, &Key::Task(redrive.task()))?;
    let reads = |spec: &TaskSpec| spec.dead_letter.topic == at.topic && reads(spec, letter.source);
    if task.is_none() || !spec.as_ref().is_some_and(reads) {
        return Ok(Err(NotRedriven::NotRead));
    }
    let row = tables::read::<crate::rows::PartitionRow>(view, &Key::Partition(at))?.unwrap_or_default();
    if offset < row.log_start || offset >= row.end {
        return Ok(Err(NotRedriven::NotThere));
    }
    if waiting(view, Position { at, offset })?.is_some() {
        return Ok(Err(NotRedriven::Waits));
    }
    Ok(match tables::read::<LetterRow>(view, &Key::Letter(at, offset))?.map(|row| row.fate) {
        None => Ok(()),
        Some(Fate::Discarded) => Err(NotRedriven::Discarded),
        Some(Fate::Redriven) => Err(NotRedriven::Redriven),
        Some(Fate::FailedAgain) => Err(NotRedriven::FailedAgain),
    })
}

fn reads(spec: &TaskSpec, topic: TopicId) -> bool {
    spec.inputs.iter().any(|input| input.topic == topic)
}

/// The letter's row, if it waits.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn waiting(view: &(impl View + ?Sized), letter: Position) -> Result<Option<RedriveRow>, Fault> {
    tables::read(view, &Key::Redrive(letter.at, letter.offset))
}

/// The first letter of a partition of a dead-letter topic that waits.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn first_waiting(view: &dyn View, at: TopicPartition) -> Result<Option<(Position, RedriveRow)>, Fault> {
    Ok(all_waiting(view, at, 1)?.into_iter().next())
}

fn all_waiting(
    view: &(impl View + ?Sized),
    at: TopicPartition,
    limit: usize,
) -> Result<Vec<(Position, RedriveRow)>, Fault> {
    let prefix = Key::redrives_prefix(at);
    let mut found = Vec::new();
    for (key, value) in view.scan(&prefix, end_of_prefix(&prefix).as_deref(), limit)? {
        let Key::Redrive(at, offset) = Key::decode(&key)? else { continue };
        found.push((Position { at, offset }, tables::Row::decode(&value)?));
    }
    Ok(found)
}

/// See [`super::apply`].
pub(super) fn apply(
    tables: &mut dyn Tables,
    redrive: &Redrive,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    let at = redrive.at();
    for letter in &redrive.letters {
        if may_wait(tables, redrive, *letter)?.is_ok() {
            let row = RedriveRow { source: letter.source, attempts: 0 };
            tables::write(tables, &Key::Redrive(at, Offset(letter.offset)), &row);
        }
    }
    effects.push(Effect::Redriven { at });
    Ok(())
}

/// Nobody wants a letter any more, also when it waits. One of which something became stays what it is, and of one that is
/// not there any more nothing is noted.
pub(super) fn discard(
    tables: &mut dyn Tables,
    at: TopicPartition,
    offset: Offset,
    now: Timestamp,
) -> Result<(), Fault> {
    let is_there = partition(tables, at)?.is_some_and(|row| (row.log_start..row.end).contains(&offset));
    let key = Key::Letter(at, offset);
    if is_there && tables::read::<LetterRow>(tables, &key)?.is_none() {
        tables::write(tables, &key, &LetterRow { fate: Fate::Discarded, at: now });
        tables.delete(Key::Redrive(at, offset).encode());
    }
    Ok(())
}

/// A step was given the letter, and this came of it.
pub(super) fn given(
    tables: &mut dyn Tables,
    letter: Position,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(), Fault> {
    let key = Key::Redrive(letter.at, letter.offset);
    let row = waiting(tables, letter)?;
    let row = row.ok_or_else(|| Fault::damaged("a shard's log", "a step of a letter that does not wait"))?;
    let fate = match outcome {
        Outcome::Failed { attempts, .. } => {
            tables::write(tables, &key, &RedriveRow { attempts: *attempts, ..row });
            return Ok(());
        }
        Outcome::Stopped { .. } => {
            tables::write(tables, &key, &RedriveRow { attempts: 0, ..row });
            return Ok(());
        }
        Outcome::Done => Fate::Redriven,
        Outcome::DeadLettered { .. } => Fate::FailedAgain,
    };
    tables.delete(key.encode());
    tables::write(tables, &Key::Letter(letter.at, letter.offset), &LetterRow { fate, at: now });
    Ok(())
}

/// Another generation of a task begins: what waits is tried from the first attempt on, and is open again where the task
/// does not read its topic any more.
pub(super) fn begin(tables: &mut dyn Tables, spec: &TaskSpec, partition: Partition) -> Result<(), Fault> {
    let at = TopicPartition { topic: spec.dead_letter.topic, partition };
    for (letter, row) in all_waiting(tables, at, usize::MAX)? {
        let key = Key::Redrive(letter.at, letter.offset);
        if reads(spec, row.source) {
            tables::write(tables, &key, &RedriveRow { attempts: 0, ..row });
        } else {
            tables.delete(key.encode());
        }
    }
    Ok(())
}

/// Below this offset, no letter waits any more: it is not there. Nor is it known what became of it.
pub(super) fn trim(tables: &mut dyn Tables, at: TopicPartition, before: Offset) -> Result<(), Fault> {
    for key in [Key::Letter, Key::Redrive] {
        let (start, end) = (key(at, Offset(0)).encode(), key(at, before).encode());
        tables::delete_within(tables, &start, Some(&end))?;
    }
    Ok(())
}
