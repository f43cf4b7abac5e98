//! Giving dead letters to their plugin again: which can be, and what they were.

use std::collections::BTreeMap;

use serde::Serialize;
use tidemill_core::catalog::Deployment;
use tidemill_core::entry::EntryKind;
use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;
use tidemill_core::limits;
use tidemill_core::plugin::{Event, Header};
use tidemill_core::rows::PartitionRow;
use tidemill_core::seams::Timestamp;
use tidemill_core::shard::letters::{self, Redrive, Redriven};
use tidemill_core::shard::step::{self, Outcome, Source};
use tidemill_core::task::TaskSpec;
use tidemill_protocol::ids::{Offset, Partition, Position};
use tidemill_storage::log::Payload;

use super::{Fate, Letter, Place, Which};
use crate::plugins::Plugins;
use crate::shards::{Refused, Shard};

/// Which letters are given to their plugin again.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Redrives {
    /// These are, in this order in each partition.
    pub letters: Vec<Place>,
    /// These are not.
    pub refused: Vec<NotRedriven>,
    /// Whether all were looked at that could be meant; if not, the oldest were.
    pub is_complete: bool,
}

/// A letter that is not given to its plugin again.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NotRedriven {
    /// Where it lies.
    #[serde(flatten)]
    pub at: Place,
    /// Why not.
    pub why: String,
}

impl Redrives {
    fn refuse(&mut self, at: Place, why: &dyn std::fmt::Display) {
        self.refused.push(NotRedriven { at, why: why.to_string() });
    }
}

/// Why a letter cannot be given to its plugin again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoEvent {
    /// It is of a timer.
    #[error("it is the letter of a timer, not of a record")]
    Timer,
    /// It holds a batch, or is too old.
    #[error(
        "it is the letter of a batch that cannot be read, or of a broker that did not write down when it was appended"
    )]
    NoRecord,
    /// A program outside wrote it, or another plugin.
    #[error("it was not written by this plugin's task: nothing says which record it was")]
    Forged,
    /// An earlier version chose its partition by its key.
    #[error("it lies in another partition than its record did: an earlier version of the broker wrote it")]
    Elsewhere,
    /// The plugin reads other topics now.
    #[error("the plugin as it is now does not read the topic that its record lay in")]
    NotRead,
}

impl Letter {
    /// The event that its task was given, as it was, and its lineage.
    ///
    /// # Errors
    /// [`NoEvent`] when that is not known, or was no event of this plugin as it is now.
    pub fn original(&self, spec: &TaskSpec) -> Result<(Event, Source), NoEvent> {
        let line = self.lineage.as_ref().ok_or(NoEvent::Forged)?;
        let (position, before) = (line.parent, line.hops.checked_sub(1));
        let hops = before.ok_or(NoEvent::Forged)?;
        if position.at.partition.0 != self.at.partition {
            return Err(NoEvent::Elsewhere);
        }
        if self.facts.contains_key("timer") {
            return Err(NoEvent::Timer);
        }
        let append_time = self.facts.get("append-time-ms").and_then(|ms| ms.parse().ok());
        let append_time = Timestamp(append_time.ok_or(NoEvent::NoRecord)?);
        let input = spec.inputs.iter().position(|input| input.topic == position.at.topic);
        let headers = self.headers.iter();
        let event = Event {
            input: input.ok_or(NoEvent::NotRead)? as u16,
            position,
            timestamp_ms: self.timestamp_ms,
            append_time,
            key: self.key.clone(),
            value: self.value.clone(),
            headers: headers
                .map(|(name, value)| Header { name: name.clone(), value: value.clone() })
                .collect(),
        };
        Ok((event, Source { position, timestamp_ms: self.timestamp_ms, root: line.root, hops }))
    }
}

/// Whether an entry of a shard's log is of a step that gave something up. Into a dead-letter topic only its plugin's
/// tasks write with such a one, or those of an earlier plugin of its name: what another plugin published there is of a
/// step that went well, whatever its headers say.
fn is_given_up(shard: &Shard, index: LogIndex) -> Result<bool, Fault> {
    let entries = shard.group.log().entries(index.0..index.0 + 1, usize::MAX)?;
    let Some(Payload::Entry(entry)) = entries.first().map(|entry| &entry.payload) else { return Ok(false) };
    let is_step = entry.kind == EntryKind::Step;
    Ok(is_step && matches!(step::meta(entry)?.outcome, Outcome::DeadLettered { .. }))
}

impl Plugins {
    /// Has letters given to the plugin again, or says which those would be.
    ///
    /// # Errors
    /// [`Refused`] when a shard does not take it.
    pub async fn redrive_letters(
        &self,
        deployment: &Deployment,
        which: &Which,
        is_dry: bool,
    ) -> Result<Redrives, Refused> {
        let spec = &deployment.spec;
        // Of letters that are not named, only those are meant that can be.
        let look = |letter: &Letter| {
            let is_meant = which.letters.is_some() || letter.fate == Fate::Open;
            let of = |source: Source| (letter.index, source.position.at.topic);
            is_meant.then(|| letter.original(spec).map(|(_, source)| of(source)))
        };
        let (found, is_complete) = self.meant(deployment, which, look)?;
        let mut redrives = Redrives { is_complete, ..Redrives::default() };
        let mut meant: BTreeMap<u32, Vec<Redriven>> = BTreeMap::new();
        for (place, source) in found {
            let (shard, _) = self.letters_in(deployment, Partition(place.partition));
            match source {
                Ok((index, _)) if !is_given_up(shard, index)? => redrives.refuse(place, &NoEvent::Forged),
                Ok((_, source)) => {
                    let redriven = Redriven { offset: place.offset, source };
                    meant.entry(place.partition).or_default().push(redriven);
                }
                Err(why) => redrives.refuse(place, &why),
            }
        }
        for (partition, letters) in meant {
            let (shard, at) = self.letters_in(deployment, Partition(partition));
            for letters in letters.chunks(limits::LETTERS_OF_ENTRY_MAX) {
                let redrive = Redrive {
                    deployment: deployment.id,
                    topic: at.topic,
                    partition,
                    letters: letters.to_vec(),
                };
                let verdicts = match is_dry {
                    true => shard.look(|head| letters::verdicts(head, &redrive))?,
                    false => shard.redrive(&redrive).await?,
                };
                for (letter, verdict) in letters.iter().zip(verdicts) {
                    let place = Place { partition, offset: letter.offset };
                    match verdict {
                        Ok(()) => redrives.letters.push(place),
                        Err(why) => redrives.refuse(place, &why),
                    }
                }
            }
        }
        Ok(redrives)
    }

    /// What became of letters; those that are not there any more are left out.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    pub fn fates(&self, deployment: &Deployment, places: &[Place]) -> Result<Vec<(Place, Fate)>, Fault> {
        let mut fates = Vec::with_capacity(places.len());
        for place in places.iter().filter(|place| place.partition < deployment.spec.tasks()) {
            let (shard, at) = self.letters_in(deployment, Partition(place.partition));
            let is_there = |row: &PartitionRow| (row.log_start..row.end).contains(&Offset(place.offset));
            if shard.partition(at)?.as_ref().is_some_and(is_there) {
                let letter = Position { at, offset: Offset(place.offset) };
                fates.push((*place, Fate::of(&shard.group.tables(), letter)?));
            }
        }
        Ok(fates)
    }
}
