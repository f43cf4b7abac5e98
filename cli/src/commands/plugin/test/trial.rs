//! A shard in memory, with the tasks of one plugin and nothing else.
//!
//! Records and steps are decided and applied by the broker's own core; which timers are due, and what a dead letter
//! holds, is the broker's own code too. Only the pump is written again here, since that one lives on a shard's log: one
//! record a step, no pause between attempts, and nobody else at work.
//!
//! What a plugin derives is not given to it again, also where it reads what it writes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use tempfile::TempDir;
use tidemill_core::catalog::TopicSettings;
use tidemill_core::entry::Entry;
use tidemill_core::event_time::{self, EventTimeRow, Observation, Writer};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{Cursor, LogIndex, StepNumber, TaskId, Term};
use tidemill_core::limits;
use tidemill_core::plugin::{Effects, Event, StateView, TimerKind};
use tidemill_core::rows::{TaskRow, TaskStatus};
use tidemill_core::seams::Timestamp;
use tidemill_core::shard::control::{self, Control, NewPartition, NewTask};
use tidemill_core::shard::produce::{self, Produced, Verdict};
use tidemill_core::shard::step::{self, DEAD_LETTER, Outcome, Proposed, Source, StepRefused, TaskState};
use tidemill_core::shard::{self, Deciding};
use tidemill_core::tables::{self, Key, MemoryTables};
use tidemill_core::task::{AfterAttempts, TaskSpec};
use tidemill_core::timers;
use tidemill_host::tasks::alarm::Alarm;
use tidemill_host::tasks::dead_letter;
use tidemill_host::tasks::item::{Consumes, Content, Item};
use tidemill_host::world;
use tidemill_protocol::batch::{BatchBuilder, BatchHeader};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::ids::{Offset, Partition, Position, TopicId, TopicName, TopicPartition};
use tidemill_protocol::partitioner::partition_for_key;
use tidemill_runtime::{
    CodeOptions, GuestFailure, Mounted, Plugin, Runtime, RuntimeOptions, StepInput, compile,
};

use super::lines::{Line, Record};
use super::spec::{DEPLOYMENT, spec};
use super::step::{Derived, Given, Step, Waiting};
use crate::commands::plugin::{FromFiles, bundle};
use crate::commands::serve;

/// Steps of timers that may follow one another before the next line: more set themselves for ever.
const TIMER_STEPS_MAX: u32 = 10_000;

/// The plugin at work.
pub struct Trial {
    runtime: Runtime,
    plugin: Plugin,
    files: Arc<[Mounted]>,
    /// Where these lie.
    _unpacked: TempDir,
    spec: TaskSpec,
    tables: Arc<Mutex<MemoryTables>>,
    /// Entries so far.
    entries: u64,
    now: Timestamp,
    /// Records that a task which stopped was not given.
    left: u64,
}

/// Why a try has no effects.
struct Failed {
    reason: String,
    backtrace: Vec<String>,
    may_pass: bool,
}

impl Trial {
    /// Deploys a plugin, in memory, on topics of so many partitions: as many as the lines name, when none is said.
    ///
    /// # Errors
    /// When its component cannot run.
    pub fn new(plugin: &FromFiles, partitions: Option<u32>, lines: &[Line]) -> anyhow::Result<Trial> {
        let named = lines.iter().filter_map(|line| match line {
            Line::Record(record) => record.partition,
            Line::Tick(_) => None,
        });
        let needed = named.max().map_or(1, |highest| highest + 1);
        let partitions = partitions.unwrap_or(needed);
        if !(needed..=limits::TOPIC_PARTITIONS_MAX).contains(&partitions) {
            let most = limits::TOPIC_PARTITIONS_MAX;
            bail!("{partitions} partitions: the input names {needed}, and at most {most} are possible");
        }
        let code = CodeOptions::default();
        let artifact = compile(&plugin.component, code)?;
        let runtime = Runtime::new(RuntimeOptions { instances: limits::GUEST_MEMORIES_MAX, code })?;
        let threads = tokio::runtime::Handle::current();
        serve::tick(&runtime, world::real(world::RealDisk::default(), threads.clone(), threads).clock)?;
        let spec = spec(plugin, partitions)?;
        let (unpacked, files) = bundle::mounted(plugin)?;
        let mut trial = Trial {
            plugin: runtime.load(&artifact)?,
            files: files.into(),
            _unpacked: unpacked,
            runtime,
            spec,
            tables: Arc::default(),
            entries: 0,
            now: Timestamp(0),
            left: 0,
        };
        trial.start()?;
        Ok(trial)
    }

