//! One shard's log, entry by entry: folded into tables of our own, and kept apart by what it says.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::entry::{Entry, EntryKind, PlacedBatch};
use tidemill_core::envelope::is_sealed_for;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{Digest, LogIndex, ShardId, StepNumber, TaskId};
use tidemill_core::limits;
use tidemill_core::shard;
use tidemill_core::shard::control::{self, Control};
use tidemill_core::shard::step;
use tidemill_core::tables::MemoryTables;
use tidemill_core::task::TaskSpec;
use tidemill_protocol::batch::{self, BatchHeader};
use tidemill_protocol::ids::TopicPartition;

use crate::history::{History, Logged};
use crate::log_starts::LogStarts;
use crate::violation::{Report, Violation};
use crate::{Scratch, replay, steps};

/// A batch that lies in a partition.
pub(crate) struct Lying {
    pub(crate) header: BatchHeader,
    pub(crate) placed: PlacedBatch,
}

/// A batch that a step derived for a partition of another shard.
pub(crate) struct Sent {
    pub(crate) task: TaskId,
    pub(crate) step: StepNumber,
    pub(crate) placed: PlacedBatch,
}

/// What a log says.
pub(crate) struct Ledger {
    pub(crate) tables: Arc<MemoryTables>,
    /// The batches of each partition, in its order.
    pub(crate) lying: BTreeMap<TopicPartition, Vec<Lying>>,
    /// What went to other shards, in the order of the log.
    pub(crate) sent: Vec<Sent>,
    pub(crate) report: Report,
}

/// Folds a log, and runs its steps again.
pub(crate) async fn fold(shard: ShardId, log: &[Logged], scratch: &Scratch) -> Ledger {
    let mut ledger = Ledger {
        tables: Arc::default(),
        lying: BTreeMap::new(),
        sent: Vec::new(),
        report: Report::default(),
    };
    let mut entries: BTreeMap<LogIndex, Entry> = BTreeMap::new();
    let mut chains = steps::Chains::default();
    let mut log_starts = LogStarts::default();
    for logged in log {
        let index = logged.index;
        ledger.report.entries += 1;
        let wrong = |what: String| Violation::Log { shard, index, what };
        let entry = match Entry::parse(&logged.bytes) {
            Ok(entry) => entry,
            Err(fault) => {
                ledger.report.violations.push(wrong(fault.to_string()));
                return ledger;
            }
        };
        ledger.report.violations.extend(look_at_batches(&entry).map(wrong));
        if entry.kind == EntryKind::Step {
            let found = chains.follow(shard, index, &entry, &ledger.tables, &mut ledger.report);
            ledger.report.violations.extend(found);
            let (tables, lying) = (&ledger.tables, &ledger.lying);
            let run = replay::Run { shard, logged, entry: &entry, earlier: &entries, tables, lying };
            let found = run.again(scratch, &mut ledger.report).await;
            ledger.report.violations.extend(found);
        }
        let tables = Arc::<MemoryTables>::make_mut(&mut ledger.tables);
        // The tables refuse a batch that leaves a gap, and a step of a task that is not there.
        if let Err(fault) = shard::apply(tables, index, &entry, &mut Vec::new()) {
            ledger.report.violations.push(wrong(fault.to_string()));
            return ledger;
        }
        let moved = log_starts.follow(&entry, &ledger.tables);
        ledger.report.violations.extend(moved.map(wrong));
        keep(&mut ledger, &entry);
        entries.insert(index, entry);
    }
    ledger.report.tasks = chains.tasks() as u64;
    ledger.report.passed_over = log_starts.passed_over;
    ledger
}

/// What is wrong with the batches of an entry by themselves.
fn look_at_batches(entry: &Entry) -> impl Iterator<Item = String> {
    entry.batches.iter().filter_map(|placed| {
        let at = format!("partition {} of topic {}", placed.at.partition.0, placed.at.topic);
        let header = match batch::verify(&placed.batch, &limits::STORED_BATCH) {
            Ok(header) => header,
            Err(error) => return Some(format!("{at}: {error}")),
        };
        if !is_sealed_for(&placed.envelope, placed.at, &header) {
            return Some(format!("{at}: the envelope was sealed for another batch or place"));
        }
        // A producer may have written records that cannot be read; a step never does.
        match batch::decode(&placed.batch, &limits::STORED_BATCH) {
            Err(error) if entry.kind == EntryKind::Step => Some(format!("{at}: {error}")),
            _ => None,
        }
    })
}

fn keep(ledger: &mut Ledger, entry: &Entry) {
    let meta = step::meta(entry).ok().filter(|_| entry.kind == EntryKind::Step);
    for placed in &entry.batches {
        let Ok(header) = BatchHeader::parse(&placed.batch) else { continue };
        match (placed.away, &meta) {
            (None, _) => {
                ledger.report.records += u64::from(header.record_count);
                ledger.lying.entry(placed.at).or_default().push(Lying { header, placed: placed.clone() });
            }
            (Some(_), Some(meta)) => {
                ledger.sent.push(Sent { task: meta.task, step: meta.step, placed: placed.clone() });
            }
            (Some(_), None) => {}
        }
    }
}

/// What was deployed for its steps: whatever `named` finds in the specs of its tasks.
pub(crate) fn deployed(
    history: &History,
    named: impl Fn(&TaskSpec) -> Vec<Digest>,
) -> Result<Vec<Digest>, Violation> {
    let mut digests = Vec::new();
    for (shard, log) in &history.shards {
        for logged in log {
            let wrong =
                |fault: Fault| Violation::Log { shard: *shard, index: logged.index, what: fault.to_string() };
            let entry = Entry::parse(&logged.bytes).map_err(wrong)?;
            if entry.kind == EntryKind::Control
                && let Control::StartTasks { spec, .. } = control::command(&entry).map_err(wrong)?
            {
                digests.extend(named(&spec));
            }
        }
    }
    digests.sort();
    digests.dedup();
    Ok(digests)
}

/// Bytes of a batch without what the broker stamps on it.
pub(crate) fn unstamped(batch: &Bytes) -> (Bytes, Bytes) {
    (batch.slice(8..12), batch.slice(16..))
}
