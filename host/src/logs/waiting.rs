//! The lines of a shard's tasks that wait to be written.
//!
//! Invariant: what waits is at most [`limits::LOG_WAITING_BYTES_MAX`] for each plugin, and
//! [`limits::LOG_WAITING_SHARD_BYTES_MAX`] in all; beyond that the oldest lines of the plugin that writes give way. Each
//! line that is not written is counted in a line that is, before the next one of its task.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use tidemill_core::ids::DeploymentId;
use tidemill_core::limits;
use tidemill_core::task::TaskSpec;
use tidemill_protocol::ids::{Partition, TopicId, TopicPartition};
use tidemill_runtime::LogLevel;

use super::line::{Line, Tried};

/// The lines that wait, of all plugins.
#[derive(Debug, Default)]
pub struct Waiting {
    plugins: BTreeMap<DeploymentId, OfPlugin>,
    /// Of all lines.
    bytes: usize,
}

/// The lines of one plugin.
#[derive(Debug)]
struct OfPlugin {
    name: String,
    topic: TopicId,
    lines: VecDeque<Line>,
    bytes: usize,
    dropped: BTreeMap<Partition, Dropped>,
}

/// Lines of a task that were not written.
#[derive(Debug)]
struct Dropped {
    count: u64,
    /// What the last of them was of.
    last: Tried,
}

/// The lines of one task, to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The plugin's name.
    pub plugin: String,
    /// Where they go.
    pub at: TopicPartition,
    /// They, in order; at least one.
    pub lines: Vec<Line>,
}

impl Share {
    /// How many of them the plugin wrote.
    pub fn own_lines(&self) -> u64 {
        self.lines.iter().filter(|line| line.dropped == 0).count() as u64
    }
}

impl Waiting {
    /// Adds lines of a plugin that has a log, and returns how many that it wrote gave way.
    pub fn add(&mut self, spec: &TaskSpec, topic: TopicId, lines: impl Iterator<Item = Line>) -> u64 {
        let of_plugin = self.plugins.entry(spec.deployment).or_insert_with(|| OfPlugin {
            name: spec.name.clone(),
            topic,
            lines: VecDeque::new(),
            bytes: 0,
            dropped: BTreeMap::new(),
        });
        let mut gave_way = 0;
        for line in lines {
            self.bytes += line.bytes();
            of_plugin.bytes += line.bytes();
            of_plugin.lines.push_back(line);
            while of_plugin.bytes > limits::LOG_WAITING_BYTES_MAX
                || self.bytes > limits::LOG_WAITING_SHARD_BYTES_MAX
            {
                let Some(oldest) = of_plugin.lines.pop_front() else { break };
                self.bytes -= oldest.bytes();
                of_plugin.bytes -= oldest.bytes();
                gave_way += u64::from(oldest.dropped == 0);
                of_plugin.count(&oldest);
            }
        }
        gave_way
    }

    /// Takes all lines, by task.
    pub fn take(&mut self) -> Vec<Share> {
        self.bytes = 0;
        // A try that was late may have brought one back that is no more.
        self.plugins.retain(|_, of_plugin| !of_plugin.lines.is_empty() || !of_plugin.dropped.is_empty());
        let mut shares = Vec::new();
        for (deployment, of_plugin) in &mut self.plugins {
            of_plugin.bytes = 0;
            let mut tasks: BTreeMap<Partition, Vec<Line>> = BTreeMap::new();
            for (task, dropped) in mem::take(&mut of_plugin.dropped) {
                tasks.entry(task).or_default().push(dropped.line());
            }
            for line in mem::take(&mut of_plugin.lines) {
                tasks.entry(line.tried.task).or_default().push(line);
            }
            let topic = of_plugin.topic;
            shares.extend(tasks.into_iter().map(|(partition, lines)| Share {
                deployment: *deployment,
                plugin: of_plugin.name.clone(),
                at: TopicPartition { topic, partition },
                lines,
            }));
        }
        shares
    }

    /// Lines that were taken could not be written; if their plugin is there still, its next line says so.
    pub fn lose(&mut self, share: &Share) {
        if let Some(of_plugin) = self.plugins.get_mut(&share.deployment) {
            share.lines.iter().for_each(|line| of_plugin.count(line));
        }
    }

    /// A plugin is no more.
    pub fn forget(&mut self, deployment: DeploymentId) {
        if let Some(of_plugin) = self.plugins.remove(&deployment) {
            self.bytes -= of_plugin.bytes;
        }
    }
}

