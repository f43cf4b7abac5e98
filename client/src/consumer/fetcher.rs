//! The task that fetches: keeps a question open at the leaders for every partition that there is room for.
//!
//! Partitions are dealt to *tracks*: a track is one stream to one leader, with one question under way at a time. There
//! are up to [`FETCH_STREAMS_MAX`] of them for each leader, so that a partition that has nothing to tell does not keep
//! another from being asked about; with more partitions than that, some share a track and its questions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tidemill_protocol::api::messages::fetch_request::{FetchPartition, FetchTopic};
use tidemill_protocol::api::messages::fetch_response::PartitionData;
use tidemill_protocol::api::messages::{BrokerId, FetchRequest, FetchResponse, TopicName};
use tidemill_protocol::api::{Request, Response, StrBytes};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::ids::Offset;
use tokio::sync::oneshot;

use super::ConsumeError;
use super::builder::{OutOfRange, Settings};
use super::state::{Shared, State};
use crate::backoff::Backoff;
use crate::client::Core;
use crate::config::Address;
use crate::connection::Pipe;
use crate::error::Error;
use crate::limits::{FETCH_BYTES_MAX, FETCH_STREAMS_MAX};
use crate::offsets::{Moment, Place};
use crate::runtime::{self, Instant};

/// One stream to one leader.
type Track = (Address, usize);

/// Asks leaders for records, and keeps what they answer for the consumer.
pub(super) struct Fetcher {
    core: Arc<Core>,
    shared: Arc<Shared>,
    settings: Settings,
    /// Where the leaders are, as far as it is known, for one generation of a partition.
    leaders: BTreeMap<Place, Address>,
    pipes: BTreeMap<Track, Pipe>,
    under_way: BTreeMap<Track, UnderWay>,
    fetches: FuturesUnordered<BoxFuture<'static, Fetch>>,
    tickets: u64,
    /// Looking for leaders, and for offsets where they were out of range.
    finding: Option<BoxFuture<'static, Vec<Finding>>>,
    lost: Vec<(Place, u64, Offset)>,
    backoff: Backoff,
    misled: Option<Instant>,
}

/// A question under way.
struct UnderWay {
    ticket: u64,
    asked: Vec<(Place, u64)>,
    /// Dropped, it ends the question.
    #[expect(dead_code, reason = "held, not read")]
    interrupt: oneshot::Sender<()>,
}

/// What there is to ask on one track.
#[derive(Default)]
struct Wanted {
    held_bytes: usize,
    /// Partition, generation, offset, and bytes of it that lie here.
    parts: Vec<(Place, u64, Offset, usize)>,
}

/// A question's end.
struct Fetch {
    track: Track,
    ticket: u64,
    pipe: Option<Pipe>,
    answer: Option<Result<FetchResponse, Error>>,
}

/// What was found about a partition.
struct Finding {
    place: Place,
    generation: u64,
    leader: Result<Address, Error>,
    /// Where to go on, where that was asked for.
    offset: Option<Offset>,
}

impl Fetcher {
    pub fn new(core: Arc<Core>, shared: Arc<Shared>, settings: Settings) -> Fetcher {
        Fetcher {
            core,
            shared,
            settings,
            leaders: BTreeMap::new(),
            pipes: BTreeMap::new(),
            under_way: BTreeMap::new(),
            fetches: FuturesUnordered::new(),
            tickets: 0,
            finding: None,
            lost: Vec::new(),
            backoff: Backoff::new(),
            misled: None,
        }
    }

    /// Until the consumer is dropped.
    pub async fn run(mut self) {
        loop {
            let shared = self.shared.clone();
            {
                let mut state = shared.lock();
                if state.is_closed {
                    break;
                }
                for place in std::mem::take(&mut state.interrupted) {
                    self.under_way
                        .retain(|_, under_way| under_way.asked.iter().all(|(asked, _)| *asked != place));
                    self.lost.retain(|(lost, ..)| *lost != place);
                }
                self.find(&state);
                self.ask(&state);
            }
            tokio::select! {
                Some(fetch) = self.fetches.next(), if !self.fetches.is_empty() => self.answered(fetch),
                findings = found(&mut self.finding) => {
                    self.finding = None;
                    self.found(findings);
                }
                () = shared.changed() => {}
            }
        }
        // What is asked is of no use any more.
        self.pipes.values().for_each(Pipe::abandon);
    }

