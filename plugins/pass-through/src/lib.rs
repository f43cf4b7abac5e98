//! Copies every record to one topic, unchanged: the smallest plugin there can be, and the one that the bench
//! measures.
//!
//! The topic is `to` of the configuration. Key, value, headers and timestamp are kept.

use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};

/// The plugin.
pub struct PassThrough;

impl Plugin for PassThrough {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let to: String = step.config().get("to")?;
        Ok(step.emit(event, &to, Record::from(event))?)
    }
}

plugin!(PassThrough);
