//! The manifest of a plugin: what its author wants, before the broker has looked at it.
//!
//! It is written in TOML beside the plugin; unknown keys are refused. Reading the text is the shell's; the shape
//! and what must hold within it are here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemill_protocol::ids::TopicName;

use crate::bundle::{self, Bundle, Grant};
use crate::event_time::EventTimeRules;
use crate::limits;
use crate::plugin::GuestLimits;
use crate::task::FailurePolicy;

/// What the author of a plugin wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// The plugin's name within its tenant, by the rule of topic names.
    pub name: String,
    /// The file of the component, relative to the manifest.
    pub component: String,
    /// What it reads.
    pub subscribe: Vec<Subscription>,
    /// The topics it may publish to.
    #[serde(default)]
    pub publish: Vec<String>,
    /// What the guest reads as its configuration. Nested tables are joined by dots.
    #[serde(default)]
    pub config: BTreeMap<String, Value>,
    /// What an instance may use.
    #[serde(default)]
    pub limits: GuestLimits,
    /// What happens to a record that fails.
    #[serde(default)]
    pub failure: FailurePolicy,
    /// How event time moves for its tasks.
    #[serde(default)]
    pub event_time: EventTimeRules,
    /// The version of the state that it writes: a number that its author raises when what it keeps changes its form.
    #[serde(default = "first_version")]
    pub state_version: u32,
    /// Other versions of the state that it can read too, and brings to its own as it meets them.
    #[serde(default)]
    pub reads_state_versions: Vec<u32>,
    /// Cycles that it is meant to be part of.
    #[serde(default)]
    pub cycle: Vec<Cycle>,
    /// Folders that its guests may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bundle: Vec<Bundle>,
}

fn first_version() -> u32 {
    1
}

/// A topic that a plugin reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// Its name.
    pub topic: String,
    /// Where the first deployment begins.
    pub from: StartAt,
}

/// Where in a topic a deployment begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartAt {
    /// With the first retained record.
    Earliest,
    /// With the first record behind those that are there when it is deployed.
    Latest,
    /// With this offset, in every partition.
    Offset(u64),
    /// With the first record of this time or later (RFC 3339), by the record's own timestamp.
    Time(String),
}

/// A cycle that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cycle {
    /// The other plugins on it.
    pub through: Vec<String>,
    /// How far from its chain's first record a record may be that this plugin still derives from.
    pub max_hops: u32,
}

/// Something in a manifest that cannot stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct ManifestError {
    /// The key.
    pub key: String,
    /// Why.
    pub why: String,
}

impl Manifest {
    /// Everything in it that cannot stand, not only the first.
    pub fn check(&self) -> Vec<ManifestError> {
        let mut errors = Vec::new();
        let mut wrong = |key: &str, why: String| errors.push(ManifestError { key: key.to_owned(), why });
        if let Err(error) = TopicName::new(self.name.as_str()) {
            wrong("name", error.to_string());
        }
        if self.subscribe.is_empty() {
            wrong("subscribe", "a plugin reads at least one topic".into());
        }
        for (key, count) in [("subscribe", self.subscribe.len()), ("publish", self.publish.len())] {
            if count > limits::PLUGIN_TOPICS_MAX {
                wrong(key, format!("{count} topics, and at most {} are possible", limits::PLUGIN_TOPICS_MAX));
            }
        }
        let reads = self.subscribe.iter().map(|subscription| ("subscribe", &subscription.topic));
        let writes = self.publish.iter().map(|topic| ("publish", topic));
        let mut seen = Vec::new();
        for (key, topic) in reads.chain(writes) {
            if let Err(error) = TopicName::new(topic.as_str()) {
                wrong(key, error.to_string());
            }
            if seen.contains(&(key, topic)) {
                wrong(key, format!("{topic:?} is named twice"));
            }
            seen.push((key, topic));
        }
        self.check_limits(&mut wrong);
        bundle::check(&self.bundle, &mut wrong);
        if self.reads_state_versions.len() > limits::STATE_VERSIONS_MAX {
            let (count, most) = (self.reads_state_versions.len(), limits::STATE_VERSIONS_MAX);
            wrong("reads-state-versions", format!("{count} versions, and at most {most} are possible"));
        }
        match self.flat_config() {
            Ok(config) => {
                let bytes: usize = config.iter().map(|(key, value)| key.len() + value.len()).sum();
                if bytes > limits::CONFIG_BYTES_MAX {
                    wrong("config", format!("{bytes} bytes, and the limit is {}", limits::CONFIG_BYTES_MAX));
                }
            }
            Err(error) => wrong(&error.key, error.why),
        }
        errors
    }

