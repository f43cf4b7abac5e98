//! `cargo xtask witness`: programs with Kafka's own clients use a broker, and say what they saw.
//!
//! One broker for all: the witnesses write, read, look for offsets by time and commit; it is killed and comes back;
//! they ask what they had committed. What a witness is to say stands in `witnesses/README.md`, and [`judge`] compares
//! it with what our own client reads and with the batches that lie in the log. Each broker's data, and what a witness
//! printed, is in a folder of target/witness until the next run.

mod administered;
mod judge;
mod kcat;
mod log;
mod mailer;
mod ours;
pub mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use xtask::places;
use xtask::process::Broker;

use crate::{build, plugins};
use judge::{Judge, TIME};
use tools::Tool;

/// The witnesses, by their names.
const WITNESSES: [(&str, Option<Tool>); 5] = [
    ("kcat", None),
    ("confluent", Some(Tool::Python("confluent.py"))),
    ("kafka-python", Some(Tool::Python("kafka_python.py"))),
    ("kafkajs", Some(Tool::Node)),
    ("java", Some(Tool::Java)),
];
/// The mailer of examples/, which runs like a witness and bears none.
const MAILER: &str = "mailer";
/// The time by which offsets are looked for: in the middle of what `ours` writes.
const MIDDLE: i64 = TIME + 25_000;

/// Let Kafka's own clients use a broker, and compare what they saw: kcat, confluent, kafka-python, kafkajs, java;
/// and the mailer of examples/.
#[derive(Debug, Default, Args)]
pub struct Witness {
    /// Which of them; all when left out.
    names: Vec<String>,
    /// A `tidemill` that is built; without it, one is built.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

impl Witness {
    /// Builds a broker, and runs it.
    ///
    /// # Errors
    /// When anything is not as it should be.
    pub fn run(mut self) -> anyhow::Result<()> {
        self.chosen()?;
        if self.is_asked(MAILER) {
            plugins::build()?;
        }
        let program = self.program.take().map_or_else(build::tidemill, Ok)?;
        self.run_with(&program)
    }

    /// What is missing of what the witnesses are written in, with the command that installs it.
    ///
    /// # Errors
    /// When there is anything.
    pub fn look_for_tools() -> anyhow::Result<()> {
        tools::look(&["kcat", "python3", "node", "npm", "javac", "mvn"])
    }

    /// Runs it with a broker that is built.
    ///
    /// # Errors
    /// When anything is not as it should be.
    pub fn run_with(self, program: &Path) -> anyhow::Result<()> {
        let witnesses = self.chosen()?;
        let folder = places::target().join("witness/run");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        for (_, tool) in &witnesses {
            match tool {
                None => tools::look(&["kcat"])?,
                Some(tool) => tool.prepare()?,
            }
        }
        let tcp = format!("127.0.0.1:{}", xtask::ports::lasting());
        let mut broker = Broker::start(program, &folder, &[&format!("listen.tcp={tcp}")])?;
        ours::write(&broker)?;
        let judge = Judge::over(&broker, &tcp)?;
        for (name, tool) in &witnesses {
            let start = Instant::now();
            broker.run(&["topic", "create", &format!("{name}-wrote"), "--partitions", "4"])?;
            let said = match tool {
                None => kcat::first(&tcp, name, MIDDLE)?,
                Some(tool) => tool.run(&folder, &["first", &tcp, name, &MIDDLE.to_string()])?,
            };
            keep(&folder, name, "first", &said)?;
            judge.first(&broker, name, &said, MIDDLE).with_context(|| format!("{name}, at first"))?;
            if tool.is_some() {
                administered::judge(&broker, name, &said)
                    .with_context(|| format!("{name}, administering"))?;
            }
            println!("{name}: {} in {:.1} s", judge::summary(&said), start.elapsed().as_secs_f64());
        }
        broker.kill()?;
        broker.restart()?;
        for (name, tool) in &witnesses {
            let Some(tool) = tool else { continue };
            let said = tool.run(&folder, &["second", &tcp, name])?;
            keep(&folder, name, "second", &said)?;
            judge.second(&said).with_context(|| format!("{name}, after the kill"))?;
            println!("{name}: found what it had committed, and the records there");
        }
        if self.is_asked(MAILER) {
            Tool::Python("").prepare()?;
            println!("{MAILER}: {}", mailer::run(&broker, &tcp, &folder).context(MAILER)?);
        }
        broker.stop()?;
        Ok(())
    }

    fn chosen(&self) -> anyhow::Result<Vec<(&'static str, Option<Tool>)>> {
        let known = WITNESSES.map(|(name, _)| name);
        let is_known = |name: &String| known.contains(&name.as_str()) || name == MAILER;
        if let Some(unknown) = self.names.iter().find(|name| !is_known(name)) {
            bail!("there is no witness {unknown}: {}, {MAILER}", known.join(", "));
        }
        Ok(WITNESSES.into_iter().filter(|(name, _)| self.is_asked(name)).collect())
    }

    fn is_asked(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|asked| asked == name)
    }
}

/// Keeps what a witness said, for who looks for the reason of a failure.
fn keep(folder: &Path, name: &str, part: &str, said: &[Value]) -> anyhow::Result<()> {
    let lines: String = said.iter().map(|line| format!("{line}\n")).collect();
    Ok(fs::write(folder.join(format!("{name}-{part}.jsonl")), lines)?)
}
