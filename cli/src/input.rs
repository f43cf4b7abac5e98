//! Lines to produce: from a file, plain or compressed, or from standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context as _;

/// The longest line, in bytes: more would not be a record that a broker takes.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// Lines, and how far one is in what they come from.
pub struct Lines {
    /// Where they come from, as it is said when they cannot be read.
    name: String,
    reader: Box<dyn BufRead + Send>,
    number: u64,
}

impl Lines {
    /// The lines of a file, decompressed if its name ends in `.zst`; of standard input when there is none.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Lines> {
        let Some(path) = path else {
            return Ok(Lines {
                name: "standard input".to_owned(),
                reader: Box::new(BufReader::new(io::stdin())),
                number: 0,
            });
        };
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let reader: Box<dyn BufRead + Send> = if path.extension().is_some_and(|extension| extension == "zst")
        {
            Box::new(BufReader::new(zstd::stream::read::Decoder::new(file)?))
        } else {
            Box::new(BufReader::new(file))
        };
        Ok(Lines { name: path.display().to_string(), reader, number: 0 })
    }

    /// The next line that is not empty, without its end; and its number, from 1.
    ///
    /// # Errors
    /// When reading fails, or a line is longer than any record.
    pub fn next_line(&mut self) -> anyhow::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.reader).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line);
            let read = read.with_context(|| self.name.clone())?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if line.len() as u64 > LINE_BYTES_MAX {
                anyhow::bail!("line {}: longer than {LINE_BYTES_MAX} bytes", self.number);
            }
            while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                line.pop();
            }
            if !line.is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
    }
}
