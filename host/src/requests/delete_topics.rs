//! Deleting topics.

use tidemill_core::catalog;
use tidemill_core::rejection::Rejection;
use tidemill_protocol::api::messages::delete_topics_request::DeleteTopicState;
use tidemill_protocol::api::messages::delete_topics_response::DeletableTopicResult;
use tidemill_protocol::api::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use tidemill_protocol::api::{Response, StrBytes};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::TopicId;

use super::{Requests, Session, code_of_unchanged, words};
use crate::topics;

/// Deletes one topic after the other; each by itself is deleted or not.
pub async fn answer(requests: &Requests, session: &Session, request: DeleteTopicsRequest) -> Response {
    let by_name = |name| DeleteTopicState::default().with_name(Some(name));
    // Version 6 names topics by name or id, one each; those before it have a list of names.
    let wanted = request.topics.into_iter().chain(request.topic_names.into_iter().map(by_name));
    let mut results = Vec::new();
    for topic in wanted {
        results.push(match name_of(requests, session, &topic) {
            Ok(name) => delete(requests, session, name).await,
            Err((code, why)) => refused(code, why).with_name(topic.name).with_topic_id(topic.topic_id),
        });
    }
    Response::DeleteTopics(DeleteTopicsResponse::default().with_responses(results))
}

async fn delete(requests: &Requests, session: &Session, name: TopicName) -> DeletableTopicResult {
    let deleted = topics::delete(&requests.catalog, &requests.shards, &session.tenant, &name).await;
    match deleted {
        Ok(row) => DeletableTopicResult::default().with_topic_id(tidemill_protocol::api::uuid(row.id)),
        Err(unchanged) => refused(code_of_unchanged(&unchanged), unchanged.to_string()),
    }
    .with_name(Some(name))
}

fn refused(code: ErrorCode, why: String) -> DeletableTopicResult {
    DeletableTopicResult::default().with_error_code(code.0).with_error_message(words(why))
}

/// The name of a topic that is named by its name or its id.
fn name_of(
    requests: &Requests,
    session: &Session,
    topic: &DeleteTopicState,
) -> Result<TopicName, (ErrorCode, String)> {
    match &topic.name {
        Some(_) if !topic.topic_id.is_nil() => Err((
            ErrorCode::INVALID_REQUEST,
            "a topic is named by its name or its id, not by both".to_owned(),
        )),
        Some(name) => Ok(name.clone()),
        None => {
            let id = TopicId(*topic.topic_id.as_bytes());
            let row = catalog::topic_by_id(&requests.catalog.view(), id)
                .map_err(|fault| (ErrorCode::KAFKA_STORAGE_ERROR, fault.to_string()))?;
            let row = row.filter(|row| row.tenant == session.tenant);
            let row = row.ok_or_else(|| {
                let why = Rejection::Missing(format!("topic with id {id}")).to_string();
                (ErrorCode::UNKNOWN_TOPIC_ID, why)
            })?;
            Ok(TopicName(StrBytes::from_string(row.name)))
        }
    }
}
