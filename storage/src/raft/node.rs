//! One replica: openraft, the log, the tables, and what is decided around them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardToLeader};
use openraft::raft::ClientWriteResult;
use openraft::{ChangeMembers, EmptyNode, Raft, RaftMetrics, SnapshotPolicy};
use parking_lot::Mutex;
use tidemill_core::entry::Entry;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, LogIndex, Term};
use tidemill_core::limits;
use tidemill_core::seams::{Spawner, World};
use tokio::sync::{Semaphore, oneshot, watch};

use super::amnesia::Amnesia;
use super::arrival::Arrival;
use super::leadership::LeadershipWatch;
use super::log_store::LogStore;
use super::machine::{Outcome, StateMachine};
use super::network::Network;
use super::progress::Progress;
use super::reign::{Entered, Reign, Tell};
use super::snapshot;
use super::types::{self, Runtime, TypeConfig};
use crate::group::{
    GroupOptions, Leadership, Machine, Members, MembershipError, Proposal, ProposeError, Role,
};
use crate::log::{EncodedEntry, GroupLog, LogEntry, LogId, OnFault, Payload, Recovery};
use crate::state::StateStore;

/// One kibibyte, the grain in which room for proposals is given.
const ROOM_GRAIN: usize = 1024;

/// One replica of a group.
pub struct Node {
    pub(super) options: GroupOptions,
    pub(super) raft: Raft<TypeConfig, StateMachine>,
    log: GroupLog,
    tables: StateStore,
    progress: Progress,
    leadership: watch::Receiver<Leadership>,
    refused_in: watch::Sender<Option<Term>>,
    /// Orders the proposals, and counts them.
    reign: tokio::sync::Mutex<Reign>,
    /// How many of them are in the log.
    entered: Entered,
    /// Bounds what was proposed and is not in the log yet.
    room: Arc<Semaphore>,
    pub(super) arrival: Arc<tokio::sync::Mutex<Arrival>>,
    pub(super) spawner: Arc<dyn Spawner>,
    pub(super) amnesia: Mutex<Option<Amnesia>>,
    /// Ready once nothing is applied any more; taken by whoever shuts the replica down.
    machine_ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Node {
    /// Opens a replica from its folder.
    pub async fn open(
        options: GroupOptions,
        world: &World,
        machine: Arc<dyn Machine>,
        on_fault: OnFault,
    ) -> Result<(Arc<Node>, Recovery), Fault> {
        let folder = options.folder.clone();
        let (log, recovery) = GroupLog::open(world, folder.clone(), options.log.clone(), on_fault.clone())?;
        let (tables, checkpoint) = StateStore::open(world, folder, options.state.clone(), on_fault.clone())?;
        tables.follow(&log);
        let progress = Progress::new(&checkpoint)?;
        if let (Some(applied), Some((_, last))) = (checkpoint.applied, log.installing())
            && applied == last
        {
            // A snapshot's tables were put in place, and then the process ended.
            snapshot::settle_log(&log, applied).await?;
        }
        let (machine, machine_ended) =
            StateMachine::new(tables.clone(), log.clone(), machine, progress.clone(), on_fault.clone());
        let network = Network { group: options.group, transport: world.transport.clone(), log: log.clone() };
        let config = config(&options).validate().map_err(raft_fault)?;
        let entered = Entered::default();
        let store = LogStore::new(log.clone(), progress.clone(), entered.clone());
        let starting = Raft::new(options.broker.0, Arc::new(config), network, store, machine);
        // All random numbers of openraft's tasks follow from this one.
        let raft = Runtime::scope(world.chance.number(), starting).await.map_err(raft_fault)?;

        let nobody = Leadership { term: Term(0), role: Role::Follower { leader: None } };
        let (announce, leadership) = watch::channel(nobody);
        let amnesia = recovery.amnesia.as_ref().map(|loss| Amnesia::new(loss, log.vote()));
        let node = Arc::new(Node {
            arrival: Arc::new(tokio::sync::Mutex::new(Arrival::new(log.clone(), tables.clone()))),
            spawner: world.spawner.clone(),
            amnesia: Mutex::new(amnesia),
            refused_in: watch::Sender::new(None),
            reign: tokio::sync::Mutex::default(),
            entered,
            room: Arc::new(Semaphore::new(limits::UNSYNCED_BYTES_MAX / ROOM_GRAIN)),
            machine_ended: Mutex::new(Some(machine_ended)),
            options,
            raft,
            log,
            tables,
            progress,
            leadership,
        });
        let watch = LeadershipWatch {
            server: node.raft.server_metrics(),
            metrics: node.raft.metrics(),
            applied_term: node.progress.term(),
            refused_in: node.refused_in.subscribe(),
            announce,
            node: Arc::downgrade(&node),
            on_fault,
        };
        world.spawner.task("raft leadership", Box::pin(watch.run()));
        node.start().await.map_err(raft_fault)?;
        Ok((node, recovery))
    }

    /// A lone voter leads at once; who lost what it had promised must not campaign.
    async fn start(&self) -> Result<(), openraft::errors::Fatal<TypeConfig>> {
        let me = self.options.broker.0;
        let is_alone =
            self.raft.with_raft_state(move |state| state.membership_state.effective().voter_ids().eq([me]));
        if is_alone.await? {
            return self.raft.trigger().elect(false).await;
        }
        if self.amnesia.lock().is_some() {
            tracing::warn!(group = %self.options.group, "does not vote until it has caught up with a leader");
            self.raft.runtime_config().elect(false);
        }
        Ok(())
    }

    /// The log.
    pub fn log(&self) -> &GroupLog {
        &self.log
    }

    /// The tables.
    pub fn tables(&self) -> &StateStore {
        &self.tables
    }

    /// How far it has applied.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Who leads.
    pub fn leadership(&self) -> &watch::Receiver<Leadership> {
        &self.leadership
    }

    /// Makes these brokers the voters of a new group.
    pub async fn form(&self, voters: &BTreeSet<BrokerId>) -> Result<(), MembershipError> {
        if self.raft.is_initialized().await.map_err(membership_error)? {
            return Ok(());
        }
        let voters: BTreeSet<u64> = voters.iter().map(|broker| broker.0).collect();
        self.raft.initialize(voters).await.map_err(membership_error)
    }

    /// Hands an entry to openraft.
    pub async fn propose(&self, term: Term, entry: Entry) -> Result<Proposal, ProposeError> {
        let entry = EncodedEntry::new(entry);
        let mut reign = self.reign.lock().await;
        let grains = entry.bytes().len().div_ceil(ROOM_GRAIN);
        self.log.wait_for_room().await;
        let room = self.room.clone().acquire_many_owned(grains as u32).await;
        let room = room.map_err(|_| ProposeError::Stopped)?;
        self.ensure_leads(term)?;
        let (tell, told) = oneshot::channel();
        let refused_in = self.refused_in.clone();
        let told_by_raft = move |result: ClientWriteResult<TypeConfig>| {
            let outcome = outcome(result);
            if matches!(outcome, Err(ProposeError::NotLeader { .. })) {
                refused_in
                    .send_if_modified(|last| std::mem::replace(last, (*last).max(Some(term))) < Some(term));
            }
            // Whoever proposed it may have gone away.
            tell.send(outcome).ok();
        };
        let log = (&self.entered, || self.log.last_id());
        let proposed = reign.propose(term, log, entry.clone(), room);
        let foreseen = proposed.foreseen();
        let write = self.raft.write(proposed).with_leader(types::raft_term(term));
        write.responder(Tell::new(told_by_raft)).await.map_err(|_| ProposeError::Stopped)?;
        reign.made(foreseen);
        if let Some(index) = foreseen {
            self.log.foresee(&LogEntry { id: LogId { term, index }, payload: Payload::Entry(entry) });
        }
        Ok(Proposal::new(told))
    }

    fn ensure_leads(&self, term: Term) -> Result<(), ProposeError> {
        let now = *self.leadership.borrow();
        match now.role {
            _ if *self.refused_in.borrow() >= Some(term) => Err(ProposeError::NotLeader { leader: None }),
            Role::Leader if now.term == term => Ok(()),
            Role::Leader => Err(ProposeError::NotLeader { leader: Some(self.options.broker) }),
            Role::Follower { leader } => Err(ProposeError::NotLeader { leader }),
        }
    }

    /// Gives up the leadership, to the voter that has most of the log.
    pub(super) async fn abdicate(&self) {
        let to = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let matching = |broker: &u64| {
                metrics.replication.as_ref().and_then(|all| all.get(broker).cloned()).flatten()
            };
            let voters = metrics.membership_config.membership().voter_ids();
            voters.filter(|broker| *broker != self.options.broker.0).max_by_key(matching)
        };
        if let Some(to) = to {
            tracing::info!(group = %self.options.group, to, "gives up the leadership: a proposal was refused");
            // It fails only when openraft has ended.
            self.raft.trigger().transfer_leader(to).await.ok();
        }
    }

