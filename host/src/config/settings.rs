//! Every setting, once: its key, what it may be, its default, what it means.

use std::time::Duration;

use tidemill_core::limits;

use super::value::{Kind, Value};

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key in the file; in the environment `listen.quic` is `TIDEMILL_LISTEN__QUIC`.
    pub key: &'static str,
    /// What it may be.
    pub(super) kind: Kind,
    /// What it is when nobody says otherwise; `""` for nothing.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

const fn setting(key: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Setting {
    Setting { key, kind, default, meaning }
}

/// All settings, by key.
pub const SETTINGS: &[Setting] = &[
    setting(
        "advertise.quic",
        Kind::Text,
        "",
        "host:port by which clients reach the broker over QUIC, if not where it listens. To be set when that is 0.0.0.0: clients would be told that.",
    ),
    setting(
        "advertise.tcp",
        Kind::Text,
        "",
        "host:port by which clients reach the broker over TCP, if not where it listens.",
    ),
    setting(
        "cluster.shards",
        Kind::Number { least: 1, most: 64 },
        "8",
        "How many shards a new cluster has. Has no effect on one that exists.",
    ),
    setting(
        "data",
        Kind::Path,
        "tidemill-data",
        "The folder that makes the broker. A new one makes a new cluster.",
    ),
    setting(
        "listen.admin",
        Kind::Address,
        "127.0.0.1:9643",
        "The admin API, over TLS with client certificates.",
    ),
    setting("listen.metrics", Kind::Address, "127.0.0.1:9644", "Health and metrics, over plain HTTP."),
    setting(
        "listen.quic",
        Kind::Address,
        "127.0.0.1:9642",
        "Kafka's protocol over QUIC, with client certificates.",
    ),
    setting(
        "listen.tcp",
        Kind::OptionalAddress,
        "",
        "Kafka's protocol over plain TCP: without TLS and without identity, so on loopback only.",
    ),
    setting(
        "log.filter",
        Kind::Text,
        "info,openraft=warn",
        "What the broker logs: a level, or per module as `tidemill_host=debug,info`.",
    ),
    setting("log.format", Kind::Choice(&["text", "json"]), "text", "Log lines for people or for programs."),
    setting(
        "plugins.instances",
        Kind::Number { least: limits::GUEST_MEMORIES_MAX as u64, most: 4_096 },
        "256",
        "Instances of plugins at once.",
    ),
    setting(
        "plugins.threads",
        Kind::Number { least: 0, most: 1_024 },
        "0",
        "Threads that plugins run on; 0 is one for each processor.",
    ),
    setting(
        "storage.direct-writes",
        Kind::Choice(&["on", "off"]),
        "on",
        "Whether large writes go past the operating system's page cache, where the file system allows it. That takes less of the processor; what is read from history soon after comes from the disk then.",
    ),
    setting(
        "storage.reserve",
        Kind::Bytes { least: limits::RESERVE_BYTES_MIN },
        "1GiB",
        "Free bytes of the disk under which producers are refused and tasks rest.",
    ),
    setting(
        "storage.retention-interval",
        Kind::Duration { least: Duration::from_millis(100) },
        "5m",
        "How often the broker looks for records that have expired (retention.ms, retention.bytes), and for disk to give back.",
    ),
    setting(
        "storage.segment-age",
        Kind::Duration { least: Duration::from_secs(1) },
        "1h",
        "Age after which a segment is sealed.",
    ),
    setting(
        "storage.segment-bytes",
        Kind::Bytes { least: 1 << 20 },
        "128MiB",
        "Bytes after which a segment is sealed.",
    ),
    setting(
        "tls.certificate",
        Kind::Text,
        "",
        "The certificate that the broker shows, in PEM, if not its own. Taken anew within a minute of a change.",
    ),
    setting("tls.key", Kind::Text, "", "The private key of `tls.certificate`, in PEM."),
];

/// The setting of a key.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

impl Setting {
    pub(super) fn read(&self, text: &str) -> Result<Value, String> {
        self.kind.read(text)
    }
}

/// The manual of all settings, as a page.
pub fn manual() -> String {
    let mut page = String::from(
        "# Configuration\n\nMade from `host/src/config/settings.rs`; `cargo xtask docs` writes it.\n\n\
         Three sources lie over the defaults, the later over the earlier: a file in TOML (`--config`, or `TIDEMILL_CONFIG`),\n\
         the environment (`listen.quic` is `TIDEMILL_LISTEN__QUIC`), and flags (`--set listen.quic=…`). `tidemill config show`\n\
         prints every value and where it comes from.\n\n\
         ```toml\n[listen]\nquic = \"127.0.0.1:9642\"\n\n[storage]\nretention-interval = \"1m\"   # TIDEMILL_STORAGE__RETENTION_INTERVAL\n```\n\n| key | default | what it may be | what it means |\n|---|---|---|---|\n",
    );
    for setting in SETTINGS {
        let default =
            if setting.default.is_empty() { "none".into() } else { format!("`{}`", setting.default) };
        page += &format!("| `{}` | {default} | {} | {} |\n", setting.key, setting.kind, setting.meaning);
    }
    page
}
