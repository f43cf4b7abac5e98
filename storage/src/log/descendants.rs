//! Looking for descendants of a record, in memory and in sealed segments.
//!
//! As with records (`reader.rs`), memory is looked at first: a sealing that happens in between moves what we look for to
//! where it is looked for next. A segment that is given back in between has the directory asked again.

use std::collections::BTreeSet;

use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_protocol::ids::Position;

use super::descents;
use super::segment::DESCENTS;
use super::shared::Shared;

impl Shared {
    /// See `GroupLog::descendants`.
    pub(super) fn descendants(&self, of: Position, upto: LogIndex) -> Result<Vec<LogIndex>, Fault> {
        let mut found = BTreeSet::new();
        'again: loop {
            let line = {
                let memory = self.memory();
                if let Some(fault) = memory.refusal() {
                    return Err(fault);
                }
                memory.line.index.descents.find(of, &mut found);
                memory.line.number
            };
            for number in self.directory.descendants(line, of)? {
                if let Err(fault) = self.sealed_descendants(number, of, &mut found) {
                    self.sealed.forget(number);
                    if !self.is_sealed(number)? {
                        continue 'again;
                    }
                    return Err(fault);
                }
            }
            return Ok(found.into_iter().take_while(|index| *index < upto).collect());
        }
    }

    fn sealed_descendants(
        &self,
        number: u64,
        of: Position,
        found: &mut BTreeSet<LogIndex>,
    ) -> Result<(), Fault> {
        let file = self.sealed.get(number)?;
        file.read(|transaction| descents::find(&transaction.open_table(DESCENTS)?, of, found))
    }
}
