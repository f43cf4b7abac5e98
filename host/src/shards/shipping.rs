//! What steps derived for partitions of other shards, on its way there.
//!
//! One loop for each pair of shards. It finds what is pending in the source's tables, so that nothing is lost with
//! the memory of a broker; it ships in the order of each task's steps; and what has arrived it tells the source, so
//! that the log need not spare it any longer. If it dies between the two, the target knows the batches again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::catalog::topic_by_id;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{LogIndex, ShardId, StepNumber, TaskId};
use tidemill_core::rows::{LinkRow, PendingRow};
use tidemill_core::seams::World;
use tidemill_core::shard::Deciding;
use tidemill_core::shard::ship::{self, Reception, Shipment, Shipped};
use tidemill_core::shard::step;
use tidemill_core::tables::{Key, Row, View, end_of_prefix};
use tidemill_protocol::ids::TopicPartition;
use tidemill_storage::log::Payload;

use super::leader::Refused;
use super::shard::Shard;
use crate::catalog::Catalog;
use crate::metrics::Metrics;
use crate::reserve::Reserve;

/// Steps looked at in one round.
const ROUND_STEPS_MAX: usize = 256;
/// Bytes shipped in one round, unless a single step has more.
const ROUND_BYTES_MAX: usize = 4 << 20;
/// Batches shipped in one round, unless a single step has more: they go into one entry.
const ROUND_BATCHES_MAX: usize = 16_384;
/// How long to wait before what could not be read is looked at again.
const FAULT_PAUSE: Duration = Duration::from_secs(1);
/// How long to wait before a round that could not go on is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Ships from one shard to another, for ever.
pub async fn run(
    world: World,
    source: Arc<Shard>,
    target: Arc<Shard>,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    reserve: Arc<Reserve>,
) {
    let wake = &source.machine.to_ship[usize::from(target.id.0)];
    // What was told to the source in this term and may still be on its way into the tables.
    let (mut told, mut term) = (BTreeMap::new(), None);
    loop {
        let Some(leader) = source.leader() else {
            wake.notified().await;
            continue;
        };
        if term.replace(leader.term()) != Some(leader.term()) {
            told.clear();
        }
        let (round, is_all) = match next(&source, target.id, &told) {
            Ok(round) => round,
            Err(fault) => {
                tracing::error!(from = source.id.0, to = target.id.0, %fault, "what is to be shipped cannot be read");
                world.clock.sleep(FAULT_PAUSE).await;
                continue;
            }
        };
        if round.is_empty() {
            match is_all {
                true => wake.notified().await,
                // What lies behind all that was told is seen once some of it is gone, and nobody says when.
                false => world.clock.sleep(PAUSE).await,
            }
            continue;
        }
        reserve.room().await;
        if let Err(refused) = ship(&source, &target, &catalog, round, &mut told, &metrics).await {
            tracing::debug!(from = source.id.0, to = target.id.0, %refused, "shipping waits");
            world.clock.sleep(PAUSE).await;
        }
    }
}

/// One step's batches for the target.
struct Pending {
    task: TaskId,
    step: StepNumber,
    shipments: Vec<Shipment>,
}

/// What is pending for a shard, in the order of each task's steps; and whether it was looked at to the end, if it is
/// nothing.
fn next(
    source: &Shard,
    to: ShardId,
    told: &BTreeMap<TaskId, StepNumber>,
) -> Result<(Vec<Pending>, bool), Fault> {
    let start = Key::pending_prefix(to);
    let end = end_of_prefix(&start);
    let tables = source.group.tables();
    let mut round: Vec<Pending> = Vec::new();
    let (mut bytes, mut batches) = (0, 0);
    // What was told is still in the tables for a moment; look past it.
    let most = ROUND_STEPS_MAX + told.len() * ROUND_STEPS_MAX;
    let rows = tables.scan(&start, end.as_deref(), most)?;
    let is_all = rows.len() < most;
    for (key, value) in rows {
        let Key::Pending(_, task, step) = Key::decode(&key)? else { continue };
        if told.get(&task).is_some_and(|told| step <= *told) {
            continue;
        }
        let shipments = read(source, PendingRow::decode(&value)?.index, to)?;
        bytes += shipments.iter().map(|shipment| shipment.batch.bytes()).sum::<usize>();
        batches += shipments.len();
        if batches > ROUND_BATCHES_MAX && !round.is_empty() {
            break;
        }
        round.push(Pending { task, step, shipments });
        if round.len() >= ROUND_STEPS_MAX || bytes >= ROUND_BYTES_MAX {
            break;
        }
    }
    Ok((round, is_all))
}

