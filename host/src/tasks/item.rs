//! What a task is given: an event out of its log, a timer that is due, or the event of a dead letter again.

use bytes::Bytes;
use tidemill_core::event_time::Observation;
use tidemill_core::ids::Cursor;
use tidemill_core::plugin::{Event, Timer};
use tidemill_core::seams::Timestamp;
use tidemill_core::shard::step::Source;
use tidemill_protocol::ids::{Offset, Position};

/// Something to be handled, and where the task stands once it is.
#[derive(Debug, Clone)]
pub struct Item {
    /// What it is.
    pub content: Content,
    /// What lineage says of it.
    pub source: Source,
    /// What it moves the task's append time to.
    pub time: Timestamp,
    /// What it consumes of the log; a timer and a dead letter consume nothing.
    pub consumes: Option<Consumes>,
    /// The dead letter whose event it is, if it is given again.
    pub letter: Option<Position>,
}

/// What an item is.
#[derive(Debug, Clone)]
pub enum Content {
    /// A record.
    Event(Event),
    /// A batch whose records cannot be read.
    Unreadable(Unreadable),
    /// A timer that is due.
    Timer(Timer),
}

/// What an item consumes of the log.
#[derive(Debug, Clone, Copy)]
pub struct Consumes {
    /// The cursor behind it.
    pub after: Cursor,
    /// Its input.
    pub input: usize,
    /// The first offset of that behind it.
    pub next: Offset,
    /// What it shows of its writer's event time.
    pub observed: Option<Observation>,
}

/// A batch whose records cannot be read; it is consumed as a whole.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// Why.
    pub reason: String,
    /// The batch.
    pub batch: Bytes,
}

impl Item {
    /// Bytes of its record.
    pub fn bytes(&self) -> usize {
        self.event().map_or(0, Event::bytes)
    }

    /// The event that it is, if it is one.
    pub fn event(&self) -> Option<&Event> {
        match &self.content {
            Content::Event(event) => Some(event),
            Content::Unreadable(_) | Content::Timer(_) => None,
        }
    }

    /// The timer that it is, if it is one.
    pub fn timer(&self) -> Option<&Timer> {
        match &self.content {
            Content::Timer(timer) => Some(timer),
            Content::Event(_) | Content::Unreadable(_) => None,
        }
    }
}