    /// Makes the partitions and the tasks.
    fn start(&mut self) -> anyhow::Result<()> {
        let spec = &self.spec;
        let inputs = spec.inputs.iter().map(|input| input.topic);
        let outputs = spec.outputs.iter().chain([&spec.dead_letter]).map(|output| output.topic);
        let topics: std::collections::BTreeSet<TopicId> = inputs.chain(outputs).collect();
        let of_topic = |topic: TopicId| {
            (0..spec.tasks()).map(move |partition| NewPartition {
                topic,
                partition,
                batch_bytes_max: TopicSettings::default().max_message_bytes(),
            })
        };
        let partitions = topics.into_iter().flat_map(of_topic).collect();
        let task =
            |partition| NewTask { partition, cursor: Cursor::default(), starts: vec![0; spec.inputs.len()] };
        let tasks = (0..spec.tasks()).map(task).collect();
        let spec = Box::new(spec.clone());
        for command in [Control::CreatePartitions { partitions }, Control::StartTasks { spec, tasks }] {
            let entry = self.decide(|deciding| control::decide(deciding, &command))?;
            self.apply(&entry)?;
        }
        Ok(())
    }

    /// Moves time to a line, and takes it: the steps that this comes to, in order.
    ///
    /// # Errors
    /// When the line cannot be taken, or the plugin's timers set themselves for ever.
    pub async fn take(&mut self, line: Line) -> anyhow::Result<Vec<Step>> {
        let mut steps = Vec::new();
        match line {
            Line::Tick(to) => self.wait(to, &mut steps).await?,
            Line::Record(record) => {
                let own = record.timestamp_ms.map(|ms| Timestamp(u64::try_from(ms).unwrap_or(0)));
                let at = record.append_time.or(own).unwrap_or(self.now).max(self.now);
                self.wait(at, &mut steps).await?;
                let task = self.task_of(&record);
                let item = self.produce(task, &record)?;
                if self.row(task)?.status == TaskStatus::Running {
                    self.handle(task, item, &mut steps).await?;
                } else {
                    self.left += 1;
                }
                self.fire(at, &mut steps).await?;
            }
        }
        Ok(steps)
    }

    /// What is left.
    pub fn waiting(&self) -> Waiting {
        let tables = self.tables();
        let mut waiting = Waiting { timers: Vec::new(), records: self.left };
        for task in self.tasks() {
            for kind in [TimerKind::AppendTime, TimerKind::EventTime] {
                let found = timers::earliest(&*tables, task, kind, usize::MAX).unwrap_or_default();
                waiting.timers.extend(found.into_iter().map(|(timer, _)| (task.partition.0, timer)));
            }
        }
        waiting
    }

