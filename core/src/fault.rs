//! Faults: this broker must stop trusting itself.
//!
//! A fault is neither told to a client nor survived: whoever meets one hands it up to the shell, which ends
//! the process. It never shares a type with a [`Rejection`](crate::rejection::Rejection), which is told to
//! the caller and expected; a bug is neither, but an assertion.

use tidemill_protocol::primitive::Malformed;

/// Why this broker must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The disk failed. Nobody knows what a failed sync left; the file must not be used again by this process.
    #[error("the disk failed at {what}: {why}")]
    Disk {
        /// What was being done.
        what: String,
        /// What the operating system or the file's library said.
        why: String,
    },
    /// What was durable is not what was written.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// Which file or part.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Written by a newer version than this one.
    #[error(
        "{what} has format version {found}, and this broker reads versions up to {known}: use a newer broker"
    )]
    Newer {
        /// Which file or part.
        what: String,
        /// The version found.
        found: u32,
        /// The newest version that this broker knows.
        known: u32,
    },
    /// Raft refused to go on.
    #[error("raft stopped: {0}")]
    Raft(String),
}

impl Fault {
    /// A failed operation on the disk.
    pub fn disk(what: impl Into<String>, why: impl ToString) -> Fault {
        Fault::Disk { what: what.into(), why: why.to_string() }
    }

    /// Something durable that is not what was written.
    pub fn damaged(what: impl Into<String>, why: impl ToString) -> Fault {
        Fault::Damaged { what: what.into(), why: why.to_string() }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Fault {
        Fault::damaged("a stored value", malformed)
    }
}