impl OfPlugin {
    /// Counts a line that is not written.
    fn count(&mut self, line: &Line) {
        let dropped = self.dropped.entry(line.tried.task);
        let dropped = dropped.or_insert(Dropped { count: 0, last: line.tried });
        // One that says how many were dropped before it stands for these.
        dropped.count += line.dropped.max(1);
        dropped.last = line.tried;
    }
}

impl Dropped {
    /// The line that says so.
    fn line(self) -> Line {
        let count = self.count;
        let message = format!(
            "{count} lines were dropped here: they came faster than a log is written, or could not be written"
        );
        Line { tried: self.last, level: LogLevel::Warn, message, dropped: count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_core::ids::{Generation, StepNumber};
    use tidemill_core::seams::Timestamp;

    use crate::logs::line::OVERHEAD;

    fn spec(deployment: u64) -> TaskSpec {
        let text = format!(
            r#"{{"deployment":{deployment},"name":"p{deployment}","generation":1,"digest":"{}","inputs":[],"outputs":[],
            "dead_letter":{{"topic":"{}","name":"d","shards":[],"batch_bytes_max":1}},"config":{{}},"limits":{{}},
            "failure":{{}},"hops_max":1}}"#,
            "0".repeat(64),
            TOPIC
        );
        serde_json::from_str(&text).unwrap()
    }

    fn lines(task: u32, steps: std::ops::Range<u64>, bytes: usize) -> impl Iterator<Item = Line> {
        steps.map(move |step| {
            let (generation, task, step) = (Generation(1), Partition(task), StepNumber(step));
            let tried = Tried { generation, task, step, attempt: 1, at: Timestamp(step.0) };
            Line { tried, level: LogLevel::Info, message: "x".repeat(bytes), dropped: 0 }
        })
    }

    const TOPIC: TopicId = TopicId([1; 16]);
    /// With so many bytes a line, a plugin may have a hundred.
    const HUNDREDTH: usize = limits::LOG_WAITING_BYTES_MAX / 100 - OVERHEAD;

    fn steps(share: &Share) -> Vec<(u64, u64)> {
        share.lines.iter().map(|line| (line.tried.step.0, line.dropped)).collect()
    }

    #[test]
    fn the_oldest_give_way_and_the_next_line_of_their_task_says_how_many() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.add(&spec(1), TOPIC, lines(0, 0..60, HUNDREDTH)), 0);
        assert_eq!(waiting.add(&spec(1), TOPIC, lines(1, 0..60, HUNDREDTH)), 20);
        assert_eq!(waiting.add(&spec(2), TOPIC, lines(0, 7..8, 1)), 0, "the others' is theirs");
        let shares = waiting.take();
        assert_eq!(shares.iter().map(|share| share.lines.len()).collect::<Vec<_>>(), [41, 60, 1]);
        assert_eq!(steps(&shares[0])[..2], [(19, 20), (20, 0)]);
        assert!(shares[0].lines[0].message.starts_with("20 lines were dropped here"));
        assert_eq!((steps(&shares[1])[0], steps(&shares[2])[0]), ((0, 0), (7, 0)));
        assert_eq!(waiting.bytes, 0);

        // What could not be written is counted with what gave way before.
        waiting.lose(&shares[0]);
        waiting.add(&spec(1), TOPIC, lines(0, 60..61, 1));
        assert_eq!(steps(&waiting.take()[0]), [(59, 60), (60, 0)]);
        assert_eq!((waiting.bytes, waiting.take()), (0, vec![]));
        assert!(waiting.plugins.is_empty(), "of those that are silent nothing is kept");
    }

    #[test]
    fn all_plugins_together_are_bounded_too_and_what_is_deleted_counts_no_more() {
        let mut waiting = Waiting::default();
        let most = (limits::LOG_WAITING_SHARD_BYTES_MAX / limits::LOG_WAITING_BYTES_MAX) as u64;
        for deployment in 0..most {
            assert_eq!(waiting.add(&spec(deployment), TOPIC, lines(0, 0..100, HUNDREDTH)), 0);
        }
        assert_eq!(waiting.add(&spec(most), TOPIC, lines(3, 0..30, HUNDREDTH)), 30, "there is no room");
        assert!(waiting.bytes <= limits::LOG_WAITING_SHARD_BYTES_MAX);
        waiting.forget(DeploymentId(0));
        assert_eq!(waiting.add(&spec(most), TOPIC, lines(3, 30..60, HUNDREDTH)), 0);
        let shares = waiting.take();
        let last = shares.last().unwrap();
        assert_eq!((last.at.partition, last.lines[0].dropped), (Partition(3), 30));
    }
}
