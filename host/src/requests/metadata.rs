//! Which topics there are, and where their partitions are led.

use std::collections::BTreeSet;

use tidemill_core::catalog;
use tidemill_core::fault::Fault;
use tidemill_core::limits;
use tidemill_protocol::api::messages::metadata_request::MetadataRequestTopic;
use tidemill_protocol::api::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use tidemill_protocol::api::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use tidemill_protocol::api::{StrBytes, uuid};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{self, TopicId};

use super::{Requests, Session, Spare, epoch_of};
use crate::catalog::topics::Topic;

/// Answers with the addresses of the transport on which it was asked.
pub fn answer(requests: &Requests, session: &Session, request: &MetadataRequest) -> MetadataResponse {
    let me = BrokerId(requests.addresses.broker.0 as i32);
    let (host, port) = requests.addresses.of(session.transport);
    let broker = MetadataResponseBroker::default()
        .with_node_id(me)
        .with_host(StrBytes::from_string(host))
        .with_port(i32::from(port));
    let mut spare = Spare(limits::METADATA_PARTITIONS_MAX);
    let topics = match &request.topics {
        None => all(requests, session, &mut spare),
        Some(named) => each_once(requests, session, named, &mut spare),
    };
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(requests.addresses.cluster.clone())))
        .with_controller_id(me)
        .with_topics(topics)
}

fn all(requests: &Requests, session: &Session, spare: &mut Spare) -> Vec<MetadataResponseTopic> {
    let rows = catalog::topics(&requests.catalog.view()).unwrap_or_default();
    let own = rows.into_iter().filter(|row| row.tenant == session.tenant);
    own.map(|row| by_name(requests, session, &name_of(&row.name), spare)).collect()
}

/// Each topic once, however often and in whatever way it is named, as Kafka's brokers do: an answer is many times as
/// long as a name.
fn each_once(
    requests: &Requests,
    session: &Session,
    named: &[MetadataRequestTopic],
    spare: &mut Spare,
) -> Vec<MetadataResponseTopic> {
    let mut seen = BTreeSet::new();
    let mut topics = Vec::new();
    for topic in named {
        let name = match &topic.name {
            Some(name) => Ok(name.clone()),
            None => named_by(requests, session, TopicId(topic.topic_id.into_bytes())),
        };
        if !seen.insert(name.clone()) {
            continue;
        }
        topics.push(match name {
            Ok(name) => by_name(requests, session, &name, spare),
            Err((id, code)) => {
                MetadataResponseTopic::default().with_error_code(code.0).with_topic_id(uuid(id))
            }
        });
    }
    topics
}

/// The name of a topic that is named by its id.
fn named_by(requests: &Requests, session: &Session, id: TopicId) -> Result<TopicName, (TopicId, ErrorCode)> {
    match catalog::topic_by_id(&requests.catalog.view(), id) {
        Ok(Some(row)) if row.tenant == session.tenant => Ok(name_of(&row.name)),
        Ok(_) => Err((id, ErrorCode::UNKNOWN_TOPIC_ID)),
        Err(_) => Err((id, ErrorCode::KAFKA_STORAGE_ERROR)),
    }
}

fn by_name(
    requests: &Requests,
    session: &Session,
    name: &TopicName,
    spare: &mut Spare,
) -> MetadataResponseTopic {
    let topic = MetadataResponseTopic::default().with_name(Some(name.clone()));
    let view = requests.catalog.view();
    match requests.catalog.topics().find(&view, &session.tenant, name) {
        Ok(Some(found)) => {
            if let Err(code) = spare.take(found.row.partitions as usize) {
                return topic.with_topic_id(uuid(found.row.id)).with_error_code(code.0);
            }
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
