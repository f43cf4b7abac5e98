//! Kafka's protocol over TCP, one request after the other: for stories that ask what no client would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use tidemill_protocol::api::messages::fetch_request::{FetchPartition, FetchTopic};
use tidemill_protocol::api::messages::{FetchRequest, TopicName};
use tidemill_protocol::api::{Envelope, Request, Response, StrBytes, decode_response, encode_request};
use tidemill_protocol::batch::{self, BatchHeader};
use tidemill_protocol::frame::{self, FrameDecoder};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A frame that is larger is a mistake.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// A connection.
pub struct Connection {
    stream: TcpStream,
    frames: FrameDecoder,
    asked: i32,
}

impl Connection {
    /// Connects to a broker.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn to(address: &str) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, frames: FrameDecoder::new(FRAME_BYTES_MAX), asked: 0 })
    }

    /// Sends a request in this version, and waits for its answer.
    ///
    /// # Errors
    /// When the broker ends the connection, or answers something else.
    pub fn ask(&mut self, version: i16, request: Request) -> anyhow::Result<Response> {
        let key = request.spoken().key;
        self.asked += 1;
        let envelope =
            Envelope { key, version, correlation_id: self.asked, client_id: Some("witness".to_owned()) };
        for part in frame::encode(vec![encode_request(&envelope, &request)?]) {
            self.stream.write_all(&part)?;
        }
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return Ok(decode_response(key, version, frame)?);
            }
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                bail!("the broker ended the connection");
            }
            self.frames.feed(&buffer[..read]);
        }
    }

    /// The heads of the batches that lie in a partition from its first offset on, at most 8 MiB of them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn batches(&mut self, topic: &str, partition: i32) -> anyhow::Result<Vec<BatchHeader>> {
        let (code, records) = self.records(12, topic, partition)?;
        ensure!(code == 0, "partition {partition} of {topic} answers error {code}");
        batch::split(records)?.iter().map(|batch| Ok(BatchHeader::parse(batch)?)).collect()
    }

    /// The error that a fetch in this version is answered with, and how many batches.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn fetch(&mut self, version: i16, topic: &str, partition: i32) -> anyhow::Result<(i16, usize)> {
        let (code, records) = self.records(version, topic, partition)?;
        Ok((code, batch::split(records)?.len()))
    }

    fn records(&mut self, version: i16, topic: &str, partition: i32) -> anyhow::Result<(i16, Bytes)> {
        const BYTES: i32 = 8 << 20;
        let wanted = FetchPartition::default().with_partition(partition).with_partition_max_bytes(BYTES);
        let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![wanted]);
        let request = FetchRequest::default().with_max_bytes(BYTES).with_topics(vec![topic]);
        let answer = self.ask(version, Request::Fetch(request))?;
        let Response::Fetch(answer) = answer else { bail!("no answer to a fetch") };
        let found = answer.responses.first().and_then(|topic| topic.partitions.first());
        let found = found.context("a partition")?;
        Ok((found.error_code, found.records.clone().unwrap_or_default()))
    }
}

/// A topic's name, as messages hold it.
pub fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}
