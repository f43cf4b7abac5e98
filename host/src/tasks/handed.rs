//! What a guest is given of its deployment, in each of its steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::ids::TaskId;
use tidemill_core::plugin::StateView;
use tidemill_core::shard::step::TaskState;
use tidemill_core::task::TaskSpec;
use tidemill_protocol::ids::TopicName;
use tidemill_runtime::Mounted;

use crate::shards::Shard;
use crate::shards::leader::Leader;

/// What the guest needs of the spec, in the form in which it is handed over.
pub struct Handed {
    /// The topics that it reads.
    pub inputs: Arc<[TopicName]>,
    /// The topics that it may publish to.
    pub outputs: Arc<[TopicName]>,
    /// Its configuration.
    pub config: Arc<BTreeMap<String, String>>,
    /// The files that it may read.
    pub files: Arc<[Mounted]>,
    /// Its state, as the head has it.
    pub state: Arc<dyn StateView>,
}

impl Handed {
    /// Of a task, on the leader of its shard.
    ///
    /// # Errors
    /// A [`Fault`] when a name in the spec is none.
    pub fn of(
        spec: &TaskSpec,
        task: TaskId,
        shard: &Arc<Shard>,
        leader: &Arc<Leader>,
        files: Arc<[Mounted]>,
    ) -> Result<Handed, Fault> {
        let name = |name: &String| {
            TopicName::new(name.as_str()).map_err(|error| Fault::damaged("a task's spec", error))
        };
        Ok(Handed {
            inputs: spec.inputs.iter().map(|input| name(&input.name)).collect::<Result<_, _>>()?,
            outputs: spec.outputs.iter().map(|output| name(&output.name)).collect::<Result<_, _>>()?,
            config: Arc::new(spec.config.clone()),
            files,
            state: Arc::new(HeadState { task, shard: shard.clone(), leader: leader.clone() }),
        })
    }
}

/// The task's state, out of the head.
struct HeadState {
    task: TaskId,
    shard: Arc<Shard>,
    leader: Arc<Leader>,
}

impl StateView for HeadState {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        let applied = self.shard.group.tables();
        self.leader.look(&applied, |head| TaskState { task: self.task, head }.get(key))
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        let applied = self.shard.group.tables();
        self.leader.look(&applied, |head| TaskState { task: self.task, head }.scan(start, end, limit))
    }
}
