//! The deployment's configuration: text by key, read as what it should be.

use std::fmt::Display;
use std::str::FromStr;

use crate::host::Host;

/// The configuration of the deployment, from `[config]` of the manifest. Nested tables are joined by dots:
/// `threshold.default`.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    pub(crate) host: &'a dyn Host,
}

/// A value of the configuration that is missing, or is not what the plugin needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config.{key}: {why}")]
pub struct ConfigError {
    /// The key, without the manifest's `config.`.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}

impl Config<'_> {
    /// A value that must be there.
    ///
    /// # Errors
    /// [`ConfigError`], which names the key, when it is missing or no `T`.
    pub fn get<T: FromStr<Err: Display>>(&self, key: &str) -> Result<T, ConfigError> {
        let missing = || ConfigError { key: key.to_owned(), why: "it is missing".to_owned() };
        self.find(key)?.ok_or_else(missing)
    }

    /// A value that may be missing.
    ///
    /// # Errors
    /// [`ConfigError`], which names the key, when it is there and no `T`.
    pub fn find<T: FromStr<Err: Display>>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.host.config_get(key) else { return Ok(None) };
        let wrong = |error| ConfigError { key: key.to_owned(), why: format!("{text:?}: {error}") };
        text.parse().map(Some).map_err(wrong)
    }

    /// The values of a table: for `tiers`, what comes behind the dot of `tiers.silver` and its value, in the
    /// order of the keys.
    ///
    /// # Errors
    /// [`ConfigError`], which names the first key whose value is no `T`.
    pub fn table<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Vec<(String, T)>, ConfigError> {
        let prefix = format!("{name}.");
        let inside = self.host.config_all().into_iter().filter_map(|(key, text)| {
            let rest = key.strip_prefix(&prefix)?.to_owned();
            Some((key, rest, text))
        });
        let read = inside.map(|(key, rest, text)| match text.parse() {
            Ok(value) => Ok((rest, value)),
            Err(error) => Err(ConfigError { key, why: format!("{text:?}: {error}") }),
        });
        read.collect()
    }
}
