//! What a setting may be, and reading it from text.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a setting may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    Path,
    Address,
    OptionalAddress,
    Number { least: u64, most: u64 },
    Bytes { least: u64 },
    Duration { least: Duration },
    Choice(&'static [&'static str]),
}

/// Longer than any broker lives, and short enough that no clock runs over.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What a setting is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Path(PathBuf),
    Address(Option<SocketAddr>),
    Number(u64),
    Duration(Duration),
}

impl Kind {
    pub(super) fn read(&self, text: &str) -> Result<Value, String> {
        let wrong = || format!("{text:?} is not {self}");
        Ok(match *self {
            Kind::Text => Value::Text(text.to_owned()),
            Kind::Path if text.is_empty() => return Err(wrong()),
            Kind::Path => Value::Path(PathBuf::from(text)),
            Kind::OptionalAddress if text.is_empty() => Value::Address(None),
            Kind::Address | Kind::OptionalAddress => Value::Address(Some(text.parse().map_err(|_| wrong())?)),
            Kind::Number { least, most } => {
                let number = text.parse().ok().filter(|number| (least..=most).contains(number));
                Value::Number(number.ok_or_else(wrong)?)
            }
            Kind::Bytes { least } => {
                let bytes = read_bytes(text).filter(|bytes| *bytes >= least);
                Value::Number(bytes.ok_or_else(wrong)?)
            }
            Kind::Duration { least } => {
                let duration = humantime::parse_duration(text).ok();
                let duration = duration.filter(|duration| (least..=DURATION_MAX).contains(duration));
                Value::Duration(duration.ok_or_else(wrong)?)
            }
            Kind::Choice(choices) if choices.contains(&text) => Value::Text(text.to_owned()),
            Kind::Choice(_) => return Err(wrong()),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Text => f.write_str("text"),
            Kind::Path => f.write_str("a path"),
            Kind::Address => f.write_str("an address such as 127.0.0.1:9642"),
            Kind::OptionalAddress => f.write_str("an address such as 127.0.0.1:9092, or nothing"),
            Kind::Number { least, most } => write!(f, "a number from {least} to {most}"),
            Kind::Bytes { least } => write!(f, "a size such as 128MiB, at least {least} bytes"),
            Kind::Duration { least } => {
                write!(f, "a duration such as 90s or 1h, at least {}", humantime::format_duration(*least))
            }
            Kind::Choice(choices) => write!(f, "one of {}", choices.join(", ")),
        }
    }
}

/// A size: a number with no unit, or with one of 1,024 or of 1,000.
fn read_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        let sizes = [("7", 7), ("1KiB", 1_024), ("128 MiB", 128 << 20), ("2gb", 2_000_000_000)];
        for (text, bytes) in sizes {
            assert_eq!(read_bytes(text), Some(bytes), "{text}");
        }
        for wrong in ["", "MiB", "-1", "1.5GiB", "3 parsecs", "99999999999GiB"] {
            assert_eq!(read_bytes(wrong), None, "{wrong}");
        }
    }
}
