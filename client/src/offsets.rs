//! Asking for offsets: the first, the next, that of a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::api::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidemill_protocol::api::messages::{BrokerId, ListOffsetsRequest, ListOffsetsResponse, TopicName};
use tidemill_protocol::api::{Request, Response, StrBytes};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::{Offset, Partition};

use crate::client::{Core, Patience};
use crate::config::Address;
use crate::error::Error;
use crate::runtime;

/// Which offset of a partition is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The first that is still there.
    Beginning,
    /// The next one to be written: the high watermark.
    End,
    /// The first whose record has this time or a later one, in milliseconds since 1970. Where there is none, none.
    Time(i64),
}

impl Moment {
    fn number(self) -> i64 {
        match self {
            Moment::End => -1,
            Moment::Beginning => -2,
            Moment::Time(ms) => ms.max(0),
        }
    }
}

/// A partition of a topic, by name and number.
pub(crate) type Place = (Arc<str>, Partition);

/// What was found; an offset only where there is one.
pub(crate) type Found = Result<Option<Offset>, Error>;

impl Core {
    /// The offsets that are meant, each found by its partition's leader; in the order of what is wanted.
    pub(crate) async fn find_offsets(&self, wanted: &[(Place, Moment)]) -> Vec<Found> {
        let mut found: Vec<Option<Found>> = vec![None; wanted.len()];
        let mut patience = Patience::new(self.config.request_timeout);
        let (begun, mut misled) = (runtime::now(), None);
        while found.iter().any(Option::is_none) {
            for (leader, asked) in self.by_leader(wanted, &mut found, misled).await {
                for (at, answer) in self.ask_leader(&leader, wanted, &asked).await {
                    found[at] = Some(answer);
                }
            }
            let is_believed = begun.elapsed() >= self.config.topic_patience;
            let is_final = |error: &Error| is_believed && error.is(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            let again = |found: &Option<Found>| matches!(found, Some(Err(error)) if error.retriable && !is_final(error));
            let Some(Some(Err(error))) = found.iter().find(|found| again(found)).cloned() else { continue };
            misled = Some(runtime::now());
            if patience.wait(error).await.is_err() {
                break;
            }
            found.iter_mut().filter(|found| again(found)).for_each(|found| *found = None);
        }
        let nobody = || Err(Error::unsent("the time was over before it was asked for"));
        found.into_iter().map(|found| found.unwrap_or_else(nobody)).collect()
    }

    /// What is not found yet, by leaders; where there is none, that is what was found. A partition that is wanted
    /// twice is in it once: one question cannot ask for two offsets of it.
    async fn by_leader(
        &self,
        wanted: &[(Place, Moment)],
        found: &mut [Option<Found>],
        misled: Option<runtime::Instant>,
    ) -> BTreeMap<Address, Vec<usize>> {
        let mut leaders: BTreeMap<Address, Vec<usize>> = BTreeMap::new();
        let mut asked = BTreeSet::new();
        for (at, (place, _)) in wanted.iter().enumerate() {
            if found[at].is_none() && asked.insert(place) {
                match self.leader(&place.0, place.1, misled).await {
                    Ok(leader) => leaders.entry(leader).or_default().push(at),
                    Err(error) => found[at] = Some(Err(error)),
                }
            }
        }
        leaders
    }

    async fn ask_leader(
        &self,
        leader: &Address,
        wanted: &[(Place, Moment)],
        asked: &[usize],
    ) -> Vec<(usize, Found)> {
        let mut topics: BTreeMap<&Arc<str>, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for at in asked {
            let ((topic, partition), moment) = &wanted[*at];
            let partition = ListOffsetsPartition::default()
                .with_partition_index(partition.0 as i32)
                .with_timestamp(moment.number());
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            let name = TopicName(StrBytes::from_string(topic.to_string()));
            ListOffsetsTopic::default().with_name(name).with_partitions(partitions)
        });
        let request =
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect());
        let answer = match self.live(leader).await {
            Ok(live) => live.call(&Request::ListOffsets(request), Duration::ZERO).await,
            Err(error) => Err(error),
        };
        let read = |at: &usize| match &answer {
            Ok(Response::ListOffsets(answer)) => (*at, read(answer, &wanted[*at].0)),
            Ok(_) => (*at, Err(Error::unanswered("the broker answered another question"))),
            Err(error) => (*at, Err(error.clone())),
        };
        asked.iter().map(read).collect()
    }
}

fn read(answer: &ListOffsetsResponse, (topic, partition): &Place) -> Found {
    let topic = answer.topics.iter().find(|found| *found.name.0 == **topic);
    let found = topic
        .and_then(|topic| topic.partitions.iter().find(|found| found.partition_index == partition.0 as i32))
        .ok_or_else(|| Error::unanswered("the broker's answer lacks the partition"))?;
    match ErrorCode(found.error_code) {
        ErrorCode::NONE => Ok(u64::try_from(found.offset).ok().map(Offset)),
        code => Err(Error::told(code, None)),
    }
}
