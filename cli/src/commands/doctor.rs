//! `doctor`: what of this machine a broker would stumble over, and what to do about it.
//!
//! It looks where the broker would look and measures what it can: nothing is changed but one small file in the data
//! folder, which it writes, syncs and removes. Each thing looked at is one [`Finding`]; what is measured and what is
//! made of it are apart, so that the second can be tested with numbers that this machine does not have.

mod certificates;
mod clock;
mod disk;
mod system;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use super::serve::Sources;
use crate::exit::Failure;
use crate::output::{self, Format};

/// Look at this machine as a broker would find it, and say what to do.
///
/// Exit status 1 when something is bad. It may run beside a broker, or before there is one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidemill doctor\n  tidemill doctor --data /srv/tidemill\n  \
tidemill --output json doctor")]
pub struct Doctor {
    /// The broker's data folder (the setting `data`).
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The same as `--output json`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sources: Sources,
}

/// What to think of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to be done.
    Ok,
    /// It works, and costs speed, or will not work for ever.
    Warn,
    /// A broker fails by it, or loses what it acknowledged.
    Bad,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Bad => "bad",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// What, in words that do not change.
    pub check: &'static str,
    /// What to think of it.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; nothing when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn bad(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Bad, found: found.into(), advice: Some(advice.into()) }
    }
}

impl Doctor {
    /// Looks at everything.
    ///
    /// # Errors
    /// [`Failure::Refused`] when something is bad; [`Failure::Configuration`] when the settings cannot be read.
    pub fn run(self, format: Format) -> Result<(), Failure> {
        let mut layers = self.sources.layers()?;
        if let Some(data) = &self.data {
            layers.flag("data", &data.display().to_string());
        }
        let config = layers.resolve().map_err(|error| Failure::Configuration(error.into()))?;
        let findings = look(&config.data, config.storage.reserve_bytes);
        match if self.json { Format::Json } else { format } {
            Format::Json => output::json(&findings)?,
            Format::Table => print(&findings)?,
        }
        match findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count() {
            0 => Ok(()),
            bad => Err(anyhow!("{bad} of {} things are bad", findings.len()).into()),
        }
    }
}

/// Looks at this machine, for a broker on a data folder; `reserve` is what it leaves free, in bytes.
pub fn look(data: &Path, reserve: u64) -> Vec<Finding> {
    let mut findings = vec![system::kernel(), system::file_limit()];
    findings.extend(system::socket_buffers());
    findings.extend(clock::look(data));
    findings.extend(disk::look(data, reserve));
    findings.extend(certificates::look(data));
    findings
}

fn print(findings: &[Finding]) -> std::io::Result<()> {
    let row = |finding: &Finding| {
        let found = match &finding.advice {
            Some(advice) => format!("{}. {advice}", finding.found),
            None => finding.found.clone(),
        };
        vec![finding.verdict.to_string(), finding.check.to_owned(), output::shown(&found)]
    };
    output::table(&["", "CHECK", "FOUND, AND WHAT TO DO"], &findings.iter().map(row).collect::<Vec<_>>())
}

/// Bytes, for people.
fn shown_bytes(bytes: u64) -> String {
    let mut unit = (1, "B");
    for larger in [(1 << 10, "KiB"), (1 << 20, "MiB"), (1 << 30, "GiB")] {
        if bytes >= larger.0 {
            unit = larger;
        }
    }
    match unit.0 {
        1 => format!("{bytes} B"),
        size => format!("{:.1} {}", bytes as f64 / size as f64, unit.1),
    }
}
