//! As much of a manifest as a test needs: what the plugin reads, where it may publish, what it is configured to.
//!
//! The broker checks the whole of it; here everything else is passed over.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::{Table, Value};

/// What a task is told by its manifest.
#[derive(Debug, Default)]
pub(super) struct Granted {
    pub(super) subscribe: BTreeSet<String>,
    pub(super) publish: BTreeSet<String>,
    pub(super) config: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Manifest {
    subscribe: Vec<Subscription>,
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    config: Table,
}

#[derive(Deserialize)]
struct Subscription {
    topic: String,
}

/// Reads a manifest.
///
/// # Panics
/// When it is none: a test should fail then, with the reason.
#[track_caller]
pub(super) fn read(text: &str) -> Granted {
    let manifest: Manifest = match toml::from_str(text) {
        Ok(manifest) => manifest,
        Err(error) => panic!("the manifest: {error}"),
    };
    let mut config = BTreeMap::new();
    flatten("", manifest.config, &mut config);
    Granted {
        subscribe: manifest.subscribe.into_iter().map(|subscription| subscription.topic).collect(),
        publish: manifest.publish.into_iter().collect(),
        config,
    }
}

#[track_caller]
fn flatten(prefix: &str, table: Table, flat: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        let text = match value {
            Value::Table(table) => {
                flatten(&format!("{key}."), table, flat);
                continue;
            }
            Value::String(text) => text,
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            Value::Datetime(_) | Value::Array(_) => {
                panic!("the manifest: config.{key} is neither text, number, boolean nor table")
            }
        };
        assert!(flat.insert(key.clone(), text).is_none(), "the manifest: config.{key} is given twice");
    }
}
