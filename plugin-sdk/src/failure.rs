//! How a step can fail, and how a call of it can be refused.

use std::fmt::Display;

use crate::{ConfigError, FileError};

/// Why a step failed. None of its effects become real.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Trying again may help: the reason. The broker tries as often as the manifest's failure policy says.
    #[error("{0}")]
    Retry(String),
    /// It will never help: the reason. The record goes where the manifest's failure policy says.
    #[error("{0}")]
    Reject(String),
}

impl Failure {
    /// Trying again may help.
    pub fn retry(reason: impl Display) -> Failure {
        Failure::Retry(reason.to_string())
    }

    /// The record is wrong and stays so.
    pub fn reject(reason: impl Display) -> Failure {
        Failure::Reject(reason.to_string())
    }
}

/// Why the broker refused a call. Nothing was staged by it, and the step may go on; most plugins let `?` make a
/// [`Failure::Reject`] of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The manifest does not grant it: which topic.
    #[error("not granted by the manifest: {0}")]
    NotGranted(String),
    /// A limit: its name, its value, what was asked for, and the manifest key that raises it.
    #[error("a limit: {0}")]
    Limit(String),
    /// The call makes no sense: why.
    #[error("an invalid call: {0}")]
    Invalid(String),
    /// Anything newer than this version of the contract.
    #[error("{0}")]
    Other(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::reject(refusal)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::reject(error)
    }
}

impl From<std::str::Utf8Error> for Failure {
    fn from(error: std::str::Utf8Error) -> Failure {
        Failure::reject(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::reject(error)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Failure {
        Failure::reject(error)
    }
}
