//! How a step fails, in words that an operator understands.
//!
//! Reasons and messages come from plugins. They are cut to a length, and where they are put into a line of text they
//! stay in that line: a plugin can neither forge a second one nor send a terminal its commands.
//!
//! [`GuestFailure`] is what the caller gets; [`Stop`] is what travels through wasmtime to end a guest on our side's
//! behalf; [`Refusal`] is what a guest is told about one call, and may survive.

use tidemill_core::fault::Fault;
use tidemill_core::limits;

/// Why a step has no effects. Its text is one line; a backtrace, where there is one, stands beside it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestFailure {
    /// The plugin says that trying again may help.
    #[error("the plugin asks for another try: {}", one_line(.0))]
    Retry(String),
    /// The plugin says that trying again never helps.
    #[error("the plugin rejects it: {}", one_line(.0))]
    Reject(String),
    /// The plugin panicked, or did what wasm forbids.
    #[error("the plugin failed: {}", one_line(message))]
    Trap {
        /// What happened; of a panic its place and its message.
        message: String,
        /// What the plugin's SDK told about the panic, if it was one.
        panic: Option<PanicReport>,
        /// Its functions, from the innermost out.
        backtrace: Vec<String>,
    },
    /// The plugin went beyond what it may use.
    #[error("{limit}")]
    Limit {
        /// The limit.
        limit: LimitReached,
        /// Its functions, from the innermost out; empty when it did not get as far as running.
        backtrace: Vec<String>,
    },
    /// The broker could not read the task's state. No fault of the plugin: the caller must stop.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What a plugin's SDK tells about a panic, before the trap that it ends in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panicked at {file}:{line}:{column}: {message}")]
pub struct PanicReport {
    /// The panic's message.
    pub message: String,
    /// The source file, as its compiler knew it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

/// A limit that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitReached {
    /// Its name, as in the manifest's `[limits]` where it stands there. The unit comes last in it.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// What was asked for; none where nobody counts beyond the limit, or each try would say another number.
    pub asked: Option<u64>,
    /// The key of the manifest that raises it, if any does.
    pub manifest_key: Option<&'static str>,
}

impl LimitReached {
    pub(crate) fn memory(value: u64, asked: u64) -> LimitReached {
        LimitReached::of_step("memory-bytes", "limits.memory-bytes", value, Some(asked))
    }

    pub(crate) fn cpu(value: u64) -> LimitReached {
        LimitReached::of_step("cpu-ms", "limits.cpu-ms", value, None)
    }

    pub(crate) fn output_bytes(value: u64, asked: Option<u64>) -> LimitReached {
        LimitReached::of_step("output-bytes", "limits.output-bytes", value, asked)
    }

    pub(crate) fn output_records(value: u64, asked: u64) -> LimitReached {
        LimitReached::of_step("output-records", "limits.output-records", value, Some(asked))
    }

    pub(crate) fn state_bytes(value: u64, asked: u64) -> LimitReached {
        LimitReached::of_step("state-bytes", "limits.state-bytes", value, Some(asked))
    }

    pub(crate) fn state_key(asked: usize) -> LimitReached {
        LimitReached::fixed("state-key-bytes", limits::STATE_KEY_BYTES_MAX, asked)
    }

    pub(crate) fn state_value(asked: usize) -> LimitReached {
        LimitReached::fixed("state-value-bytes", limits::STATE_VALUE_BYTES_MAX, asked)
    }

    pub(crate) fn timer_name(asked: usize) -> LimitReached {
        LimitReached::fixed("timer-name-bytes", limits::STATE_KEY_BYTES_MAX, asked)
    }

    pub(crate) fn headers(asked: usize) -> LimitReached {
        LimitReached::fixed("record-headers", limits::RECORD_HEADERS_MAX, asked)
    }

    pub(crate) fn stack() -> LimitReached {
        LimitReached { asked: None, ..LimitReached::fixed("stack-bytes", limits::GUEST_STACK_BYTES, 0) }
    }

    pub(crate) fn table(asked: usize) -> LimitReached {
        LimitReached::fixed("table-elements", limits::GUEST_TABLE_ELEMENTS_MAX, asked)
    }

    pub(crate) fn files_open(asked: usize) -> LimitReached {
        LimitReached::fixed("files-open", limits::GUEST_FILES_OPEN_MAX, asked)
    }

    fn of_step(name: &'static str, key: &'static str, value: u64, asked: Option<u64>) -> LimitReached {
        LimitReached { name, value, asked, manifest_key: Some(key) }
    }

