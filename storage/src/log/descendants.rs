//! Looking for descendants of a record, in memory and in sealed segments.
//!
//! As with records (`reader.rs`), memory is looked at first: a sealing that happens in between moves what we look for
//! to where it is looked for next. A segment that is given back in between has the directory asked again. A record may
//! have any number of them: whoever asks says how many are enough, and nobody looks for more.

use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_protocol::ids::Position;

use super::descents::{self, Found};
use super::segment::DESCENTS;
use super::shared::Shared;

impl Shared {
    /// See `GroupLog::descendants`.
    pub(super) fn descendants(
        &self,
        of: Position,
        upto: LogIndex,
        most: usize,
    ) -> Result<Vec<LogIndex>, Fault> {
        let mut found = Found::none(of, upto, most);
        'again: loop {
            let line = {
                let memory = self.memory();
                if let Some(fault) = memory.refusal() {
                    return Err(fault);
                }
                memory.line.index.descents.find(&mut found);
                memory.line.number
            };
            for number in self.directory.descendants(line, of)? {
                if found.is_full() {
                    break;
                }
                if let Err(fault) = self.sealed_descendants(number, &mut found) {
                    self.sealed.forget(number);
                    if !self.is_sealed(number)? {
                        continue 'again;
                    }
                    return Err(fault);
                }
            }
            return Ok(found.entries.into_iter().collect());
        }
    }

    fn sealed_descendants(&self, number: u64, found: &mut Found) -> Result<(), Fault> {
        let file = self.sealed.get(number)?;
        file.read(|transaction| descents::find(&transaction.open_table(DESCENTS)?, found))
    }
}
