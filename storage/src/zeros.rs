//! Zeros ahead of small commits.
//!
//! A file that has grown has no blocks behind what was written to it, or blocks of which the file system notes that they
//! are unwritten. A sync of the first write to each of them waits for the file system's own journal, which takes longer
//! than the write. So where small writes come, the file is filled with zeros some way ahead, in one write, and the sync
//! of one of them pays for many.
//!
//! Only what was never written since the file grew is filled: it reads as zeros before and after, whatever a power cut
//! leaves of it.
//!
//! ```text
//!   0 ─ written, or may be ─ mark ─ never written: zeros ─ length
//!                             │◀── ahead ──▶│
//! ```

use std::io;

use tidemill_core::limits;
use tidemill_core::seams::DiskFile;

/// What of one file is known to be zeros.
#[derive(Debug)]
pub(crate) struct Zeros {
    ahead: u64,
    mark: u64,
    length: u64,
}

/// A stretch to be filled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    from: u64,
    to: u64,
}

impl Zeros {
    /// Of an empty file; nothing is written ahead if that is 0.
    pub(crate) fn new(ahead: u64) -> Zeros {
        Zeros { ahead, mark: 0, length: 0 }
    }

    /// The file was cut or has grown.
    pub(crate) fn resized(&mut self, length: u64) {
        self.mark = self.mark.min(length);
        self.length = length;
    }

    /// So many bytes are about to be written; what is to be filled before.
    pub(crate) fn before_write(&mut self, offset: u64, bytes: u64) -> Option<Stretch> {
        let end = offset + bytes;
        if end <= self.mark {
            return None;
        }
        let is_small = bytes <= limits::ZEROS_AHEAD_WRITE_BYTES_MAX as u64;
        let to = (end + self.ahead).min(self.length);
        if self.ahead == 0 || !is_small || to <= end {
            self.mark = end;
            return None;
        }
        // What lies before it is filled, too, unless it is far away.
        let from = if offset <= self.mark + self.ahead { self.mark } else { offset };
        self.mark = to;
        Some(Stretch { from, to })
    }
}

impl Stretch {
    /// Fills it. A disk that is full will say so when there is something to write.
    pub(crate) fn write(&self, file: &dyn DiskFile) -> io::Result<()> {
        match file.write_at(self.from, &vec![0; (self.to - self.from) as usize]) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            written => written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_never_filled() {
        let mut zeros = Zeros::new(100_000);
        let fill = |from, to| Some(Stretch { from, to });
        assert_eq!(zeros.before_write(0, 512), None, "the file has no length yet");
        zeros.resized(10 << 20);
        assert_eq!(zeros.before_write(4096, 4096), fill(512, 108_192), "and what lies before");
        assert_eq!(zeros.before_write(0, 512), None);
        assert_eq!(zeros.before_write(8192, 4096), None, "there are zeros already");
        assert_eq!(zeros.before_write(2 << 20, 1 << 20), None, "a large one pays for itself");
        assert_eq!(zeros.before_write(1 << 20, 4096), None, "nobody knows what lies below the mark");
        assert_eq!(zeros.before_write(3 << 20, 4096), fill(3 << 20, (3 << 20) + 104_096));
        assert_eq!(zeros.before_write(8 << 20, 4096), fill(8 << 20, (8 << 20) + 104_096), "far away");
        assert_eq!(zeros.before_write((10 << 20) - 4096, 4096), None, "the end of the file");
        zeros.resized(1 << 20);
        zeros.resized(2 << 20);
        assert_eq!(
            zeros.before_write(1 << 20, 4096),
            fill(1 << 20, (1 << 20) + 104_096),
            "cut, and grown again"
        );
    }
}
