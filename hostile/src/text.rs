//! What people write: manifests, names, settings of topics.

use tidemill_core::catalog::TopicSettings;
use tidemill_core::ids::Digest;
use tidemill_core::limits;
use tidemill_core::manifest::Manifest;
use tidemill_protocol::ids::{TopicId, TopicName};
use tidemill_protocol::partitioner::partition_for_key;

/// Manifests, in TOML as their authors write them and in JSON as a broker is sent them.
pub fn manifests(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = toml::from_str::<Manifest>(text).ok().or_else(|| serde_json::from_str(text).ok());
    let Some(manifest) = read else { return };
    for error in manifest.check() {
        assert!(!error.key.is_empty() && !error.why.is_empty(), "{error:?}");
    }
    let (flat, hops) = (manifest.flat_config(), manifest.hops_max());
    assert!(flat.is_ok() || !manifest.check().is_empty());
    assert!(hops <= limits::HOPS_MAX || !manifest.check().is_empty());
    let written = serde_json::to_string(&manifest).expect("a manifest is plain data");
    assert_eq!(serde_json::from_str::<Manifest>(&written).expect("what is written is read"), manifest);
}

/// Names of topics, their ids, digests of components.
pub fn names(bytes: &[u8]) {
    assert!(partition_for_key(bytes, 7) < 7);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match TopicName::new(text) {
        Ok(name) => {
            let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            assert!(name.as_str() == text && text.len() <= 249 && text.chars().all(legal));
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
    }
    if let Ok(id) = text.parse::<TopicId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(text.chars().all(|c| c.is_ascii_hexdigit() || c == '-'), "{text:?}");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text.to_ascii_lowercase());
    }
}

/// Settings of topics: lines of `NAME=VALUE`, or a NAME alone to unset it.
pub fn topic_settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut settings = TopicSettings::default();
    for line in text.lines() {
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        let mut changed = settings.clone();
        match changed.set(name, value) {
            Ok(()) => settings = changed,
            Err(rejection) => assert!(rejection.to_string().starts_with(name), "{rejection}"),
        }
        assert_eq!(settings.check(), Ok(()));
    }
    let shown = settings.shown();
    assert!(shown.iter().all(|setting| setting.explicit || setting.value == setting.default));
    let mut again = TopicSettings::default();
    for setting in shown.iter().filter(|setting| setting.explicit) {
        again.set(setting.name, Some(&setting.value)).expect("what is shown can be set");
    }
    assert_eq!(again, settings);
}
