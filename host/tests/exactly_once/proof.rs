//! What a broker kept, read from its groups, and held against what must be.

use std::collections::BTreeMap;
use std::io::Cursor;

use bytes::Bytes;
use order_chain_oracle::{Config, Rec};
use tidemill_checker::{History, Logged, LoggedRecord, Report, check, records};
use tidemill_core::catalog;
use tidemill_core::entry::{Entry, EntryKind};
use tidemill_core::fault::Fault;
use tidemill_core::ids::TaskId;
use tidemill_core::shard::step::{self, Outcome, StepMeta};
use tidemill_core::tables::{Key, View, end_of_prefix};
use tidemill_host::broker::Broker;
use tidemill_protocol::ids::{Partition, Position, TopicId};
use tidemill_storage::log::Payload;

use crate::chain::{ORDERS, Order, PARTITIONS, chain};
use crate::picky;
use crate::producer::Producer;
use crate::story::Broken;

/// Bytes of one page of a log.
const PAGE_BYTES: usize = 4 << 20;
/// What is told of violations.
const TOLD_MAX: usize = 10;

/// What a broker kept, at one moment.
pub struct Kept {
    /// Its logs and states.
    pub history: History,
    /// The names of its topics.
    pub names: BTreeMap<TopicId, String>,
    /// The configuration of its plugins: `plugin.key` and the value.
    config: BTreeMap<String, String>,
}

impl Kept {
    /// Reads it all. Nothing may be committed meanwhile.
    pub fn of(broker: &Broker) -> Result<Kept, Fault> {
        let mut history = History::default();
        for shard in &broker.shards {
            let (mut next, end) = (0, shard.upto().0);
            let log = history.shards.entry(shard.id).or_default();
            while next < end {
                for entry in shard.group.log().entries(next..end, PAGE_BYTES)? {
                    next = entry.id.index.0 + 1;
                    if let Payload::Entry(encoded) = &entry.payload {
                        let (index, term) = (entry.id.index, entry.id.term);
                        log.push(Logged { index, term, bytes: encoded.bytes().clone() });
                    }
                }
            }
        }
        let mut config = BTreeMap::new();
        for deployment in broker.deployments()? {
            let spec = &deployment.spec;
            // What is not of the chain, its oracle knows nothing of.
            for (key, value) in spec.config.iter().filter(|_| deployment.name != picky::NAME) {
                config.insert(format!("{}.{key}", deployment.name), value.clone());
            }
            for partition in (0..spec.tasks()).map(Partition) {
                let task = TaskId { deployment: deployment.id, partition };
                let tables = broker.shards[usize::from(spec.home_of(partition).0)].group.tables();
                history.states.insert(task, state(&tables, task)?);
            }
        }
        let topics = catalog::topics(&broker.catalog.view())?;
        let names = topics.into_iter().map(|topic| (topic.id, topic.name)).collect();
        Ok(Kept { history, names, config })
    }