    /// A leader has nothing left to catch up with: if it lost something, it is a lone voter, and goes on without it.
    pub(super) async fn give_up_what_is_lost(&self) {
        if self.amnesia.lock().is_some() {
            self.vote_again().await;
        }
    }

    /// Ends the amnesia, if a leader's word has made good what was lost.
    pub(super) async fn recall(&self) {
        let is_over =
            self.amnesia.lock().as_ref().is_some_and(|amnesia| amnesia.is_over(self.log.durable_id()));
        if is_over {
            self.vote_again().await;
            tracing::info!(group = %self.options.group, "has caught up with what it lost, and votes again");
        }
    }

    /// May be dropped while it waits: then it is done again.
    async fn vote_again(&self) {
        // A log that fails has said so itself.
        if self.log.clear_amnesia().await.is_ok() {
            *self.amnesia.lock() = None;
            self.raft.runtime_config().elect(true);
        }
    }

    /// Campaigns.
    pub async fn elect(&self) -> Result<(), MembershipError> {
        if self.amnesia.lock().is_some() {
            return Err(MembershipError("it has lost what it had promised".to_owned()));
        }
        self.raft.trigger().elect(true).await.map_err(membership_error)
    }

    /// Adds a replica that does not vote.
    pub async fn add_learner(&self, broker: BrokerId) -> Result<(), MembershipError> {
        let change = self.raft.add_learner(broker.0, EmptyNode {}, true);
        self.changing(change).await.map(drop).map_err(membership_error)
    }