    /// Starts to look for what is missing: leaders, and where to go on.
    fn find(&mut self, state: &State) {
        if self.finding.is_some() {
            return;
        }
        let moment = match self.settings.out_of_range {
            OutOfRange::Beginning => Some(Moment::Beginning),
            OutOfRange::End => Some(Moment::End),
            OutOfRange::Fail => None,
        };
        let is_lost = |place: &Place| self.lost.iter().any(|(lost, ..)| lost == place);
        let wanted: Vec<_> = state
            .cursors
            .iter()
            .filter(|(place, cursor)| {
                !cursor.is_halted && (is_lost(place) || !self.leaders.contains_key(*place))
            })
            .map(|(place, cursor)| (place.clone(), cursor.generation, moment.filter(|_| is_lost(place))))
            .collect();
        if wanted.is_empty() {
            return;
        }
        let pause = if self.misled.is_some() { self.backoff.next() } else { Duration::ZERO };
        self.finding = Some(Box::pin(find(self.core.clone(), wanted, pause, self.misled)));
    }

    fn found(&mut self, findings: Vec<Finding>) {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        for Finding { place, generation, leader, offset } in findings {
            if state.cursors.get(&place).is_none_or(|cursor| cursor.generation != generation) {
                continue;
            }
            match leader {
                Ok(leader) => {
                    self.leaders.insert(place.clone(), leader);
                    if let Some(offset) = offset {
                        state.skip(&place, offset);
                        self.lost.retain(|(lost, ..)| *lost != place);
                    }
                }
                Err(error) => {
                    self.misled = Some(runtime::now());
                    self.failed(&mut state, &place, generation, error);
                }
            }
        }
    }

    /// Asks what can be asked. The tracks share the prefetched bytes equally, so that none waits for another.
    fn ask(&mut self, state: &State) {
        let mut tracks: BTreeMap<Track, Wanted> = BTreeMap::new();
        for (number, (place, cursor)) in state.cursors.iter().enumerate() {
            let is_lost = self.lost.iter().any(|(lost, ..)| lost == place);
            let Some(leader) = self.leaders.get(place) else { continue };
            if cursor.is_halted || is_lost {
                continue;
            }
            let wanted = tracks.entry((leader.clone(), number % FETCH_STREAMS_MAX)).or_default();
            wanted.held_bytes += cursor.held_bytes;
            wanted.parts.push((place.clone(), cursor.generation, cursor.fetch, cursor.held_bytes));
        }
        let share = self.settings.prefetch_bytes / tracks.len().max(1);
        // A partition may have changed its track since it was asked about.
        let asked = self.under_way.values().flat_map(|under_way| &under_way.asked);
        let asked: BTreeSet<(Place, u64)> = asked.cloned().collect();
        for (track, mut wanted) in tracks {
            wanted.parts.retain(|(place, generation, ..)| !asked.contains(&(place.clone(), *generation)));
            let is_full = wanted.held_bytes > 0 && wanted.held_bytes >= share;
            if wanted.parts.is_empty() || is_full || self.under_way.contains_key(&track) {
                continue;
            }
            // Brokers answer in the order of the question until it is full: those go first of which least is here.
            wanted.parts.sort_by_key(|(.., held)| *held);
            let most = share.saturating_sub(wanted.held_bytes).clamp(1, FETCH_BYTES_MAX);
            self.begin(track, wanted, most);
        }
    }

