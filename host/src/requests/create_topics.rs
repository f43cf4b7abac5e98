//! Making topics.

use tidemill_core::catalog::{TopicRow, TopicSettings};
use tidemill_protocol::api::messages::create_topics_request::CreatableTopic;
use tidemill_protocol::api::messages::create_topics_response::CreatableTopicResult;
use tidemill_protocol::api::messages::{CreateTopicsRequest, CreateTopicsResponse};
use tidemill_protocol::api::{Response, uuid};
use tidemill_protocol::error::ErrorCode;

use super::{Requests, Session, code_of_unchanged, words};
use crate::catalog::Unchanged;
use crate::topics::{self, TopicRequest};

/// Partitions of a topic whose creator leaves the number to us, by -1.
const PARTITIONS_DEFAULT: u32 = 1;

/// Makes one topic after the other; each by itself is made or not.
pub async fn answer(requests: &Requests, session: &Session, request: CreateTopicsRequest) -> Response {
    let mut results = Vec::new();
    for topic in request.topics {
        let result = CreatableTopicResult::default().with_name(topic.name.clone());
        let made = match wanted(&topic, session) {
            Ok(wanted) if request.validate_only => topics::check(&requests.catalog, &requests.world, &wanted),
            Ok(wanted) => create(requests, &wanted).await,
            Err((code, why)) => {
                results.push(result.with_error_code(code.0).with_error_message(words(why)));
                continue;
            }
        };
        results.push(match made {
            Ok(row) => result
                .with_topic_id(uuid(row.id))
                .with_num_partitions(row.partitions as i32)
                .with_replication_factor(1),
            Err(unchanged) => result
                .with_error_code(code_of_unchanged(&unchanged).0)
                .with_error_message(words(unchanged.to_string())),
        });
    }
    Response::CreateTopics(CreateTopicsResponse::default().with_topics(results))
}

async fn create(requests: &Requests, wanted: &TopicRequest) -> Result<TopicRow, Unchanged> {
    requests.reserve.check()?;
    topics::create(&requests.catalog, &requests.shards, &requests.world, wanted).await
}

type Refused = (ErrorCode, String);

fn wanted(topic: &CreatableTopic, session: &Session) -> Result<TopicRequest, Refused> {
    if !topic.assignments.is_empty() {
        let why = "replica assignments are the cluster's: leave them out".to_owned();
        return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, why));
    }
    if !matches!(topic.replication_factor, -1 | 1) {
        let why =
            format!("replication factor {}: this cluster has one broker; use -1", topic.replication_factor);
        return Err((ErrorCode::INVALID_REPLICATION_FACTOR, why));
    }
    let partitions = match topic.num_partitions {
        -1 => PARTITIONS_DEFAULT,
        number => u32::try_from(number).map_err(|_| {
            (ErrorCode::INVALID_PARTITIONS, format!("{number} partitions: use 1 or more, or -1"))
        })?,
    };
    let mut settings = TopicSettings::default();
    for config in &topic.configs {
        let set = settings.set(&config.name, config.value.as_deref());
        set.map_err(|rejection| (rejection.code(), rejection.to_string()))?;
    }
    Ok(TopicRequest {
        tenant: session.tenant.clone(),
        name: topic.name.to_string(),
        partitions,
        affinity: None,
        settings,
    })
}
