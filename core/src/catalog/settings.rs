//! Settings of topics: Kafka's names, what they may be, and what they are when nobody says otherwise.
//!
//! Some of Kafka's have one value here. They may be set to it, so that tools which set what they know keep working; any
//! other value is refused, and so is a setting that is not in the table.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::rejection::Rejection;

/// What can be set of a topic; the names are Kafka's, with hyphens for dots in JSON. What is none is as the default
/// says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct TopicSettings {
    /// `max.message.bytes`: the largest batch it takes, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_message_bytes: Option<u32>,
    /// `retention.ms`: how long after their append time records are kept, in milliseconds; -1 for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<i64>,
    /// `retention.bytes`: how much of each partition is kept at least, in bytes of batches; -1 for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<i64>,
}

/// What a value of a setting looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number of 32 bits.
    Int,
    /// A number of 64 bits.
    Long,
    /// A word.
    Text,
    /// Words.
    List,
}

/// A setting of a topic, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Kafka's name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What it is when nobody says otherwise.
    pub default: String,
    /// Whether somebody said so.
    pub explicit: bool,
    /// What it looks like.
    #[serde(skip)]
    pub kind: Kind,
    /// What it means.
    pub meaning: &'static str,
}

/// Settings that have one value: name, value, kind, why there is no other.
const FIXED: [(&str, &str, Kind, &str); 4] = [
    ("cleanup.policy", "delete", Kind::List, "compaction is not offered"),
    ("compression.type", "producer", Kind::Text, "batches are kept as their producers sent them"),
    ("message.timestamp.type", "CreateTime", Kind::Text, "records keep their producers' timestamps"),
    (
        "min.insync.replicas",
        "1",
        Kind::Int,
        "an acknowledgement always means: synced by a majority of the replicas",
    ),
];

const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const RETENTION_MS: &str = "retention.ms";
const RETENTION_BYTES: &str = "retention.bytes";
/// Of a time or a size: no bound.
const UNBOUNDED: i64 = -1;

impl TopicSettings {
    /// The largest batch it takes, in bytes.
    pub fn max_message_bytes(&self) -> u32 {
        self.max_message_bytes.unwrap_or(limits::BATCH_BYTES_DEFAULT as u32)
    }

    /// How long records are kept, in milliseconds; none for ever.
    pub fn retention_ms(&self) -> Option<u64> {
        u64::try_from(self.retention_ms.unwrap_or(limits::RETENTION_MS_DEFAULT)).ok()
    }

    /// How much of each partition is kept at least, in bytes; none for all.
    pub fn retention_bytes(&self) -> Option<u64> {
        u64::try_from(self.retention_bytes.unwrap_or(UNBOUNDED)).ok()
    }

