//! Requests of Kafka's protocol: the whole life of one can be read here.
//!
//! ```text
//!   frame ─▶ decode ─▶ begin: one line for each request, in the order of the stream ─▶ a future ─▶ encode ─▶ frame
//! ```
//!
//! Beginning a request does what must happen in order, such as appending a batch behind the one before it; what it
//! then waits for, a commit or records to come, is in the future that it returns. So a stream has many requests
//! under way, and its answers go out in the order in which they came in. No answer is made before its turn: it may be
//! many times as large as its request, and its client may be slow to take those before it.

mod configs;
mod create_topics;
mod delete_records;
mod delete_topics;
mod fetch;
mod find_coordinator;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod produce;

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::catalog::DEFAULT_TENANT;
use tidemill_core::limits;
use tidemill_core::rejection::Rejection;
use tidemill_core::seams::{BoxFuture, World};
use tidemill_protocol::api::{self, Envelope, Request, RequestError, Response, StrBytes};
use tidemill_protocol::error::ErrorCode;
use tokio::sync::Semaphore;

use crate::addresses::{Addresses, Transport};
use crate::catalog::{Catalog, Unchanged};
use crate::metrics::Metrics;
use crate::reserve::Reserve;
use crate::shards::leader::Leader;
use crate::shards::{Refused, Shard};

/// Who asks.
#[derive(Debug, Clone)]
pub struct Session {
    /// The tenant that the client's identity belongs to: what it names is that tenant's.
    pub tenant: String,
    /// How it reached us.
    pub transport: Transport,
}

impl Session {
    /// Until there are tenants, everybody is of the default one.
    pub fn of(transport: Transport) -> Session {
        Session { tenant: DEFAULT_TENANT.to_owned(), transport }
    }
}

/// An answer to come.
pub struct Answer {
    /// What is to be sent, in parts, once it is there; nothing, when it cannot be written.
    pub parts: BoxFuture<Option<Vec<Bytes>>>,
    /// Whether its request changes nothing: once nobody takes the answer, it need not be waited for.
    pub only_reads: bool,
}

/// What a stream does with a frame.
pub enum Begun {
    /// Send this.
    Answer(Answer),
    /// Send nothing: the client asked for no answer.
    Silent(BoxFuture<()>),
    /// End the stream: nothing that comes on it can be understood any more.
    End(RequestError),
}

/// Answers requests.
pub struct Requests {
    /// Clock, chance, disk, network and threads.
    pub world: World,
    /// Topics, producer ids.
    pub catalog: Arc<Catalog>,
    /// All shards, by their number.
    pub shards: Vec<Arc<Shard>>,
    /// How clients reach the brokers.
    pub addresses: Arc<Addresses>,
    /// The broker's metrics.
    pub metrics: Arc<Metrics>,
    /// Whether there is room on the disk.
    pub reserve: Arc<Reserve>,
    /// Bytes of batches that may wait for their commit.
    pub room: Arc<Semaphore>,
}

impl Requests {
    /// The requests of a broker.
    pub fn new(
        world: World,
        catalog: Arc<Catalog>,
        shards: Vec<Arc<Shard>>,
        addresses: Arc<Addresses>,
        metrics: Arc<Metrics>,
        reserve: Arc<Reserve>,
    ) -> Arc<Requests> {
        let room = Arc::new(Semaphore::new(limits::PRODUCE_PENDING_BYTES_MAX));
        Arc::new(Requests { world, catalog, shards, addresses, metrics, reserve, room })
    }

    /// Begins to answer the request in a frame.
    pub async fn begin(self: &Arc<Self>, session: &Session, frame: Bytes) -> Begun {
        let (envelope, request) = match api::decode_request(frame) {
            Ok(read) => read,
            Err(RequestError::UnsupportedVersion(envelope)) if envelope.key == api::API_VERSIONS => {
                // Kafka's rule: whoever asks in a version that is too new is told in version 0 what there is.
                let code = ErrorCode::UNSUPPORTED_VERSION.0;
                let refused = Response::ApiVersions(api::api_versions().with_error_code(code));
                return answer(Envelope { version: 0, ..envelope }, true, ready(refused));
            }
            Err(error) => return Begun::End(error),
        };
        self.metrics.request(request.spoken().name, session.transport.name());
        let acks = match &request {
            Request::Produce(request) => request.acks,
            _ => -1,
        };
        let only_reads = only_reads(&request);
        let response = self.respond(session, &envelope, request).await;
        if acks == 0 {
            Begun::Silent(Box::pin(async { drop(response.await) }))
        } else {
            answer(envelope, only_reads, response)
        }
    }

    /// One line for each request that we speak.
    async fn respond(
        self: &Arc<Self>,
        session: &Session,
        envelope: &Envelope,
        request: Request,
    ) -> BoxFuture<Response> {
        let (this, session) = (self.clone(), session.clone());
        match request {
            Request::ApiVersions(_) => ready(Response::ApiVersions(api::api_versions())),
            Request::Metadata(request) => {
                Box::pin(async move { Response::Metadata(metadata::answer(&this, &session, &request)) })
            }
            Request::Produce(request) => {
                let version = envelope.version;
                produce::begin(&this, &session, request, version).await
            }
            Request::Fetch(request) => {
                let version = envelope.version;
                Box::pin(async move { fetch::answer(&this, &session, request, version).await })
            }
            Request::OffsetCommit(request) => offset_commit::begin(&this, &session, request).await,
            Request::OffsetFetch(request) => {
                let version = envelope.version;
                Box::pin(async move { offset_fetch::answer(&this, &session, request, version).await })
            }
            Request::FindCoordinator(request) => {
                let version = envelope.version;
                Box::pin(async move { find_coordinator::answer(&this, &session, request, version) })
            }
            Request::ListOffsets(request) => Box::pin(async move {
                Response::ListOffsets(list_offsets::answer(&this, &session, &request).await)
            }),
            Request::CreateTopics(request) => {
                Box::pin(async move { create_topics::answer(&this, &session, request).await })
            }
            Request::DeleteTopics(request) => {
                Box::pin(async move { delete_topics::answer(&this, &session, request).await })
            }
            Request::DeleteRecords(request) => {
                Box::pin(async move { delete_records::answer(&this, &session, &request).await })
            }
            Request::DescribeConfigs(request) => {
                Box::pin(async move { configs::describe(&this, &session, request) })
            }
            Request::IncrementalAlterConfigs(request) => {
                Box::pin(async move { configs::alter(&this, &session, request).await })
            }
            Request::CreatePartitions(request) => {
                Box::pin(async move { configs::create_partitions(request) })
            }
            Request::InitProducerId(request) => {
                let version = envelope.version;
                Box::pin(async move { init_producer_id::answer(&this, &request, version).await })
            }
        }
    }
}

