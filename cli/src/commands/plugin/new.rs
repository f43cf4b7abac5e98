//! `plugin new`: a project that builds, tests and deploys as it stands.
//!
//! The SDK and the contract are written into it as this very command was built with them, so a project needs no clone
//! of a repository, and what it builds fits the broker of the same version. They come out of the workspace by
//! `build.rs`; only the manifest of the SDK is rewritten, since it inherits from the workspace what a project has not.

mod languages;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use serde_json::json;
use tidemill_protocol::ids::TopicName;
use toml::{Table, Value};

use self::languages::{LANGUAGES, Language};
use crate::exit::Failure;
use crate::output::{self, Format};

/// The SDK's source and the contract, by their paths in a project.
const PROJECT_FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/project_files.rs"));
const WORKSPACE: &str = include_str!("../../../../Cargo.toml");
const SDK: &str = include_str!("../../../../plugin-sdk/Cargo.toml");
/// Of these only the profile is taken, by which the stock plugins are built.
const PLUGINS: &str = include_str!("../../../../plugins/Cargo.toml");

/// The longest name: topics of the project have it in theirs.
const NAME_BYTES_MAX: usize = 64;
/// Names that a crate cannot have beside what it depends on, or at all.
const TAKEN: [&str; 13] = [
    "test",
    "core",
    "std",
    "alloc",
    "proc-macro",
    "serde",
    "serde-json",
    "thiserror",
    "toml",
    "wit-bindgen",
    "tidemill-plugin-sdk",
    "deps",
    "build",
];
/// Words of Rust that would pass for names.
const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else enum extern false \
    final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super \
    trait true try type typeof unsafe unsized use virtual where while yield";

/// Make a new project: a folder with a plugin that builds, tests and deploys as it stands.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tidemill plugin new greeter && cd greeter && cargo test && tidemill plugin build"
)]
pub struct New {
    /// Its name: lower-case letters, digits and hyphens. The folder is made here, unless --folder says otherwise.
    name: String,
    /// The folder to make.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The language: rust, js or python.
    #[arg(long, default_value = "rust")]
    lang: String,
}

