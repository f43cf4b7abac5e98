//! The record of a dead letter, as the step is given it that redrives the letter.
//!
//! This is written apart from the broker's own reading, on purpose: the two must come to the same.

use tidemill_core::envelope::{Envelope, Origin};
use tidemill_core::limits;
use tidemill_core::plugin::{Event, Header};
use tidemill_core::seams::Timestamp;
use tidemill_core::shard::step::Source;
use tidemill_core::task::TaskSpec;
use tidemill_protocol::batch;
use tidemill_protocol::ids::Position;

use crate::ledger::Lying;
use crate::range::Found;

const FIRST_FACT: &str = "dead-letter-plugin";
const APPEND_TIME: &str = "dead-letter-append-time-ms";

/// What a step finds that is given this letter, of those that lie in its partition.
pub(crate) fn given(lying: &[Lying], spec: &TaskSpec, letter: Position) -> Result<Found, String> {
    let behind = lying.partition_point(|one| one.header.base_offset <= letter.offset);
    let one = lying[..behind].last().ok_or("its dead letter is not there")?;
    let records =
        batch::decode(&one.placed.batch, &limits::STORED_BATCH).map_err(|error| error.to_string())?;
    let number = records.iter().position(|record| record.offset == letter.offset);
    let number = number.ok_or("its dead letter is not there")?;
    let envelope = Envelope::parse(&one.placed.envelope).map_err(|error| error.to_string())?;
    let line = match &envelope.origin {
        Origin::Producer => None,
        Origin::Task(derivation) => derivation.lineage.get(number),
    };
    let line = line.ok_or("no task wrote its dead letter")?;
    let record = records.into_iter().nth(number).ok_or("its dead letter is not there")?;
    let mut headers: Vec<Header> =
        record.headers.into_iter().map(|header| Header { name: header.name, value: header.value }).collect();
    let own = headers.iter().rposition(|header| header.name == FIRST_FACT);
    let facts = headers.split_off(own.ok_or("its dead letter says nothing of its record")?);
    let fact = facts.iter().find(|fact| fact.name == APPEND_TIME).and_then(|fact| fact.value.as_deref());
    let append_time = fact.and_then(|ms| std::str::from_utf8(ms).ok()?.parse().ok()).map(Timestamp);
    let append_time = append_time.ok_or("its dead letter does not say when its record was appended")?;
    let input = spec.inputs.iter().position(|input| input.topic == line.parent.at.topic);
    let input = input.ok_or("its dead letter is of a topic that its task does not read")?;
    if line.parent.at.partition != letter.at.partition {
        return Err("its dead letter is of another task".into());
    }
    let source = Source {
        position: line.parent,
        timestamp_ms: record.timestamp_ms,
        root: line.root,
        hops: line.hops.saturating_sub(1),
    };
    let event = Event {
        input: input as u16,
        position: line.parent,
        timestamp_ms: record.timestamp_ms,
        append_time,
        key: record.key,
        value: record.value,
        headers,
    };
    Ok(Found { events: vec![event], sources: vec![source], time: append_time, ..Found::default() })
}
