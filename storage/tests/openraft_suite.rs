//! openraft's own suite, on our log and our tables.
//!
//! Two of its habits our storage refuses, because nothing of ours does them, and each would be a gap in a log:
//!
//! - Some of its logs begin at entry 1 or 2. Ours begin at 0, or behind a snapshot. So the log that the suite is given
//!   puts the purge mark below the first entry where it has to.
//! - Some of its cases apply entries that no log holds. Ours writes a checkpoint only when the log is durable as far as
//!   it reaches; here the tables are not told which log they follow, and write it at once.
//!
//! Everything is what a broker uses, on a simulated disk.
#![allow(clippy::disallowed_methods, reason = "tests may wait")]

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, StorageError};
use tidemill_core::effect::Effect;
use tidemill_core::entry::Entry;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{BrokerId, LogIndex, Term};
use tidemill_core::tables::Tables;
use tidemill_sim::broker::SimBroker;
use tidemill_sim::chance::SimChance;
use tidemill_sim::clock::SimClock;
use tidemill_sim::disk::SimDisk;
use tidemill_sim::net::SimNet;
use tidemill_storage::group::Machine;
use tidemill_storage::log::{GroupLog, LogOptions, OnFault};
use tidemill_storage::raft::log_store::{LogReader, LogStore};
use tidemill_storage::raft::machine::StateMachine;
use tidemill_storage::raft::progress::Progress;
use tidemill_storage::raft::types::{self, RaftEntryOf, RaftLogId, RaftVote, TypeConfig};
use tidemill_storage::state::{StateOptions, StateStore};

/// The suite's entries are blanks and memberships.
struct Nothing;

impl Machine for Nothing {
    fn apply(&self, _: &mut dyn Tables, _: LogIndex, _: &Entry, _: &mut Vec<Effect>) -> Result<(), Fault> {
        Ok(())
    }

    fn perform(&self, _: Term, _: Vec<Effect>) {}
}

/// Our log, which begins where the suite wants it to.
struct BeginsAnywhere(LogStore);

impl RaftLogStorage<TypeConfig> for BeginsAnywhere {
    type LogReader = LogReader;

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntryOf> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<RaftEntryOf> = entries.into_iter().collect();
        let first = entries[0].log_id();
        if self.0.get_log_state().await?.last_log_id.is_none() && first.index() > 0 {
            let before = RaftLogId::new(types::raft_term(Term(0)), first.index() - 1);
            self.0.purge(before).await?;
        }
        self.0.append(entries, callback).await
    }

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        self.0.save_vote(vote).await
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        self.0.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        self.0.read_committed().await
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        self.0.truncate_after(last).await
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        self.0.purge(upto).await
    }
}

struct Builder {
    clock: SimClock,
    net: SimNet,
}

impl Builder {
    fn build_on(&self, place: &SimBroker) -> Result<(BeginsAnywhere, StateMachine), Fault> {
        let folder = PathBuf::from("/data/shard-0");
        let on_fault: OnFault = Arc::new(|fault| panic!("{fault}"));
        let (log, _) = GroupLog::open(&place.world, folder.clone(), LogOptions::default(), on_fault.clone())?;
        let (tables, checkpoint) =
            StateStore::open(&place.world, folder, StateOptions::default(), on_fault.clone())?;
        let progress = Progress::new(&checkpoint)?;
        let store = LogStore::new(log.clone(), progress.clone(), Default::default());
        let (machine, _) = StateMachine::new(tables, log, Arc::new(Nothing), progress, on_fault);
        Ok((BeginsAnywhere(store), machine))
    }
}

impl StoreBuilder<TypeConfig, BeginsAnywhere, StateMachine, SimBroker> for Builder {
    async fn build(&self) -> Result<(SimBroker, BeginsAnywhere, StateMachine), StorageError<TypeConfig>> {
        let (clock, chance) = (self.clock.clone(), SimChance::new(1));
        let place = SimBroker::new(BrokerId(0), SimDisk::new(), clock, chance, &self.net);
        let (store, machine) =
            self.build_on(&place).map_err(|fault| panic!("{fault}")).expect("it panics else");
        Ok((place, store, machine))
    }
}

#[test]
fn our_storage_passes_openrafts_own_suite() {
    tidemill_sim::run(async {
        let builder = Builder { clock: SimClock::start(), net: SimNet::new(SimChance::new(1)) };
        let passed = Suite::test_all(builder).await;
        assert!(is_ok(&passed), "{passed:?}");
    });
}

fn is_ok(result: &Result<(), impl Debug>) -> bool {
    result.is_ok()
}
