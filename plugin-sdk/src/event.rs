//! A record as a plugin reads it.

use serde::Deserialize;

use crate::{Failure, Header};

/// A record of a topic that the plugin reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place among the events of its step; what is derived from it names it by that.
    pub(crate) index: u32,
    /// The topic that it was read from.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Its offset in the partition.
    pub offset: u64,
    /// The record's own time, in milliseconds since 1970, as its producer set it.
    pub timestamp_ms: i64,
    /// When the broker took it in, in milliseconds since 1970: the only clock that a plugin has.
    pub append_time_ms: u64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order. Names may repeat.
    pub headers: Vec<Header>,
}

impl Event {
    /// The value, read as JSON.
    ///
    /// # Errors
    /// [`Failure::Reject`] when it is no such JSON, or the record is a tombstone: trying again cannot help.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        let value = self.value.as_deref().ok_or_else(|| self.wrong("it has no value"))?;
        serde_json::from_slice(value).map_err(|error| self.wrong(error))
    }

    /// The value as text.
    ///
    /// # Errors
    /// [`Failure::Reject`] when it is not UTF-8, or the record is a tombstone.
    pub fn text(&self) -> Result<&str, Failure> {
        let value = self.value.as_deref().ok_or_else(|| self.wrong("it has no value"))?;
        std::str::from_utf8(value).map_err(|error| self.wrong(error))
    }

    /// The value of the first header of this name; none also when that header's value is null.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|header| header.name == name)?.value.as_deref()
    }

    /// The broker adds the record's position, so the reason needs none.
    fn wrong(&self, why: impl std::fmt::Display) -> Failure {
        Failure::reject(format_args!("a record of {}: {why}", self.topic))
    }
}