    /// Makes these brokers the voters.
    pub async fn change_voters(&self, voters: &BTreeSet<BrokerId>) -> Result<(), MembershipError> {
        let voters = ChangeMembers::ReplaceAllVoters(voters.iter().map(|broker| broker.0).collect());
        let change = self.raft.change_membership(voters, false);
        self.changing(change).await.map(drop).map_err(membership_error)
    }

    /// Changes the members. Whoever gives up before it is over leaves the places of entries unforeseen, since nobody
    /// knows what openraft appends yet.
    async fn changing<T>(&self, change: impl Future<Output = T>) -> T {
        self.reign.lock().await.change_begins();
        let changed = change.await;
        self.reign.lock().await.change_ends();
        changed
    }

    /// Asks another voter to lead.
    pub async fn transfer_leadership(&self, to: BrokerId) -> Result<(), MembershipError> {
        if to == self.options.broker || !self.members().voters.contains(&to) {
            return Err(MembershipError(format!("broker {to} is not another voter")));
        }
        self.raft.trigger().transfer_leader(to.0).await.map_err(membership_error)
    }

    /// Who belongs to the group.
    pub fn members(&self) -> Members {
        let voters = self.raft.voter_ids().map(BrokerId).collect();
        Members { voters, learners: self.raft.learner_ids().map(BrokerId).collect() }
    }

    /// Makes a checkpoint, and forgets the log below it.
    pub async fn purge(&self) -> Result<Option<LogIndex>, MembershipError> {
        let Some(applied) = self.progress.applied() else { return Ok(None) };
        self.raft.trigger().snapshot().await.map_err(membership_error)?;
        let covers = |metrics: &RaftMetrics<TypeConfig>| {
            metrics.snapshot.as_ref().is_some_and(|snapshot| snapshot.index() >= applied.index.0)
        };
        let built = self.raft.wait(None).metrics(covers, "the snapshot covers what is applied").await;
        let upto = built.map_err(membership_error)?.snapshot.map(|snapshot| snapshot.index());
        if let Some(upto) = upto {
            self.raft.trigger().purge_log(upto).await.map_err(membership_error)?;
        }
        Ok(upto.map(LogIndex))
    }

    /// Stops.
    pub async fn shutdown(&self) -> Result<(), Fault> {
        self.room.close();
        self.raft.shutdown().await.map_err(raft_fault)?;
        let ended = self.machine_ended.lock().take();
        if let Some(ended) = ended {
            // Nothing is ever sent: it is dropped with the machine.
            ended.await.ok();
        }
        self.tables.close().await?;
        self.log.close().await
    }
}

/// What became of a write.
fn outcome(result: ClientWriteResult<TypeConfig>) -> Result<LogIndex, ProposeError> {
    match result {
        Ok(response) => match response.response() {
            Outcome::Applied => Ok(LogIndex(response.log_id().index())),
            Outcome::Dropped => Err(ProposeError::NotLeader { leader: None }),
        },
        // openraft says this only of what it did not append.
        Err(ClientWriteError::ForwardToLeader(ForwardToLeader { leader_id, .. })) => {
            Err(ProposeError::NotLeader { leader: leader_id.map(BrokerId) })
        }
        Err(
            ClientWriteError::LogEntryDiscarded(_)
            | ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_),
        ) => Err(ProposeError::Unknown),
    }
}

pub(super) fn raft_fault(error: impl ToString) -> Fault {
    Fault::Raft(error.to_string())
}

fn membership_error(error: impl ToString) -> MembershipError {
    MembershipError(error.to_string())
}

/// openraft's settings. Nothing is purged unless it is asked for, and no queue holds more than the bytes of some pages:
/// entries are counted by [`Node::room`] on their way in, and by [`limits::RAFT_PAGE_BYTES`] on their way out.
fn config(options: &GroupOptions) -> openraft::Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: options.group.to_string(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election.start),
        election_timeout_max: millis(options.election.end),
        max_payload_entries: limits::RAFT_PAGE_ENTRIES_MAX,
        api_channel_size: Some(limits::RAFT_QUEUE_MAX),
        replication_lag_threshold: limits::RAFT_PAGE_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(true),
        // A leader that starts again campaigns again: its tables may be behind.
        enable_leader_restore: Some(false),
        // A replica that lost the end of its log is taken care of by `amnesia`, and caught up.
        allow_log_reversion: Some(true),
        ..openraft::Config::default()
    }
}
