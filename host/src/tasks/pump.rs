//! The life of a task: read, run, commit.
//!
//! ```text
//!   inbox ──▶ items ──▶ guest ──▶ effects ──▶ one entry in the shard's log ──▶ applied ──▶ next
//!                         │
//!                       failed ──▶ its items one at a time; the culprit again after a pause, so often as the
//!                                  manifest says; then the dead letter, or the task stops before it
//! ```
//!
//! It runs ahead of the disk: what it reads may not be committed yet, and it goes on while its last steps are written.
//! If something of that is lost, so is the leadership, and the pump ends.
//!
//! A pump belongs to one generation of a task and to one term of its shard's leader, and ends with either; also whenever
//! a log start passes the task, since what it has read ahead may be what was removed. It keeps nothing that the log does
//! not: whoever leads next begins where the task's row stands.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select;
use tidemill_core::event_time::{self, EventTimeRow};
use tidemill_core::fault::Fault;
use tidemill_core::ids::{Cursor, TaskId};
use tidemill_core::plugin::{Effects, Timer};
use tidemill_core::rows::{TaskRow, TaskStatus};
use tidemill_core::seams::{BoxFuture, Timestamp, World};
use tidemill_core::shard::control::Control;
use tidemill_core::shard::step::{self, Outcome, Proposed, Source, StepRefused};
use tidemill_core::shard::{Deciding, behind, letters};
use tidemill_core::tables::{self, Key, View};
use tidemill_core::task::{AfterAttempts, KnownSpec, TaskSpec};
use tidemill_core::timers;
use tidemill_protocol::ids::Offset;
use tidemill_runtime::{GuestFailure, Mounted, Plugin, StepInput, StepOutcome};
use tokio::sync::{Semaphore, oneshot};

use super::alarm::Alarm;
use super::dead_letter;
use super::handed::Handed;
use super::inbox::Inbox;
use super::item::{Content, Item};
use super::pace::Pace;
use super::redrives;
use super::report::{Phase, Report, Reporter};
use crate::components::Components;
use crate::logs::line::Tried;
use crate::logs::writer::LogWriter;
use crate::metrics::{Metrics, StepInFlight};
use crate::reserve::Reserve;
use crate::shards::ahead::Runner;
use crate::shards::leader::Leader;
use crate::shards::{Refused, Shard};

/// The pause before the second try; it doubles with each further one.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// A task at work.
pub struct Pump {
    /// Clock, chance, disk, network and threads.
    pub world: World,
    /// The shard.
    pub shard: Arc<Shard>,
    /// Its leader, for one term.
    pub leader: Arc<Leader>,
    /// Where the component is.
    pub components: Arc<Components>,
    /// The broker's metrics.
    pub metrics: Arc<Metrics>,
    /// Whether there is room on the disk.
    pub reserve: Arc<Reserve>,
    /// What people are told.
    pub report: Reporter,
    /// Where the plugin's log goes.
    pub log: Arc<LogWriter>,
    /// The task.
    pub task: TaskId,
    /// What it is told.
    pub spec: Arc<KnownSpec>,
    /// How often a log start had passed the task when this was made.
    pub jumps: u32,
    /// Whether there may be timers to look for: true at first.
    pub may_have_timers: AtomicBool,
    /// Tells it of what it reads, and the log of what it is doing.
    pub runner: Runner,
    /// Room for steps on their way to the disk.
    pub ahead: Arc<Semaphore>,
}

/// Why a pump ends.
#[derive(Debug, thiserror::Error)]
enum End {
    /// Another generation or another leader is at work, a log start passed the task, or it stopped: nothing is wrong.
    #[error("the task has moved on")]
    MovedOn,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<Refused> for End {
    fn from(refused: Refused) -> End {
        match refused {
            Refused::NotLeader | Refused::Unknown => End::MovedOn,
            Refused::Fault(fault) => End::Fault(fault),
        }
    }
}

impl Pump {
    /// Runs until the task moves on.
    pub async fn run(self) {
        let plugin = match self.runner.aside(self.components.plugin(self.spec.digest)).await {
            Ok(plugin) => plugin,
            Err(error) => {
                tracing::error!(plugin = self.spec.name, task = %self.task, %error, "cannot be started");
                self.report.enter(Phase::Failed, &error.to_string());
                return;
            }
        };
        let files = match self.runner.aside(self.components.bundles.mounted(&self.spec.bundles)).await {
            Ok(files) => files,
            Err(error) => {
                tracing::error!(plugin = self.spec.name, task = %self.task, %error, "cannot be started");
                self.report.enter(Phase::Failed, &error.to_string());
                return;
            }
        };
        let ended = loop {
            match self.turn(plugin.clone(), files.clone()).await {
                // Nothing else is at work in its place: what it had read ahead is void, and it reads again.
                Err(End::MovedOn) if self.leads() && self.row().is_ok() => {
                    tracing::debug!(plugin = self.spec.name, task = %self.task, "reads again");
                    self.runner.aside(self.world.clock.sleep(RETRY_PAUSE)).await;
                }
                ended => break ended,
            }
        };
        match ended {
            Err(End::Fault(fault)) if self.leads() && !matches!(self.row(), Err(End::MovedOn)) => {
                tracing::error!(plugin = self.spec.name, task = %self.task, %fault, "ends");
                self.report.enter(Phase::Failed, &fault.to_string());
            }
            // What it read may have been cut off from under it.
            Ok(()) | Err(End::MovedOn | End::Fault(_)) => {
                tracing::debug!(plugin = self.spec.name, task = %self.task, "moved on");
            }
        }
    }

