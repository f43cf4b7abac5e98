//! What is answered, and when nothing is.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tidemill_client::ErrorCode;
use tidemill_protocol::api::messages::create_topics_response::CreatableTopicResult;
use tidemill_protocol::api::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use tidemill_protocol::api::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use tidemill_protocol::api::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use tidemill_protocol::api::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use tidemill_protocol::api::messages::{
    BrokerId, CreateTopicsRequest, CreateTopicsResponse, FetchRequest, FetchResponse, InitProducerIdResponse,
    ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse, ProduceRequest,
    ProduceResponse, ProducerId, TopicName,
};
use tidemill_protocol::api::{
    Envelope, Request, Response, StrBytes, api_versions, asked_window, grant_window,
};
use tidemill_protocol::ids::{self, WINDOW_WIDE};

use super::Inside;
use super::faults::Fate;
use super::log::{Log, PartitionLog};

const ME: BrokerId = BrokerId(1);

pub enum Answer {
    Response(Response),
    Silence,
    Cut,
}

pub async fn answer(inside: &Inside, head: &Envelope, request: Request, address: SocketAddr) -> Answer {
    assert_eq!(head.client_id.as_deref(), Some("tidemill-client"));
    Answer::Response(match request {
        Request::ApiVersions(_) => Response::ApiVersions(api_versions()),
        Request::Metadata(request) => Response::Metadata(metadata(&inside.log(), &request, address)),
        Request::CreateTopics(request) => Response::CreateTopics(create(&mut inside.log(), &request)),
        Request::ListOffsets(request) => Response::ListOffsets(list_offsets(&inside.log(), &request)),
        Request::Fetch(request) => Response::Fetch(fetch(inside, &request).await),
        Request::InitProducerId(request) => {
            assert_eq!(request.transactional_id, None);
            let faults = inside.faults().clone();
            let wide = asked_window(&request).is_some_and(|window| window == WINDOW_WIDE) && !faults.narrow;
            let mut log = inside.log();
            log.next_producer += 1;
            let id = log.next_producer | if wide { ids::ProducerId::WIDE_BIT } else { 0 };
            // Only the first id of all is nearly used up.
            let epoch = if log.next_producer == 1 { faults.first_epoch } else { 0 };
            let mut answer =
                InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(epoch);
            if wide {
                grant_window(&mut answer, WINDOW_WIDE);
            }
            Response::InitProducerId(answer)
        }
        Request::Produce(request) => return produce(inside, &request).await,
        Request::FindCoordinator(_) | Request::OffsetCommit(_) | Request::OffsetFetch(_) => {
            panic!("our client commits no offsets")
        }
        Request::DescribeConfigs(_) | Request::IncrementalAlterConfigs(_) | Request::CreatePartitions(_) => {
            panic!("our client has no such request")
        }
        Request::DeleteTopics(_) => panic!("our client deletes no topics"),
        Request::DeleteRecords(_) => panic!("our client deletes no records"),
    })
}

async fn produce(inside: &Inside, request: &ProduceRequest) -> Answer {
    let topic = &request.topic_data[0];
    let data = &topic.partition_data[0];
    let mut changes = inside.changes.subscribe();
    let is_free = |_: &u64| !inside.faults().stalled.contains(&data.index);
    let _ = changes.wait_for(is_free).await;

    let (fate, largest, fenced) = {
        let mut faults = inside.faults();
        (faults.draw(), faults.batch_bytes_max, faults.fenced)
    };
    let write = || {
        let batch = data.records.clone().unwrap_or_default();
        let mut log = inside.log();
        let partitions = log.topics.get_mut(topic.name.0.as_str());
        let partition = partitions.and_then(|partitions| partitions.get_mut(data.index as usize));
        let written = match partition {
            Some(partition) => partition.append(&batch, largest),
            None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        };
        log.appends += 1;
        drop(log);
        inside.changed();
        written
    };
    let written = match fate {
        _ if fenced => Err(ErrorCode::INVALID_PRODUCER_EPOCH),
        Fate::CutBefore => return Answer::Cut,
        Fate::CutAfter => {
            let _ = write();
            return Answer::Cut;
        }
        Fate::Refuse => Err(ErrorCode::NOT_ENOUGH_REPLICAS),
        Fate::Unsure(true) => write().and(Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)),
        Fate::Unsure(false) => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        Fate::Confused(true) => write().and(Err(ErrorCode::UNKNOWN_SERVER_ERROR)),
        Fate::Confused(false) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        Fate::Normal => write(),
    };
    if request.acks == 0 {
        return Answer::Silence;
    }
    let part = PartitionProduceResponse::default().with_index(data.index);
    let part = match written {
        Ok(base) => part.with_base_offset(base as i64),
        Err(code) => part.with_base_offset(-1).with_error_code(code.0),
    };
    let topic =
        TopicProduceResponse::default().with_name(topic.name.clone()).with_partition_responses(vec![part]);
    Answer::Response(Response::Produce(ProduceResponse::default().with_responses(vec![topic])))
}

