//! What becomes of a record that cannot be handled: it goes to the plugin's dead-letter topic, whole, with headers
//! that say why and where it lay. Of a timer its name goes there, and where the record lies that set it.

use bytes::Bytes;
use tidemill_core::limits;
use tidemill_core::plugin::{Effects, Emitted, Header, TimerKind};
use tidemill_core::shard::step::DEAD_LETTER;
use tidemill_core::task::TaskSpec;

use super::item::{Content, Item};

/// Bytes of a record that a dead letter holds: with what it says beside them it is as large as a batch may be.
const RECORD_BYTES_MAX: usize = limits::BATCH_BYTES_MAX - 16 * 1024;
/// What a header counts beside its name and value.
const HEADER_OVERHEAD: usize = 10;
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
        facts.push(("dead-letter-cut-from-bytes", bytes.to_string()));
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

/// What a dead letter keeps of a record.
struct Kept {
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<Header>,
}

/// As much of a record as a dead letter can hold; and what all of it takes, where that is less. (A record that was
/// compressed may be larger than any batch.)
fn fitted(record: Kept) -> (Kept, Option<usize>) {
    let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    let taken = |headers: &[Header]| -> usize {
        headers.iter().map(|header| header.name.len() + length(&header.value) + HEADER_OVERHEAD).sum()
    };
    let whole = length(&record.key) + length(&record.value) + taken(&record.headers);
    if whole <= RECORD_BYTES_MAX {
        return (record, None);
    }
    let Kept { key, value, headers } = record;
    let headers = if taken(&headers) > RECORD_BYTES_MAX / 4 { Vec::new() } else { headers };
    let cut = |part: Bytes, most: usize| part.slice(..part.len().min(most));
    let key = key.map(|key| cut(key, RECORD_BYTES_MAX / 4));
    let left = RECORD_BYTES_MAX - taken(&headers) - length(&key);
    let value = value.map(|value| cut(value, left));
    (Kept { key, value, headers }, Some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_too_large_is_cut_and_says_so() {
        let header = |bytes| Header { name: "h".into(), value: Some(Bytes::from(vec![3; bytes])) };
        let bytes = |kept: &Kept| {
            let part = |part: &Option<Bytes>| part.as_ref().map(Bytes::len);
            (part(&kept.key), part(&kept.value), kept.headers.len())
        };
        let fit = |key: usize, value: usize, headers: &[usize]| {
            let headers = headers.iter().copied().map(header).collect();
            let part = |bytes| Some(Bytes::from(vec![1; bytes]));
            let (kept, whole) = fitted(Kept { key: part(key), value: part(value), headers });
            (bytes(&kept), whole)
        };
        const MAX: usize = RECORD_BYTES_MAX;
        assert_eq!(fit(7, MAX - 7, &[]), ((Some(7), Some(MAX - 7), 0), None));
        assert_eq!(fit(7, MAX, &[]), ((Some(7), Some(MAX - 7), 0), Some(MAX + 7)));
        assert_eq!(fit(0, MAX, &[9]), ((Some(0), Some(MAX - 20), 1), Some(MAX + 20)));
        assert_eq!(fit(MAX, 9, &[MAX]), ((Some(MAX / 4), Some(9), 0), Some(2 * MAX + 20)));
    }
}
