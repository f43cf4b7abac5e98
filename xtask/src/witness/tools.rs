//! Programs that tests start: found, and what the witnesses are written in given what it stands on, of pinned versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use xtask::places;

/// Programs, and the package of Debian that has each.
const PACKAGES: [(&str, &str); 10] = [
    ("cc", "gcc"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("kcat", "kcat"),
    ("python3", "python3-venv"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("javac", "default-jdk-headless"),
    ("mvn", "maven"),
];

/// What a witness is run by.
#[derive(Debug, Clone, Copy)]
pub enum Tool {
    /// A script of witnesses/python.
    Python(&'static str),
    /// witnesses/kafkajs.
    Node,
    /// witnesses/java.
    Java,
}

impl Tool {
    /// Installs what the witness stands on into target/witness, unless it is there.
    ///
    /// # Errors
    /// When a program is missing, with the command that installs it, or an installation fails.
    pub fn prepare(self) -> anyhow::Result<()> {
        let (sources, home) = (self.sources(), self.home());
        match self {
            Tool::Python(_) => {
                look(&["python3"])?;
                let pins = sources.join("requirements.txt");
                installed(&home, &pins, || {
                    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
                    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
                    run(Command::new(home.join("bin/python")).args(pip).arg("--requirement").arg(&pins))
                })
            }
            Tool::Node => {
                look(&["node", "npm"])?;
                let pins = sources.join("package-lock.json");
                installed(&home, &pins, || {
                    fs::copy(sources.join("package.json"), home.join("package.json"))?;
                    fs::copy(&pins, home.join("package-lock.json"))?;
                    let npm = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"];
                    run(Command::new("npm").args(npm).current_dir(&home))
                })
            }
            Tool::Java => {
                look(&["javac", "mvn"])?;
                let pins = sources.join("pom.xml");
                installed(&home, &pins, || {
                    let copy = ["--batch-mode", "--quiet", "dependency:copy-dependencies"];
                    let to = format!("-DoutputDirectory={}", home.display());
                    run(Command::new("mvn").args(copy).arg("--file").arg(&pins).arg(to))
                })
            }
        }
    }

    /// Runs a part of the witness, and reads what it says.
    ///
    /// # Errors
    /// When it fails; what it wrote beside is in the message.
    pub fn run(self, folder: &Path, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        let (sources, home) = (self.sources(), self.home());
        let mut command = match self {
            Tool::Python(script) => {
                let mut python = Tool::python();
                python.arg(sources.join(script));
                python
            }
            Tool::Node => {
                // Modules are looked for beside the script.
                for script in ["witness.js", "codecs.js"] {
                    fs::copy(sources.join(script), home.join(script))?;
                }
                let mut node = Command::new("node");
                node.arg(home.join("witness.js"));
                node
            }
            Tool::Java => {
                let mut java = Command::new("java");
                let jars = format!("{}/*", home.display());
                // Programs that live for seconds gain nothing from the second compiler.
                java.args([
                    "-XX:TieredStopAtLevel=1",
                    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                    "-cp",
                ]);
                java.arg(jars).arg(sources.join("Witness.java"));
                java
            }
        };
        let output = command.args(arguments).current_dir(folder).output()?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(
            output.status.success(),
            "{command:?} ended with {}:\n{}\nafter {}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            said.lines().last().unwrap_or("nothing")
        );
        said.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// Python with what its witnesses stand on.
    pub fn python() -> Command {
        let mut python = Command::new(Tool::Python("").home().join("bin/python"));
        // No traces beside the sources.
        python.env("PYTHONDONTWRITEBYTECODE", "1");
        python
    }

    fn name(self) -> &'static str {
        match self {
            Tool::Python(_) => "python",
            Tool::Node => "kafkajs",
            Tool::Java => "java",
        }
    }

    fn sources(self) -> PathBuf {
        places::repository().join("witnesses").join(self.name())
    }

    fn home(self) -> PathBuf {
        let home = places::target().join("witness").join(self.name());
        std::path::absolute(&home).unwrap_or(home)
    }
}

/// Looks for programs.
///
/// # Errors
/// When one is missing, with the command that installs it.
pub fn look(programs: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<_> = programs.iter().filter(|program| !is_there(program)).collect();
    let packages: Vec<_> = PACKAGES
        .iter()
        .filter(|(program, _)| missing.contains(&program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|name| **name).collect();
    bail!("{} missing; on Debian: apt-get install {}", names.join(" and "), packages.join(" "))
}

fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

/// Installs anew whenever the pinned versions are others than those that are installed.
///
/// # Errors
/// When it cannot be installed.
pub fn installed(
    home: &Path,
    pins: &Path,
    install: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (stamp, wanted) = (home.join("installed"), fs::read(pins)?);
    if fs::read(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    let _ = fs::remove_dir_all(home);
    fs::create_dir_all(home)?;
    eprintln!("installing what {} names", pins.display());
    install()?;
    Ok(fs::write(stamp, wanted)?)
}

/// Runs a command to its end.
///
/// # Errors
/// When it fails.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