async fn fetch(inside: &Inside, request: &FetchRequest) -> FetchResponse {
    let mut changes = inside.changes.subscribe();
    let wait = Duration::from_millis(request.max_wait_ms as u64);
    let until = tokio::time::Instant::now() + wait;
    loop {
        changes.mark_unchanged();
        let rots = inside.faults().rots;
        let (answer, is_worth_it) = read(&inside.log(), request, rots);
        if is_worth_it || tokio::time::timeout_at(until, changes.changed()).await.is_err() {
            return answer;
        }
    }
}

/// What there is to read, and whether it is worth an answer.
fn read(log: &Log, request: &FetchRequest, rots: bool) -> (FetchResponse, bool) {
    let mut room = request.max_bytes as usize;
    let mut is_worth_it = false;
    let topics = request.topics.iter().map(|topic| {
        let parts = topic.partitions.iter().map(|asked| {
            let answer = PartitionData::default().with_partition_index(asked.partition);
            let Some(partition) = find(log, &topic.topic, asked.partition) else {
                is_worth_it = true;
                return answer.with_error_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
            };
            let answer = answer.with_high_watermark(partition.end as i64);
            let Some(offset) = u64::try_from(asked.fetch_offset)
                .ok()
                .filter(|at| (partition.start..=partition.end).contains(at))
            else {
                is_worth_it = true;
                return answer.with_error_code(ErrorCode::OFFSET_OUT_OF_RANGE.0);
            };
            if room == 0 {
                return answer.with_records(Some(Bytes::new()));
            }
            let mut records = partition.read(offset, room.min(asked.partition_max_bytes as usize));
            if rots && !records.is_empty() {
                let mut rotten = records.to_vec();
                *rotten.last_mut().unwrap() ^= 1;
                records = rotten.into();
            }
            room = room.saturating_sub(records.len());
            is_worth_it |= !records.is_empty();
            answer.with_records(Some(records))
        });
        FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_partitions(parts.collect())
    });
    let topics = topics.collect();
    (FetchResponse::default().with_responses(topics), is_worth_it)
}

fn find<'a>(log: &'a Log, topic: &TopicName, partition: i32) -> Option<&'a PartitionLog> {
    log.topics.get(topic.0.as_str()).and_then(|partitions| partitions.get(partition as usize))
}

fn list_offsets(log: &Log, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let parts = topic.partitions.iter().map(|asked| {
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            match (find(log, &topic.name, asked.partition_index), asked.timestamp) {
                (None, _) => answer.with_error_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0),
                (Some(partition), -1) => answer.with_offset(partition.end as i64),
                (Some(partition), -2) => answer.with_offset(partition.start as i64),
                (Some(partition), time) => match partition.find_time(time) {
                    Some((offset, time)) => answer.with_offset(offset as i64).with_timestamp(time),
                    None => answer.with_offset(-1).with_timestamp(-1),
                },
            }
        });
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(parts.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn create(log: &mut Log, request: &CreateTopicsRequest) -> CreateTopicsResponse {
    let made = request.topics.iter().map(|topic| {
        let answer = CreatableTopicResult::default().with_name(topic.name.clone());
        if log.topics.contains_key(topic.name.0.as_str()) {
            return answer.with_error_code(ErrorCode::TOPIC_ALREADY_EXISTS.0);
        }
        if topic.num_partitions < 1 {
            let why = StrBytes::from_static_str("a topic without partitions");
            return answer.with_error_code(ErrorCode::INVALID_PARTITIONS.0).with_error_message(Some(why));
        }
        if !request.validate_only {
            let partitions = (0..topic.num_partitions).map(|_| PartitionLog::default()).collect();
            log.topics.insert(topic.name.0.to_string(), partitions);
        }
        answer.with_num_partitions(topic.num_partitions)
    });
    CreateTopicsResponse::default().with_topics(made.collect())
}

fn metadata(log: &Log, request: &MetadataRequest, address: SocketAddr) -> MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(ME)
        .with_host(StrBytes::from_string(address.ip().to_string()))
        .with_port(i32::from(address.port()));
    let all =
        || log.topics.keys().map(|name| TopicName(StrBytes::from_string(name.clone()))).collect::<Vec<_>>();
    let asked = match &request.topics {
        None => all(),
        Some(topics) => topics.iter().filter_map(|topic| topic.name.clone()).collect(),
    };
    let topics = asked.into_iter().map(|name| {
        let found = log.topics.get(name.0.as_str());
        let answer = MetadataResponseTopic::default().with_name(Some(name));
        match found {
            None => answer.with_error_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0),
            Some(partitions) => {
                let describe = |number: usize| {
                    MetadataResponsePartition::default()
                        .with_partition_index(number as i32)
                        .with_leader_id(ME)
                };
                answer.with_partitions((0..partitions.len()).map(describe).collect())
            }
        }
    });
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_controller_id(ME)
        .with_topics(topics.collect())
}
