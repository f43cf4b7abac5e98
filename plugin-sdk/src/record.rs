//! A record that a plugin derives.

use serde::Serialize;

use crate::Event;

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name. Names may repeat within a record.
    pub name: String,
    /// Its value, or null.
    pub value: Option<Vec<u8>>,
}

/// A record to be derived: a value, and what else is known of it.
///
/// ```
/// use tidemill_plugin_sdk::Record;
///
/// let record = Record::json(&[1, 2, 3])?.key("numbers").header("unit", "cents");
/// assert_eq!(record.value.as_deref(), Some(b"[1,2,3]".as_slice()));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Chooses the partition, as Kafka's clients do it. Without a key it is the number of the partition that
    /// the parent came from.
    pub key: Option<Vec<u8>>,
    /// Its value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
    /// Its own time, in milliseconds since 1970; the parent's when none.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A record with this value, and nothing else.
    pub fn new(value: impl Into<Vec<u8>>) -> Record {
        Record { value: Some(value.into()), ..Record::default() }
    }

    /// A record whose value is JSON.
    ///
    /// # Errors
    /// When `value` cannot be written as JSON: a map whose keys are no text, for example.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Record, serde_json::Error> {
        serde_json::to_vec(value).map(Record::new)
    }

    /// A record without a value: it removes `key` from a compacted topic.
    pub fn tombstone(key: impl AsRef<[u8]>) -> Record {
        Record::default().key(key)
    }

    /// Sets the key.
    #[must_use]
    pub fn key(self, key: impl AsRef<[u8]>) -> Record {
        Record { key: Some(key.as_ref().to_vec()), ..self }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Record {
        self.headers.push(Header { name: name.into(), value: Some(value.as_ref().to_vec()) });
        self
    }

    /// Sets the record's own time, in milliseconds since 1970.
    #[must_use]
    pub fn timestamp_ms(self, timestamp_ms: i64) -> Record {
        Record { timestamp_ms: Some(timestamp_ms), ..self }
    }
}

/// The same key, value and headers; the time is the parent's anyway.
impl From<&Event> for Record {
    fn from(event: &Event) -> Record {
        let Event { key, value, headers, .. } = event.clone();
        Record { key, value, headers, timestamp_ms: None }
    }
}
