//! The dead letters that a task is to be given again, as the events that they were.
//!
//! Of a letter that waits the shard's tables say only that; the event is read out of the letter, which holds all of it.
//! So it does not matter whether the topic that it lay in still has it.

use tidemill_core::fault::Fault;
use tidemill_core::rows::RedriveRow;
use tidemill_core::task::TaskSpec;
use tidemill_protocol::ids::Position;

use super::item::{Content, Item};
use crate::letters;
use crate::shards::Shard;

/// The event of a letter that waits; none when the letter is not there any more.
///
/// # Errors
/// A [`Fault`] of the storage, or when what waits is no letter of an event that the task reads.
pub fn item(
    shard: &Shard,
    spec: &TaskSpec,
    letter: Position,
    row: RedriveRow,
) -> Result<Option<Item>, Fault> {
    let damaged = |what: String| Fault::damaged("a dead letter that is to be redriven", what);
    let (found, _) = letters::read(shard, shard.end(), letter.at, letter.offset, 1)?;
    let Some(found) = found.into_iter().find(|found| found.at.offset == letter.offset.0) else {
        return Ok(None);
    };
    let (event, source) = found.original(spec).map_err(|why| damaged(why.to_string()))?;
    if source.position.at.topic != row.source {
        return Err(damaged("its record lay in another topic than was said".into()));
    }
    let (time, content) = (event.append_time, Content::Event(event));
    Ok(Some(Item { content, source, time, consumes: None, letter: Some(letter) }))
}