    /// What it says of each bounded key, or its default; and the most that is possible.
    pub fn bounded(&self) -> [(&'static str, u64, u64); 7] {
        [
            ("limits.memory-bytes", self.limits.memory_bytes, limits::GUEST_MEMORY_MAX as u64),
            ("limits.cpu-ms", self.limits.cpu_ms, limits::GUEST_CPU_MAX.as_millis() as u64),
            ("limits.output-bytes", self.limits.output_bytes, limits::STEP_OUTPUT_BYTES_MAX as u64),
            ("limits.output-records", self.limits.output_records, limits::STEP_OUTPUT_RECORDS_MAX as u64),
            ("limits.state-bytes", self.limits.state_bytes, limits::STEP_STATE_BYTES_MAX as u64),
            ("limits.step-events", self.limits.step_events, limits::STEP_EVENTS_MAX as u64),
            ("failure.attempts", u64::from(self.failure.attempts), u64::from(limits::ATTEMPTS_MAX)),
        ]
    }

    fn check_limits(&self, wrong: &mut impl FnMut(&str, String)) {
        let hops = self
            .cycle
            .iter()
            .map(|cycle| ("cycle.max-hops", u64::from(cycle.max_hops), u64::from(limits::HOPS_MAX)));
        for (key, value, most) in self.bounded().into_iter().chain(hops) {
            if value == 0 || value > most {
                wrong(key, format!("{value} is not between 1 and {most}"));
            }
        }
    }

    /// The configuration as the guest reads it: `threshold.default = 10` is the key `threshold.default`.
    ///
    /// # Errors
    /// [`ManifestError`] for a value that is neither text, number nor boolean, and for a key given twice.
    pub fn flat_config(&self) -> Result<BTreeMap<String, String>, ManifestError> {
        let mut flat = BTreeMap::new();
        for (key, value) in &self.config {
            flatten(key, value, &mut flat)?;
        }
        Ok(flat)
    }

    /// Its bundles, as tasks are told of them.
    ///
    /// # Errors
    /// [`ManifestError`] for one whose digest is not known yet.
    pub fn grants(&self) -> Result<Vec<Grant>, ManifestError> {
        bundle::grants(&self.bundle)
    }

    /// Whether it can read state of a version.
    pub fn reads_state(&self, version: u32) -> bool {
        version == self.state_version || self.reads_state_versions.contains(&version)
    }

    /// The most hops that any cycle of it asks for, or the default.
    pub fn hops_max(&self) -> u32 {
        self.cycle.iter().map(|cycle| cycle.max_hops).max().unwrap_or(limits::HOPS_DEFAULT)
    }
}

fn flatten(key: &str, value: &Value, flat: &mut BTreeMap<String, String>) -> Result<(), ManifestError> {
    let wrong = |why: &str| ManifestError { key: format!("config.{key}"), why: why.to_owned() };
    let text = match value {
        Value::Object(table) => {
            return table.iter().try_for_each(|(name, value)| flatten(&format!("{key}.{name}"), value, flat));
        }
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) => return Err(wrong("neither text, number, boolean nor table")),
    };
    match flat.insert(key.to_owned(), text) {
        None => Ok(()),
        Some(_) => Err(wrong("given twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(json: Value) -> Manifest {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_small_manifest_has_its_defaults() {
        let small = manifest(serde_json::json!({
            "name": "payment", "component": "payment.wasm",
            "subscribe": [{ "topic": "orders", "from": "earliest" }, { "topic": "b", "from": { "offset": 7 } }],
            "config": { "limit": { "cents": 5, "of": { "x": "y" } }, "on": true },
        }));
        assert_eq!(small.check(), vec![]);
        assert_eq!(small.failure.attempts, limits::ATTEMPTS_DEFAULT);
        assert_eq!(small.subscribe[1].from, StartAt::Offset(7));
        let config = small.flat_config().unwrap();
        let expected = [("limit.cents", "5"), ("limit.of.x", "y"), ("on", "true")];
        assert!(config.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected));
    }

    #[test]
    fn every_mistake_is_named_not_only_the_first() {
        let wrong = manifest(serde_json::json!({
            "name": "a b", "component": "", "subscribe": [], "publish": ["t", "t", "/"],
            "limits": { "cpu-ms": 0 }, "failure": { "attempts": 1000 }, "config": { "list": [1] },
        }));
        let keys: Vec<_> = wrong.check().into_iter().map(|error| error.key).collect();
        let expected =
            ["name", "subscribe", "publish", "publish", "limits.cpu-ms", "failure.attempts", "config.list"];
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_limit_out_of_bounds_says_its_key_its_value_and_the_bounds() {
        let bounds = [
            ("limits", "memory-bytes", limits::GUEST_MEMORY_MAX as u64),
            ("limits", "cpu-ms", limits::GUEST_CPU_MAX.as_millis() as u64),
            ("limits", "output-bytes", limits::STEP_OUTPUT_BYTES_MAX as u64),
            ("limits", "output-records", limits::STEP_OUTPUT_RECORDS_MAX as u64),
            ("limits", "state-bytes", limits::STEP_STATE_BYTES_MAX as u64),
            ("limits", "step-events", limits::STEP_EVENTS_MAX as u64),
            ("failure", "attempts", u64::from(limits::ATTEMPTS_MAX)),
        ];
        for (table, key, most) in bounds {
            let with = |value: u64| {
                let mut json = serde_json::json!({
                    "name": "a", "component": "a", "subscribe": [{ "topic": "t", "from": "latest" }],
                });
                json[table] = serde_json::json!({ key: value });
                manifest(json).check()
            };
            assert_eq!(with(most), [], "{key}");
            for value in [0, most + 1] {
                let said: Vec<_> = with(value).iter().map(ToString::to_string).collect();
                assert_eq!(said, [format!("{table}.{key}: {value} is not between 1 and {most}")]);
            }
        }
        // Every limit that there is, is in that table.
        let all = serde_json::to_value(GuestLimits::default()).unwrap();
        let named = bounds.iter().filter(|(table, ..)| *table == "limits").count();
        assert_eq!(all.as_object().unwrap().len(), named);
    }

    #[test]
    fn unknown_keys_are_refused() {
        let json = serde_json::json!({ "name": "a", "component": "a", "subscribe": [], "publsh": [] });
        assert!(serde_json::from_value::<Manifest>(json).is_err());
    }
}
