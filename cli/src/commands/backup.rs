//! `backup`: copies of a running broker, and data folders made of them.
//!
//! A broker makes its backups itself, into a folder of its own machine. Everything else works on such a folder without
//! any broker.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use indicatif::{HumanBytes, ProgressBar};
use serde_json::{Value, json};
use tidemill_host::backup::BackupError;
use tidemill_host::backup::place::Place;
use tidemill_host::backup::restore;
use tidemill_host::backup::verify::{self, Verified};
use tidemill_host::world::{self, RealDisk};

use crate::admin_api::AdminApi;
use crate::ask;
use crate::contexts::Contexts;
use crate::exit::Failure;
use crate::output::{self, Format};

/// How often it is asked how far a backup is.
const LOOK: Duration = Duration::from_millis(200);

/// Copy a running broker, and make data folders of such copies.
#[derive(Debug, Subcommand)]
pub enum Backup {
    Create(Create),
    /// Print the backups in a folder.
    List {
        /// The folder with backups.
        folder: PathBuf,
    },
    /// Read backups whole, every file and every batch, and say what is damaged.
    ///
    /// Needs no broker. The exit status is 1 when something is.
    #[command(after_help = "Example:\n  tidemill backup verify /mnt/backups && echo sound")]
    Verify {
        /// The folder with backups.
        folder: PathBuf,
        /// One of them; all when left out.
        name: Option<String>,
    },
    Restore(Restore),
    /// Delete a backup, and the files that no other one in the folder has.
    Delete {
        /// The folder with backups.
        folder: PathBuf,
        /// The backup.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Copy the broker, which goes on meanwhile.
///
/// The copy is of one moment, over all topics, plugins and positions. Sealed segments that an earlier backup in the same
/// folder has are not copied again. It holds the authority's key and all records: keep it as you keep the data folder.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill backup create --to /mnt/backups")]
pub struct Create {
    /// A folder on the broker's machine, which the broker writes.
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// What to call it; after the time when left out.
    #[arg(long)]
    name: Option<String>,
}

/// Make a data folder of a backup.
///
/// What starts on it is the same broker, for the same clients: never let both run. If it is interrupted, no broker starts
/// on the folder; the same command begins again.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tidemill backup restore /mnt/backups monday --to /srv/tidemill\n  tidemill serve --data /srv/tidemill"
)]
pub struct Restore {
    /// The folder with backups.
    folder: PathBuf,
    /// The backup.
    name: String,
    /// The data folder to make: empty, or not there.
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
}

