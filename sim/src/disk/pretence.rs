//! A disk that lies, so that a test can plant a mistake in a program without a line of the program.
//!
//! To whoever writes, a sync that is done later is a sync; on the disk it is as if the program had synced only after it
//! said so. A write that is dropped is one that the program never made.

use super::{FileNumber, SimDisk, State};

/// How a disk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pretence {
    /// Syncs return at once, and are done before the next change of the same file.
    LateSync,
    /// Writes return at once, and are never done.
    NoWrites,
}

impl SimDisk {
    /// From now on it lies about files whose name, as it is then, begins and ends so.
    pub fn pretend(&self, pretence: Pretence, begins: &'static str, ends: &'static str) {
        self.state.lock().pretences.push((pretence, begins, ends));
    }
}

impl State {
    pub(super) fn pretends(&self, pretence: Pretence, number: FileNumber) -> bool {
        let of_kind = self.pretences.iter().filter(|(kind, _, _)| *kind == pretence);
        let names = || {
            self.names
                .iter()
                .filter(|(_, of)| **of == number)
                .filter_map(|(path, _)| path.file_name()?.to_str())
        };
        of_kind
            .into_iter()
            .any(|(_, begins, ends)| names().any(|name| name.starts_with(begins) && name.ends_with(ends)))
    }

    /// Does a sync that was put off.
    pub(super) fn catch_up(&mut self, number: FileNumber) {
        if let (true, Some(file)) = (self.late.remove(&number), self.files.get_mut(&number)) {
            file.make_durable();
        }
    }
}