    async fn turn(&self, plugin: Plugin, files: Arc<[Mounted]>) -> Result<(), End> {
        let row = self.row()?;
        if !self.look(|head| behind::of(head, self.task, &row))?.is_empty() {
            // It was paused or stopped when that happened, or its records were kept by a broker of an older version.
            let treat = Control::PassTasks { deployment: self.task.deployment, choice: None };
            self.shard.control(&treat).await?;
            return Err(End::MovedOn);
        }
        let mut inbox = Inbox::open(self.task, &self.spec, &row, &self.shard)?;
        let handed = Handed::of(&self.spec, self.task, &self.shard, &self.leader, files)?;
        let mut pace = Pace::new(&self.spec);
        self.report.enter(Phase::Running, "");
        loop {
            let (items, wake) = self.next(&mut inbox, pace.events())?;
            let Some(first) = items.first() else {
                self.rest(wake).await;
                if !self.leads() {
                    return Err(End::MovedOn);
                }
                // Another generation may have begun while it rested.
                self.row()?;
                continue;
            };
            if let Err(full) = self.reserve.check() {
                self.report.enter(Phase::DiskFull, &full.to_string());
                self.runner.aside(self.reserve.room()).await;
                self.report.enter(Phase::Running, "");
                continue;
            }
            match &first.content {
                // A batch that cannot be read is an item by itself.
                Content::Unreadable(unreadable) => {
                    let why = format!("the batch cannot be read: {}", unreadable.reason);
                    self.give_up(first, dead_letter::reason(why), 1).await?;
                }
                Content::Event(_) | Content::Timer(_) => {
                    self.take_steps(&plugin, &handed, &items, &mut pace).await?;
                }
            }
            inbox.consume(items.iter().filter(|item| item.consumes.is_some()).count());
        }
    }

    /// What the next step is to be given: timers that are due, or else a dead letter again, or else events, or else
    /// timers that a tick makes due; or nothing, and when to look again.
    fn next(&self, inbox: &mut Inbox, most: usize) -> Result<(Vec<Item>, Option<Timestamp>), End> {
        let alarm = match self.may_have_timers.load(Ordering::Relaxed) {
            true => {
                let next_step = self.row()?.step.next();
                Some(self.look(|head| Alarm::read(head, self.task, next_step))?)
            }
            false => None,
        };
        let Some(alarm) = alarm.filter(Alarm::is_set) else {
            self.may_have_timers.store(false, Ordering::Relaxed);
            let items = match self.letter()? {
                Some(letter) => vec![letter],
                None => self.events(inbox, most)?,
            };
            return Ok((items, None));
        };
        let due = self.look(|head| alarm.due(head, self.task, most))?;
        if !due.is_empty() {
            return Ok((due, None));
        }
        if let Some(letter) = self.letter()? {
            return Ok((vec![letter], None));
        }
        let mut items = self.events(inbox, most)?;
        if !items.is_empty() {
            items.truncate(alarm.until(&self.spec, &items));
            return Ok((items, None));
        }
        let now = self.world.clock.now();
        let due = self.look(|head| alarm.due_at(head, &self.spec, self.task, now, most))?;
        Ok((due, alarm.next(&self.spec, now)))
    }

