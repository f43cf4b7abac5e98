//! The sources of settings, one over the other, each value with its origin.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::num::NonZero;
use std::time::Duration;

use super::settings::{SETTINGS, find};
use super::value::Value;
use super::{Advertise, Cluster, Config, Listen, Log, LogFormat, PairFiles, Plugins, Storage};
use crate::addresses::split;

/// Where a value comes from. A later one lies over an earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// The configuration file.
    File,
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Environment => "environment",
            Origin::Flag => "flag",
        })
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// What the sources say.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    values: BTreeMap<String, (Origin, String)>,
    errors: Vec<String>,
}

/// How the environment's names begin. (`TIDEMILL_CONFIG` and others that are no settings have no `__` and no
/// setting of that name.)
const PREFIX: &str = "TIDEMILL_";
/// Names of the environment that are not settings.
const NOT_SETTINGS: &[&str] = &[
    "TIDEMILL_BROKER",
    "TIDEMILL_CONFIG",
    "TIDEMILL_CONTEXT",
    "TIDEMILL_GUEST_TOOLCHAIN",
    "TIDEMILL_HOME",
    "TIDEMILL_SEED",
    "TIDEMILL_SEEDS",
    "TIDEMILL_TLS",
];

impl Layers {
    /// The defaults alone.
    pub fn new() -> Layers {
        Layers::default()
    }

    /// Lays the text of a configuration file over what is there.
    pub fn file(&mut self, name: &str, text: &str) -> &mut Self {
        match text.parse::<toml::Table>() {
            Ok(table) => self.table("", &table),
            Err(error) => self.errors.push(format!("{name}: {error}")),
        }
        self
    }

    fn table(&mut self, prefix: &str, table: &toml::Table) {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                toml::Value::Table(table) => self.table(&format!("{key}."), table),
                toml::Value::String(text) => self.set(Origin::File, &key, text),
                toml::Value::Integer(number) => self.set(Origin::File, &key, &number.to_string()),
                _ => self.errors.push(format!("{key} (file): neither text nor a whole number")),
            }
        }
    }

    /// Lays the environment's variables over what is there.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> &mut Self {
        for (name, value) in variables {
            // What is not ours may be any bytes.
            let Some(name) = name.to_str() else { continue };
            if let Some(rest) = name.strip_prefix(PREFIX)
                && !NOT_SETTINGS.contains(&name)
            {
                let key = rest.to_ascii_lowercase().replace("__", ".").replace('_', "-");
                match value.to_str() {
                    Some(value) => self.set(Origin::Environment, &key, value),
                    None => self.errors.push(format!("{key} ({}): it is not UTF-8", Origin::Environment)),
                }
            }
        }
        self
    }

    /// Lays one flag over what is there.
    pub fn flag(&mut self, key: &str, value: &str) -> &mut Self {
        self.set(Origin::Flag, key, value);
        self
    }

    fn set(&mut self, origin: Origin, key: &str, value: &str) {
        match find(key) {
            None => {
                let like = nearest(key).map(|like| format!("; did you mean {like}?")).unwrap_or_default();
                self.errors.push(format!("{key} ({origin}): there is no such setting{like}"));
            }
            Some(setting) => match setting.read(value) {
                Err(error) => self.errors.push(format!("{key} ({origin}): {error}")),
                Ok(_) => {
                    self.values.insert(key.to_owned(), (origin, value.to_owned()));
                }
            },
        }
    }

    /// Every setting's value and origin, by key.
    pub fn show(&self) -> Vec<(&'static str, &str, Origin)> {
        let one = |setting: &'static super::Setting| match self.values.get(setting.key) {
            Some((origin, value)) => (setting.key, value.as_str(), *origin),
            None => (setting.key, setting.default, Origin::Default),
        };
        SETTINGS.iter().map(one).collect()
    }

    /// The configuration that they come to.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake of every source.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let mut errors = self.errors.clone();
        let config = self.config();
        if let Some(tcp) = config.listen.tcp
            && !tcp.ip().is_loopback()
        {
            errors.push(format!(
                "listen.tcp: {tcp} is not on loopback, and plain TCP has neither TLS nor identity"
            ));
        }
        for key in ["advertise.quic", "advertise.tcp"] {
            let address = self.text(key);
            if !address.is_empty() && split(&address).is_none() {
                errors.push(format!("{key}: {address:?} is no host:port"));
            }
        }
        if self.text("tls.certificate").is_empty() != self.text("tls.key").is_empty() {
            errors.push("tls.certificate and tls.key belong together: set both, or neither".to_owned());
        }
        if errors.is_empty() { Ok(config) } else { Err(ConfigError(errors)) }
    }

    /// Every value was read once before it was taken, so reading it again cannot fail.
    fn value(&self, key: &str) -> Value {
        let setting = find(key).expect("the key is a setting");
        let text = self.values.get(key).map_or(setting.default, |(_, value)| value);
        setting.read(text).expect("values are checked when they are set, defaults by a test")
    }

    fn text(&self, key: &str) -> String {
        match self.value(key) {
            Value::Text(text) => text,
            other => unreachable!("{key} is {other:?}"),
        }
    }

    fn address(&self, key: &str) -> Option<std::net::SocketAddr> {
        match self.value(key) {
            Value::Address(address) => address,
            other => unreachable!("{key} is {other:?}"),
        }
    }

    fn number(&self, key: &str) -> u64 {
        match self.value(key) {
            Value::Number(number) => number,
            other => unreachable!("{key} is {other:?}"),
        }
    }

    fn duration(&self, key: &str) -> Duration {
        match self.value(key) {
            Value::Duration(duration) => duration,
            other => unreachable!("{key} is {other:?}"),
        }
    }

    fn config(&self) -> Config {
        let some = |text: String| (!text.is_empty()).then_some(text);
        let required = |key| self.address(key).expect("the setting is no optional address");
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Config {
            data: match self.value("data") {
                Value::Path(path) => path,
                other => unreachable!("data is {other:?}"),
            },
            listen: Listen {
                quic: required("listen.quic"),
                tcp: self.address("listen.tcp"),
                admin: required("listen.admin"),
                metrics: required("listen.metrics"),
            },
            advertise: Advertise {
                quic: some(self.text("advertise.quic")),
                tcp: some(self.text("advertise.tcp")),
            },
            cluster: Cluster { shards: self.number("cluster.shards") as u16 },
            storage: Storage {
                reserve_bytes: self.number("storage.reserve"),
                segment_bytes: self.number("storage.segment-bytes"),
                direct_writes: self.text("storage.direct-writes") == "on",
                segment_age: self.duration("storage.segment-age"),
                retention_interval: self.duration("storage.retention-interval"),
            },
            plugins: Plugins {
                threads: match self.number("plugins.threads") as usize {
                    0 => processors,
                    threads => threads,
                },
                instances: self.number("plugins.instances") as u32,
            },
            tls: some(self.text("tls.certificate"))
                .zip(some(self.text("tls.key")))
                .map(|(certificate, key)| PairFiles { certificate: certificate.into(), key: key.into() }),
            log: Log {
                format: if self.text("log.format") == "json" { LogFormat::Json } else { LogFormat::Text },
                filter: self.text("log.filter"),
            },
        }
    }
}

