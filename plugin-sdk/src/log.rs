//! The plugin's own log.
//!
//! Lines are not part of a step: they are kept even if it fails, and dropped when there are too many.
//!
//! ```
//! use tidemill_plugin_sdk::log;
//!
//! log::info!("stock of {} is low: {}", "1082185", 3);
//! ```

use std::fmt;

pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every detail.
    Trace,
    /// What helps to find a mistake.
    Debug,
    /// What an operator may like to know.
    Info,
    /// What an operator should look at.
    Warn,
    /// What went wrong.
    Error,
}

/// Writes a line; the macros of this module call it.
pub fn write(level: Level, line: fmt::Arguments<'_>) {
    match line.as_str() {
        Some(text) => crate::host::write_log(level, text),
        None => crate::host::write_log(level, &line.to_string()),
    }
}

/// Writes a line of the level `trace`, as `format!` would.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($line:tt)+) => { $crate::log::write($crate::log::Level::Trace, ::core::format_args!($($line)+)) };
}

/// Writes a line of the level `debug`, as `format!` would.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($line:tt)+) => { $crate::log::write($crate::log::Level::Debug, ::core::format_args!($($line)+)) };
}

/// Writes a line of the level `info`, as `format!` would.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($line:tt)+) => { $crate::log::write($crate::log::Level::Info, ::core::format_args!($($line)+)) };
}

/// Writes a line of the level `warn`, as `format!` would.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($line:tt)+) => { $crate::log::write($crate::log::Level::Warn, ::core::format_args!($($line)+)) };
}

/// Writes a line of the level `error`, as `format!` would.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($line:tt)+) => { $crate::log::write($crate::log::Level::Error, ::core::format_args!($($line)+)) };
}
