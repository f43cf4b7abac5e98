//! What a story needs of a broker.

use std::future::Future;
use std::pin::Pin;

use tidemill_client::{Client, Config, NewTopic};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A broker to which stories are told.
pub trait Harness: Send + Sync {
    /// How to reach it.
    fn config(&self) -> Config;

    /// Cuts all connections, as a failing network would.
    fn cut<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move { client.sever() })
    }

    /// Kills the broker without a word, and starts it again on what it had acknowledged.
    fn restart(&self) -> BoxFuture<'_, ()>;
}

/// A client, and a new topic of that many partitions.
pub async fn client_and_topic(harness: &dyn Harness, topic: &str, partitions: u32) -> Client {
    let client = Client::connect(harness.config()).await.unwrap();
    let made = client.admin().create_topics(&[NewTopic::new(topic, partitions)]).await.unwrap();
    assert_eq!(made[0].1.as_ref().unwrap().partitions, partitions);
    client
}