    /// The first dead letter that waits for the task.
    fn letter(&self) -> Result<Option<Item>, End> {
        if !self.runner.may_have_letters() {
            return Ok(None);
        }
        let at = self.spec.letters(self.task.partition);
        let waits = |head: &dyn View| letters::first_waiting(head, at);
        while let Some((letter, row)) = self.look(waits)? {
            if let Some(item) = redrives::item(&self.shard, &self.spec, letter, row)? {
                self.runner.has_letters();
                return Ok(Some(item));
            }
            // What was retained a moment ago is so no more, and then it waits no more either.
            if self.look(|head| letters::waiting(head, letter))?.is_some() {
                return Err(Fault::damaged("a dead letter that is to be redriven", "it is not there").into());
            }
        }
        Ok(None)
    }

    /// Failed attempts at an item so far, by the task's row.
    fn attempts(&self, row: &TaskRow, item: &Item) -> Result<u32, End> {
        match item.letter {
            None => Ok(row.attempts),
            Some(letter) => {
                let row = self.look(|head| letters::waiting(head, letter))?;
                Ok(row.map_or(0, |row| row.attempts))
            }
        }
    }

    /// The events of the next step; or a batch that cannot be read.
    fn events(&self, inbox: &mut Inbox, most: usize) -> Result<Vec<Item>, End> {
        let mut items = inbox.peek(self.shard.group.log(), self.shard.end(), most)?;
        let readable = items.iter().take_while(|item| item.event().is_some()).count();
        items.truncate(readable.max(1));
        Ok(items)
    }

    /// Waits for more events, or for a moment.
    async fn rest(&self, until: Option<Timestamp>) {
        let Some(until) = until else { return self.runner.more().await };
        let pause = self.world.clock.sleep(until.since(self.world.clock.now()));
        select(pin!(self.runner.more()), pause).await;
    }

    fn look<T>(&self, look: impl FnOnce(&dyn View) -> Result<T, Fault>) -> Result<T, Fault> {
        let applied = self.shard.group.tables();
        self.leader.look(&applied, look)
    }

    fn leads(&self) -> bool {
        self.shard.leader().is_some_and(|leader| leader.term() == self.leader.term())
    }

    /// The task's row as the head has it, while it is this pump's.
    fn row(&self) -> Result<TaskRow, End> {
        let row = self.look(|head| tables::read::<TaskRow>(head, &Key::Task(self.task)))?;
        let is_own = |row: &TaskRow| {
            let is_turn = row.generation == self.spec.generation && row.jumps == self.jumps;
            is_turn && row.status == TaskStatus::Running
        };
        row.filter(is_own).ok_or(End::MovedOn)
    }