/// The batches for a shard in the entry of a step.
fn read(source: &Shard, index: LogIndex, to: ShardId) -> Result<Vec<Shipment>, Fault> {
    let entries = source.group.log().entries(index.0..index.0 + 1, usize::MAX)?;
    let Some(Payload::Entry(entry)) = entries.first().map(|entry| &entry.payload) else {
        return Err(Fault::damaged("a shard's log", format!("no step at {} where one is pending", index.0)));
    };
    let meta = step::meta(entry)?;
    let link = LinkRow { generation: meta.generation, step: meta.step };
    let away = entry.batches.iter().filter(|batch| batch.away.is_some());
    let all = away.zip(meta.previous).map(|(batch, previous)| Shipment {
        task: meta.task,
        link,
        previous,
        batch: batch.clone(),
    });
    Ok(all.filter(|shipment| shipment.batch.away == Some(to)).collect())
}

async fn ship(
    source: &Shard,
    target: &Shard,
    catalog: &Catalog,
    round: Vec<Pending>,
    told: &mut BTreeMap<TaskId, StepNumber>,
    metrics: &Metrics,
) -> Result<(), Refused> {
    let shipments: Vec<Shipment> = round.iter().flat_map(|pending| pending.shipments.clone()).collect();
    let decide = |deciding: &Deciding<'_>| ship::decide_arrival(deciding, &shipments);
    let (receptions, commit) = target.propose(decide).await?;
    commit.applied().await?;

    let mut receptions = receptions.into_iter();
    let mut arrived = Vec::new();
    let mut halted = Vec::new();
    for pending in round {
        let answers: Vec<_> = receptions.by_ref().take(pending.shipments.len()).collect();
        let mut is_there = true;
        for (shipment, answer) in pending.shipments.iter().zip(&answers) {
            is_there &= has_arrived(&pending, *answer) || is_gone(catalog, shipment.batch.at, *answer)?;
        }
        if is_there && !halted.contains(&pending.task) {
            metrics.shipped(answers.iter().filter(|answer| **answer == Reception::Taken).count());
            arrived.push(Shipped { to: target.id, task: pending.task, step: pending.step });
        } else {
            halted.push(pending.task);
        }
    }
    if !arrived.is_empty() {
        source.propose(|deciding| Ok(((), Some(ship::decide_shipped(deciding, &arrived)?)))).await?;
        told.extend(arrived.iter().map(|word| (word.task, word.step)));
    }
    // What halted waits for its partition, or for what lies before it.
    if halted.is_empty() { Ok(()) } else { Err(Refused::NotLeader) }
}

/// Whether a batch has nowhere to go: its topic was deleted.
fn is_gone(catalog: &Catalog, at: TopicPartition, answer: Reception) -> Result<bool, Fault> {
    Ok(answer == Reception::NoPartition && topic_by_id(&catalog.view(), at.topic)?.is_none())
}

fn has_arrived(pending: &Pending, answer: Reception) -> bool {
    match answer {
        Reception::Taken | Reception::Known => true,
        Reception::NoPartition => false,
        Reception::Gap { last } => {
            tracing::warn!(task = %pending.task, step = pending.step.0, last = last.step.0, "shipped too early");
            false
        }
        Reception::Fenced => {
            tracing::error!(task = %pending.task, step = pending.step.0, "a newer generation was there before");
            true
        }
    }
}
