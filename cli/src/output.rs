//! Printing: tables for people, JSON for programs.

use std::fmt::Arguments;
use std::io::{self, Write};

use serde::Serialize;

use crate::exit::Failure;

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one document, or one object a line where there may be many.
    Json,
}

/// Prints a line for people. Where nobody reads any more, or nothing can be written, the command ends.
pub fn line(words: Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout().lock(), "{words}") {
        let failure = Failure::from(error);
        failure.print(Format::Table);
        std::process::exit(failure.number().into());
    }
}

/// Prints one value as JSON on a line of its own.
///
/// # Errors
/// As the terminal's or pipe's.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)
}

/// Prints rows under their titles, in columns.
///
/// # Errors
/// As the terminal's or pipe's.
pub fn table(titles: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([titles[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let mut out = io::stdout().lock();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            let gap = width.saturating_sub(cell.chars().count()) + 2;
            text += cell;
            text.extend(std::iter::repeat_n(' ', gap));
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(&mut titles.iter().copied())?;
    rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}

/// Text that may come from anybody, fit for a terminal: control characters are shown, not obeyed.
pub fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}