    /// Lets time pass, and timers fire when they are due.
    async fn wait(&mut self, until: Timestamp, steps: &mut Vec<Step>) -> anyhow::Result<()> {
        loop {
            let mut next: Option<Timestamp> = None;
            for task in self.tasks() {
                let tables = self.tables();
                let row = self.row_of(&tables, task)?;
                if row.status != TaskStatus::Running {
                    continue;
                }
                let alarm = Alarm::read(&*tables, task, row.step.next())?;
                let to_come = alarm.next(&self.spec, self.now).filter(|next| *next > self.now);
                next = next.into_iter().chain(to_come).min();
            }
            let next = next.filter(|next| *next <= until);
            self.now = next.unwrap_or(until.max(self.now));
            self.fire(self.now, steps).await?;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    /// Fires what is due by now: by a task's own clocks first, then by a tick.
    async fn fire(&mut self, now: Timestamp, steps: &mut Vec<Step>) -> anyhow::Result<()> {
        for task in self.tasks() {
            for fired in 0.. {
                let due = {
                    let tables = self.tables();
                    let row = self.row_of(&tables, task)?;
                    let alarm = Alarm::read(&*tables, task, row.step.next())?;
                    let mut due = alarm.due(&*tables, task, 1)?;
                    if due.is_empty() {
                        due = alarm.due_at(&*tables, &self.spec, task, now, 1)?;
                    }
                    due.into_iter().next().filter(|_| row.status == TaskStatus::Running)
                };
                let Some(item) = due else { break };
                if fired == TIMER_STEPS_MAX {
                    bail!(
                        "after {TIMER_STEPS_MAX} steps of timers, more are due: does a timer set itself to a time that is past?"
                    );
                }
                self.handle(task, item, steps).await?;
            }
        }
        Ok(())
    }

    /// Has a task handle one item: so often, and with that end, as its failure policy says.
    async fn handle(&mut self, task: TaskId, item: Item, steps: &mut Vec<Step>) -> anyhow::Result<()> {
        loop {
            let attempt = self.row(task)?.attempts;
            let (mut step, failed) = self.attempt(task, &item, attempt).await?;
            let Some(failed) = failed else {
                steps.push(step);
                return Ok(());
            };
            let (attempts, reason) = (attempt + 1, dead_letter::reason(failed.reason));
            let policy = &self.spec.failure;
            let is_last = !failed.may_pass || attempts >= policy.attempts;
            let (outcome, consumed, effects) = match policy.then {
                _ if !is_last => (Outcome::Failed { attempts, reason }, 0, Effects::default()),
                AfterAttempts::DeadLetter => {
                    let effects = dead_letter::effects(&self.spec, &item, &reason, attempts);
                    (Outcome::DeadLettered { reason }, 1, effects)
                }
                AfterAttempts::Stop => (Outcome::Stopped { reason }, 0, Effects::default()),
            };
            let committed = self.commit(task, &item, consumed, outcome.clone(), effects)?;
            step.derived =
                committed.map_err(|refused| anyhow!("a step that failed is refused: {refused}"))?;
            (step.outcome, step.backtrace) = (outcome, failed.backtrace);
            steps.push(step);
            if is_last {
                return Ok(());
            }
        }
    }

    /// Runs the guest once, and commits what it wants if all is well.
    async fn attempt(
        &mut self,
        task: TaskId,
        item: &Item,
        attempt: u32,
    ) -> anyhow::Result<(Step, Option<Failed>)> {
        let (input, number) = self.input(task, item, attempt)?;
        let ran = self.runtime.run(&self.plugin, input).await;
        let mut step = Step {
            task: task.partition.0,
            number,
            attempt,
            given: match &item.content {
                Content::Event(event) => {
                    let topic = &self.spec.inputs[usize::from(event.input)].name;
                    Given::Record(topic.clone(), event.position.offset)
                }
                Content::Timer(timer) => Given::Timer(timer.clone()),
                Content::Unreadable(_) => bail!("a line is never an unreadable batch"),
            },
            outcome: Outcome::Done,
            backtrace: Vec::new(),
            derived: Vec::new(),
            state: Vec::new(),
            timers: Vec::new(),
            log: (ran.log, ran.log_lines_dropped),
            usage: ran.usage,
        };
        let failed = match ran.result {
            Ok(effects) => {
                (step.state, step.timers) = (effects.state.clone(), effects.timers.clone());
                match self.commit(task, item, 1, Outcome::Done, effects)? {
                    Ok(derived) => {
                        step.derived = derived;
                        return Ok((step, None));
                    }
                    Err(refused) => {
                        Failed { reason: refused.to_string(), backtrace: Vec::new(), may_pass: false }
                    }
                }
            }
            Err(GuestFailure::Fault(fault)) => return Err(fault.into()),
            Err(failure) => Failed {
                reason: failure.to_string(),
                may_pass: !matches!(failure, GuestFailure::Reject(_)),
                backtrace: match failure {
                    GuestFailure::Trap { backtrace, .. } | GuestFailure::Limit { backtrace, .. } => backtrace,
                    _ => Vec::new(),
                },
            },
        };
        (step.state, step.timers) = (Vec::new(), Vec::new());
        Ok((step, Some(failed)))
    }

    fn input(&self, task: TaskId, item: &Item, attempt: u32) -> anyhow::Result<(StepInput, StepNumber)> {
        let tables = self.tables();
        let number = self.row_of(&tables, task)?.step.next();
        let mut clocks = tables::read::<EventTimeRow>(&*tables, &Key::EventTime(task))?.unwrap_or_default();
        let before = clocks.watermark_ms;
        clocks.observe(&self.spec.event_time, &[], item.time, number);
        let names = |names: Vec<&String>| -> Result<Arc<[TopicName]>, _> {
            names.into_iter().map(|name| TopicName::new(name.as_str())).collect()
        };
        let input = StepInput {
            task,
            partition: task.partition.0,
            attempt,
            events: item.event().cloned().into_iter().collect(),
            event_time_watermark_ms: if item.timer().is_none() { before } else { clocks.watermark_ms },
            time: clocks.time,
            timers: item.timer().cloned().into_iter().collect(),
            inputs: names(self.spec.inputs.iter().map(|input| &input.name).collect())?,
            outputs: names(self.spec.outputs.iter().map(|output| &output.name).collect())?,
            config: Arc::new(self.spec.config.clone()),
            files: self.files.clone(),
            limits: self.spec.limits.clone(),
            state: Arc::new(State { task, tables: self.tables.clone() }),
        };
        Ok((input, number))
    }

    /// Commits a step on an item; gives what it derived.
    fn commit(
        &mut self,
        task: TaskId,
        item: &Item,
        consumed: usize,
        outcome: Outcome,
        effects: Effects,
    ) -> anyhow::Result<Result<Vec<Derived>, StepRefused>> {
        let row = self.row(task)?;
        let mut positions: Vec<Offset> = row.positions.iter().map(|(_, next)| *next).collect();
        let (mut to, mut observed) = (row.cursor, Vec::new());
        if let Some(consumes) = item.consumes.filter(|_| consumed > 0) {
            positions[consumes.input] = consumes.next;
            to = consumes.after;
            consumes.observed.into_iter().for_each(|seen| event_time::note(&mut observed, seen));
        }
        let proposed = Proposed {
            task,
            generation: self.spec.generation,
            jumps: row.jumps,
            known: None,
            from: row.cursor,
            to,
            positions,
            outcome,
            sources: &[item.source],
            time: if consumed > 0 { item.time } else { Timestamp(0) },
            observed,
            fired: item.timer().cloned().filter(|_| consumed > 0).into_iter().collect(),
            letter: item.letter,
            effects,
        };
        let entry = match self.decide(|deciding| step::decide(deciding, &proposed))? {
            Ok(entry) => entry,
            Err(refused) => return Ok(Err(refused)),
        };
        let derived = self.derived(task, item.source, &proposed.effects, &entry)?;
        self.apply(&entry)?;
        Ok(Ok(derived))
    }

    /// What a step emitted, in the order of emitting, each at the offset that its entry gave it.
    fn derived(
        &self,
        task: TaskId,
        source: Source,
        effects: &Effects,
        entry: &Entry,
    ) -> anyhow::Result<Vec<Derived>> {
        let mut next: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
        for placed in &entry.batches {
            next.insert(placed.at, BatchHeader::parse(&placed.batch)?.base_offset);
        }
        let mut derived = Vec::new();
        for emitted in &effects.emitted {
            let output = match emitted.output {
                DEAD_LETTER => &self.spec.dead_letter,
                number => &self.spec.outputs[usize::from(number)],
            };
            let partition = step::partition_of(&self.spec, emitted, task.partition);
            let at = TopicPartition { topic: output.topic, partition };
            let offset = next.get_mut(&at).context("a record that its entry has not")?;
            let headers = emitted.headers.iter().map(|header| (header.name.clone(), header.value.clone()));
            derived.push(Derived {
                topic: output.name.clone(),
                partition,
                offset: *offset,
                timestamp_ms: emitted.timestamp_ms.unwrap_or(source.timestamp_ms),
                key: emitted.key.clone(),
                value: emitted.value.clone(),
                headers: headers.collect(),
            });
            *offset = offset.plus(1);
        }
        Ok(derived)
    }

    /// Writes a record as a producer would, and gives it as its task will see it.
    fn produce(&mut self, task: TaskId, record: &Record) -> anyhow::Result<Item> {
        let timestamp_ms = record.timestamp_ms.unwrap_or(self.now.as_i64());
        let headers: Vec<_> =
            record.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref())).collect();
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers)?;
        let batch = builder.build()?;
        let header = BatchHeader::parse(&batch)?;
        let topic = self.spec.inputs[usize::from(record.input)].topic;
        let at = TopicPartition { topic, partition: task.partition };
        let produced = [Produced { at, batch, header }];
        let (verdicts, entry) = self.decide(|deciding| produce::decide(deciding, &produced))?;
        let offset = match verdicts.into_iter().next() {
            Some(Verdict::Append { base_offset }) => base_offset,
            Some(Verdict::Refuse(rejection)) => bail!("a broker refuses the record: {rejection}"),
            Some(Verdict::Duplicate { .. }) | None => bail!("a record of no producer has no verdict"),
        };
        let entry = entry.context("an entry with the record")?;
        self.apply(&entry)?;
        let position = Position { at, offset };
        let event = Event {
            input: record.input,
            position,
            timestamp_ms,
            append_time: entry.append_time,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        };
        let observed = Observation { input: record.input, writer: Writer::Outside, at_ms: timestamp_ms };
        Ok(Item {
            content: Content::Event(event),
            source: Source { position, timestamp_ms, root: position, hops: 0 },
            time: entry.append_time,
            consumes: Some(Consumes {
                after: Cursor { index: LogIndex(self.entries), skip: 0 },
                input: usize::from(record.input),
                next: offset.plus(1),
                observed: Some(observed),
            }),
            letter: None,
        })
    }

    fn task_of(&self, record: &Record) -> TaskId {
        let partitions = self.spec.tasks();
        let by_key = || record.key.as_ref().map_or(0, |key| partition_for_key(key, partitions));
        let partition = Partition(record.partition.unwrap_or_else(by_key));
        TaskId { deployment: DEPLOYMENT, partition }
    }

    fn tasks(&self) -> impl Iterator<Item = TaskId> + use<> {
        (0..self.spec.tasks()).map(|number| TaskId { deployment: DEPLOYMENT, partition: Partition(number) })
    }

    fn tables(&self) -> MutexGuard<'_, MemoryTables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn row(&self, task: TaskId) -> anyhow::Result<TaskRow> {
        self.row_of(&self.tables(), task)
    }

    fn row_of(&self, tables: &MemoryTables, task: TaskId) -> anyhow::Result<TaskRow> {
        tables::read::<TaskRow>(tables, &Key::Task(task))?.context("a task of the trial")
    }

    fn decide<T>(&self, decide: impl FnOnce(&Deciding<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        decide(&Deciding { head: &*self.tables(), now: self.now, term: Term(1) })
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), Fault> {
        let index = LogIndex(self.entries);
        self.entries += 1;
        shard::apply(&mut *self.tables(), index, entry, &mut Vec::new())
    }
}

/// The state of a task, as its last step left it.
struct State {
    task: TaskId,
    tables: Arc<Mutex<MemoryTables>>,
}

impl State {
    fn look<T>(&self, look: impl FnOnce(&TaskState<'_>) -> T) -> T {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        look(&TaskState { task: self.task, head: &*tables })
    }
}

impl StateView for State {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.look(|state| state.get(key))
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        self.look(|state| state.scan(start, end, limit))
    }
}
