//! A client of Tidemill: producer, consumer and admin over QUIC.
//!
//! Everything starts with a [`Client`]: it finds a cluster's brokers, connects to them, and connects again when it
//! must. From it come [`Producer`]s, [`Consumer`]s and an [`Admin`]. The messages are Kafka's, and so are the words;
//! who knows a client of Kafka knows this one.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tidemill_client::{Client, Config, Record, Start, Tls};
//!
//! let tls = Tls::from_files("ca.pem", "client.pem", "client-key.pem")?;
//! let client = Client::connect(Config::new(["localhost:9642"], tls)).await?;
//!
//! let producer = client.producer().build().await?;
//! let receipt = producer.send(Record::to("greetings").key("you").value("hello")).await.await?;
//!
//! let mut consumer =
//!     client.consumer().read_partition("greetings", receipt.partition, Start::Beginning).build().await?;
//! println!("{:?}", consumer.next_record().await?);
//! # Ok(())
//! # }
//! ```
//!
//! # What a send comes to
//! [`Producer::send`] gives a [`Delivery`], which gives a [`Receipt`] or one of three errors: [`SendError::Refused`]
//! (not written, and never will be), [`SendError::Expired`] (nobody knows), [`SendError::Fatal`] (make a new producer).
//! Nothing is written twice or out of its order, whatever happens to connections and brokers meanwhile; how that is
//! done stands at the top of `producer/sequence.rs`. Nothing that is dropped cancels anything that was accepted.
//!
//! # Reading this crate
//! [`client`](Client) holds what all share: `connection` (QUIC), `metadata` (who leads what). `producer` and
//! `consumer` begin with a drawing each. `runtime` is the only file that names a clock or starts a task, `limits` the
//! one with the numbers. This crate knows nothing of brokers but their protocol.

#![forbid(unsafe_code)]

mod admin;
mod backoff;
mod client;
mod config;
mod connection;
mod consumer;
mod error;
mod limits;
mod metadata;
mod offsets;
mod producer;
mod record;
mod runtime;
mod tls;
pub mod transport;

pub use admin::{Admin, MadeTopic, NewTopic};
pub use client::Client;
pub use config::Config;
pub use consumer::{
    ConsumeError, ConsumedRecord, Consumer, ConsumerBuilder, Fetched, OutOfRange, Progress, Start,
    StoredRecord,
};
pub use error::Error;
pub use metadata::{PartitionState, Topic};
pub use offsets::Moment;
pub use producer::{
    Acks, Delivery, KeyedOrSticky, Partitioner, Producer, ProducerBuilder, Receipt, Report, SendError,
    TopicPartitioner, TrySendError, Unsent,
};
pub use record::{Record, RecordHeader};
pub use tidemill_protocol::codec::Codec;
pub use tidemill_protocol::error::{ErrorCode, Outcome};
pub use tidemill_protocol::ids::{Offset, Partition, TopicId};
pub use tls::Tls;