    /// A number that stands for all entries and states.
    pub fn digest(&self) -> u64 {
        let logs = self.history.shards.values().flatten().map(|logged| &logged.bytes);
        let states = self.history.states.values().flatten().flat_map(|(key, value)| [key, value]);
        let all = logs.chain(states).flat_map(|bytes| bytes.iter());
        // FNV-1a, by Fowler, Noll and Vo.
        all.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// Proves that everything happened exactly once: step by step, by what the chain means, and by what the producer
    /// was told.
    pub async fn prove(&self, orders: &[Order], producer: &Producer) -> Result<Report, Broken> {
        let report = check(&self.history, &chain().scratch()).await;
        if !report.holds() {
            return Err(Broken::Violated(told(&report.violations)));
        }
        let unreadable = |violation| Broken::Violated(format!("{violation}"));
        let mut topics: BTreeMap<&str, Vec<LoggedRecord>> = BTreeMap::new();
        for one in records(&self.history).map_err(unreadable)? {
            topics.entry(&self.names[&one.at.topic]).or_default().push(one);
        }
        has_all(&topics[ORDERS], producer)?;
        let (picked, letters) = (topics.remove(picky::PICKED), topics.remove(picky::LETTERS));
        picky::prove(
            &topics[ORDERS],
            &picked.unwrap_or_default(),
            &letters.unwrap_or_default(),
            &self.redrives(),
        )?;
        picky::prove_log(&topics.remove(picky::LOG).unwrap_or_default())?;
        if let Some((name, _)) = topics.iter().find(|(name, _)| name.ends_with(".dead-letter")) {
            return Err(Broken::Violated(format!("{name} is not empty")));
        }
        let file: String = orders.iter().map(|order| format!("{}\n", order.line)).collect();
        let config = Config::from_values(&self.config).map_err(Broken::Fault)?;
        let recs = topics
            .into_iter()
            .map(|(name, told)| (name.to_owned(), told.into_iter().map(|told| self.rec(told)).collect()));
        let violations = order_chain_oracle::check(Cursor::new(file), &config, recs.collect());
        if !violations.is_empty() {
            return Err(Broken::Violated(told(&violations)));
        }
        Ok(report)
    }

    /// How many dead letters were given to their plugin again, and how many of them it gave up again.
    pub fn redriven(&self) -> (usize, usize) {
        let redrives = self.redrives();
        let again = redrives.iter().filter(|(_, is_handled)| !is_handled);
        (redrives.len(), again.count())
    }

    /// The dead letters that were given to their plugin again, by the steps, and whether it handled them.
    fn redrives(&self) -> Vec<(Position, bool)> {
        let entries =
            self.history.shards.values().flatten().map(|logged| Entry::parse(&logged.bytes).unwrap());
        let metas =
            entries.filter(|entry| entry.kind == EntryKind::Step).map(|entry| step::meta(&entry).unwrap());
        let redrive = |meta: StepMeta| match meta.outcome {
            Outcome::Done => meta.letter.map(|letter| (letter, true)),
            Outcome::DeadLettered { .. } => meta.letter.map(|letter| (letter, false)),
            Outcome::Failed { .. } | Outcome::Stopped { .. } => None,
        };
        metas.filter_map(redrive).collect()
    }

    fn rec(&self, told: LoggedRecord) -> Rec {
        let parent = told.derived.map(|(_, _, line)| line.parent);
        Rec {
            partition: told.at.partition.0,
            offset: told.record.offset.0,
            key: told.record.key.map(Vec::from),
            value: told.record.value.map(Vec::from),
            parent: parent
                .map(|parent| (self.names[&parent.at.topic].clone(), parent.at.partition.0, parent.offset.0)),
        }
    }
}

/// Every order that was acknowledged lies where it was said to lie.
fn has_all(told: &[LoggedRecord], producer: &Producer) -> Result<(), Broken> {
    let mut there = BTreeMap::new();
    for one in told {
        there
            .insert((one.at.partition, one.record.offset.0), one.record.value.as_deref().unwrap_or_default());
    }
    for partition in (0..PARTITIONS).map(Partition) {
        for (order, offset) in producer.acknowledged_of(partition).iter().zip(0..) {
            if there.get(&(partition, offset)) != Some(&order.line.as_bytes()) {
                let (partition, at) = (partition.0, offset);
                return Err(Broken::Lost(format!("partition {partition}: no such order at offset {at}")));
            }
        }
    }
    Ok(())
}

fn state(tables: &dyn View, task: TaskId) -> Result<BTreeMap<Bytes, Bytes>, Fault> {
    let prefix = Key::state_prefix(task);
    let rows = tables.scan(&prefix, end_of_prefix(&prefix).as_deref(), usize::MAX)?;
    Ok(rows.into_iter().map(|(key, value)| (key.slice(prefix.len()..), value)).collect())
}

fn told<V: ToString>(violations: &[V]) -> String {
    let shown: Vec<String> = violations.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    format!("{} violations:\n{}", violations.len(), shown.join("\n"))
}
