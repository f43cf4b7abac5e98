//! A catalog to try decisions on.

use tidemill_protocol::ids::TopicId;

use super::deploy::{self, Decision, Request};
use super::{
    AffinityGroupRow, ClusterRow, Command, Deployment, TopicRow, TopicSettings, apply, deployment, entry,
};
use crate::ids::{BrokerId, DeploymentId, Digest, ShardId};
use crate::manifest::Manifest;
use crate::rejection::Rejection;
use crate::seams::Timestamp;
use crate::tables::MemoryTables;

pub const TENANT: &str = "default";
pub const NOW: Timestamp = Timestamp(5);

pub fn carry_out(tables: &mut MemoryTables, command: &Command) {
    apply(tables, &entry(command, NOW), &mut Vec::new()).unwrap();
}

/// A cluster with topics `a`, `b` and `c`, of one group.
pub fn cluster() -> MemoryTables {
    let mut tables = MemoryTables::default();
    let cluster = ClusterRow {
        id: "c".into(),
        feature_level: 1,
        shards: 1,
        brokers: vec![BrokerId(1)],
        next_producer_id: 1,
        next_deployment: DeploymentId(1),
    };
    carry_out(&mut tables, &Command::Form { cluster });
    let topic = |number: u8, name: &str| TopicRow {
        id: TopicId([number; 16]),
        tenant: TENANT.into(),
        name: name.into(),
        partitions: 2,
        group: "g".into(),
        settings: TopicSettings::default(),
    };
    let topics = vec![topic(1, "a"), topic(2, "b"), topic(3, "c")];
    let group = AffinityGroupRow {
        tenant: TENANT.into(),
        name: "g".into(),
        shards: vec![ShardId(0); 2],
        topics: 3,
        is_default: true,
    };
    carry_out(&mut tables, &Command::CreateTopics { topics, groups: vec![group] });
    tables
}

/// The manifest of plugin `it`.
pub fn manifest(input: &str, changes: &str) -> Manifest {
    let text = format!(
        r#"{{"name":"it","component":"it.wasm","subscribe":[{{"topic":"{input}","from":"earliest"}}]{changes}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

pub fn deploy(tables: &mut MemoryTables, manifest: Manifest) -> Result<Deployment, Rejection> {
    let digest = Digest([manifest.state_version as u8; 32]);
    let starts = vec![vec![0], vec![0]];
    // Of a plugin that is the first of its name, they are ids of its own.
    let [dead_letter, log] = [9, 10].map(|kind| {
        let mut id = [kind; 16];
        id.iter_mut().zip(manifest.name.bytes()).for_each(|(byte, letter)| *byte ^= letter);
        TopicId(id)
    });
    let name = manifest.name.clone();
    let request = Request { tenant: TENANT.into(), manifest, digest, starts, dead_letter, log };
    let decided = deploy::decide(tables, NOW, &request).unwrap();
    finish(tables, decided, &name)
}

/// Carries a decision out; returns what is deployed then.
pub fn finish(
    tables: &mut MemoryTables,
    decided: Result<Decision, Rejection>,
    name: &str,
) -> Result<Deployment, Rejection> {
    if let Decision::Deploy(command) = decided? {
        carry_out(tables, &command);
    }
    Ok(deployment(tables, TENANT, name).unwrap().unwrap())
}

pub fn why<T: std::fmt::Debug>(refused: Result<T, Rejection>) -> String {
    refused.unwrap_err().to_string()
}