    fn fixed(name: &'static str, value: usize, asked: usize) -> LimitReached {
        LimitReached { name, value: value as u64, asked: Some(asked as u64), manifest_key: None }
    }
}

impl std::fmt::Display for LimitReached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the limit {} is {}, and ", self.name, self.value)?;
        match self.asked {
            Some(asked) => write!(f, "{asked} was asked for")?,
            // How much more differs from try to try, and who counts failures by their reasons wants them to be one.
            None => f.write_str("more than that was asked for")?,
        }
        match self.manifest_key {
            Some(key) => write!(f, "; {key} in the manifest raises it"),
            None => f.write_str("; nothing raises it"),
        }
    }
}

/// Why one call of a guest had no effect. The guest is told, and may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It may not publish to this topic.
    NotGranted(String),
    /// A limit on a single call.
    Limit(LimitReached),
    /// The call makes no sense.
    Invalid(String),
}

/// Why a guest is stopped by us rather than by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error("{0}")]
    Limit(LimitReached),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a call of a guest had no effect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The guest is told.
    Refused(Refusal),
    /// The guest is stopped.
    Stopped(Stop),
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Denied::Refused(refusal)
    }
}

impl From<Stop> for Denied {
    fn from(stop: Stop) -> Self {
        Denied::Stopped(stop)
    }
}

/// `text`, cut to what is kept of a reason.
pub(crate) fn shortened(text: String, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text;
    }
    let mut text = text;
    text.truncate(text.floor_char_boundary(bytes_max.saturating_sub('…'.len_utf8())));
    text.push('…');
    text
}

/// `text` without line breaks and other control characters.
fn one_line(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" | ").replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_says_its_name_its_value_what_was_asked_for_and_what_raises_it() {
        let more = "more than that was asked for";
        let table = [
            (
                LimitReached::memory(10, 20),
                "memory-bytes is 10",
                "20 was asked for",
                "limits.memory-bytes in",
            ),
            (LimitReached::cpu(500), "cpu-ms is 500", more, "limits.cpu-ms in"),
            (
                LimitReached::output_bytes(4, Some(5)),
                "output-bytes is 4",
                "5 was asked for",
                "limits.output-bytes in",
            ),
            (LimitReached::output_bytes(4, None), "output-bytes is 4", more, "limits.output-bytes in"),
            (
                LimitReached::output_records(4, 5),
                "output-records is 4",
                "5 was asked for",
                "limits.output-records in",
            ),
            (LimitReached::state_bytes(4, 5), "state-bytes is 4", "5 was asked for", "limits.state-bytes in"),
            (
                LimitReached::state_key(2000),
                "state-key-bytes is 1024",
                "2000 was asked for",
                "nothing raises it",
            ),
            (
                LimitReached::state_value(9),
                "state-value-bytes is 1048576",
                "9 was asked for",
                "nothing raises it",
            ),
            (
                LimitReached::timer_name(2000),
                "timer-name-bytes is 1024",
                "2000 was asked for",
                "nothing raises it",
            ),
            (LimitReached::headers(7000), "record-headers is ", "7000 was asked for", "nothing raises it"),
            (LimitReached::stack(), "stack-bytes is 524288", more, "nothing raises it"),
            (
                LimitReached::table(60_000),
                "table-elements is 50000",
                "60000 was asked for",
                "nothing raises it",
            ),
            (LimitReached::files_open(65), "files-open is 64", "65 was asked for", "nothing raises it"),
        ];
        for (limit, value, asked, raises) in table {
            let text = limit.to_string();
            assert!(text.starts_with(&format!("the limit {value}")), "{text}");
            assert!(text.contains(asked) && text.contains(raises), "{text}");
            // What the manifest raises is called there as it is called here.
            let key = limit.manifest_key.map(|key| key.trim_start_matches("limits."));
            assert!(key.is_none_or(|key| key == limit.name), "{text}");
        }
        assert_eq!(
            LimitReached::output_bytes(4096, Some(5000)).to_string(),
            "the limit output-bytes is 4096, and 5000 was asked for; limits.output-bytes in the manifest raises it"
        );
    }

    #[test]
    fn what_a_plugin_says_stays_in_its_line() {
        let message = "assertion failed\r\n  left: 1\n\n right: 2\u{1b}[2J".to_owned();
        let failure = GuestFailure::Trap { message, panic: None, backtrace: Vec::new() };
        assert_eq!(failure.to_string(), "the plugin failed: assertion failed | left: 1 | right: 2 [2J");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("short".into(), 5), "short");
        assert_eq!(shortened("ääääää".into(), 9), "äää…");
    }
}
