//! Large writes past the page cache: the processor copies them once, into memory that the disk may read, and not into
//! pages of the kernel's that are to be found, filled, written back and given up again.
//!
//! A file has a second handle for this, opened when the first large write comes. The kernel keeps what the two show the
//! same: before such a write it drops the pages of the file that lie there. Whether a write is durable has nothing to do
//! with the way it took: that needs a sync, as ever.
//!
//! A file system or a device that does not take such writes, or not with these bounds, says so with the first; from then
//! on all of that file go the ordinary way.
#![allow(clippy::disallowed_methods, reason = "this is the disk that everybody else is handed")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use tidemill_core::limits;

/// What offset, length and memory of such a write are multiples of: no device in use asks for more.
const ALIGNMENT: usize = 4096;

/// Memory for large writes, lent to one after the other: as many pieces as there ever were writes at once, which is one
/// for each shard's writer at most.
#[derive(Debug, Default)]
pub(super) struct Lent(Mutex<Vec<Vec<u8>>>);

impl Lent {
    fn take(&self) -> Vec<u8> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| vec![0; limits::DIRECT_WRITE_BYTES_MAX + ALIGNMENT])
    }

    fn give_back(&self, piece: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(piece);
    }
}

/// The second handle of a file.
#[derive(Debug, Default)]
pub(super) struct Direct {
    handle: OnceLock<Option<File>>,
    is_refused: AtomicBool,
}

impl Direct {
    /// Writes all of `bytes` at `offset` if that goes this way; false when it does not, and nothing was written that
    /// need not be written again.
    pub(super) fn write(&self, file: &File, lent: &Lent, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        let fits = bytes.len() >= limits::DIRECT_WRITE_BYTES_MIN
            && bytes.len().is_multiple_of(ALIGNMENT)
            && offset.is_multiple_of(ALIGNMENT as u64);
        if !fits || self.is_refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let Some(handle) = self.handle.get_or_init(|| reopen(file).ok()) else { return Ok(false) };
        let mut piece = lent.take();
        let written = write_pieces(handle, &mut piece, offset, bytes);
        lent.give_back(piece);
        match written {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.is_refused.store(true, Ordering::Relaxed);
                Ok(false)
            }
            written => written.map(|()| true),
        }
    }
}

fn write_pieces(handle: &File, piece: &mut [u8], offset: u64, bytes: &[u8]) -> io::Result<()> {
    let start = piece.as_ptr().align_offset(ALIGNMENT);
    let mut at = offset;
    for part in bytes.chunks(limits::DIRECT_WRITE_BYTES_MAX) {
        let aligned = &mut piece[start..start + part.len()];
        aligned.copy_from_slice(part);
        handle.write_all_at(aligned, at)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// The same file, whatever its name is by now.
fn reopen(file: &File) -> io::Result<File> {
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).map_err(io::Error::other)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}
