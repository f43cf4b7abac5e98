//! Errors as data: what a program needs in order to decide, and a sentence for its user.

use std::fmt;

use tidemill_protocol::api::Inexpressible;
use tidemill_protocol::error::{ErrorCode, Outcome};

/// Why something did not happen, or may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", Prefix(*code))]
pub struct Error {
    /// The broker's code; `None` when no broker said anything.
    pub code: Option<ErrorCode>,
    /// Whether the same may succeed later.
    pub retriable: bool,
    /// Whether what was asked for took effect.
    pub outcome: Outcome,
    /// What happened, in words.
    pub message: String,
}

struct Prefix(Option<ErrorCode>);

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |code| write!(f, "{code}: "))
    }
}

impl Error {
    /// What a broker's code means, by the table; `message` is what the broker added, if anything.
    pub(crate) fn told(code: ErrorCode, message: Option<&str>) -> Error {
        let row = code.row();
        let message = message.filter(|message| !message.is_empty()).unwrap_or(row.meaning);
        Error {
            code: Some(code),
            retriable: row.retriable,
            outcome: row.outcome,
            message: message.to_owned(),
        }
    }

    /// Nothing was sent; it may be later.
    pub(crate) fn unsent(message: impl Into<String>) -> Error {
        Error { code: None, retriable: true, outcome: Outcome::NotApplied, message: message.into() }
    }

    /// It was sent, and no answer came.
    pub(crate) fn unanswered(message: impl Into<String>) -> Error {
        Error { code: None, retriable: true, outcome: Outcome::Unknown, message: message.into() }
    }

    /// It was never possible.
    pub(crate) fn impossible(message: impl Into<String>) -> Error {
        Error { code: None, retriable: false, outcome: Outcome::NotApplied, message: message.into() }
    }

    /// As impossible, with the code that a broker would have answered.
    pub(crate) fn refused_here(code: ErrorCode, message: impl Into<String>) -> Error {
        Error { code: Some(code), retriable: false, outcome: Outcome::NotApplied, message: message.into() }
    }

    pub(crate) fn with_outcome(mut self, outcome: Outcome) -> Error {
        self.outcome = outcome;
        self
    }

    pub(crate) fn is(&self, code: ErrorCode) -> bool {
        self.code == Some(code)
    }
}

impl From<Inexpressible> for Error {
    fn from(error: Inexpressible) -> Error {
        Error::impossible(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_the_table_says() {
        let error = Error::told(ErrorCode::NOT_LEADER_OR_FOLLOWER, None);
        assert!(error.retriable && error.outcome == Outcome::Unknown);
        let error = Error::told(ErrorCode::MESSAGE_TOO_LARGE, Some("2 MiB, and the topic takes 1"));
        assert!(!error.retriable && error.outcome == Outcome::NotApplied);
        assert_eq!(error.to_string(), "MESSAGE_TOO_LARGE: 2 MiB, and the topic takes 1");
        assert_eq!(Error::unsent("nobody there").to_string(), "nobody there");
    }
}
