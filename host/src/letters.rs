//! Dead letters of plugins: which there are, why, discarding them, and giving them to their plugin again.
//!
//! A letter is a record of the plugin's dead-letter topic, with the facts in its last headers; what became of it is a
//! row of the shard that it lies in. A discarded letter stays in its topic for as long as that retains it.

mod redrive;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_core::catalog::Deployment;
use tidemill_core::envelope::{Envelope, Lineage};
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;
use tidemill_core::rows::{self, LetterRow};
use tidemill_core::shard::control::Control;
use tidemill_core::shard::letters;
use tidemill_core::tables::{self, Key, View};
use tidemill_protocol::batch;
use tidemill_protocol::ids::{Offset, Partition, Position, TopicPartition};

use crate::plugins::Plugins;
use crate::shards::{Refused, Shard};

pub use redrive::{NoEvent, NotRedriven, Redrives};

/// What the names of headers with facts begin with. The first of them is the plugin's name.
const FACT: &str = "dead-letter-";
const FIRST_FACT: &str = "dead-letter-plugin";
/// Bytes that are read at once.
const READ_BYTES: usize = 4 << 20;

/// A dead letter.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Where it lies in the dead-letter topic.
    pub at: Place,
    /// The entry of its shard's log that holds it.
    pub index: LogIndex,
    /// What became of it.
    pub fate: Fate,
    /// When it was given up, in milliseconds since 1970.
    pub append_time_ms: u64,
    /// The record's own time, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<bytes::Bytes>,
    /// Its value.
    pub value: Option<bytes::Bytes>,
    /// Its own headers.
    pub headers: Vec<(String, Option<bytes::Bytes>)>,
    /// What is said of it: plugin, component, topic, partition, offset, attempts, reason.
    pub facts: BTreeMap<String, String>,
    /// Where the record comes from, if lineage says: the record itself is the parent of its letter.
    pub lineage: Option<Lineage>,
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Nothing yet.
    Open,
    /// It waits to be given to its plugin again.
    Waiting,
    /// It was given to its plugin again, which handled it.
    Redriven,
    /// It was given to its plugin again and failed: a new letter says why.
    FailedAgain,
    /// Nobody wants it any more.
    Discarded,
}

impl Fate {
    fn of(tables: &dyn View, letter: Position) -> Result<Fate, Fault> {
        if letters::waiting(tables, letter)?.is_some() {
            return Ok(Fate::Waiting);
        }
        let row = tables::read::<LetterRow>(tables, &Key::Letter(letter.at, letter.offset))?;
        Ok(match row.map(|row| row.fate) {
            None => Fate::Open,
            Some(rows::Fate::Discarded) => Fate::Discarded,
            Some(rows::Fate::Redriven) => Fate::Redriven,
            Some(rows::Fate::FailedAgain) => Fate::FailedAgain,
        })
    }
}

impl Letter {
    /// Why it was given up.
    pub fn reason(&self) -> &str {
        self.facts.get("reason").map_or("", String::as_str)
    }
}

/// Where a letter lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The partition of the dead-letter topic.
    pub partition: u32,
    /// The offset there.
    pub offset: u64,
}

/// Which letters are meant: with nothing said, all that are open.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Which {
    /// These.
    #[serde(default)]
    pub letters: Option<Vec<Place>>,
    /// Those that were given up for this reason.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What there is, in short.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Letters of which nothing has become.
    pub open: u64,
    /// Letters that wait to be given to the plugin again.
    pub waiting: u64,
    /// Letters that were given to the plugin again, which handled them.
    pub redriven: u64,
    /// Letters that were given to the plugin again and failed: new letters say why.
    pub failed_again: u64,
    /// Letters that nobody wants any more and that are retained still.
    pub discarded: u64,
    /// Open letters by reason.
    pub reasons: Vec<OfReason>,
    /// Whether all were looked at; if not, these are the oldest.
    pub is_complete: bool,
}

/// Open letters of one reason.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OfReason {
    /// The reason; that of the last is empty when there are too many to tell apart.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: Place,
    /// When the last of them was given up, in milliseconds since 1970.
    pub last_ms: u64,
}

