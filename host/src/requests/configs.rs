//! Settings of topics, as Kafka's clients describe and alter them; and partitions, of which no topic gets more.

use std::collections::BTreeSet;

use tidemill_core::catalog::settings::{Kind, Shown};
use tidemill_protocol::api::messages::create_partitions_response::CreatePartitionsTopicResult;
use tidemill_protocol::api::messages::describe_configs_request::DescribeConfigsResource;
use tidemill_protocol::api::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use tidemill_protocol::api::messages::incremental_alter_configs_request::AlterConfigsResource;
use tidemill_protocol::api::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use tidemill_protocol::api::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use tidemill_protocol::api::{Response, StrBytes};
use tidemill_protocol::error::ErrorCode;

use super::{Requests, Session, code_of_unchanged, words};
use crate::topics;

/// Kafka's number for a topic, among the things that have settings.
const TOPIC: i8 = 2;
/// Where a value comes from: somebody set it for this topic, or nobody did.
const SET_FOR_TOPIC: i8 = 1;
const DEFAULT: i8 = 5;
/// What is to be done with a setting.
const SET: i8 = 0;
const DELETE: i8 = 1;

type Refused = (ErrorCode, String);

/// The settings of topics; of each once, however often it is named: they are many times as long as a name.
pub fn describe(requests: &Requests, session: &Session, request: DescribeConfigsRequest) -> Response {
    let with_synonyms = request.include_synonyms;
    let mut seen = BTreeSet::new();
    let resources = request.resources.into_iter();
    let each_once =
        resources.filter(|resource| seen.insert((resource.resource_type, resource.resource_name.clone())));
    let results = each_once.map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match described(requests, session, &resource, with_synonyms) {
            Ok(configs) => result.with_configs(configs),
            Err((code, why)) => result.with_error_code(code.0).with_error_message(words(why)),
        }
    });
    Response::DescribeConfigs(DescribeConfigsResponse::default().with_results(results.collect()))
}

fn described(
    requests: &Requests,
    session: &Session,
    resource: &DescribeConfigsResource,
    with_synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    check_kind(resource.resource_type)?;
    let name = &*resource.resource_name;
    let found = requests.catalog.topics().find(&requests.catalog.view(), &session.tenant, name);
    let found = found.map_err(|fault| (ErrorCode::KAFKA_STORAGE_ERROR, fault.to_string()))?;
    let found =
        found.ok_or_else(|| (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("there is no topic {name}")))?;
    let keys = resource.configuration_keys.as_ref();
    let is_wanted = |shown: &Shown| {
        keys.is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| **key == *shown.name))
    };
    Ok(found
        .row
        .settings
        .shown()
        .into_iter()
        .filter(is_wanted)
        .map(|shown| one(&shown, with_synonyms))
        .collect())
}

fn one(shown: &Shown, with_synonyms: bool) -> DescribeConfigsResourceResult {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let synonym = |value: &str, source| {
        let synonym = DescribeConfigsSynonym::default().with_name(text(shown.name));
        synonym.with_value(Some(text(value))).with_source(source)
    };
    let mut synonyms = Vec::new();
    if with_synonyms {
        synonyms.extend(shown.explicit.then(|| synonym(&shown.value, SET_FOR_TOPIC)));
        synonyms.push(synonym(&shown.default, DEFAULT));
    }
    DescribeConfigsResourceResult::default()
        .with_name(text(shown.name))
        .with_value(Some(text(&shown.value)))
        .with_config_source(if shown.explicit { SET_FOR_TOPIC } else { DEFAULT })
        .with_synonyms(synonyms)
        .with_config_type(match shown.kind {
            Kind::Text => 2,
            Kind::Int => 3,
            Kind::Long => 5,
            Kind::List => 7,
        })
        .with_documentation(Some(text(shown.meaning)))
}

/// Alters one topic after the other; each by itself is altered or not.
pub async fn alter(
    requests: &Requests,
    session: &Session,
    request: IncrementalAlterConfigsRequest,
) -> Response {
    let mut responses = Vec::new();
    for resource in request.resources {
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        responses.push(match altered(requests, session, &resource, request.validate_only).await {
            Ok(()) => response,
            Err((code, why)) => response.with_error_code(code.0).with_error_message(words(why)),
        });
    }
    let answer = IncrementalAlterConfigsResponse::default().with_responses(responses);
    Response::IncrementalAlterConfigs(answer)
}

async fn altered(
    requests: &Requests,
    session: &Session,
    resource: &AlterConfigsResource,
    dry: bool,
) -> Result<(), Refused> {
    check_kind(resource.resource_type)?;
    let mut changes = Vec::new();
    let mut seen = BTreeSet::new();
    for config in &resource.configs {
        if !seen.insert(&*config.name) {
            return Err((ErrorCode::INVALID_REQUEST, format!("{}: it is named twice", &*config.name)));
        }
        let value = match (config.config_operation, &config.value) {
            (SET, Some(value)) => Some(value.to_string()),
            (SET, None) => return Err((ErrorCode::INVALID_CONFIG, format!("{}: no value", &*config.name))),
            (DELETE, _) => None,
            (_, _) => {
                let why = format!("{}: it can be set and deleted; it is no list to add to", &*config.name);
                return Err((ErrorCode::INVALID_CONFIG, why));
            }
        };
        changes.push((config.name.to_string(), value));
    }
    let of = (session.tenant.as_str(), &*resource.resource_name);
    let altered = topics::alter(&requests.catalog, &requests.shards, of, &changes, dry).await;
    altered.map(drop).map_err(|unchanged| (code_of_unchanged(&unchanged), unchanged.to_string()))
}

fn check_kind(kind: i8) -> Result<(), Refused> {
    if kind == TOPIC {
        return Ok(());
    }
    let why = "topics have settings here; those of a broker are its own (`tidemill config show`)".to_owned();
    Err((ErrorCode::INVALID_REQUEST, why))
}

/// Refuses, and says what to do instead.
pub fn create_partitions(request: CreatePartitionsRequest) -> Response {
    let results = request.topics.into_iter().map(|topic| {
        let why = format!(
            "the partitions of a topic are for its life: keys would move to others, away from their past and their state. \
             Make a topic with {} partitions, and a plugin that copies {} into it",
            topic.count, &*topic.name
        );
        CreatePartitionsTopicResult::default()
            .with_name(topic.name)
            .with_error_code(ErrorCode::INVALID_PARTITIONS.0)
            .with_error_message(words(why))
    });
    Response::CreatePartitions(CreatePartitionsResponse::default().with_results(results.collect()))
}