    fn begin(&mut self, track: Track, wanted: Wanted, most: usize) {
        let request = request(&self.settings, &wanted, most);
        let (interrupt, interrupted) = oneshot::channel();
        let asked = wanted.parts.into_iter().map(|(place, generation, ..)| (place, generation)).collect();
        self.tickets += 1;
        let ticket = self.tickets;
        self.under_way.insert(track.clone(), UnderWay { ticket, asked, interrupt });
        let pipe = self.pipes.remove(&track);
        let (core, wait) = (self.core.clone(), self.settings.max_wait);
        self.fetches.push(Box::pin(async move {
            let (pipe, answer) = fetch(core, &track.0, pipe, request, wait, interrupted).await;
            Fetch { track, ticket, pipe, answer }
        }));
    }

    fn answered(&mut self, fetch: Fetch) {
        let Fetch { track, ticket, pipe, answer } = fetch;
        // An interrupted question was forgotten before, and another may be under way in its place.
        let is_mine = self.under_way.get(&track).is_some_and(|under_way| under_way.ticket == ticket);
        let (true, Some(answer)) = (is_mine, answer) else { return };
        let Some(under_way) = self.under_way.remove(&track) else { return };
        let shared = self.shared.clone();
        let mut state = shared.lock();
        let answer = answer.and_then(|answer| match ErrorCode(answer.error_code) {
            ErrorCode::NONE => Ok(answer),
            code => Err(Error::told(code, None)),
        });
        match answer {
            Ok(answer) => {
                if let Some(pipe) = pipe {
                    self.pipes.insert(track, pipe);
                }
                for (place, generation) in under_way.asked {
                    match part(&answer, &place) {
                        Some(data) => self.take(&mut state, &place, generation, data),
                        None => {
                            let error = Error::unanswered("the broker's answer lacks the partition");
                            self.failed(&mut state, &place, generation, error);
                        }
                    }
                }
            }
            Err(error) => {
                tracing::debug!(broker = %track.0, %error, "a fetch failed");
                self.misled = Some(runtime::now());
                for (place, generation) in under_way.asked {
                    self.failed(&mut state, &place, generation, error.clone());
                }
            }
        }
    }

    /// Takes what came for one partition.
    fn take(&mut self, state: &mut State, place: &Place, generation: u64, data: &PartitionData) {
        let Some(cursor) = state.cursors.get(place).filter(|cursor| cursor.generation == generation) else {
            return;
        };
        let (topic, partition, offset) = (place.0.clone(), place.1, cursor.fetch);
        match ErrorCode(data.error_code) {
            ErrorCode::NONE => {
                let high_watermark = Offset(u64::try_from(data.high_watermark).unwrap_or_default());
                match state.put(place, data.records.clone().unwrap_or_default(), high_watermark) {
                    Ok(true) => {
                        self.backoff.reset();
                        self.misled = None;
                    }
                    Ok(false) => {
                        let why = "a batch is larger than a broker should give";
                        let why = Error { retriable: false, ..Error::unsent(why) };
                        state.halt(place, ConsumeError::Refused { topic, partition, why });
                    }
                    Err(why) => state.halt(place, ConsumeError::Corrupt { topic, partition, offset, why }),
                }
            }
            ErrorCode::OFFSET_OUT_OF_RANGE if self.settings.out_of_range == OutOfRange::Fail => {
                state.halt(place, ConsumeError::OutOfRange { topic, partition, offset });
            }
            ErrorCode::OFFSET_OUT_OF_RANGE => self.lost.push((place.clone(), generation, offset)),
            code => self.failed(state, place, generation, Error::told(code, None)),
        }
    }

    /// A partition cannot be read just now, or ever.
    fn failed(&mut self, state: &mut State, place: &Place, generation: u64, error: Error) {
        self.leaders.remove(place);
        self.misled.get_or_insert_with(runtime::now);
        let Some(cursor) = state.cursors.get_mut(place).filter(|cursor| cursor.generation == generation)
        else {
            return;
        };
        let is_over = if error.is(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) {
            let since = *cursor.unknown_since.get_or_insert_with(runtime::now);
            since.elapsed() >= self.core.config.topic_patience
        } else {
            // A connection that was refused once may be made another time; what a broker refuses stays refused.
            self.core.is_closed() || (error.code.is_some() && !error.retriable)
        };
        if is_over {
            let (topic, partition) = place.clone();
            state.halt(place, ConsumeError::Refused { topic, partition, why: error });
        }
    }
}