impl New {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure::Refused`] when the name or language cannot be, or the folder is there already.
    pub fn run(self, format: Format) -> Result<(), Failure> {
        check(&self.name)?;
        let language = LANGUAGES.iter().find(|language| language.name == self.lang);
        let language = language
            .ok_or_else(|| anyhow!("--lang {}: projects are made in rust, js and python", self.lang))?;
        let folder = self.folder.unwrap_or_else(|| PathBuf::from(&self.name));
        let is_empty = fs::read_dir(&folder).map(|mut files| files.next().is_none());
        if !is_empty.unwrap_or(!folder.exists()) {
            return Err(anyhow!("{} is there already, and not empty", folder.display()).into());
        }
        let files = files(&self.name, language)?;
        for (path, text) in &files {
            write(&folder.join(path), text)?;
        }
        match format {
            Format::Json => {
                output::json(&json!({ "name": self.name, "folder": folder, "files": files.len() }))?
            }
            Format::Table => {
                say!("made {}; go on with", folder.display());
                say!("  cd {} && {}", folder.display(), language.next);
                say!("and read its README.md");
            }
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let shown = || path.display().to_string();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(shown)?;
    }
    fs::write(path, text).with_context(shown)
}

/// Whether a plugin and its crate may be called so.
fn check(name: &str) -> anyhow::Result<()> {
    let fits = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-');
    ensure!(fits, "{name:?}: a name has lower-case letters, digits and hyphens, and begins with a letter");
    let most = NAME_BYTES_MAX;
    ensure!(name.len() <= most, "a name of {} bytes, and at most {most} are possible", name.len());
    let is_free = !TAKEN.contains(&name) && KEYWORDS.split_whitespace().all(|word| word != name);
    ensure!(is_free, "{name:?} means something to Rust already");
    TopicName::new(name)?;
    Ok(())
}

/// All files of a project, by their paths in it.
fn files(name: &str, language: &Language) -> anyhow::Result<Vec<(String, String)>> {
    let workspace: Table = toml::from_str(WORKSPACE)?;
    let package = &workspace["workspace"]["package"];
    let text = |key: &str| package[key].as_str().with_context(|| format!("the workspace's {key}"));
    let profile = toml::from_str::<Table>(PLUGINS)?["profile"]["release"].clone();
    let profile = format!("[profile.release]\n{}", toml::to_string(&profile)?);
    let fill = |template: &str| -> anyhow::Result<String> {
        Ok(template
            .replace("{{name}}", name)
            .replace("{{edition}}", text("edition")?)
            .replace("{{rust-version}}", text("rust-version")?)
            .replace("{{profile}}", profile.trim_end()))
    };
    let mut files = Vec::new();
    for (path, template) in language.templates {
        files.push(((*path).to_owned(), fill(template)?));
    }
    if language.has_sdk {
        files.push(("sdk/Cargo.toml".to_owned(), standalone(SDK, &workspace)?));
    }
    let shared = PROJECT_FILES.iter().filter(|(path, _)| language.has_sdk || !path.starts_with("sdk/"));
    files.extend(shared.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())));
    Ok(files)
}

/// A manifest that stands without the workspace it was part of: what it inherits is written out, and the workspace's
/// lints stay behind.
fn standalone(manifest: &str, workspace: &Table) -> anyhow::Result<String> {
    let mut manifest: Table = toml::from_str(manifest)?;
    let workspace = &workspace["workspace"];
    manifest.remove("lints");
    inherit(manifest.get_mut("package"), &workspace["package"])?;
    inherit(manifest.get_mut("dependencies"), &workspace["dependencies"])?;
    for (_, target) in manifest.get_mut("target").and_then(Value::as_table_mut).into_iter().flatten() {
        inherit(target.get_mut("dependencies"), &workspace["dependencies"])?;
    }
    Ok(toml::to_string(&manifest)?)
}

/// Writes out the keys of a table that only say `workspace = true`.
fn inherit(table: Option<&mut Value>, origin: &Value) -> anyhow::Result<()> {
    for (key, value) in table.and_then(Value::as_table_mut).into_iter().flatten() {
        let inherits = value.get("workspace").and_then(Value::as_bool) == Some(true);
        ensure!(
            !inherits || value.as_table().is_some_and(|table| table.len() == 1),
            "{key} inherits in part"
        );
        if inherits {
            *value = origin.get(key).with_context(|| format!("the workspace has no {key}"))?.clone();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> String {
        let files = files("greeter", &LANGUAGES[0]).unwrap();
        files.into_iter().find(|(path, _)| path == name).unwrap_or_else(|| panic!("no {name}")).1
    }

    #[test]
    fn a_project_has_all_that_it_needs() {
        for (path, text) in LANGUAGES.iter().flat_map(|language| files("greeter", language).unwrap()) {
            assert!(!text.contains("{{"), "{path} was not filled in: {text}");
        }
        assert!(file("wit/world.wit").contains("world plugin"));
        assert!(file("sdk/src/lib.rs").contains("pub use"));
        let manifest: tidemill_core::manifest::Manifest = toml::from_str(&file("plugin.toml")).unwrap();
        assert_eq!(manifest.check(), []);
        toml::from_str::<Table>(&file("Cargo.toml")).unwrap();
    }

    #[test]
    fn other_languages_have_the_contract_and_no_sdk() {
        for language in &LANGUAGES[1..] {
            let files: std::collections::BTreeMap<_, _> =
                files("greeter", language).unwrap().into_iter().collect();
            assert!(
                files.contains_key("wit/world.wit") && files.keys().all(|path| !path.starts_with("sdk/"))
            );
            let manifest: tidemill_core::manifest::Manifest = toml::from_str(&files["plugin.toml"]).unwrap();
            assert_eq!(manifest.check(), [], "{}", language.name);
        }
    }

    #[test]
    fn its_sdk_inherits_nothing() {
        let sdk: Table = toml::from_str(&file("sdk/Cargo.toml")).unwrap();
        assert!(!file("sdk/Cargo.toml").contains("workspace"));
        assert_eq!(sdk["package"]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
        let workspace: Table = toml::from_str(WORKSPACE).unwrap();
        let wit_bindgen = &sdk["target"]["cfg(target_arch = \"wasm32\")"]["dependencies"]["wit-bindgen"];
        assert_eq!(wit_bindgen, &workspace["workspace"]["dependencies"]["wit-bindgen"]);
    }

    #[test]
    fn names_that_no_crate_can_have_are_refused() {
        for name in
            ["", "Greeter", "9lives", "a b", "a_b", "../a", "a-", "match", "std", "serde", &"a".repeat(65)]
        {
            assert!(check(name).is_err(), "{name}");
        }
        for name in ["greeter", "order-lines-2", "a"] {
            check(name).unwrap();
        }
    }
}
