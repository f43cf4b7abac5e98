//! `debug bundle`: what somebody else needs to see of a broker, in one file, and nothing that they must not.
//!
//! What goes in is listed here, piece by piece; nothing is copied from the data folder. Keys never pass this command, and
//! no answer that may quote a record goes in as a whole: of plugins only the fields in [`OF_PLUGIN`], for their
//! failures and logs are their own words. A piece that cannot be had is named with its reason in `missing.json`.

mod tar;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use crate::admin_api::AdminApi;
use crate::commands::doctor;
use crate::commands::serve::Sources;
use crate::contexts::Contexts;
use crate::exit::Failure;
use crate::output::{self, Format};

/// Answers of the admin API that hold neither keys nor anything of a record.
const ANSWERS: &[(&str, &str)] = &[
    ("cluster.json", "/v1/cluster"),
    ("shards.json", "/v1/shards"),
    ("topics.json", "/v1/topics"),
    ("certificates.json", "/v1/certificates"),
    ("log-level.json", "/v1/log-level"),
];
/// What is told of a plugin.
const OF_PLUGIN: &[&str] = &[
    "name",
    "id",
    "generation",
    "digest",
    "deployed-at-ms",
    "subscribe",
    "publish",
    "dead-letter",
    "log",
    "lag-records",
    "expiring",
    "passed-over-records",
    "timers",
    "running",
    "paused",
    "stalled",
    "tasks",
];

/// Put what somebody else needs to help into one file: no keys, no records.
///
/// Version, settings, the broker's state, shards, topics, plugins, certificates, metrics, and what `doctor` says of this
/// machine. The broker's log is not in it: it went where you sent it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tidemill debug bundle problem.tar.gz --config /etc/tidemill.toml\n\nSettings are read as \
`serve` would read them here: give it the flags that the broker was given."
)]
pub struct Bundle {
    /// The file to make; it must not be there yet.
    #[arg(value_name = "OUT.tar.gz")]
    out: PathBuf,
    /// The broker's data folder (the setting `data`), for `doctor`.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    #[command(flatten)]
    sources: Sources,
}

/// Names and texts of the files, and what is missing.
#[derive(Default)]
struct Pieces {
    files: Vec<(String, Vec<u8>)>,
    missing: Map<String, Value>,
}

impl Pieces {
    fn add(&mut self, name: &str, piece: Result<Value, Failure>) {
        match piece {
            Ok(value) => {
                let text = serde_json::to_vec_pretty(&value).unwrap_or_default();
                self.files.push((name.to_owned(), text));
            }
            Err(failure) => drop(self.missing.insert(name.to_owned(), failure.to_string().into())),
        }
    }
}

impl Bundle {
    /// Makes it.
    ///
    /// # Errors
    /// [`Failure`] when the file cannot be written; what the broker does not tell is named in the file.
    pub async fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        let mut layers = self.sources.layers()?;
        if let Some(data) = &self.data {
            layers.flag("data", &data.display().to_string());
        }
        let now = SystemTime::now();
        let mut pieces = Pieces::default();
        pieces.add(
            "about.json",
            Ok(json!({
                "version": env!("CARGO_PKG_VERSION"), "made": humantime::format_rfc3339_seconds(now).to_string(),
            })),
        );
        let settings: Map<String, Value> = layers
            .show()
            .into_iter()
            .map(|(key, value, origin)| (key.into(), json!({ "value": value, "origin": origin.to_string() })))
            .collect();
        pieces.add("settings.json", Ok(settings.into()));
        let config = layers.resolve().map_err(|error| Failure::Configuration(error.into()))?;
        let findings = doctor::look(&config.data, config.storage.reserve_bytes);
        pieces.add(
            "doctor.json",
            serde_json::to_value(&findings).map_err(|error| anyhow::Error::from(error).into()),
        );
        match Contexts::find(context).and_then(|context| AdminApi::new(&context)) {
            Ok(api) => ask(&api, &mut pieces).await,
            Err(failure) => pieces.add("broker", Err(failure)),
        }
        let (names, missing) = self.write(pieces, now)?;
        match format {
            Format::Json => output::json(&json!({ "file": self.out, "pieces": names, "missing": missing }))?,
            Format::Table => {
                say!("{}: {}", self.out.display(), names.join(", "));
                for (name, why) in &missing {
                    say!("without {name}: {}", output::shown(why.as_str().unwrap_or_default()));
                }
            }
        }
        Ok(())
    }

    fn write(
        &self,
        mut pieces: Pieces,
        now: SystemTime,
    ) -> Result<(Vec<String>, Map<String, Value>), Failure> {
        let missing = pieces.missing.clone();
        pieces.add("missing.json", Ok(missing.clone().into()));
        let shown = || self.out.display().to_string();
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.out)
            .with_context(shown)?;
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut packed = GzEncoder::new(file, Compression::default());
        for (name, bytes) in &pieces.files {
            tar::append(&mut packed, &format!("tidemill/{name}"), bytes, seconds).with_context(shown)?;
        }
        tar::end(&mut packed).with_context(shown)?;
        packed.finish().and_then(|file| file.sync_all()).with_context(shown)?;
        Ok((pieces.files.into_iter().map(|(name, _)| name).collect(), missing))
    }
}

/// What the broker tells.
async fn ask(api: &AdminApi, pieces: &mut Pieces) {
    for (name, path) in ANSWERS {
        pieces.add(name, api.get(path).await);
    }
    let plugins = api.get::<Vec<Value>>("/v1/plugins").await;
    let of_plugin = |plugin: Value| -> Value {
        let told = OF_PLUGIN.iter().map(|field| ((*field).to_owned(), plugin[*field].clone()));
        told.collect::<Map<_, _>>().into()
    };
    pieces.add("plugins.json", plugins.map(|plugins| plugins.into_iter().map(of_plugin).collect()));
    match api.bytes("/v1/metrics").await {
        Ok(metrics) => pieces.files.push(("metrics.txt".to_owned(), metrics.body.to_vec())),
        Err(failure) => pieces.add("metrics.txt", Err(failure)),
    }
}