impl Plugins {
    /// The dead letters of a plugin, in short.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn letters(&self, deployment: &Deployment) -> Result<Summary, Fault> {
        let mut summary = Summary::default();
        let mut reasons: BTreeMap<String, OfReason> = BTreeMap::new();
        summary.is_complete = self.each_letter(deployment, |letter| {
            match letter.fate {
                Fate::Open => summary.open += 1,
                Fate::Waiting => return summary.waiting += 1,
                Fate::Discarded => return summary.discarded += 1,
                Fate::Redriven => return summary.redriven += 1,
                Fate::FailedAgain => return summary.failed_again += 1,
            }
            let is_told_apart =
                reasons.len() < limits::LETTER_REASONS_MAX || reasons.contains_key(letter.reason());
            let reason = if is_told_apart { letter.reason() } else { "" };
            let first = || OfReason { reason: reason.to_owned(), count: 0, first: letter.at, last_ms: 0 };
            let of_reason = reasons.entry(reason.to_owned()).or_insert_with(first);
            of_reason.count += 1;
            of_reason.last_ms = of_reason.last_ms.max(letter.append_time_ms);
        })?;
        summary.reasons = reasons.into_values().collect();
        summary.reasons.sort_by_key(|of_reason| std::cmp::Reverse(of_reason.count));
        Ok(summary)
    }

    /// One dead letter, if it lies there and is retained.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn letter(&self, deployment: &Deployment, place: Place) -> Result<Option<Letter>, Fault> {
        if place.partition >= deployment.spec.tasks() {
            return Ok(None);
        }
        let (shard, at) = self.letters_in(deployment, Partition(place.partition));
        // What is deleted lies in the log until its segment is given back.
        let start = shard.partition(at)?.map_or(Offset(0), |row| row.log_start);
        if Offset(place.offset) < start {
            return Ok(None);
        }
        let (found, _) = read(shard, shard.upto(), at, Offset(place.offset), 1)?;
        Ok(found.into_iter().find(|letter| letter.at == place))
    }

    /// Discards letters that are open, or wait; returns how many those were.
    ///
    /// # Errors
    /// [`Refused`] when a shard does not take it.
    pub async fn discard_letters(&self, deployment: &Deployment, which: &Which) -> Result<u64, Refused> {
        let may_be = |letter: &Letter| match letter.fate {
            Fate::Open => Some(()),
            Fate::Waiting => which.letters.as_ref().map(drop),
            Fate::Discarded | Fate::Redriven | Fate::FailedAgain => None,
        };
        let mut meant: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for place in self.meant(deployment, which, may_be)?.0.into_keys() {
            meant.entry(place.partition).or_default().push(place.offset);
        }
        let mut count = 0;
        for (partition, offsets) in meant {
            let (shard, at) = self.letters_in(deployment, Partition(partition));
            for offsets in offsets.chunks(limits::LETTERS_OF_ENTRY_MAX) {
                let offsets = offsets.to_vec();
                count += offsets.len() as u64;
                shard.control(&Control::DiscardLetters { topic: at.topic, partition, offsets }).await?;
            }
        }
        Ok(count)
    }

    /// What `look` finds in letters that are meant, each once, and whether all were looked at. Letters themselves are not
    /// kept: there may be many.
    fn meant<T>(
        &self,
        deployment: &Deployment,
        which: &Which,
        mut look: impl FnMut(&Letter) -> Option<T>,
    ) -> Result<(BTreeMap<Place, T>, bool), Fault> {
        let mut meant = BTreeMap::new();
        let mut mean = |letter: &Letter| {
            if which.reason.as_deref().is_none_or(|reason| reason == letter.reason()) {
                meant.extend(look(letter).map(|found| (letter.at, found)));
            }
        };
        let is_complete = match &which.letters {
            None => self.each_letter(deployment, mean)?,
            Some(places) => {
                for place in places {
                    self.letter(deployment, *place)?.iter().for_each(&mut mean);
                }
                true
            }
        };
        Ok((meant, is_complete))
    }

    fn letters_in(&self, deployment: &Deployment, partition: Partition) -> (&Shard, TopicPartition) {
        let shard = &self.shards[usize::from(deployment.spec.home_of(partition).0)];
        (shard, TopicPartition { topic: deployment.spec.dead_letter.topic, partition })
    }

    /// Looks at every retained letter, the oldest of each partition first; says whether that were all.
    fn each_letter(&self, deployment: &Deployment, mut look: impl FnMut(&Letter)) -> Result<bool, Fault> {
        let mut looked = 0;
        for partition in (0..deployment.spec.tasks()).map(Partition) {
            let (shard, at) = self.letters_in(deployment, partition);
            let mut from = shard.partition(at)?.map_or(Offset(0), |row| row.log_start);
            loop {
                let (found, next) = read(shard, shard.upto(), at, from, READ_BYTES)?;
                found.iter().for_each(&mut look);
                looked += found.len();
                let Some(next) = next.filter(|next| *next > from) else { break };
                if looked >= limits::LETTERS_LOOKED_MAX {
                    return Ok(false);
                }
                from = next;
            }
        }
        Ok(true)
    }
}

/// The letters of the batches from `from` on, of the log below `upto`, and the offset behind them; none when there are
/// none.
pub(crate) fn read(
    shard: &Shard,
    upto: LogIndex,
    at: TopicPartition,
    from: Offset,
    max_bytes: usize,
) -> Result<(Vec<Letter>, Option<Offset>), Fault> {
    let batches = shard.group.log().batches(at, from, upto, max_bytes);
    let batches = batches.map_err(|error| Fault::damaged("a dead-letter topic", error))?;
    let tables = shard.group.tables();
    let (mut letters, mut next) = (Vec::new(), None);
    for (index, placed) in batches {
        next = Some(placed.header()?.next_offset());
        let envelope = Envelope::parse(&placed.envelope)?;
        // A program outside may have written to the topic what nobody can read: that is no letter.
        for (number, record) in
            batch::decode(&placed.batch, &limits::STORED_BATCH).unwrap_or_default().into_iter().enumerate()
        {
            if record.offset < from {
                continue;
            }
            let mut headers: Vec<(String, Option<bytes::Bytes>)> =
                record.headers.into_iter().map(|header| (header.name.to_string(), header.value)).collect();
            let Some(first) = headers.iter().rposition(|(name, _)| name == FIRST_FACT) else { continue };
            let facts = headers.split_off(first).into_iter().filter_map(|(name, value)| {
                let name = name.strip_prefix(FACT)?.to_owned();
                Some((name, String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()))
            });
            let facts = facts.collect();
            letters.push(Letter {
                at: Place { partition: at.partition.0, offset: record.offset.0 },
                index,
                fate: Fate::of(&tables, Position { at, offset: record.offset })?,
                append_time_ms: envelope.append_time.0,
                timestamp_ms: record.timestamp_ms,
                key: record.key,
                value: record.value,
                headers,
                facts,
                lineage: envelope.lineage(number).copied(),
            });
        }
    }
    Ok((letters, next))
}
