//! Moving log starts: what lies below is not there any more for whoever reads.
//!
//! A log start moves by a committed command and never back, so that replicas agree on what exists. The command says where
//! to; it cannot pass the partition's end, whatever it says. It waits for nobody: what becomes of tasks that it passes is
//! said in [`super::behind`].

use serde::{Deserialize, Serialize};
use tidemill_protocol::ids::{Offset, Partition, TopicId, TopicPartition};

use super::control::{self, Control};
use super::{Deciding, behind, letters, partition};
use crate::effect::Effect;
use crate::entry::Entry;
use crate::fault::Fault;
use crate::rejection::Rejection;
use crate::rows::PartitionRow;
use crate::tables::{self, Key, Tables};
use crate::text;

/// A partition whose log start is to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trim {
    /// The topic.
    #[serde(with = "text")]
    pub topic: TopicId,
    /// The partition's number.
    pub partition: u32,
    /// The first offset that stays.
    pub before: u64,
}

impl Trim {
    /// The partition.
    pub fn at(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: Partition(self.partition) }
    }
}

/// The log start as it will be, which is not always what was asked for: it may be further already.
pub type Verdict = Result<Offset, Rejection>;

/// Looks at each, and makes the entry of those that move a log start, if any.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn decide(deciding: &Deciding, trims: &[Trim]) -> Result<(Vec<Verdict>, Option<Entry>), Fault> {
    let mut verdicts = Vec::with_capacity(trims.len());
    let mut moving = Vec::new();
    for trim in trims {
        let before = Offset(trim.before);
        verdicts.push(match partition(deciding.head, trim.at())? {
            None => Err(Rejection::NoPartition(trim.at())),
            Some(PartitionRow { log_start: start, end, .. }) if before > end => {
                let asked = i64::try_from(trim.before).unwrap_or(i64::MAX);
                Err(Rejection::OffsetOutOfRange { asked, start, end })
            }
            Some(row) => {
                if before > row.log_start {
                    moving.push(*trim);
                }
                Ok(before.max(row.log_start))
            }
        });
    }
    if moving.is_empty() {
        return Ok((verdicts, None));
    }
    let entry = control::decide(deciding, &Control::Trim { partitions: moving, passes_tasks: true })?;
    Ok((verdicts, Some(entry)))
}

/// See [`super::apply`].
pub(super) fn apply(
    tables: &mut dyn Tables,
    trims: &[Trim],
    passes_tasks: bool,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    trims.iter().try_for_each(|trim| move_up(tables, trim))?;
    if passes_tasks {
        behind::passed(tables, &trims.iter().map(Trim::at).collect(), effects)?;
    }
    Ok(())
}

fn move_up(tables: &mut dyn Tables, trim: &Trim) -> Result<(), Fault> {
    let key = Key::Partition(trim.at());
    let Some(mut row) = tables::read::<PartitionRow>(tables, &key)? else { return Ok(()) };
    let moved = Offset(trim.before).min(row.end);
    if moved > row.log_start {
        row.log_start = moved;
        tables::write(tables, &key, &row);
        letters::trim(tables, trim.at(), moved)?;
    }
    Ok(())
}
