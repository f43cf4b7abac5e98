//! Topics and offsets: made, described, found.

use std::fmt;
use std::sync::Arc;

use tidemill_protocol::api::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use tidemill_protocol::api::messages::{CreateTopicsRequest, TopicName};
use tidemill_protocol::api::{Request, Response, StrBytes};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{Offset, Partition, TopicId};

use crate::client::Core;
use crate::error::Error;
use crate::metadata::Topic;
use crate::offsets::Moment;

/// Makes and describes topics, and finds offsets. Cheap to make: it is a client's.
///
/// ```no_run
/// # async fn example(client: tidemill_client::Client) -> Result<(), tidemill_client::Error> {
/// use tidemill_client::NewTopic;
///
/// let wanted = NewTopic::new("customer-orders", 4).config("retention.ms", "86400000");
/// for (name, made) in client.admin().create_topics(&[wanted]).await? {
///     match made {
///         Ok(topic) => println!("{name} is {}", topic.id),
///         Err(error) => println!("{name} is not made: {error}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Admin {
    core: Arc<Core>,
}

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name: 1 to 249 of the characters a-z A-Z 0-9 . _ -
    pub name: String,
    /// How many partitions it has, for its whole life.
    pub partitions: u32,
    /// Its settings, by Kafka's names; those left out have the cluster's defaults.
    pub config: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic with the cluster's defaults.
    pub fn new(name: impl Into<String>, partitions: u32) -> NewTopic {
        NewTopic { name: name.into(), partitions, config: Vec::new() }
    }

    /// With one more setting.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> NewTopic {
        self.config.push((name.into(), value.into()));
        self
    }
}

/// A topic that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeTopic {
    /// Its id for its whole life.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
}

impl Admin {
    pub(crate) fn new(core: Arc<Core>) -> Admin {
        Admin { core }
    }

    /// Makes topics. Each is made or refused by itself; the results are in the order of what was asked for.
    ///
    /// # Errors
    /// When no broker answers. With the outcome *unknown* some may have been made: describe them, or ask again and
    /// take `TOPIC_ALREADY_EXISTS` for success.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
    ) -> Result<Vec<(String, Result<MadeTopic, Error>)>, Error> {
        self.ask_to_create(topics, false).await
    }

    /// As [`Admin::create_topics`], but only says what would happen.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn validate_topics(
        &self,
        topics: &[NewTopic],
    ) -> Result<Vec<(String, Result<MadeTopic, Error>)>, Error> {
        self.ask_to_create(topics, true).await
    }

    async fn ask_to_create(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<Vec<(String, Result<MadeTopic, Error>)>, Error> {
        let timeout = self.core.config.request_timeout;
        let request = CreateTopicsRequest::default()
            .with_topics(topics.iter().map(wanted).collect())
            .with_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
            .with_validate_only(validate_only);
        let live = match self.core.metadata.controller() {
            Some(controller) => self.core.live(&controller).await?,
            None => self.core.any().await?,
        };
        let answer = live.call(&Request::CreateTopics(request), timeout).await?;
        let Response::CreateTopics(answer) = answer else {
            return Err(Error::unanswered("the broker answered another question"));
        };
        let made = topics.iter().map(|topic| {
            let found = answer.topics.iter().find(|found| *found.name.0 == *topic.name);
            let made = match found {
                None => Err(Error::unanswered("the broker's answer lacks the topic")),
                Some(found) => match ErrorCode(found.error_code) {
                    ErrorCode::NONE => Ok(MadeTopic {
                        id: TopicId(*found.topic_id.as_bytes()),
                        // Versions before 5 do not say; it is what was asked for.
                        partitions: u32::try_from(found.num_partitions).unwrap_or(topic.partitions),
                    }),
                    code => Err(Error::told(code, found.error_message.as_deref())),
                },
            };
            (topic.name.clone(), made)
        });
        Ok(made.collect())
    }

    /// All topics that this client may see, by name; those of which a broker can say nothing just now are left out.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn topics(&self) -> Result<Vec<Topic>, Error> {
        let mut topics: Vec<_> = self.describe(None).await?.into_iter().flatten().collect();
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    /// Some topics, in the order of their names here.
    ///
    /// # Errors
    /// When no broker answers; each topic has its own.
    pub async fn describe_topics(&self, names: &[&str]) -> Result<Vec<Result<Topic, Error>>, Error> {
        self.describe(Some(names)).await
    }

    async fn describe(&self, names: Option<&[&str]>) -> Result<Vec<Result<Topic, Error>>, Error> {
        let mut patience = crate::client::Patience::new(self.core.config.request_timeout);
        loop {
            match self.core.describe(names).await {
                Err(error) if error.retriable => patience.wait(error).await?,
                found => return found,
            }
        }
    }

    /// Offsets of partitions, in the order of what is wanted; `None` where no record is of that time or later.
    pub async fn offsets(&self, wanted: &[(&str, Partition, Moment)]) -> Vec<Result<Option<Offset>, Error>> {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(topic, partition, moment)| ((Arc::from(*topic), *partition), *moment))
            .collect();
        self.core.find_offsets(&wanted).await
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

fn wanted(topic: &NewTopic) -> CreatableTopic {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let config = topic.config.iter().map(|(name, value)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    });
    CreatableTopic::default()
        .with_name(TopicName(text(&topic.name)))
        .with_num_partitions(i32::try_from(topic.partitions).unwrap_or(i32::MAX))
        // How often it is replicated is the cluster's to say.
        .with_replication_factor(-1)
        .with_configs(config.collect())
}
