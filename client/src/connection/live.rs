//! One QUIC connection to one broker, from the greeting to its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tidemill_protocol::api::messages::ApiVersionsRequest;
use tidemill_protocol::api::{
    API_VERSIONS, Envelope, Request, Response, StrBytes, decode_response, encode_request_parts, spoken,
};
use tidemill_protocol::error::{ErrorCode, Outcome};
use tidemill_protocol::frame::{self, FrameDecoder};

use super::pipe::Pipe;
use super::versions::Versions;
use crate::error::Error;
use crate::limits::{PRODUCE_STREAMS_MAX, RESPONSE_BYTES_MAX};
use crate::runtime;

/// A connection that was greeted.
#[derive(Debug)]
pub(crate) struct Live {
    connection: Connection,
    versions: Arc<Versions>,
    client_id: Arc<str>,
    timeout: Duration,
    /// The streams that producers share, by their number.
    produce: Mutex<BTreeMap<u64, Arc<Pipe>>>,
}

impl Live {
    /// Greets the broker: asks what it speaks.
    ///
    /// # Errors
    /// When the broker does not answer, or speaks something else.
    pub(super) async fn greet(
        connection: Connection,
        client_id: Arc<str>,
        timeout: Duration,
    ) -> Result<Live, Error> {
        let version = spoken(API_VERSIONS).map_or(0, |spoken| spoken.max);
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut live =
            Live { connection, versions: Arc::default(), client_id, timeout, produce: Mutex::default() };
        match live.ask(&Request::ApiVersions(request), version).await? {
            Response::ApiVersions(answer) if answer.error_code == ErrorCode::NONE.0 => {
                live.versions = Arc::new(Versions::agree(&answer));
                Ok(live)
            }
            Response::ApiVersions(answer) => Err(Error::told(ErrorCode(answer.error_code), None)),
            _ => Err(Error::unanswered("the broker answered another question")),
        }
    }

    /// Whether it can be used.
    pub(crate) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Ends it.
    pub(crate) fn close(&self, reason: &str) {
        self.connection.close(0u8.into(), reason.as_bytes());
    }

    /// Asks one question, on a stream of its own, and waits for the answer. `waits` is how long the broker was
    /// asked to wait before it answers.
    ///
    /// # Errors
    /// When no answer comes; [`Error::outcome`] says whether the broker can have heard the question.
    pub(crate) async fn call(&self, request: &Request, waits: Duration) -> Result<Response, Error> {
        let version = self.versions.of(request)?;
        let limit = self.timeout.saturating_add(waits);
        runtime::within(limit, self.ask(request, version)).await.unwrap_or_else(|| {
            Err(Error::unanswered(format!("no answer to {} within {limit:?}", request.spoken().name)))
        })
    }

    /// Whether a request can be said to this broker.
    ///
    /// # Errors
    /// When no version of it is spoken by both sides.
    pub(crate) fn speaks(&self, request: &Request) -> Result<(), Error> {
        self.versions.of(request).map(drop)
    }

    /// A stream of one's own for many requests.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) async fn pipe(&self) -> Result<Pipe, Error> {
        let (send, receive) = self.open().await?;
        Ok(Pipe::new(send, receive, self.versions.clone(), self.client_id.clone()))
    }

    /// The stream of a number for produce requests; numbers beyond [`PRODUCE_STREAMS_MAX`] share streams.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) async fn produce_pipe(&self, number: u64) -> Result<Arc<Pipe>, Error> {
        let number = number % PRODUCE_STREAMS_MAX;
        let find = || {
            let pipes = self.produce.lock().unwrap_or_else(PoisonError::into_inner);
            pipes.get(&number).filter(|pipe| pipe.is_open()).cloned()
        };
        if let Some(pipe) = find() {
            return Ok(pipe);
        }
        let opened = Arc::new(self.pipe().await?);
        let mut pipes = self.produce.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been faster.
        match pipes.get(&number).filter(|pipe| pipe.is_open()) {
            Some(pipe) => Ok(pipe.clone()),
            None => {
                pipes.insert(number, opened.clone());
                Ok(opened)
            }
        }
    }

    async fn open(&self) -> Result<(SendStream, RecvStream), Error> {
        match runtime::within(self.timeout, self.connection.open_bi()).await {
            Some(opened) => opened.map_err(|error| ended(&error).with_outcome(Outcome::NotApplied)),
            None => Err(Error::unsent("the broker allows no further stream")),
        }
    }

    async fn ask(&self, request: &Request, version: i16) -> Result<Response, Error> {
        let key = request.spoken().key;
        let head = Envelope { key, version, correlation_id: 0, client_id: Some(self.client_id.to_string()) };
        let mut chunks = frame::encode(encode_request_parts(&head, request)?);
        let (mut send, mut receive) = self.open().await?;
        let lost = || match self.connection.close_reason() {
            Some(reason) => ended(&reason),
            None => Error::unanswered("the broker ended the stream"),
        };
        send.write_all_chunks(&mut chunks).await.map_err(|_| lost())?;
        let _ = send.finish();
        let mut frames = FrameDecoder::new(RESPONSE_BYTES_MAX);
        loop {
            let chunk = receive.read_chunk(usize::MAX, true).await.ok().flatten().ok_or_else(lost)?;
            frames.feed(&chunk.bytes);
            let whole = frames.next_frame().map_err(|error| Error::unanswered(error.to_string()))?;
            if let Some(frame) = whole {
                return decode_response(key, version, frame)
                    .map_err(|error| Error::unanswered(format!("the broker's answer is none: {error}")));
            }
        }
    }
}

/// What the end of a connection means to whoever was using it.
pub(super) fn ended(error: &ConnectionError) -> Error {
    match error {
        ConnectionError::ConnectionClosed(close) => {
            let message = format!("the broker refused the connection: {close}");
            Error { retriable: false, ..Error::unanswered(message) }
        }
        ConnectionError::TransportError(error) => {
            Error { retriable: false, ..Error::unanswered(format!("the connection failed: {error}")) }
        }
        ConnectionError::ApplicationClosed(close) => {
            Error::unanswered(format!("the broker closed the connection: {close}"))
        }
        ConnectionError::TimedOut => Error::unanswered("the broker fell silent"),
        ConnectionError::Reset => Error::unanswered("the broker does not know the connection any more"),
        ConnectionError::LocallyClosed => Error::unanswered("the connection was closed"),
        ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
            Error { retriable: false, ..Error::unanswered(error.to_string()) }
        }
    }
}
