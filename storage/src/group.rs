//! A Raft group as the rest of the broker sees it: propose, read, follow who leads.
//!
//! ```text
//!   propose ──▶ log, in the order of the calls ──▶ committed ──▶ Machine::apply ──▶ tables show it
//!                                                                     ──▶ Machine::perform ──▶ Proposal is ready
//! ```
//!
//! A group is opened from its folder with a [`Machine`] that says what entries do, and is formed once; from then on
//! whoever leads may propose. All proposals of a term make it into the log up to one, and none behind it: what was
//! decided on a proposal that failed is never applied. So with the first [`ProposeError`] of a term that term is over
//! for this broker.
//!
//! Nothing of openraft shows here, or anywhere outside `raft/`.

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tidemill_core::effect::Effect;
use tidemill_core::entry::Entry;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, GroupId, LogIndex, Term};
use tidemill_core::seams::World;
use tidemill_core::tables::Tables;
use tidemill_protocol::primitive::Malformed;
use tokio::sync::{oneshot, watch};

use crate::log::{GroupLog, LogOptions, OnFault, Recovery};
use crate::raft::message;
use crate::raft::node::Node;
use crate::state::{StateOptions, StateStore};

/// What a group's entries do.
pub trait Machine: Send + Sync + 'static {
    /// Applies an entry to the tables. Called on every replica, in the order of the log, once for each entry; after a
    /// crash again for those that the tables do not show.
    ///
    /// # Errors
    /// A [`Fault`]: the broker stops.
    fn apply(
        &self,
        tables: &mut dyn Tables,
        index: LogIndex,
        entry: &Entry,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Fault>;

    /// Told what an entry changed, once for each entry, as soon as the tables show it and before whoever proposed it is
    /// told. Must not block. `term` is the one in which it was proposed.
    fn perform(&self, term: Term, effects: Vec<Effect>);
}

/// How a group is opened.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    /// Where it lies.
    pub folder: PathBuf,
    /// Which group it is.
    pub group: GroupId,
    /// Who we are.
    pub broker: BrokerId,
    /// How its log is kept.
    pub log: LogOptions,
    /// When its state is checkpointed.
    pub state: StateOptions,
    /// How often a leader is heard from.
    pub heartbeat: Duration,
    /// How long it must have been silent before another may lead is the end of this range; when a replica then campaigns
    /// is drawn from it. It must not be empty, and must begin after a heartbeat.
    pub election: Range<Duration>,
}

impl GroupOptions {
    /// The defaults for a group.
    pub fn new(folder: PathBuf, group: GroupId, broker: BrokerId) -> GroupOptions {
        GroupOptions {
            folder,
            group,
            broker,
            log: LogOptions::default(),
            state: StateOptions::default(),
            heartbeat: Duration::from_millis(250),
            election: Duration::from_millis(600)..Duration::from_millis(1_200),
        }
    }
}

/// Whether this broker leads a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It does, and its tables show everything that was ever committed: it may decide.
    Leader,
    /// It does not, or not yet, or not any more.
    Follower {
        /// Who does, if that is known.
        leader: Option<BrokerId>,
    },
}

/// Who leads, and in which term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// The newest term.
    pub term: Term,
    /// Our role in it.
    pub role: Role,
}

/// Who belongs to a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    /// Whose agreement commits an entry; while voters change, those before and after.
    pub voters: BTreeSet<BrokerId>,
    /// Who gets the log and does not vote.
    pub learners: BTreeSet<BrokerId>,
}

/// Why an entry is not applied, or why nobody knows whether it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This broker does not lead in that term: the entry is not applied, and never will be.
    #[error("this broker does not lead the group")]
    NotLeader {
        /// Who does, if that is known.
        leader: Option<BrokerId>,
    },
    /// The leadership ended: the entry may be applied yet, or never.
    #[error("the leadership ended before the entry was committed")]
    Unknown,
    /// The group was shut down before the entry was taken: it is not applied.
    #[error("the group is shut down")]
    Stopped,
}

/// Why the members of a group were not changed, or it was not formed, or does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MembershipError(pub(crate) String);

/// A proposed entry: ready once it is applied, with its place in the log. It goes on whether anybody waits for it or not.
#[derive(Debug)]
pub struct Proposal(oneshot::Receiver<Result<LogIndex, ProposeError>>);

impl Proposal {
    pub(crate) fn new(told: oneshot::Receiver<Result<LogIndex, ProposeError>>) -> Proposal {
        Proposal(told)
    }
}

impl Future for Proposal {
    type Output = Result<LogIndex, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Raft ended without a word: the entry may be in the log.
        Pin::new(&mut self.0).poll(context).map(|told| told.unwrap_or(Err(ProposeError::Unknown)))
    }
}

/// The group that a peer's message is for.
///
/// # Errors
/// [`Malformed`] when it is no message of a group.
pub fn addressee(message: &Bytes) -> Result<GroupId, Malformed> {
    message::addressee(message)
}