/// What `finding` gives, if it is under way; else nothing, ever.
async fn found(finding: &mut Option<BoxFuture<'static, Vec<Finding>>>) -> Vec<Finding> {
    match finding {
        Some(finding) => finding.await,
        None => std::future::pending().await,
    }
}

async fn find(
    core: Arc<Core>,
    wanted: Vec<(Place, u64, Option<Moment>)>,
    pause: Duration,
    misled: Option<Instant>,
) -> Vec<Finding> {
    if !pause.is_zero() {
        runtime::sleep(pause).await;
    }
    let asked: Vec<_> =
        wanted.iter().filter_map(|(place, _, moment)| Some((place.clone(), (*moment)?))).collect();
    let mut offsets = core.find_offsets(&asked).await.into_iter();
    let mut findings = Vec::with_capacity(wanted.len());
    for (place, generation, moment) in wanted {
        let offset = moment.and_then(|_| offsets.next());
        let leader = core.leader(&place.0, place.1, misled).await;
        let (leader, offset) = match offset {
            None => (leader, None),
            Some(Ok(offset)) => (leader, Some(offset.unwrap_or_default())),
            Some(Err(error)) => (Err(error), None),
        };
        findings.push(Finding { place, generation, leader, offset });
    }
    findings
}

/// Asks one question; no answer when it was interrupted.
async fn fetch(
    core: Arc<Core>,
    leader: &Address,
    pipe: Option<Pipe>,
    request: Request,
    wait: Duration,
    interrupted: oneshot::Receiver<()>,
) -> (Option<Pipe>, Option<Result<FetchResponse, Error>>) {
    let limit = core.config.request_timeout + wait;
    let ask = async {
        let pipe = match pipe.filter(Pipe::is_open) {
            Some(pipe) => pipe,
            None => core.live(leader).await?.pipe().await?,
        };
        let answered = runtime::within(limit, pipe.call(&request)).await;
        match answered.unwrap_or_else(|| Err(Error::unanswered(format!("no answer within {limit:?}")))) {
            Ok(Response::Fetch(answer)) => Ok((pipe, answer)),
            Ok(_) => Err(Error::unanswered("the broker answered another question")),
            Err(error) => {
                pipe.abandon();
                Err(error)
            }
        }
    };
    tokio::select! {
        asked = ask => match asked {
            Ok((pipe, answer)) => (Some(pipe), Some(Ok(answer))),
            Err(error) => (None, Some(Err(error))),
        },
        _ = interrupted => (None, None),
    }
}

fn request(settings: &Settings, wanted: &Wanted, most: usize) -> Request {
    let number = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    let mut topics: BTreeMap<&Arc<str>, Vec<FetchPartition>> = BTreeMap::new();
    for ((topic, partition), _, offset, _) in &wanted.parts {
        let partition = FetchPartition::default()
            .with_partition(partition.0 as i32)
            .with_fetch_offset(i64::try_from(offset.0).unwrap_or(i64::MAX))
            .with_partition_max_bytes(number(settings.fetch_bytes));
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        let name = TopicName(StrBytes::from_string(topic.to_string()));
        FetchTopic::default().with_topic(name).with_partitions(partitions)
    });
    let wait = i32::try_from(settings.max_wait.as_millis()).unwrap_or(i32::MAX);
    Request::Fetch(
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(wait)
            .with_min_bytes(1)
            .with_max_bytes(number(most))
            .with_topics(topics.collect()),
    )
}

fn part<'a>(answer: &'a FetchResponse, (topic, partition): &Place) -> Option<&'a PartitionData> {
    let topic = answer.responses.iter().find(|found| *found.topic.0 == **topic)?;
    topic.partitions.iter().find(|found| found.partition_index == partition.0 as i32)
}
