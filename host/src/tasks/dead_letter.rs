//! What becomes of a record that cannot be handled: it goes to the plugin's dead-letter topic, whole, with headers
//! that say why and where it lay. Of a timer its name goes there, and where the record lies that set it.

use bytes::Bytes;
use tidemill_core::dead_letter::{CUT_FROM, Kept, fitted};
use tidemill_core::plugin::{Effects, Emitted, Header, TimerKind};
use tidemill_core::shard::step::DEAD_LETTER;
use tidemill_core::task::TaskSpec;

use super::item::{Content, Item};

/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 2_048;

/// A reason as it is written down.
pub fn reason(text: String) -> String {
    let mut text = text;
    if text.len() > REASON_BYTES_MAX {
        text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
    }
    text
}

/// The effects of a step that gives up on its only item.
pub fn effects(spec: &TaskSpec, item: &Item, reason: &str, attempts: u32) -> Effects {
    let position = item.source.position;
    let (key, value, headers) = match &item.content {
        Content::Event(event) => (event.key.clone(), event.value.clone(), event.headers.clone()),
        Content::Unreadable(unreadable) => (None, Some(unreadable.batch.clone()), Vec::new()),
        Content::Timer(timer) => (None, Some(timer.name.clone()), Vec::new()),
    };
    let (Kept { key, value, mut headers }, whole) = fitted(Kept { key, value, headers });
    let input = spec.inputs.iter().find(|input| input.topic == position.at.topic);
    let topic = input.map(|input| input.name.clone()).unwrap_or_default();
    let mut facts: Vec<(&str, String)> = vec![
        ("dead-letter-plugin", spec.name.clone()),
        ("dead-letter-component", spec.digest.to_string()),
        ("dead-letter-topic", topic),
        ("dead-letter-partition", position.at.partition.0.to_string()),
        ("dead-letter-offset", position.offset.0.to_string()),
        ("dead-letter-attempts", attempts.to_string()),
        ("dead-letter-reason", reason.to_owned()),
    ];
    if let Some(bytes) = whole {
        facts.push((CUT_FROM, bytes.to_string()));
    } else if let Content::Event(event) = &item.content {
        // Only what has this can be given to the plugin again: the letter is then all that the event was.
        facts.push(("dead-letter-append-time-ms", event.append_time.0.to_string()));
    }
    if let Content::Timer(timer) = &item.content {
        let kind = match timer.kind {
            TimerKind::AppendTime => "append-time",
            TimerKind::EventTime => "event-time",
        };
        facts.push(("dead-letter-timer", kind.to_owned()));
        facts.push(("dead-letter-timer-at-ms", timer.at_ms.to_string()));
    }
    let facts =
        facts.into_iter().map(|(name, fact)| Header { name: name.into(), value: Some(Bytes::from(fact)) });
    headers.extend(facts);
    let emitted = Emitted { parent: 0, output: DEAD_LETTER, key, value, headers, timestamp_ms: None };
    Effects { emitted: vec![emitted], ..Effects::default() }
}
