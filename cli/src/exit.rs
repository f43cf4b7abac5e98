//! How the command ends: a status that a script can trust.

use std::io::ErrorKind;
use std::process::ExitCode;

use crate::output::Format;

/// Why it did not do what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// The broker refused, or something is not as expected.
    Refused(anyhow::Error),
    /// No broker was reached; trying again may help.
    Unreachable(anyhow::Error),
    /// The broker process met a fault.
    Fault(anyhow::Error),
    /// The configuration or a context is wrong.
    Configuration(anyhow::Error),
    /// Whoever read what was printed has enough, as `head` has: nothing is wrong.
    Closed(anyhow::Error),
}

impl Failure {
    /// The exit status.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.number())
    }

    /// The exit status, as a number.
    pub fn number(&self) -> u8 {
        match self {
            Failure::Closed(_) => 0,
            Failure::Refused(_) => 1,
            Failure::Unreachable(_) => 3,
            Failure::Fault(_) => 70,
            Failure::Configuration(_) => 78,
        }
    }

    fn error(&self) -> &anyhow::Error {
        match self {
            Failure::Refused(error)
            | Failure::Unreachable(error)
            | Failure::Fault(error)
            | Failure::Configuration(error)
            | Failure::Closed(error) => error,
        }
    }

    /// Says why, on standard error.
    pub fn print(&self, format: Format) {
        let text = self.to_string();
        if matches!(self, Failure::Closed(_)) {
            return;
        }
        match format {
            Format::Table => eprintln!("tidemill: {text}"),
            Format::Json => eprintln!("{}", serde_json::json!({ "error": text, "status": self.number() })),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.error())
    }
}

/// A failure for a reason that has no kind of its own.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Refused(error)
    }
}

/// Of the terminal or a pipe, most often.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            ErrorKind::BrokenPipe => Failure::Closed(error.into()),
            _ => Failure::Refused(error.into()),
        }
    }
}

impl From<tidemill_client::Error> for Failure {
    fn from(error: tidemill_client::Error) -> Failure {
        let unreachable = error.code.is_none() && error.retriable;
        let error = anyhow::Error::new(error);
        if unreachable { Failure::Unreachable(error) } else { Failure::Refused(error) }
    }
}
