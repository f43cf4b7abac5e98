//! `plugin test`: a built component on lines of records, in a broker's own runtime and by its own rules, without a
//! broker.
//!
//! | file | holds |
//! |---|---|
//! | [`lines`] | what is read: records, and ticks of the clock |
//! | [`spec`] | what a broker would tell the plugin's tasks |
//! | [`trial`] | a shard in memory with those tasks: how a step runs, commits and fails |
//! | [`step`] | a step that was tried |
//! | [`report`] | what is printed of a step |
//! | [`compare`] | what is derived beside what was expected |

mod compare;
mod lines;
mod report;
mod spec;
mod step;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::Value;

use super::FromFiles;
use crate::exit::Failure;
use crate::output::{self, Format};
use report::Totals;
use trial::Trial;

/// Run a built plugin on lines of records, and print what each of its steps derives, changes, logs and uses.
///
/// The component runs as in a broker, one record a step, with the limits and the failure policy of its manifest; what it
/// fails on is tried again and goes to its dead-letter topic, as there. Each line of input is a record as `tidemill
/// consume` prints it. Needed of it is only `value`, and `topic` where the plugin reads several; `partition` is chosen by
/// the key when left out, offsets are counted anew. `append-time` moves the broker's clock, which follows the timestamps
/// when left out; so does a line {"tick": MILLISECONDS}, and timers that are due by then fire before. A line of --expect
/// is a derived record, in the order of deriving, of which the fields that are given are compared.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidemill plugin test\n  tidemill plugin test plugins/payment --components target/components \
--input orders.jsonl --expect payments.jsonl\n  tidemill plugin test --bless    # keep what it derives as what is expected"
)]
pub struct Test {
    /// The manifest, or the folder that holds `plugin.toml`.
    #[arg(default_value = ".")]
    plugin: PathBuf,
    /// Where components are looked for that do not lie beside their manifest.
    #[arg(long, value_name = "FOLDER")]
    components: Option<PathBuf>,
    /// Records, a line each; `tests/input.jsonl` of the folder when left out.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// What is to be derived, a line each; `tests/expect.jsonl` of the folder when left out, if it is there.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// How many partitions the topics have; as many as the input names when left out.
    #[arg(long, value_name = "N")]
    partitions: Option<u32>,
    /// Write what is derived to the file of --expect, instead of comparing it.
    #[arg(long)]
    bless: bool,
}

impl Test {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure::Refused`] when something cannot be read or run, or what is derived is not what was expected.
    pub async fn run(self, format: Format) -> Result<(), Failure> {
        let plugin = FromFiles::read(&self.plugin, self.components.as_deref())?;
        let folder =
            if self.plugin.is_dir() { &*self.plugin } else { self.plugin.parent().unwrap_or(Path::new(".")) };
        let input = self.input.unwrap_or_else(|| folder.join("tests/input.jsonl"));
        let beside = folder.join("tests/expect.jsonl");
        let expect = self.expect.or_else(|| (self.bless || beside.is_file()).then_some(beside));
        let lines = lines::read(&input, &plugin.manifest)?;
        // Read before anything runs: a mistake in it is found at once.
        let expected: Option<Vec<Value>> = match &expect {
            Some(path) if !self.bless => Some(objects(path)?.into_iter().map(|(_, object)| object).collect()),
            _ => None,
        };
        let mut trial = Trial::new(&plugin, self.partitions, &lines)?;
        let mut totals = Totals::default();
        for line in lines {
            for step in trial.take(line).await? {
                totals.add(&step);
                step.print(format)?;
            }
        }
        let waiting = trial.waiting();
        match format {
            Format::Json => output::json(&totals.document(&waiting))?,
            Format::Table => totals.print(&waiting),
        }
        match (expect, expected) {
            (Some(path), _) if self.bless => write(&path, totals.derived()),
            (Some(path), Some(expected)) => compare::compare(&path, &expected, totals.derived()),
            _ => Ok(()),
        }
    }
}

/// The objects of a file, a line each: as they are written, and what they say.
fn objects(path: &Path) -> anyhow::Result<Vec<(String, Value)>> {
    let shown = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(shown)?;
    let filled = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = filled.map(|(number, line)| {
        let object: Value =
            serde_json::from_str(line).with_context(|| format!("{}: line {}", shown(), number + 1))?;
        if object.is_object() {
            Ok((line.to_owned(), object))
        } else {
            Err(anyhow!("{}: line {} is no object", shown(), number + 1))
        }
    });
    read.collect()
}

fn write(path: &Path, derived: &[Value]) -> Result<(), Failure> {
    let text: String = derived.iter().map(|record| format!("{record}\n")).collect();
    fs::write(path, text).with_context(|| path.display().to_string())?;
    eprintln!("wrote {} records to {}", derived.len(), path.display());
    Ok(())
}
