//! The catalog, as this broker has it: looking things up in it, and changing it.
//!
//! | file | holds |
//! |---|---|
//! | [`topics`] | topics by name, remembered |
//! | [`reconcile`] | putting into the shards what the catalog wants |

pub mod reconcile;
pub mod topics;

use std::sync::Arc;

use tidemill_core::catalog::{self, ClusterRow, Command, DeletedTopic, FEATURE_LEVEL};
use tidemill_core::effect::Effect;
use tidemill_core::entry::Entry;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, DeploymentId, LogIndex, Term};
use tidemill_core::rejection::Rejection;
use tidemill_core::seams::{Timestamp, World};
use tidemill_core::tables::{Tables, View};
use tidemill_protocol::ids::ProducerId;
use tidemill_storage::group::{Group, Machine, Role};
use tokio::sync::{Mutex, RwLock};

use crate::shards::Refused;
use topics::TopicCache;

/// Producer ids that are taken from the catalog at once.
const PRODUCER_IDS_BLOCK: i64 = 1_000;

/// The catalog. It is changed by one decision at a time, each of which waits for the commit of the one before.
#[derive(Debug)]
pub struct Catalog {
    /// Held from a decision about topics until the shards have it: shared by those who make topics, which do not meet, and
    /// alone by who alters or deletes one, so that no shard is left with an earlier decision.
    pub topics_order: RwLock<()>,
    group: Group,
    world: World,
    order: Mutex<()>,
    producer_ids: Mutex<std::ops::Range<i64>>,
    topics: Arc<TopicCache>,
}

/// Why the catalog was not changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unchanged {
    /// It may not be.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It could not be, or nobody knows.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl From<Fault> for Unchanged {
    fn from(fault: Fault) -> Unchanged {
        Unchanged::Refused(Refused::Fault(fault))
    }
}

/// What Raft applies the catalog's entries with.
#[derive(Debug, Default)]
pub struct CatalogMachine {
    /// Told when a topic changed.
    pub topics: Arc<TopicCache>,
}

impl Machine for CatalogMachine {
    fn apply(
        &self,
        tables: &mut dyn Tables,
        _index: LogIndex,
        entry: &Entry,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        catalog::apply(tables, entry, effects)
    }

    /// The one place where effects of the catalog are performed. A deployment has none: whoever deploys puts it into its
    /// shards; after a restart `reconcile` does.
    fn perform(&self, _term: Term, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::TopicChanged { topic } => self.topics.forget(topic),
                Effect::Deleted
                | Effect::Redriven { .. }
                | Effect::Appended { .. }
                | Effect::ToShip { .. }
                | Effect::TaskStarted { .. }
                | Effect::TaskStopped { .. } => unreachable!("the catalog's log holds nothing of a shard"),
            }
        }
    }
}

impl Catalog {
    /// The catalog over its open group.
    pub fn new(group: Group, machine: &CatalogMachine, world: World) -> Catalog {
        let topics = machine.topics.clone();
        let (topics_order, order) = (RwLock::default(), Mutex::default());
        Catalog { topics_order, group, world, order, producer_ids: Mutex::new(0..0), topics }
    }

    /// The catalog's tables.
    pub fn view(&self) -> impl View + use<> {
        self.group.tables()
    }

    /// Topics by name.
    pub fn topics(&self) -> &TopicCache {
        &self.topics
    }

    /// Its Raft group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Waits until this broker leads the catalog.
    pub async fn led(&self) {
        let mut leadership = self.group.leadership();
        // An error means that the group has ended, and this broker with it.
        let _ = leadership.wait_for(|now| now.role == Role::Leader).await;
    }

    /// Decides, proposes, and waits until the change is applied. `decide` may find that nothing is to be changed.
    ///
    /// # Errors
    /// [`Unchanged`] when it is not, or nobody knows.
    pub async fn change<T>(
        &self,
        decide: impl FnOnce(&dyn View, Timestamp) -> Result<Result<(T, Option<Command>), Rejection>, Fault>,
    ) -> Result<T, Unchanged> {
        let _order = self.order.lock().await;
        let leadership = *self.group.leadership().borrow();
        if leadership.role != Role::Leader {
            return Err(Refused::NotLeader.into());
        }
        let now = self.world.clock.now();
        let (answer, command) = decide(&self.group.tables(), now)??;
        if let Some(command) = command {
            let entry = catalog::entry(&command, now);
            let proposal = self.group.propose(leadership.term, entry).await.map_err(Refused::from)?;
            proposal.await.map_err(Refused::from)?;
        }
        Ok(answer)
    }

    /// Makes the cluster, if it is not made yet.
    ///
    /// # Errors
    /// [`Unchanged`] when it could not be made.
    pub async fn form(&self, id: &str, broker: BrokerId, shards: u16) -> Result<ClusterRow, Unchanged> {
        self.change(|view, _| {
            if let Some(cluster) = catalog::cluster(view)? {
                return Ok(Ok((cluster, None)));
            }
            let cluster = ClusterRow {
                id: id.to_owned(),
                feature_level: FEATURE_LEVEL,
                shards,
                brokers: vec![broker],
                next_producer_id: 1,
                next_deployment: DeploymentId(1),
            };
            Ok(Ok((cluster.clone(), Some(Command::Form { cluster }))))
        })
        .await
    }

    /// Forgets topics that no shard holds anything of any more.
    ///
    /// # Errors
    /// [`Refused`] when it does not, or nobody knows.
    pub async fn forget(&self, topics: Vec<DeletedTopic>) -> Result<(), Refused> {
        let command = (!topics.is_empty()).then_some(Command::ForgetTopics { topics });
        self.change(|_, _| Ok(Ok(((), command)))).await.map_err(|unchanged| match unchanged {
            Unchanged::Refused(refused) => refused,
            Unchanged::Rejected(_) => unreachable!("nothing here is rejected"),
        })
    }

    /// A producer id that nobody else has; `wide` for one that may have many batches in flight.
    ///
    /// # Errors
    /// [`Unchanged`] when the catalog gives none.
    pub async fn producer_id(&self, wide: bool) -> Result<ProducerId, Unchanged> {
        let mut ids = self.producer_ids.lock().await;
        if ids.is_empty() {
            *ids = self.reserve_producer_ids().await?;
        }
        let id = ids.start;
        ids.start += 1;
        Ok(ProducerId(if wide { id | ProducerId::WIDE_BIT } else { id }))
    }

    async fn reserve_producer_ids(&self) -> Result<std::ops::Range<i64>, Unchanged> {
        self.change(|view, _| {
            let cluster = catalog::cluster(view)?;
            let first = cluster.map_or(1, |cluster| cluster.next_producer_id);
            let next = first + PRODUCER_IDS_BLOCK;
            Ok(Ok((first..next, Some(Command::ReserveProducerIds { next }))))
        })
        .await
    }
}
