//! What the index of descent costs an append: the call alone, without the disk behind it, of entries that differ only in
//! what their envelopes say.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use tidemill_core::descent;
use tidemill_core::entry::{Entry, PlacedBatch};
use tidemill_core::envelope::{Derivation, Envelope, Lineage, Origin};
use tidemill_core::ids::{Digest, Generation, StepNumber, TaskId};
use tidemill_core::seams::{Timestamp, World};
use tidemill_protocol::ids::{Offset, Partition, Position, TopicId, TopicPartition};
use tidemill_storage::log::{EncodedEntry, LogEntry, Payload};

use super::{entry, open};

const ENTRIES: u64 = 20_000;
/// Of one that has many records, so that what is measured is not the memory that they take.
const FEW_ENTRIES: u64 = 2_000;

pub(super) async fn appending(world: &World, place: &Path) -> Result<()> {
    for (name, records, apart, entries) in [
        ("produced, of one record", 0, 1, ENTRIES),
        ("derived, of one record", 1, 1, ENTRIES),
        ("derived, of 100 records in a row", 100, 1, FEW_ENTRIES),
        ("derived, of 1,000 records in a row", 1_000, 1, FEW_ENTRIES),
        ("derived, of 100 records far apart", 100, 1_000, FEW_ENTRIES),
    ] {
        let log = open(world, place.join(format!("descent-{records}-{apart}")))?;
        let (mut took, mut rows) = (Duration::ZERO, 0);
        for index in 0..entries {
            let logged = with_parents(entry(index, 1_000), index * records * apart, records, apart);
            if let Payload::Entry(inner) = &logged.payload {
                rows += descent::covers(inner).len();
            }
            log.wait_for_room().await;
            let begun = Instant::now();
            log.append(vec![logged], Box::new(|_| {}));
            took += begun.elapsed();
        }
        log.close().await?;
        let each = took.as_secs_f64() * 1e6 / entries as f64;
        println!(
            "append, the call alone, an entry {name}: {each:.2} µs, {} rows an entry",
            rows as u64 / entries
        );
    }
    Ok(())
}

/// The entry, with an envelope that names so many parents, so far apart; none for a produced one.
fn with_parents(logged: LogEntry, first: u64, records: u64, apart: u64) -> LogEntry {
    let Payload::Entry(inner) = &logged.payload else { return logged };
    let mut inner: Entry = (*inner.shared()).clone();
    if records == 0 {
        return LogEntry { id: logged.id, payload: Payload::Entry(EncodedEntry::new(inner)) };
    }
    let at = TopicPartition { topic: TopicId([2; 16]), partition: Partition(0) };
    let line = |number| {
        let parent = Position { at, offset: Offset(first + number * apart) };
        Lineage { parent, root: parent, hops: 1 }
    };
    let by = Derivation {
        task: TaskId::default(),
        generation: Generation(1),
        digest: Digest::default(),
        step: StepNumber(1),
        by_timer: false,
        event_time_watermark_ms: None,
        lineage: (0..records).map(line).collect(),
    };
    let envelope = Envelope { append_time: Timestamp(1), origin: Origin::Task(by) };
    inner.batches = inner
        .batches
        .into_iter()
        .map(|placed| PlacedBatch { envelope: envelope.seal(placed.at, Offset(0), 0), ..placed })
        .collect();
    LogEntry { id: logged.id, payload: Payload::Entry(EncodedEntry::new(inner)) }
}
