//! Standard output and standard error, line by line into the plugin's log.
//!
//! A guest writes bytes to a stream; the step reads lines. Both hold [`Output`], since a stream lies in the table of
//! resources and cannot reach the step. It is bounded as the log is: a line is cut, and lines beyond the most that a
//! step keeps are counted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidemill_core::limits;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::step::LogLevel;

/// What one write may hand over.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// What was written and not yet taken.
#[derive(Clone, Default)]
pub(super) struct Output(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    lines: Vec<(LogLevel, String)>,
    dropped: u64,
    /// Lines that have begun.
    open: [Vec<u8>; 2],
}

impl Output {
    /// Where bytes of this level go.
    pub(super) fn stream(&self, level: LogLevel) -> Stream {
        Stream { output: self.clone(), level }
    }

    /// All lines, those that have no end yet included, and how many were dropped.
    pub(super) fn take(&self) -> (Vec<(LogLevel, String)>, u64) {
        let mut written = self.lock();
        for level in [LogLevel::Info, LogLevel::Warn] {
            written.end(level);
        }
        (std::mem::take(&mut written.lines), std::mem::take(&mut written.dropped))
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    fn write(&mut self, level: LogLevel, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let open = &mut self.open[usize::from(level == LogLevel::Warn)];
            // One byte more than is kept, so that a line that was cut shows it.
            let room = (limits::GUEST_LOG_LINE_BYTES_MAX + 1).saturating_sub(open.len());
            open.extend_from_slice(&text[..text.len().min(room)]);
            if part.len() > text.len() {
                self.end(level);
            }
        }
    }

    /// Ends the line that has begun; an empty one is none.
    fn end(&mut self, level: LogLevel) {
        let line = std::mem::take(&mut self.open[usize::from(level == LogLevel::Warn)]);
        if line.is_empty() {
            return;
        }
        if self.lines.len() >= limits::GUEST_LOG_LINES_MAX {
            self.dropped += 1;
            return;
        }
        self.lines.push((level, String::from_utf8_lossy(&line).into_owned()));
    }
}

/// A stream of a guest.
#[derive(Clone)]
pub(super) struct Stream {
    output: Output,
    level: LogLevel,
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    /// For WASI 0.3, which is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.lock().write(self.level, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_counted_and_ended() {
        let output = Output::default();
        output.stream(LogLevel::Info).write(Bytes::from_static(b"one\n\ntw")).unwrap();
        output.stream(LogLevel::Warn).write(Bytes::from_static(b"oh\n")).unwrap();
        output.stream(LogLevel::Info).write(Bytes::from_static(b"o\nthree")).unwrap();
        let line = |level, text: &str| (level, text.to_owned());
        let expected = [
            line(LogLevel::Info, "one"),
            line(LogLevel::Warn, "oh"),
            line(LogLevel::Info, "two"),
            line(LogLevel::Info, "three"),
        ];
        assert_eq!(output.take(), (expected.into(), 0));

        let mut stream = output.stream(LogLevel::Info);
        stream.write(vec![b'x'; 1_000_000].into()).unwrap();
        stream.write(b"\ny".repeat(limits::GUEST_LOG_LINES_MAX + 4).into()).unwrap();
        let (lines, dropped) = output.take();
        assert_eq!((lines.len(), dropped), (limits::GUEST_LOG_LINES_MAX, 5));
        assert_eq!(lines[0].1.len(), limits::GUEST_LOG_LINE_BYTES_MAX + 1);
    }
}