/// Whether a request changes nothing.
fn only_reads(request: &Request) -> bool {
    match request {
        Request::ApiVersions(_)
        | Request::Metadata(_)
        | Request::Fetch(_)
        | Request::OffsetFetch(_)
        | Request::FindCoordinator(_)
        | Request::ListOffsets(_)
        | Request::DescribeConfigs(_) => true,
        Request::Produce(_)
        | Request::OffsetCommit(_)
        | Request::CreateTopics(_)
        | Request::DeleteTopics(_)
        | Request::DeleteRecords(_)
        | Request::IncrementalAlterConfigs(_)
        | Request::CreatePartitions(_)
        | Request::InitProducerId(_) => false,
    }
}

/// Why a name cannot be a consumer group's.
fn refused_group(group: &str) -> Option<ErrorCode> {
    let is_name = (1..=limits::CONSUMER_GROUP_NAME_BYTES_MAX).contains(&group.len());
    (!is_name).then_some(ErrorCode::INVALID_GROUP_ID)
}

/// What a client that names a leader epoch is told where it is not the leader's own: it has old metadata, or newer ones
/// than this broker. -1 says that it names none.
fn check_epoch(leader: &Leader, named: i32) -> Result<(), ErrorCode> {
    match named.cmp(&epoch_of(leader)) {
        _ if named < 0 => Ok(()),
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(ErrorCode::FENCED_LEADER_EPOCH),
        Ordering::Greater => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
    }
}

/// The epoch of a leader, as clients are told it.
fn epoch_of(leader: &Leader) -> i32 {
    i32::try_from(leader.term().0).unwrap_or(i32::MAX)
}

fn ready(response: Response) -> BoxFuture<Response> {
    Box::pin(async { response })
}

fn answer(envelope: Envelope, only_reads: bool, response: BoxFuture<Response>) -> Begun {
    let parts = async move {
        let response = response.await;
        let Envelope { key, version, correlation_id, .. } = envelope;
        let parts = api::encode_response_parts(key, version, correlation_id, &response);
        let parts =
            parts.inspect_err(|error| tracing::error!(key, version, %error, "an answer cannot be written"));
        parts.ok().filter(|parts| fits(key, version, parts))
    };
    Begun::Answer(Answer { parts: Box::pin(parts), only_reads })
}

/// Whether an answer may be sent.
fn fits(key: i16, version: i16, parts: &[Bytes]) -> bool {
    let bytes: usize = parts.iter().map(Bytes::len).sum();
    if bytes > limits::ANSWER_BYTES_MAX {
        tracing::error!(key, version, bytes, "an answer is too large to be sent");
    }
    bytes <= limits::ANSWER_BYTES_MAX
}

/// How much more an answer may hold. What does not fit is refused in its place: whoever asks for less at once gets it.
struct Spare(usize);

impl Spare {
    fn take(&mut self, much: usize) -> Result<(), ErrorCode> {
        self.0 = self.0.checked_sub(much).ok_or(ErrorCode::POLICY_VIOLATION)?;
        Ok(())
    }
}

/// An error and the words for it, as a response's fields hold them.
fn told(rejection: &Rejection) -> (i16, Option<StrBytes>) {
    (rejection.code().0, words(rejection.to_string()))
}

/// Words for an answer. They may repeat what a client sent, and in older versions a text has 15 bits of length: one that
/// is longer could not be written, and its client would get no answer at all.
fn words(mut text: String) -> Option<StrBytes> {
    const BYTES_MAX: usize = 1_024;
    if text.len() > BYTES_MAX {
        text.truncate(text.floor_char_boundary(BYTES_MAX));
        text.push('…');
    }
    Some(StrBytes::from_string(text))
}

/// What a client is told when a shard or the catalog did not do something.
fn code_of_refused(refused: &Refused) -> ErrorCode {
    match refused {
        Refused::NotLeader | Refused::Unknown => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        Refused::Fault(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

fn code_of_unchanged(unchanged: &Unchanged) -> ErrorCode {
    match unchanged {
        Unchanged::Rejected(rejection) => rejection.code(),
        Unchanged::Refused(refused) => code_of_refused(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_so_much_and_no_more() {
        let mut spare = Spare(1_024);
        assert_eq!(spare.take(1_000), Ok(()));
        assert_eq!(spare.take(25), Err(ErrorCode::POLICY_VIOLATION));
        assert_eq!(spare.take(24), Ok(()), "a smaller one fits still");

        let part = Bytes::from(vec![0; limits::MIB]);
        let mut parts = vec![part.clone(); limits::ANSWER_BYTES_MAX / limits::MIB];
        assert!(fits(3, 12, &parts));
        parts.push(part);
        assert!(!fits(3, 12, &parts));
    }
}
