//! Which topics there are, and where their partitions are led.

use tidemill_core::catalog;
use tidemill_core::fault::Fault;
use tidemill_protocol::api::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use tidemill_protocol::api::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use tidemill_protocol::api::{StrBytes, uuid};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{self, TopicId};

use super::{Requests, Session, epoch_of};
use crate::catalog::topics::Topic;

/// Answers with the addresses of the transport on which it was asked.
pub fn answer(requests: &Requests, session: &Session, request: &MetadataRequest) -> MetadataResponse {
    let me = BrokerId(requests.addresses.broker.0 as i32);
    let (host, port) = requests.addresses.of(session.transport);
    let broker = MetadataResponseBroker::default()
        .with_node_id(me)
        .with_host(StrBytes::from_string(host))
        .with_port(i32::from(port));
    let topics = match &request.topics {
        None => all(requests, session),
        Some(named) => named
            .iter()
            .map(|topic| match &topic.name {
                Some(name) => by_name(requests, session, name),
                None => by_id(requests, session, TopicId(topic.topic_id.into_bytes())),
            })
            .collect(),
    };
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(requests.addresses.cluster.clone())))
        .with_controller_id(me)
        .with_topics(topics)
}

fn all(requests: &Requests, session: &Session) -> Vec<MetadataResponseTopic> {
    let rows = catalog::topics(&requests.catalog.view()).unwrap_or_default();
    let own = rows.into_iter().filter(|row| row.tenant == session.tenant);
    own.map(|row| by_name(requests, session, &name_of(&row.name))).collect()
}

fn by_id(requests: &Requests, session: &Session, id: TopicId) -> MetadataResponseTopic {
    match catalog::topic_by_id(&requests.catalog.view(), id) {
        Ok(Some(row)) if row.tenant == session.tenant => by_name(requests, session, &name_of(&row.name)),
        Ok(_) => MetadataResponseTopic::default()
            .with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.0)
            .with_topic_id(uuid(id)),
        Err(_) => MetadataResponseTopic::default().with_error_code(ErrorCode::KAFKA_STORAGE_ERROR.0),
    }
}

fn by_name(requests: &Requests, session: &Session, name: &TopicName) -> MetadataResponseTopic {
    let topic = MetadataResponseTopic::default().with_name(Some(name.clone()));
    let view = requests.catalog.view();
    match requests.catalog.topics().find(&view, &session.tenant, name) {
        Ok(Some(found)) => {
            let partitions = (0..found.row.partitions).map(|number| partition(requests, &found, number));
            topic.with_topic_id(uuid(found.row.id)).with_partitions(partitions.collect())
        }
        Ok(None) if ids::TopicName::new(&***name).is_err() => {
            topic.with_error_code(ErrorCode::INVALID_TOPIC_EXCEPTION.0)
        }
        Ok(None) => topic.with_error_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0),
        Err(Fault::Disk { .. } | Fault::Damaged { .. } | Fault::Newer { .. } | Fault::Raft(_)) => {
            topic.with_error_code(ErrorCode::KAFKA_STORAGE_ERROR.0)
        }
    }
}

fn partition(requests: &Requests, topic: &Topic, number: u32) -> MetadataResponsePartition {
    let me = BrokerId(requests.addresses.broker.0 as i32);
    let shard = &requests.shards[usize::from(topic.shards[number as usize].0)];
    let partition = MetadataResponsePartition::default()
        .with_partition_index(number as i32)
        .with_replica_nodes(vec![me])
        .with_isr_nodes(vec![me]);
    match shard.leader() {
        Some(leader) => partition.with_leader_id(me).with_leader_epoch(epoch_of(&leader)),
        None => partition.with_leader_id(BrokerId(-1)).with_error_code(ErrorCode::LEADER_NOT_AVAILABLE.0),
    }
}

fn name_of(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
