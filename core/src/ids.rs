//! The names of things inside a broker; what the outside may name stands in `tidemill_protocol::ids`.

use std::fmt;

use serde::{Deserialize, Serialize};
use tidemill_protocol::ids::Partition;

/// A broker of the cluster. Never used again for another broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BrokerId(pub u64);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A Raft group: the catalog, or a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupId {
    /// The group of the whole cluster.
    Catalog,
    /// One of the shards.
    Shard(ShardId),
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupId::Catalog => f.write_str("catalog"),
            GroupId::Shard(shard) => write!(f, "shard-{}", shard.0),
        }
    }
}

/// A shard, from 0. `u16::MAX` is kept free: entries use it for "this shard".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u16);

/// A Raft term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

/// The place of an entry in its group's log, from 0. Private to the group: never a record's public name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogIndex(pub u64);

/// How far a task has read in its shard's log: all entries below `index`, and `skip` of the records that
/// entry `index` holds for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// The first entry that is not read to its end.
    pub index: LogIndex,
    /// The records of that entry, of all the task's inputs, that are read.
    pub skip: u32,
}

/// A plugin set to run in a tenant, for as long as it keeps its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeploymentId(pub u64);

/// A version or restart point of a deployment; a lower one is fenced everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    /// The generation after this one.
    pub fn next(self) -> Generation {
        Generation(self.0 + 1)
    }
}

/// A deployment at work on one partition number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TaskId {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The number of the partitions it reads.
    pub partition: Partition,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.deployment.0, self.partition.0)
    }
}

/// The number of a task's step, from 1, over all generations without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepNumber(pub u64);

impl StepNumber {
    /// The step after this one.
    pub fn next(self) -> StepNumber {
        StepNumber(self.0 + 1)
    }
}

/// The SHA-256 digest of a component.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl std::str::FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WHAT: &str = "a digest is 64 hexadecimal digits";
        let mut digest = [0; 32];
        if text.len() != 64 {
            return Err(WHAT);
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            // Rust's own reader takes a sign for a digit.
            if !pair.iter().all(u8::is_ascii_hexdigit) {
                return Err(WHAT);
            }
            let hex = std::str::from_utf8(pair).map_err(|_| WHAT)?;
            *byte = u8::from_str_radix(hex, 16).map_err(|_| WHAT)?;
        }
        Ok(Digest(digest))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