impl Backup {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure::Refused`] when it was not done, or something is damaged.
    pub async fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        match self {
            Backup::Create(create) => create.run(context, format).await,
            Backup::List { folder } => list(&place(&folder)?, format),
            Backup::Verify { folder, name } => verify(&place(&folder)?, name, format),
            Backup::Restore(restore) => restore.run(format),
            Backup::Delete { folder, name, yes } => {
                ask::agreed(&format!("The backup {name} cannot be brought back. "), yes)?;
                Ok(place(&folder)?.delete(&name).map_err(failure)?)
            }
        }
    }
}

fn place(folder: &Path) -> Result<Place, Failure> {
    if !folder.is_dir() {
        return Err(anyhow!("{}: there is no such folder", folder.display()).into());
    }
    Ok(Place::new(Arc::new(RealDisk::default()), folder))
}

fn failure(error: BackupError) -> Failure {
    Failure::Refused(error.into())
}

impl Create {
    async fn run(self, context: Option<&str>, format: Format) -> Result<(), Failure> {
        let api = AdminApi::new(&Contexts::find(context)?)?;
        // The broker may run elsewhere in the same file system.
        let to = std::path::absolute(&self.to)?;
        let mut wanted = json!({ "to": to });
        if let Some(name) = &self.name {
            wanted["name"] = json!(name);
        }
        let mut backup: Value = api.post("/v1/backups", &wanted).await?;
        let name = backup["name"].clone();
        let bar = ProgressBar::new_spinner();
        while backup["state"] == "running" {
            bar.set_message(format!("{} files, {}", backup["files"], HumanBytes(number(&backup, "bytes"))));
            bar.tick();
            tokio::time::sleep(LOOK).await;
            let newest: Value = api.get("/v1/backups").await?;
            if newest["backup"]["name"] != name {
                return Err(
                    anyhow!("nobody knows what became of the backup: the broker was started again").into()
                );
            }
            backup = newest["backup"].clone();
        }
        bar.finish_and_clear();
        if let Some(why) = backup["error"].as_str() {
            return Err(anyhow!("no backup was made: {}", output::shown(why)).into());
        }
        match format {
            Format::Json => output::json(&backup)?,
            Format::Table => say!(
                "backup {} in {}: {} files, {}, of which {} are new; nobody waited, the cut took {} µs",
                name.as_str().unwrap_or_default(),
                to.display(),
                backup["files"],
                HumanBytes(number(&backup, "bytes")),
                HumanBytes(number(&backup, "written-bytes")),
                backup["cut-us"],
            ),
        }
        Ok(())
    }
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_default()
}

fn time(ms: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

fn list(place: &Place, format: Format) -> Result<(), Failure> {
    let mut shown = Vec::new();
    for name in place.names().map_err(failure)? {
        shown.push(match place.manifest(&name) {
            Ok(manifest) => json!({
                "name": name,
                "taken-at-ms": manifest.taken_at_ms,
                "cluster": manifest.cluster,
                "made-by": manifest.made_by,
                "files": manifest.files.len(),
                "bytes": manifest.bytes(),
            }),
            Err(error) => json!({ "name": name, "error": error.to_string() }),
        });
    }
    if format == Format::Json {
        return Ok(output::json(&shown)?);
    }
    let row = |backup: &Value| {
        let name = output::shown(backup["name"].as_str().unwrap_or_default());
        match backup["error"].as_str() {
            Some(why) => vec![name, output::shown(why)],
            None => vec![
                name,
                time(number(backup, "taken-at-ms")),
                backup["cluster"].as_str().unwrap_or_default().to_owned(),
                backup["files"].to_string(),
                HumanBytes(number(backup, "bytes")).to_string(),
            ],
        }
    };
    output::table(
        &["BACKUP", "TAKEN", "CLUSTER", "FILES", "SIZE"],
        &shown.iter().map(row).collect::<Vec<_>>(),
    )?;
    Ok(())
}

fn verify(place: &Place, name: Option<String>, format: Format) -> Result<(), Failure> {
    let names = match name {
        Some(name) => vec![name],
        None => place.names().map_err(failure)?,
    };
    let mut damaged = Vec::new();
    let mut shown = Vec::new();
    for name in names {
        let (entries, batches, rows, damage) = match verify::verify(place, &name) {
            Ok(Verified { groups, damage, .. }) => {
                let sum = |of: fn(&_) -> u64| groups.values().map(of).sum::<u64>();
                (sum(|group| group.entries), sum(|group| group.batches), sum(|group| group.rows), damage)
            }
            Err(error @ BackupError::Fault(_)) => (0, 0, 0, vec![error.to_string()]),
            Err(error) => return Err(failure(error)),
        };
        if !damage.is_empty() {
            damaged.push(name.clone());
        }
        shown.push(json!({
            "name": name, "entries": entries, "batches": batches, "rows": rows, "damage": damage,
        }));
    }
    match format {
        Format::Json => output::json(&shown)?,
        Format::Table => {
            let row = |backup: &Value| {
                let is_sound = backup["damage"].as_array().is_none_or(Vec::is_empty);
                let cell = |field: &str| backup[field].to_string();
                let name = backup["name"].as_str().unwrap_or_default().to_owned();
                let verdict = if is_sound { "sound" } else { "damaged" };
                vec![name, verdict.to_owned(), cell("entries"), cell("batches"), cell("rows")]
            };
            output::table(
                &["BACKUP", "IS", "ENTRIES", "BATCHES", "ROWS"],
                &shown.iter().map(row).collect::<Vec<_>>(),
            )?;
            for why in shown.iter().flat_map(|backup| backup["damage"].as_array()).flatten() {
                say!("{}", output::shown(why.as_str().unwrap_or_default()));
            }
        }
    }
    if damaged.is_empty() { Ok(()) } else { Err(anyhow!("damaged: {}", damaged.join(", ")).into()) }
}

impl Restore {
    fn run(self, format: Format) -> Result<(), Failure> {
        let from = place(&self.folder)?;
        let handle = tokio::runtime::Handle::current();
        let world = world::real(RealDisk::default(), handle.clone(), handle);
        let to = std::path::absolute(&self.to)?;
        let manifest = restore::restore(&world, &from, &self.name, &to).map_err(failure)?;
        match format {
            Format::Json => output::json(&json!({
                "backup": manifest.name,
                "taken-at-ms": manifest.taken_at_ms,
                "cluster": manifest.cluster,
                "folder": to,
            }))?,
            Format::Table => say!(
                "{} is the broker as of {}; it starts with `tidemill serve --data {}`, and never beside the original",
                to.display(),
                time(manifest.taken_at_ms),
                to.display()
            ),
        }
        Ok(())
    }
}
