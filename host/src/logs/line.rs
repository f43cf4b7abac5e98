//! A line of a plugin's log, and the record that it is.
//!
//! The record's value is what the line says, so that any client of Kafka shows it; its key is the plugin's name, its time
//! the moment at which the try ended, by the broker's clock. The rest is in headers. A program outside may write to the
//! topic, too: what has not these headers is no line.

use tidemill_core::ids::{Generation, StepNumber};
use tidemill_core::seams::Timestamp;
use tidemill_protocol::batch::{BatchBuilder, Record, Unwritable};
use tidemill_protocol::ids::Partition;
use tidemill_runtime::LogLevel;

const LEVEL: &str = "log-level";
const GENERATION: &str = "log-generation";
const TASK: &str = "log-task";
const STEP: &str = "log-step";
const ATTEMPT: &str = "log-attempt";
const DROPPED: &str = "log-dropped";

/// Bytes that a line takes beside its words, about.
pub const OVERHEAD: usize = 128;

/// What a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// The generation of the plugin.
    pub generation: Generation,
    /// The task, by the partition that it reads.
    pub task: Partition,
    /// The step that was tried.
    pub step: StepNumber,
    /// Which attempt at its first event, or timer, it was: 1 for the first.
    pub attempt: u32,
    /// When it ended.
    pub at: Timestamp,
}

/// A line of a plugin's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it is of.
    pub tried: Tried,
    /// How much it matters.
    pub level: LogLevel,
    /// What it says.
    pub message: String,
    /// How many lines were dropped where this one stands, which says so; of others 0.
    pub dropped: u64,
}

impl Line {
    /// What it takes in memory and in its topic, about.
    pub fn bytes(&self) -> usize {
        OVERHEAD + self.message.len()
    }

    /// Adds its record to a batch.
    ///
    /// # Errors
    /// As [`BatchBuilder::push`].
    pub fn push(&self, plugin: &str, batch: &mut BatchBuilder) -> Result<(), Unwritable> {
        let Tried { generation, task, step, attempt, at } = self.tried;
        let [generation, task, step, attempt] =
            [generation.0.to_string(), task.0.to_string(), step.0.to_string(), attempt.to_string()];
        let dropped = self.dropped.to_string();
        let mut headers = vec![
            (LEVEL, Some(self.level.name().as_bytes())),
            (GENERATION, Some(generation.as_bytes())),
            (TASK, Some(task.as_bytes())),
            (STEP, Some(step.as_bytes())),
            (ATTEMPT, Some(attempt.as_bytes())),
        ];
        if self.dropped > 0 {
            headers.push((DROPPED, Some(dropped.as_bytes())));
        }
        let at = i64::try_from(at.0).unwrap_or(i64::MAX);
        batch.push(at, Some(plugin.as_bytes()), Some(self.message.as_bytes()), &headers)
    }

    /// The line that a record is, if it is one.
    pub fn of(record: &Record) -> Option<Line> {
        let header = |name: &str| {
            let header = record.headers.iter().rfind(|header| &*header.name == name)?;
            std::str::from_utf8(header.value.as_deref()?).ok()
        };
        let tried = Tried {
            generation: Generation(header(GENERATION)?.parse().ok()?),
            task: Partition(header(TASK)?.parse().ok()?),
            step: StepNumber(header(STEP)?.parse().ok()?),
            attempt: header(ATTEMPT)?.parse().ok()?,
            at: Timestamp(u64::try_from(record.timestamp_ms).ok()?),
        };
        Some(Line {
            tried,
            level: header(LEVEL)?.parse().ok()?,
            message: String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned(),
            dropped: header(DROPPED).and_then(|dropped| dropped.parse().ok()).unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_core::limits;
    use tidemill_protocol::batch;
    use tidemill_protocol::codec::Codec;

    #[test]
    fn a_line_is_a_record_and_other_records_are_no_lines() {
        let tried = Tried {
            generation: Generation(3),
            task: Partition(7),
            step: StepNumber(99),
            attempt: 2,
            at: Timestamp(1_700_000_000_000),
        };
        let said = |message: &str, dropped| Line {
            tried,
            level: LogLevel::Warn,
            message: message.to_owned(),
            dropped,
        };
        let lines = [said("it is late", 0), said("", 0), said("12 lines were dropped", 12)];
        let mut batch = BatchBuilder::new(Codec::None);
        lines.iter().for_each(|line| line.push("payment", &mut batch).unwrap());
        batch.push(5, None, Some(b"not a line"), &[("log-level", Some(b"warn"))]).unwrap();
        batch.push(5, None, None, &[]).unwrap();
        let records = batch::decode(&batch.build().unwrap(), &limits::READABLE_BATCH).unwrap();
        assert_eq!(records[0].key.as_deref(), Some(&b"payment"[..]));
        assert_eq!(records[0].value.as_deref(), Some(&b"it is late"[..]));
        let read: Vec<_> = records.iter().map(Line::of).collect();
        assert_eq!(read[..3], lines.map(Some));
        assert_eq!(read[3..], [None, None]);
    }
}
