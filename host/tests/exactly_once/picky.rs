//! A plugin beside the chain that gives some of the orders up, and is given them again: now and then by a version that
//! gives up fewer, or more. In the end each order was copied once.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_checker::LoggedRecord;
use tidemill_core::catalog::{DEFAULT_TENANT, Deployment};
use tidemill_core::manifest::Manifest;
use tidemill_core::shard::letters;
use tidemill_host::broker::Broker;
use tidemill_host::letters::Which;
use tidemill_host::logs::line::Line;
use tidemill_protocol::ids::{Partition, Position};
use tidemill_sim::chance::SimChance;

use crate::chain::{PARTITIONS, Topic, chain};
use crate::story::Broken;

/// Its name.
pub const NAME: &str = "picky";
/// The topic that it copies to: of a group of its own, so that much of it crosses shards.
pub const PICKED: &str = "picked";
/// The topic of its dead letters.
pub const LETTERS: &str = "picky.dead-letter";
/// The topic of its log.
pub const LOG: &str = "picky.log";
/// Of ten orders, it gives up so many at first.
pub const REJECTS_FIRST: u64 = 4;
/// How often, of a thousand letters, one is redriven that is chosen by itself.
const CHOSEN_PER_MILLE: u64 = 500;

/// Its manifest.
pub fn manifest() -> Manifest {
    let text = format!(
        "name = \"{NAME}\"\ncomponent = \"picky.wasm\"\npublish = [\"{PICKED}\"]\n\
         [[subscribe]]\ntopic = \"customer-orders\"\nfrom = \"earliest\"\n\
         [config]\nrejects = {REJECTS_FIRST}\nto = \"{PICKED}\"\n"
    );
    toml::from_str(&text).unwrap()
}

/// The topic that it copies to.
pub fn topic() -> Topic {
    Topic { name: PICKED.to_owned(), partitions: PARTITIONS, affinity: PICKED.to_owned() }
}

fn fault(error: impl std::fmt::Display) -> Broken {
    Broken::Fault(error.to_string())
}

/// Deploys it if it is not there, or the version of it that gives up so many.
pub async fn deploy(broker: &Broker, rejects: u64) -> Result<Deployment, Broken> {
    let picky = chain().picky();
    broker.plugins.components.put(picky.digest, &picky.component).map_err(fault)?;
    let mut manifest = picky.manifest.clone();
    manifest.config.insert("rejects".to_owned(), rejects.into());
    let deployed = broker.plugins.deploy(DEFAULT_TENANT, manifest, picky.digest, false).await;
    Ok(deployed.map_err(fault)?.deployment)
}

fn deployed(broker: &Broker) -> Result<Deployment, Broken> {
    let found = broker.deployments()?.into_iter().find(|deployment| deployment.name == NAME);
    found.ok_or_else(|| fault("picky is gone"))
}

/// Deploys another version of it, or redrives letters: all, or some. Says what.
pub async fn disturb(broker: &Broker, chance: &SimChance) -> Result<String, Broken> {
    if chance.happens(400) {
        let rejects = chance.between(0, 8);
        let deployment = deploy(broker, rejects).await?;
        return Ok(format!("picky rejects {rejects} of ten as generation {}", deployment.generation.0));
    }
    let deployment = deployed(broker)?;
    let mut which = Which::default();
    if chance.happens(500) {
        let all = broker.plugins.redrive_letters(&deployment, &which, true).await.map_err(fault)?.letters;
        which.letters = Some(all.into_iter().filter(|_| chance.happens(CHOSEN_PER_MILLE)).collect());
    }
    let redrives = broker.plugins.redrive_letters(&deployment, &which, false).await.map_err(fault)?;
    Ok(format!("redrove {} letters of picky, not {}", redrives.letters.len(), redrives.refused.len()))
}

/// A version that gives up nothing, and all letters again. Whoever waits until everything rests finds each order copied.
pub async fn finish(broker: &Broker) -> Result<(), Broken> {
    let deployment = deploy(broker, 0).await?;
    let redrives =
        broker.plugins.redrive_letters(&deployment, &Which::default(), false).await.map_err(fault)?;
    match redrives.refused.first() {
        None => Ok(()),
        Some(refused) => Err(Broken::Violated(format!("an open letter is not redriven: {refused:?}"))),
    }
}

/// Whether letters of a plugin wait to be given to it again.
pub fn waits(broker: &Broker, deployment: &Deployment) -> Result<bool, Broken> {
    let spec = &deployment.spec;
    for partition in (0..spec.tasks()).map(Partition) {
        let tables = broker.shards[usize::from(spec.home_of(partition).0)].group.tables();
        if letters::first_waiting(&tables, spec.letters(partition))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Lines come from no record, and each is of a try. How many there are nobody promises: each cut takes the last.
pub fn prove_log(lines: &[LoggedRecord]) -> Result<(), Broken> {
    let is_line = |one: &LoggedRecord| {
        let line = Line::of(&one.record);
        one.derived.is_none() && line.is_some_and(|line| line.tried.task == one.at.partition)
    };
    match lines.iter().find(|one| !is_line(one)) {
        None => Ok(()),
        Some(one) => Err(Broken::Violated(format!("{:?} is no line of a log", one.record))),
    }
}

/// Each order was copied once, from itself; each letter is of an order, and was given to the plugin again once.
pub fn prove(
    orders: &[LoggedRecord],
    picked: &[LoggedRecord],
    letters: &[LoggedRecord],
    redrives: &[(Position, bool)],
) -> Result<(), Broken> {
    let violated = |what: String| Err(Broken::Violated(what));
    let at = |one: &LoggedRecord| Position { at: one.at, offset: one.record.offset };
    let mut copies: BTreeMap<Position, usize> = BTreeMap::new();
    let values: BTreeMap<Position, _> = orders.iter().map(|order| (at(order), &order.record.value)).collect();
    for one in picked.iter().chain(letters) {
        let Some((_, _, line)) = &one.derived else { return violated("a copy of nothing".into()) };
        let is_copy = values.get(&line.parent) == Some(&&one.record.value);
        if !is_copy || line.root != line.parent || line.hops != 1 {
            return violated(format!("{:?} is no copy of {:?}", at(one), line.parent));
        }
    }
    for one in picked {
        let parent = one.derived.map(|(_, _, line)| line.parent);
        *copies.entry(parent.unwrap_or_else(|| at(one))).or_default() += 1;
    }
    if let Some(order) = orders.iter().find(|order| copies.get(&at(order)) != Some(&1)) {
        let copies = copies.get(&at(order)).copied().unwrap_or(0);
        return violated(format!("{:?} was copied {copies} times", at(order)));
    }
    let given: BTreeSet<Position> = redrives.iter().map(|(letter, _)| *letter).collect();
    let there: BTreeSet<Position> = letters.iter().map(at).collect();
    if given.len() != redrives.len() || given != there {
        let (letters, redrives) = (there.len(), redrives.len());
        return violated(format!("{letters} letters, and {redrives} were given again"));
    }
    Ok(())
}