/// The setting that a mistyped key is most like: the one that shares its last part, or the longest start.
fn nearest(key: &str) -> Option<&'static str> {
    let last = key.rsplit('.').next().unwrap_or(key);
    let same_end = SETTINGS.iter().find(|setting| setting.key.rsplit('.').next() == Some(last));
    let shared = |other: &str| key.bytes().zip(other.bytes()).take_while(|(one, two)| one == two).count();
    let longest =
        SETTINGS.iter().max_by_key(|setting| shared(setting.key)).filter(|setting| shared(setting.key) >= 3);
    same_end.or(longest).map(|setting| setting.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_what_its_setting_may_be() {
        for setting in SETTINGS {
            assert!(setting.read(setting.default).is_ok(), "{}", setting.key);
        }
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.key));
        Layers::new().resolve().unwrap();
    }

    #[test]
    fn a_later_source_lies_over_an_earlier_one() {
        let mut layers = Layers::new();
        layers.file("a.toml", "data = 'a'\n[listen]\nquic = '127.0.0.1:1'\n[cluster]\nshards = 3");
        layers.environment([
            ("TIDEMILL_LISTEN__QUIC".into(), "127.0.0.1:2".into()),
            ("PATH".into(), "x".into()),
        ]);
        layers.flag("cluster.shards", "5");
        let config = layers.resolve().unwrap();
        assert_eq!((config.cluster.shards, config.listen.quic.port()), (5, 2));
        let origins: Vec<_> =
            layers.show().into_iter().filter(|(_, _, origin)| *origin != Origin::Default).collect();
        let expected = [
            ("cluster.shards", "5", Origin::Flag),
            ("data", "a", Origin::File),
            ("listen.quic", "127.0.0.1:2", Origin::Environment),
        ];
        assert_eq!(origins, expected);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let mut layers = Layers::new();
        layers.file("a.toml", "dat = 'a'\n[listen]\nquic = 7\ntcp = '10.0.0.1:9092'");
        layers.environment([("TIDEMILL_STORAGE__SEGMENT_BYTE".into(), "1".into())]);
        layers.flag("cluster.shards", "0");
        let errors = layers.resolve().unwrap_err().0;
        let told = |part: &str| errors.iter().any(|error| error.contains(part));
        for part in [
            "dat (file)",
            "did you mean data?",
            "listen.quic",
            "segment-byte (environment)",
            "cluster.shards",
            "loopback",
        ] {
            assert!(told(part), "{part}: {errors:#?}");
        }
        assert_eq!(errors.len(), 5, "{errors:#?}");
    }
}
