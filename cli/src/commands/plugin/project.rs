//! Building what lies in a folder, in whichever language it is.
//!
//! ```text
//!   Cargo.toml         cargo, by the crate `tidemill-plugin-build`; also where nothing of all this lies
//!   package.json       npm: its script `build`; `npm install` before, when there is no node_modules
//!   requirements.txt   componentize-py on src/app.py; what the file names is installed into .venv before, when it is not there
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, anyhow, ensure};
use tidemill_core::manifest::Manifest;
use tidemill_plugin_build::{Built, Order, Toolchain, component};

use super::manifest_of;
use crate::exit::Failure;

/// A folder with something to build.
pub(super) struct Project {
    folder: PathBuf,
    language: Language,
}

enum Language {
    Rust(Toolchain),
    JavaScript,
    Python,
}

impl Project {
    /// Looks at what lies in a folder, and for what builds it.
    ///
    /// # Errors
    /// [`Failure::Refused`] when it is Rust, and no toolchain here builds for WebAssembly.
    pub(super) fn find(folder: &Path) -> Result<Project, Failure> {
        let has = |name: &str| folder.join(name).is_file();
        let language = if !has("Cargo.toml") && has("package.json") {
            Language::JavaScript
        } else if !has("Cargo.toml") && has("requirements.txt") {
            Language::Python
        } else {
            let toolchain =
                Toolchain::find(folder, &mut |doing| eprintln!("{doing}")).map_err(anyhow::Error::new)?;
            eprintln!("building with {}", toolchain.describe());
            Language::Rust(toolchain)
        };
        Ok(Project { folder: folder.to_owned(), language })
    }

    /// Builds it. Components of Rust go into the folder `components`, or into `components` of the project; those of other
    /// languages to where their manifest says. What the build has to say goes to standard error.
    ///
    /// # Errors
    /// [`Failure::Refused`] when it cannot be built.
    pub(super) fn build(&self, components: Option<&Path>) -> Result<Vec<Built>, Failure> {
        match &self.language {
            Language::Rust(toolchain) => {
                let components = components.map_or_else(|| self.folder.join("components"), Path::to_owned);
                let order = Order { folder: self.folder.clone(), target_dir: None, components };
                Ok(tidemill_plugin_build::build(&order, toolchain).map_err(anyhow::Error::new)?)
            }
            _ if components.is_some() => {
                Err(anyhow!("--components is for Rust: this component goes where plugin.toml says").into())
            }
            Language::JavaScript => Ok(vec![self.one(|_| self.javascript())?]),
            Language::Python => Ok(vec![self.one(|manifest| self.python(manifest))?]),
        }
    }

    /// Builds the one component that the manifest names.
    fn one(&self, build: impl FnOnce(&Manifest) -> anyhow::Result<()>) -> anyhow::Result<Built> {
        let manifest = manifest_of(&self.folder.join("plugin.toml"))?;
        let file = self.folder.join(&manifest.component);
        let before = fs::read(&file).ok();
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        build(&manifest)?;
        let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
        let imports = component::imports(&bytes).map_err(|why| anyhow!("{}: {why}", file.display()))?;
        let changed = before.is_none_or(|before| before != bytes);
        Ok(Built { name: manifest.name, file, bytes: bytes.len() as u64, imports, changed })
    }

    fn javascript(&self) -> anyhow::Result<()> {
        if !self.folder.join("node_modules").is_dir() {
            self.run(Path::new("npm"), &["install", "--no-audit", "--no-fund"])?;
        }
        self.run(Path::new("npm"), &["run", "build"])
    }

    fn python(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let venv = std::path::absolute(self.folder.join(".venv"))?;
        let (python, componentize) = (venv.join("bin/python"), venv.join("bin/componentize-py"));
        if !python.is_file() {
            self.run(Path::new("python3"), &["-m", "venv", ".venv"])?;
        }
        if !componentize.is_file() {
            self.run(&python, &["-m", "pip", "install", "--quiet", "--requirement", "requirements.txt"])?;
        }
        let world = ["--quiet", "--wit-path", "wit", "--world", "plugin"];
        let app = ["componentize", "app", "--python-path", "src", "--output", &manifest.component];
        self.run(&componentize, &[&world[..], &app].concat())
    }

    /// Runs a program in the project's folder.
    fn run(&self, program: &Path, arguments: &[&str]) -> anyhow::Result<()> {
        let shown = format!("{} {}", program.display(), arguments.join(" "));
        eprintln!("{shown}");
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder).stdout(io::stderr());
        let status = command.status().with_context(|| format!("cannot run {}", program.display()))?;
        ensure!(status.success(), "{shown}: {status}");
        Ok(())
    }
}
