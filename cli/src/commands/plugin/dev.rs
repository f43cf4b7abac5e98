//! `plugin dev`: build and deploy again whenever the folder changes.
//!
//! It looks at the files' times and lengths, a few times a second, and asks nothing of the operating system that not
//! every file system can tell. What a build itself writes is not looked at.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use tidemill_core::manifest::Manifest;

use super::super::topic::text;
use super::FromFiles;
use super::project::Project;
use crate::admin_api::AdminApi;
use crate::exit::Failure;
use crate::output::{self, Format};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Folders and files that are not looked at: what builds write, and what begins with a dot.
const NOT_WATCHED: [&str; 6] =
    ["target", "components", "Cargo.lock", "node_modules", "package-lock.json", "__pycache__"];
/// The most files that are looked at: more would be somebody's whole home.
const FILES_MAX: usize = 10_000;

/// Build and deploy a plugin again on every change of its folder, until interrupted.
///
/// Topics that its manifest names and that are not there are made, with one partition. Each deployment is a new version of
/// the same plugin: it goes on where the one before stood, with its state. What does not build or is refused is said, and
/// the version before stays.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill plugin dev greeter")]
pub struct Dev {
    /// The folder with the plugin's sources and its `plugin.toml`.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// The files of a folder: when each was changed, and how long it is.
type Seen = BTreeMap<PathBuf, (SystemTime, u64)>;

impl Dev {
    /// Runs until it is interrupted.
    ///
    /// # Errors
    /// [`Failure`] when there is no folder, no toolchain, or no broker from the start.
    pub async fn run(self, api: &AdminApi, format: Format) -> Result<(), Failure> {
        let project = Project::find(&self.folder)?;
        // Whether there is a broker is better known before the first build than after it.
        api.get::<Value>("/v1/cluster").await?;
        loop {
            // As it was before the build: what is changed meanwhile is built next.
            let seen = look(&self.folder)?;
            match self.once(api, &project).await {
                Ok(round) => round.print(format)?,
                Err(failure) => failure.print(format),
            }
            if format == Format::Table {
                say!("waiting for a change of {}", self.folder.display());
            }
            while look(&self.folder)? == seen {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    async fn once(&self, api: &AdminApi, project: &Project) -> Result<Round, Failure> {
        let start = Instant::now();
        project.build(None)?;
        let built = start.elapsed();
        let plugin = FromFiles::read(&self.folder, Some(&self.folder.join("components")))?;
        let made = make_topics(api, &plugin.manifest).await?;
        let deployed = plugin.deploy(api).await?;
        Ok(Round { built, took: start.elapsed(), made, deployed })
    }
}

/// What came of a change.
struct Round {
    built: Duration,
    took: Duration,
    made: Vec<String>,
    deployed: Value,
}

impl Round {
    fn print(&self, format: Format) -> Result<(), Failure> {
        let Round { built, took, made, deployed } = self;
        match format {
            Format::Json => output::json(&json!({
                "name": deployed["name"], "generation": deployed["generation"], "changed": deployed["changed"],
                "running": deployed["running"], "topics-made": made, "build-ms": millis(*built),
                "took-ms": millis(*took),
            }))?,
            Format::Table => {
                made.iter().for_each(|topic| say!("made topic {topic}, with one partition"));
                let what = if deployed["changed"] == true { "deployed" } else { "unchanged" };
                let (name, generation) = (text(&deployed["name"]), text(&deployed["generation"]));
                say!(
                    "{what} {name}, generation {generation}, {} tasks run: built in {:.1} s, deployed {:.1} s later",
                    text(&deployed["running"]),
                    built.as_secs_f64(),
                    took.saturating_sub(*built).as_secs_f64(),
                );
            }
        }
        Ok(())
    }
}

/// Makes the topics of a manifest that are not there.
async fn make_topics(api: &AdminApi, manifest: &Manifest) -> Result<Vec<String>, Failure> {
    let there: Vec<Value> = api.get("/v1/topics").await?;
    let mut made: Vec<String> = Vec::new();
    let reads = manifest.subscribe.iter().map(|subscription| &subscription.topic);
    for name in reads.chain(&manifest.publish) {
        if there.iter().all(|topic| topic["name"] != name.as_str()) && !made.contains(name) {
            let _: Value = api.post("/v1/topics", &json!({ "name": name })).await?;
            made.push(name.clone());
        }
    }
    Ok(made)
}

/// Looks at the files of a folder.
fn look(root: &Path) -> anyhow::Result<Seen> {
    let mut seen = Seen::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let shown = || folder.display().to_string();
        let entries = match fs::read_dir(&folder) {
            // It was there a moment ago.
            Err(error) if error.kind() == ErrorKind::NotFound && folder != root => continue,
            entries => entries.with_context(shown)?,
        };
        for entry in entries {
            let entry = entry.with_context(shown)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') || NOT_WATCHED.contains(&&*name) {
                continue;
            }
            // An editor may have taken the file away again.
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                folders.push(entry.path());
            } else {
                let changed = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                seen.insert(entry.path(), (changed, about.len()));
            }
        }
        anyhow::ensure!(seen.len() <= FILES_MAX, "{} has more than {FILES_MAX} files", shown());
    }
    Ok(seen)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_sources_are_seen_and_those_of_a_build_are_not() {
        let temp = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("src/lib.rs", "1");
        write("plugin.toml", "");
        let before = look(temp.path()).unwrap();
        assert_eq!(before.len(), 2);
        for name in [
            "target/release/x",
            "components/x.wasm",
            "Cargo.lock",
            "node_modules/a/b.js",
            ".git/HEAD",
            "src/.lib.rs.swp",
        ] {
            write(name, "x");
        }
        assert_eq!(look(temp.path()).unwrap(), before);
        write("src/lib.rs", "12");
        assert_ne!(look(temp.path()).unwrap(), before);
        fs::remove_file(temp.path().join("src/lib.rs")).unwrap();
        assert_eq!(look(temp.path()).unwrap().len(), 1);
    }
}