/// A replica of a Raft group. Cheap to clone; all clones are the same. It ends when it is shut down, or when the last
/// clone is dropped.
#[derive(Clone)]
pub struct Group(Arc<Node>);

impl Group {
    /// Opens a group from its folder; a new folder is an empty group, to be formed or to be joined. What is known to be
    /// committed is applied when this returns. A lone voter campaigns at once.
    ///
    /// # Errors
    /// A [`Fault`] when the folder cannot be used. What a crash explains is repaired, and what is lost beyond that is told
    /// in [`Recovery`]. `on_fault` is told of faults that come later; the broker must end then.
    pub async fn open(
        options: GroupOptions,
        world: &World,
        machine: Arc<dyn Machine>,
        on_fault: OnFault,
    ) -> Result<(Group, Recovery), Fault> {
        let (node, recovery) = Node::open(options, world, machine, on_fault).await?;
        Ok((Group(node), recovery))
    }

    /// Makes these brokers, of which this is one, the voters of a new group. Does nothing when it was formed before. It
    /// does no harm when several of them do this, as long as they name the same.
    ///
    /// # Errors
    /// [`MembershipError`] when this broker is not among them, or the group is shut down.
    pub async fn form(&self, voters: &BTreeSet<BrokerId>) -> Result<(), MembershipError> {
        self.0.form(voters).await
    }

    /// Who leads, now and from now on.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership().clone()
    }

    /// Hands an entry to Raft, for this term only. Entries lie in the log in the order in which these calls were made.
    /// Waits for room; if it is given up before it returns, nothing was proposed.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] and [`ProposeError::Stopped`]: the entry is not in the log, and no later one of this
    /// term will be.
    pub async fn propose(&self, term: Term, entry: Entry) -> Result<Proposal, ProposeError> {
        self.0.propose(term, entry).await
    }

    /// The applied tables.
    pub fn tables(&self) -> StateStore {
        self.0.tables().clone()
    }

    /// The index of the last applied entry: everything up to it is committed, and the tables show it.
    pub fn applied(&self) -> Option<LogIndex> {
        self.0.progress().applied().map(|applied| applied.index)
    }

    /// The log.
    pub fn log(&self) -> &GroupLog {
        self.0.log()
    }

    /// Who belongs to the group, whether that is committed or not.
    pub fn members(&self) -> Members {
        self.0.members()
    }

    /// The answer to a message from the broker `from`, of whom the caller is sure. A message that is none is answered,
    /// too.
    pub async fn answer(&self, from: BrokerId, message: Bytes) -> Bytes {
        self.0.answer(from, message).await
    }

    /// Adds a broker that gets the log and does not vote; returns once it has nearly caught up.
    ///
    /// # Errors
    /// [`MembershipError`] when this broker does not lead, another change is under way, or the group is shut down.
    pub async fn add_learner(&self, broker: BrokerId) -> Result<(), MembershipError> {
        self.0.add_learner(broker).await
    }

    /// Makes these brokers, all of them members, the voters. Who was one and is none now is no member any more.
    ///
    /// # Errors
    /// [`MembershipError`] when this broker does not lead, one of them is no member, another change is under way, or the
    /// group is shut down.
    pub async fn change_voters(&self, voters: &BTreeSet<BrokerId>) -> Result<(), MembershipError> {
        self.0.change_voters(voters).await
    }

    /// Asks another voter to lead. This broker takes no more proposals in its term.
    ///
    /// # Errors
    /// [`MembershipError`] when that is no other voter, or the group is shut down.
    pub async fn transfer_leadership(&self, to: BrokerId) -> Result<(), MembershipError> {
        self.0.transfer_leadership(to).await
    }

    /// Campaigns for the leadership now, unless a leader is being heard from.
    ///
    /// # Errors
    /// [`MembershipError`] when this replica has lost what it had promised, or the group is shut down.
    pub async fn elect(&self) -> Result<(), MembershipError> {
        self.0.elect().await
    }

    /// Makes the state durable as it is, lets Raft forget the log below it, and returns the last entry that it forgets
    /// (a little later, if a follower just reads there). The records stay, in the log's segments; a replica that needs
    /// what Raft forgot is sent this checkpoint and those records.
    ///
    /// # Errors
    /// [`MembershipError`] when the group is shut down.
    pub async fn purge(&self) -> Result<Option<LogIndex>, MembershipError> {
        self.0.purge().await
    }

    /// Stops the group: what is in the log is durable, what is applied is checkpointed, the files are closed. Proposals
    /// that are not applied yet end as [`ProposeError::Unknown`]. To be called once.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub async fn shutdown(&self) -> Result<(), Fault> {
        self.0.shutdown().await
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("applied", &self.applied())
            .field("leadership", &*self.0.leadership().borrow())
            .finish()
    }
}
