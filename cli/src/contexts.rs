//! Contexts: which broker, which authority, which identity.
//!
//! They lie in `contexts.toml` in `$TIDEMILL_HOME`, or in `tidemill` in the user's configuration folder. `serve` adds
//! one for the broker that it starts, so that the other commands find it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// All contexts of a user.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Contexts {
    /// The one that is used when none is named.
    pub current: Option<String>,
    /// All of them.
    #[serde(default)]
    pub context: BTreeMap<String, Context>,
}

/// How to reach a cluster, and who one is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Context {
    /// `host:port` of a broker, over QUIC.
    pub broker: String,
    /// `host:port` of its admin API.
    pub admin: String,
    /// The file of the authority's certificate.
    pub ca: PathBuf,
    /// The file of one's own certificate.
    pub certificate: PathBuf,
    /// The file of its key.
    pub key: PathBuf,
}

/// The folder of a user's contexts.
fn home() -> anyhow::Result<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("TIDEMILL_HOME")
        .or_else(|| var("XDG_CONFIG_HOME").map(|folder| folder.join("tidemill")))
        .or_else(|| var("HOME").map(|folder| folder.join(".config/tidemill")))
        .ok_or_else(|| anyhow!("no home folder: set TIDEMILL_HOME"))
}

impl Contexts {
    /// The contexts as they are kept.
    ///
    /// # Errors
    /// [`Failure::Configuration`] when the file is there and cannot be read.
    pub fn load() -> Result<Contexts, Failure> {
        let read = || -> anyhow::Result<Contexts> {
            let path = home()?.join("contexts.toml");
            match fs::read_to_string(&path) {
                Ok(text) => toml::from_str(&text).with_context(|| path.display().to_string()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Contexts::default()),
                Err(error) => Err(error).with_context(|| path.display().to_string()),
            }
        };
        read().map_err(Failure::Configuration)
    }

    /// Keeps them.
    ///
    /// # Errors
    /// [`Failure::Configuration`] when the file cannot be written.
    pub fn save(&self) -> Result<(), Failure> {
        let write = || -> anyhow::Result<()> {
            let folder = home()?;
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            let path = folder.join("contexts.toml");
            replace(&path, &toml::to_string_pretty(self)?).with_context(|| path.display().to_string())
        };
        write().map_err(Failure::Configuration)
    }

    /// The context of a name, or the current one.
    ///
    /// # Errors
    /// [`Failure::Configuration`] when there is none.
    pub fn find(name: Option<&str>) -> Result<Context, Failure> {
        let contexts = Contexts::load()?;
        let name = name.map(str::to_owned).or(contexts.current);
        let name = name.ok_or_else(|| {
            Failure::Configuration(anyhow!(
                "there is no current context: start a broker with `tidemill serve`, or add \
                one with `tidemill context add`"
            ))
        })?;
        let found = contexts.context.get(&name).cloned();
        found.ok_or_else(|| {
            Failure::Configuration(anyhow!("there is no context {name}: see `tidemill context list`"))
        })
    }
}

/// Puts a text in a file's place at once: whoever reads it meanwhile gets the old one or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}
