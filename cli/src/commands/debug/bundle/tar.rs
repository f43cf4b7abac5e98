//! Writing files into an archive that every `tar` reads: the POSIX format of 1988 (`ustar`), of which small files with
//! short names need only a few fields.
//!
//! ```text
//!   0      100    108   116   124    136    148        156    257      265
//! ┌──────┬──────┬─────┬─────┬──────┬──────┬──────────┬──────┬────────┬───
//! │ name │ mode │ uid │ gid │ size │ time │ checksum │ type │ ustar00│ …    512 bytes, then the file, filled up to 512
//! └──────┴──────┴─────┴─────┴──────┴──────┴──────────┴──────┴────────┴───
//! ```
//!
//! Numbers are octal digits. The checksum is the sum of the head's bytes, its own eight counted as blanks.

use std::io::{self, Write};

const BLOCK: usize = 512;

/// Adds a file. `seconds` is its time, since 1970.
///
/// # Errors
/// As the writer's; [`io::ErrorKind::InvalidInput`] for a name of more than 99 bytes.
pub(super) fn append(out: &mut impl Write, name: &str, bytes: &[u8], seconds: u64) -> io::Result<()> {
    if name.len() >= 100 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name is too long"));
    }
    let mut head = [0; BLOCK];
    let mut put = |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", bytes.len()));
    put(136, &format!("{seconds:011o}\0"));
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u64 = head.iter().map(|byte| u64::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.write_all(&head)?;
    out.write_all(bytes)?;
    let rest = bytes.len().next_multiple_of(BLOCK) - bytes.len();
    out.write_all(&[0; BLOCK][..rest])
}

/// Ends the archive.
///
/// # Errors
/// As the writer's.
pub(super) fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}
