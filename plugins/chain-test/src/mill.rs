//! Partitions, tasks, and what is under way between them.

use std::collections::{BTreeMap, VecDeque};

use order_chain_oracle::{Config, Rec};
use orders::topics;
use tidemill_plugin_sdk::Record;
use tidemill_plugin_sdk::testing::{MockStep, Outcome};

use crate::tasks::{self, PARTITIONS, PLUGINS, Task};

/// Events of a step, at most.
const STEP_EVENTS: u64 = 40;
/// How seldom timers are due before everything has come to rest.
const TIME_EVERY: u64 = 50;

/// The order chain, at rest or at work.
pub struct Mill {
    /// Records, each with its own time in milliseconds since 1970.
    log: BTreeMap<(String, u32), Vec<(Rec, i64)>>,
    tasks: Vec<Task>,
    /// Per task and target partition, what was committed and has not arrived.
    under_way: BTreeMap<(usize, String, u32), VecDeque<(Rec, i64)>>,
    chance: u64,
}

impl Mill {
    /// A chain without records. The seed decides every choice that a broker would leave to time.
    pub fn new(seed: u64) -> Mill {
        Mill { log: BTreeMap::new(), tasks: tasks::all(), under_way: BTreeMap::new(), chance: seed }
    }

    /// What the oracle must know of the manifests.
    ///
    /// # Panics
    /// When a manifest lacks a number.
    pub fn config() -> Config {
        let values = PLUGINS.iter().flat_map(|(name, manifest, ..)| {
            let config = MockStep::from_manifest(manifest).config().clone();
            config.into_iter().map(move |(key, value)| (format!("{name}.{key}"), value))
        });
        Config::from_values(&values.collect()).expect("manifests with all numbers")
    }

    /// Appends an order as its customer's client would, with the time at which it was made.
    pub fn produce(&mut self, customer: &str, order: &str, timestamp_ms: i64) {
        let (key, value) = (Some(customer.as_bytes().to_vec()), Some(order.as_bytes().to_vec()));
        let partition = partition_of(customer.as_bytes());
        self.append(
            topics::CUSTOMER_ORDERS,
            partition,
            (Rec { partition, offset: 0, key, value, parent: None }, timestamp_ms),
        );
    }

    /// Does one thing that can be done: lets a batch arrive, or a task take a step. False when all is at rest.
    ///
    /// # Panics
    /// When a plugin fails.
    pub fn turn(&mut self) -> bool {
        let arrivals: Vec<_> = self.under_way.keys().cloned().collect();
        let runnable: Vec<_> = (0..self.tasks.len()).filter(|task| self.lag(*task) > 0).collect();
        let choices = (arrivals.len() + runnable.len()) as u64;
        // Time passes whenever it likes, and goes on when nothing else does.
        if choices == 0 || self.below(TIME_EVERY) == 0 {
            let waiting: Vec<_> = (0..self.tasks.len())
                .filter(|task| self.tasks[*task].step.timers().next().is_some())
                .collect();
            if !waiting.is_empty() {
                let task = waiting[self.below(waiting.len() as u64) as usize];
                self.fire(task);
                return true;
            }
        }
        if choices == 0 {
            return false;
        }
        let choice = self.below(choices) as usize;
        match arrivals.get(choice) {
            Some(lane) => self.arrive(lane.clone()),
            None => self.step(runnable[choice - arrivals.len()]),
        }
        true
    }

    /// The records of all topics, as the oracle wants them.
    pub fn topics(&self) -> BTreeMap<String, Vec<Rec>> {
        let mut topics: BTreeMap<String, Vec<Rec>> = BTreeMap::new();
        for ((topic, _), records) in &self.log {
            topics.entry(topic.clone()).or_default().extend(records.iter().map(|(record, _)| record.clone()));
        }
        topics
    }

    fn append(&mut self, topic: &str, partition: u32, (record, timestamp_ms): (Rec, i64)) {
        let log = self.log.entry((topic.to_owned(), partition)).or_default();
        let offset = log.len() as u64;
        log.push((Rec { offset, ..record }, timestamp_ms));
    }

    fn arrive(&mut self, lane: (usize, String, u32)) {
        let waiting = self.under_way.get_mut(&lane).expect("a lane that was just seen");
        let record = waiting.pop_front().expect("lanes are never empty");
        if waiting.is_empty() {
            self.under_way.remove(&lane);
        }
        let (_, topic, partition) = lane;
        self.append(&topic, partition, record);
    }

    fn unread(&self, task: usize, input: usize) -> usize {
        let Task { inputs, partition, .. } = &self.tasks[task];
        let (topic, position) = inputs[input];
        self.log.get(&(topic.to_owned(), *partition)).map_or(0, |log| log.len() - position)
    }

    fn lag(&self, task: usize) -> usize {
        (0..self.tasks[task].inputs.len()).map(|input| self.unread(task, input)).sum()
    }

    fn step(&mut self, task: usize) {
        let events = 1 + self.below(STEP_EVENTS);
        self.tasks[task].step.at_ms(0);
        for _ in 0..events {
            let inputs = 0..self.tasks[task].inputs.len();
            let readable: Vec<_> = inputs.filter(|input| self.unread(task, *input) > 0).collect();
            if readable.is_empty() {
                break;
            }
            let input = readable[self.below(readable.len() as u64) as usize];
            let Task { inputs, partition, step, .. } = &mut self.tasks[task];
            let (topic, position) = &mut inputs[input];
            let (record, timestamp_ms) = self.log[&(topic.to_string(), *partition)][*position].clone();
            *position += 1;
            let record = Record { key: record.key, value: record.value, ..Record::default() };
            step.event(topic, record.timestamp_ms(timestamp_ms));
        }
        let Task { run: (on_events, _), step, .. } = &mut self.tasks[task];
        let outcome = on_events(step);
        self.send(task, outcome);
    }

    /// Lets all of a task's timers be due.
    fn fire(&mut self, task: usize) {
        let Task { run: (_, on_timers), step, .. } = &mut self.tasks[task];
        let outcome = on_timers(step.at_ms(u64::MAX >> 1).event_time_watermark_ms(i64::MAX));
        self.send(task, outcome.expect("all of them are due"));
    }

    fn send(&mut self, task: usize, outcome: Outcome) {
        assert_eq!(outcome.result, Ok(()), "a step of task {task}");
        for emitted in outcome.emitted {
            let Record { key, value, timestamp_ms, .. } = emitted.record;
            let partition = partition_of(key.as_deref().unwrap_or_default());
            let (topic, offset) = emitted.origin;
            let parent = (topic, self.tasks[task].partition, offset);
            let of_parent = || self.log[&(parent.0.clone(), parent.1)][offset as usize].1;
            let timestamp_ms = timestamp_ms.unwrap_or_else(of_parent);
            let lane = self.under_way.entry((task, emitted.topic, partition)).or_default();
            lane.push_back((Rec { partition, offset: 0, key, value, parent: Some(parent) }, timestamp_ms));
        }
    }

    /// A number below `bound`, from the seed (SplitMix64, Steele, Lea and Flood 2014).
    fn below(&mut self, bound: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Any function of the key serves here (this is FNV-1a): the broker's own is proved elsewhere.
fn partition_of(key: &[u8]) -> u32 {
    let hash =
        key.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash % PARTITIONS
}