    /// Sets one by its Kafka's name; with no value, back to its default.
    ///
    /// # Errors
    /// [`Rejection::Setting`] when there is no such setting, or it cannot have this value.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), Rejection> {
        let refused = |why: String| Err(Rejection::Setting(format!("{name}: {why}")));
        match (name, value) {
            (MAX_MESSAGE_BYTES, value) => match value.map(str::parse).transpose() {
                Ok(bytes) => self.max_message_bytes = bytes,
                Err(_) => return refused(format!("{:?} is no number of bytes", value.unwrap_or_default())),
            },
            (RETENTION_MS, value) => match value.map(str::parse).transpose() {
                Ok(time) => self.retention_ms = time,
                Err(_) => {
                    return refused(format!("{:?} is no number of milliseconds", value.unwrap_or_default()));
                }
            },
            (RETENTION_BYTES, value) => match value.map(str::parse).transpose() {
                Ok(bytes) => self.retention_bytes = bytes,
                Err(_) => return refused(format!("{:?} is no number of bytes", value.unwrap_or_default())),
            },
            _ => match (FIXED.iter().find(|fixed| fixed.0 == name), value) {
                (None, _) => return refused("there is no such setting here".to_owned()),
                (Some((_, only, _, why)), Some(value)) if value != *only => {
                    return refused(format!("{value:?} is not offered, only {only:?}: {why}"));
                }
                (Some(_), _) => {}
            },
        }
        self.check()
    }

    /// Whether they can be so.
    ///
    /// # Errors
    /// [`Rejection::Setting`], which names the one that cannot.
    pub fn check(&self) -> Result<(), Rejection> {
        let (bytes, most) = (self.max_message_bytes() as usize, limits::BATCH_BYTES_MAX);
        if !(1..=most).contains(&bytes) {
            return Err(Rejection::Setting(format!("{MAX_MESSAGE_BYTES} {bytes}: use 1 to {most}")));
        }
        let is_bound = |bound: &i64| *bound == UNBOUNDED || *bound > 0;
        if let Some(time) = self.retention_ms.filter(|time| !is_bound(time)) {
            return Err(Rejection::Setting(format!("{RETENTION_MS} {time}: use 1 or more, or -1 for ever")));
        }
        match self.retention_bytes.filter(|bytes| !is_bound(bytes)) {
            Some(bytes) => {
                Err(Rejection::Setting(format!("{RETENTION_BYTES} {bytes}: use 1 or more, or -1 for all")))
            }
            None => Ok(()),
        }
    }

    /// All settings, by name.
    pub fn shown(&self) -> Vec<Shown> {
        let plain = TopicSettings::default();
        let retention =
            |settings: &TopicSettings| settings.retention_ms.unwrap_or(limits::RETENTION_MS_DEFAULT);
        let mut shown = vec![
            Shown {
                name: MAX_MESSAGE_BYTES,
                value: self.max_message_bytes().to_string(),
                default: plain.max_message_bytes().to_string(),
                explicit: self.max_message_bytes.is_some(),
                kind: Kind::Int,
                meaning: "The largest batch that the topic takes, in bytes.",
            },
            Shown {
                name: RETENTION_MS,
                value: retention(self).to_string(),
                default: retention(&plain).to_string(),
                explicit: self.retention_ms.is_some(),
                kind: Kind::Long,
                meaning: "How long records are kept after the broker took them, in milliseconds; -1 for ever.",
            },
            Shown {
                name: RETENTION_BYTES,
                value: self.retention_bytes.unwrap_or(UNBOUNDED).to_string(),
                default: UNBOUNDED.to_string(),
                explicit: self.retention_bytes.is_some(),
                kind: Kind::Long,
                meaning: "How much of each partition is kept at least, in bytes of batches; -1 for all.",
            },
        ];
        shown.extend(FIXED.map(|(name, only, kind, meaning)| Shown {
            name,
            value: only.to_owned(),
            default: only.to_owned(),
            explicit: false,
            kind,
            meaning,
        }));
        shown.sort_by_key(|setting| setting.name);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_can_be_set_and_unset() {
        let mut settings = TopicSettings::default();
        settings.set("retention.ms", Some("1000")).unwrap();
        settings.set("cleanup.policy", Some("delete")).unwrap();
        settings.set("retention.bytes", Some("1000")).unwrap();
        assert_eq!(settings.retention_bytes(), Some(1_000));
        settings.set("retention.bytes", None).unwrap();
        assert_eq!(settings.retention_bytes(), None);
        assert_eq!(settings.retention_ms(), Some(1_000));
        settings.set("retention.ms", Some("-1")).unwrap();
        assert_eq!(settings.retention_ms(), None);
        settings.set("retention.ms", None).unwrap();
        assert_eq!(settings, TopicSettings::default());
        assert_eq!(settings.retention_ms(), Some(604_800_000));
        assert!(settings.shown().iter().all(|setting| !setting.explicit && setting.value == setting.default));
    }

    #[test]
    fn what_is_not_offered_is_refused_with_its_name_and_the_reason() {
        for (name, value, why) in [
            ("retention.ms", "soon", "milliseconds"),
            ("retention.ms", "0", "-1 for ever"),
            ("retention.ms", "-2", "-1 for ever"),
            ("max.message.bytes", "0", "use 1 to"),
            ("max.message.bytes", "99999999999", "no number of bytes"),
            ("cleanup.policy", "compact", "compaction"),
            ("min.insync.replicas", "2", "majority"),
            ("retention.bytes", "much", "no number of bytes"),
            ("retention.bytes", "-2", "-1 for all"),
            ("flush.messages", "1", "no such setting"),
        ] {
            let refused = TopicSettings::default().set(name, Some(value)).unwrap_err().to_string();
            assert!(refused.starts_with(name) && refused.contains(why), "{refused}");
        }
        assert!(TopicSettings::default().set("flush.messages", None).is_err());
    }
}