    /// Consumes the items: in one step if that goes well, else one at a time, so that only the culprit fails.
    async fn take_steps(
        &self,
        plugin: &Plugin,
        handed: &Handed,
        items: &[Item],
        pace: &mut Pace,
    ) -> Result<(), End> {
        match self.attempt(plugin, handed, items, pace).await? {
            Ok(()) => Ok(()),
            Err(failure) if items.len() == 1 => self.insist(plugin, handed, &items[0], failure, pace).await,
            Err(_) => {
                for item in items.chunks(1) {
                    // One that fired before it may have cancelled it, or set it to another time.
                    if let Some(timer) = item[0].timer()
                        && !self.look(|head| timers::is_set(head, self.task, timer))?
                    {
                        continue;
                    }
                    if let Err(failure) = self.attempt(plugin, handed, item, pace).await? {
                        self.insist(plugin, handed, &item[0], failure, pace).await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// One item failed: it is tried again, and in the end given up.
    async fn insist(
        &self,
        plugin: &Plugin,
        handed: &Handed,
        item: &Item,
        failure: Failure,
        pace: &mut Pace,
    ) -> Result<(), End> {
        let mut failure = failure;
        loop {
            let attempts = self.attempts(&self.row()?, item)? + 1;
            let reason = dead_letter::reason(failure.to_string());
            if !failure.may_pass() || attempts >= self.spec.failure.attempts {
                return self.give_up(item, reason, attempts).await;
            }
            self.report.enter(Phase::Retrying, &reason);
            let stays = Outcome::Failed { attempts, reason };
            let (one, in_flight) = (std::slice::from_ref(item), self.metrics.step_in_flight());
            match self.commit(one, 0, stays, Effects::default(), in_flight).await? {
                Ok(()) => {}
                Err(StepRefused::Withdrawn) => return self.goes_on(),
                Err(_) => return Err(End::MovedOn),
            }
            let pause = RETRY_PAUSE.saturating_mul(1 << (attempts - 1).min(10)).min(RETRY_PAUSE_MAX);
            self.runner.aside(self.world.clock.sleep(pause)).await;
            match self.attempt(plugin, handed, std::slice::from_ref(item), pace).await? {
                Ok(()) => return self.goes_on(),
                Err(again) => failure = again,
            }
        }
    }

    /// What failed is behind it.
    fn goes_on(&self) -> Result<(), End> {
        self.report.enter(Phase::Running, "");
        Ok(())
    }

    async fn give_up(&self, item: &Item, reason: String, attempts: u32) -> Result<(), End> {
        let item = std::slice::from_ref(item);
        match self.spec.failure.then {
            AfterAttempts::DeadLetter => {
                tracing::warn!(plugin = self.spec.name, task = %self.task, reason, "gives a record up");
                let effects = dead_letter::effects(&self.spec, &item[0], &reason, attempts);
                let outcome = Outcome::DeadLettered { reason };
                match self.commit(item, 1, outcome, effects, self.metrics.step_in_flight()).await? {
                    Ok(()) | Err(StepRefused::Withdrawn) => self.goes_on(),
                    Err(_) => Err(End::MovedOn),
                }
            }
            AfterAttempts::Stop => {
                tracing::error!(plugin = self.spec.name, task = %self.task, reason, "stops");
                self.report.enter(Phase::Stopped, &reason);
                let (stops, in_flight) = (Outcome::Stopped { reason }, self.metrics.step_in_flight());
                match self.commit(item, 0, stops, Effects::default(), in_flight).await? {
                    Err(StepRefused::Withdrawn) => self.goes_on(),
                    Ok(()) | Err(_) => Err(End::MovedOn),
                }
            }
        }
    }

    /// Runs the guest on the items and commits what it wants.
    async fn attempt(
        &self,
        plugin: &Plugin,
        handed: &Handed,
        items: &[Item],
        pace: &mut Pace,
    ) -> Result<Result<(), Failure>, End> {
        let in_flight = self.metrics.step_in_flight();
        let row = self.row()?;
        let clocks = self.look(|head| tables::read::<EventTimeRow>(head, &Key::EventTime(self.task)))?;
        let mut clocks = clocks.unwrap_or_default();
        let before = clocks.watermark_ms;
        let time = items.iter().map(|item| item.time).max().unwrap_or_default();
        let step = row.step.next();
        clocks.observe(&self.spec.event_time, &[], time, step);
        let timers: Arc<[Timer]> = items.iter().filter_map(|item| item.timer().cloned()).collect();
        // Out of the log, and so the same after a restart and when the step is run again to be checked.
        let attempt = items.first().map_or(Ok(0), |first| self.attempts(&row, first))?;
        let input = StepInput {
            task: self.task,
            partition: self.task.partition.0,
            attempt,
            events: items.iter().filter_map(|item| item.event().cloned()).collect(),
            // Events are seen from before the step: whether one is late is not for the others of its step to say.
            event_time_watermark_ms: if timers.is_empty() { before } else { clocks.watermark_ms },
            time: clocks.time,
            timers,
            inputs: handed.inputs.clone(),
            outputs: handed.outputs.clone(),
            config: handed.config.clone(),
            files: handed.files.clone(),
            limits: self.spec.limits.clone(),
            state: handed.state.clone(),
        };
        let (runtime, plugin) = (self.components.runtime().clone(), plugin.clone());
        let mut run: BoxFuture<StepOutcome> = Box::pin(async move { runtime.run(&plugin, input).await });
        // A way to another thread and back takes longer than most steps. A plugin whose steps have been short is run
        // here, until the runtime has it yield for the first time; then, it goes where guests may take their time.
        let here = if pace.is_quick() { (&mut run).now_or_never() } else { None };
        let outcome = match here {
            Some(outcome) => outcome,
            None => self.run_aside(run).await?,
        };
        self.metrics.step_ran(&self.spec.name, &outcome);
        pace.took(items.len(), outcome.usage.cpu);
        self.report.used(outcome.usage);
        let (generation, task) = (self.spec.generation, self.task.partition);
        let tried = Tried { generation, task, step, attempt: attempt + 1, at: self.world.clock.now() };
        self.log.take(&self.spec, tried, outcome.log, outcome.log_lines_dropped);
        let failure = match outcome.result {
            Ok(effects) => match self.commit(items, items.len(), Outcome::Done, effects, in_flight).await? {
                Ok(()) => return Ok(Ok(())),
                Err(StepRefused::Fenced) => return Err(End::MovedOn),
                // Nobody wants it handled any more.
                Err(StepRefused::Withdrawn) => return Ok(Ok(())),
                Err(refused) => Failure::Refused(refused),
            },
            Err(GuestFailure::Fault(fault)) => return Err(fault.into()),
            Err(failure) => {
                self.report.failed(&failure);
                Failure::Guest(failure)
            }
        };
        Ok(Err(failure))
    }

    /// Runs a step on the threads of guests.
    async fn run_aside(&self, run: BoxFuture<StepOutcome>) -> Result<StepOutcome, End> {
        let (answer, outcome) = oneshot::channel();
        let run = async move {
            // Nobody waits any more when the pump ended in the meantime: the step is void then.
            let _ = answer.send(run.await);
        };
        self.world.spawner.guest("step", Box::pin(run));
        outcome.await.map_err(|_| End::MovedOn)
    }

    /// Commits a step that consumes the first `consumed` of the items.
    async fn commit(
        &self,
        items: &[Item],
        consumed: usize,
        outcome: Outcome,
        effects: Effects,
        in_flight: StepInFlight,
    ) -> Result<Result<(), StepRefused>, End> {
        let row = self.row()?;
        let mut positions: Vec<Offset> = row.positions.iter().map(|(_, next)| *next).collect();
        let mut to: Cursor = row.cursor;
        let (mut fired, mut observed, mut time) = (Vec::new(), Vec::new(), Timestamp(0));
        for item in &items[..consumed] {
            fired.extend(item.timer().cloned());
            time = time.max(item.time);
            if let Some(consumes) = &item.consumes {
                positions[consumes.input] = consumes.next;
                to = consumes.after;
                consumes.observed.into_iter().for_each(|seen| event_time::note(&mut observed, seen));
            }
        }
        if !fired.is_empty() || !effects.timers.is_empty() {
            self.may_have_timers.store(true, Ordering::Relaxed);
        }
        let sources: Vec<Source> = items.iter().map(|item| item.source).collect();
        let made = Made {
            _in_flight: in_flight,
            events: (consumed - fired.len()) as u64,
            records: effects.emitted.len() as u64,
            dead_letters: u64::from(matches!(outcome, Outcome::DeadLettered { .. })),
        };
        let runs_ahead = outcome == Outcome::Done;
        let proposed = Proposed {
            task: self.task,
            generation: self.spec.generation,
            jumps: self.jumps,
            known: Some(&self.spec),
            from: row.cursor,
            to,
            positions,
            outcome,
            sources: &sources,
            time,
            observed,
            fired,
            letter: items.first().and_then(|first| first.letter),
            effects,
        };
        let decide = |deciding: &Deciding<'_>| {
            Ok(match step::decide(deciding, &proposed)? {
                Ok(entry) => (Ok(()), Some(entry)),
                Err(refused) => (Err(refused), None),
            })
        };
        // A tick is never ahead of its own entry, also when the clock was set back in between.
        let now = self.world.clock.now().max(proposed.time);
        // The log is not told that nothing follows from this task, unless it really has to wait.
        let room = match self.ahead.clone().try_acquire_owned() {
            Ok(room) => room,
            Err(_) => {
                self.runner.aside(self.ahead.clone().acquire_owned()).await.map_err(|_| End::MovedOn)?
            }
        };
        let runners = &self.shard.machine.runners;
        runners.sends_step();
        let decided = self.leader.propose(&self.shard.group, now, decide).await;
        let commit = match decided {
            Ok((Ok(()), commit)) => commit,
            not_sent => {
                runners.step_is_there();
                let (refused, _) = not_sent?;
                return Ok(refused);
            }
        };
        if runs_ahead {
            let (report, metrics, spec) = (self.report.clone(), self.metrics.clone(), self.spec.clone());
            // If it is lost, there is nothing to count, and the next proposal says so.
            self.leader.when_applied(&commit, move || {
                made.count(&report, &metrics, &spec);
                drop(room);
            });
        } else {
            self.runner.aside(commit.applied()).await?;
            made.count(&self.report, &self.metrics, &self.spec);
        }
        Ok(Ok(()))
    }
}

/// What a committed step has made.
struct Made {
    /// Until it is dropped, the step is on its way.
    _in_flight: StepInFlight,
    events: u64,
    records: u64,
    dead_letters: u64,
}

impl Made {
    fn count(self, report: &Report, metrics: &Metrics, spec: &TaskSpec) {
        report.committed(self.events, self.records, self.dead_letters);
        metrics.step_committed(&spec.name, self.events, self.records, self.dead_letters);
    }
}

/// Why a try has no effects.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Guest(GuestFailure),
    #[error(transparent)]
    Refused(StepRefused),
}

impl Failure {
    /// Whether another try may go better.
    fn may_pass(&self) -> bool {
        match self {
            Failure::Guest(GuestFailure::Reject(_)) | Failure::Refused(_) => false,
            Failure::Guest(_) => true,
        }
    }
}
