//! Log starts that wait for nobody: they move at random while tasks read, are paused, and lose their power.
//!
//! Three plugins copy the orders: one goes on with the earliest record when a log start has passed it, one with the
//! latest, one stops and is told where to go on. In the end every order was copied once by each of them, or was passed
//! over by it: as many as it says. While nothing is given back to the disk, the checker runs every step again, and must
//! come to the same number; where records are given back, whoever read on over a gap would be found by its count.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidemill_checker::{History, check, records};
use tidemill_core::catalog::{self, DEFAULT_TENANT};
use tidemill_core::entry::{Entry, EntryKind};
use tidemill_core::ids::{DeploymentId, TaskId};
use tidemill_core::manifest::Manifest;
use tidemill_core::shard::control::{self, Control};
use tidemill_core::shard::trim::Trim;
use tidemill_core::task::BehindLogStart;
use tidemill_host::broker::{Broker, BrokerOptions};
use tidemill_host::plugins::DeployError;
use tidemill_host::shards::Shard;
use tidemill_protocol::ids::{Partition, TopicPartition};
use tidemill_sim::chance::SimChance;
use tidemill_sim::clock::SimClock;
use tidemill_sim::disk::SimDisk;
use tidemill_sim::for_seeds;
use tidemill_sim::net::SimNet;
use tidemill_storage::log::LogOptions;

use crate::chain::{ORDERS, PARTITIONS, chain};
use crate::life::{End, Life};
use crate::picky;
use crate::producer::Producer;
use crate::proof::Kept;
use crate::story::{Broken, moment, rests};

const SEEDS: u64 = 12;
const ORDERS_TOLD: usize = 400;
const CUTS: u64 = 4;
const PARTS: usize = 12;
/// So small that some is given back within a story.
const SMALL_SEGMENT_BYTES: u64 = 32 * 1024;
const LOOK: Duration = Duration::from_millis(20);
const CHOICES: [(&str, BehindLogStart); 3] = [
    ("copies-earliest", BehindLogStart::Earliest),
    ("copies-latest", BehindLogStart::Latest),
    ("copies-all", BehindLogStart::Stop),
];

/// What came of a story.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    passed_over: u64,
    /// Those of them that were passed over without anybody being asked.
    by_themselves: u64,
    /// How often somebody had to say where to go on.
    asked: u64,
    reclaimed: bool,
}

fn fault(error: impl std::fmt::Display) -> Broken {
    Broken::Fault(error.to_string())
}

fn manifest(name: &str, choice: BehindLogStart) -> Manifest {
    let mut manifest = picky::manifest();
    manifest.name = name.to_owned();
    manifest.config.insert("rejects".to_owned(), 0.into());
    manifest.failure.behind_log_start = choice;
    manifest
}

async fn deploy(broker: &Broker) -> Result<(), Broken> {
    let picky = chain().picky();
    broker.plugins.components.put(picky.digest, &picky.component).map_err(fault)?;
    for (name, choice) in CHOICES {
        let manifest = manifest(name, choice);
        match broker.plugins.deploy(DEFAULT_TENANT, manifest, picky.digest, false).await {
            // It is there since an earlier life, and stopped.
            Ok(_) | Err(DeployError::Task { .. }) => {}
            Err(error) => return Err(fault(error)),
        }
    }
    Ok(())
}

/// Has a plugin go on, and says where if it has to be said; whether it had to.
async fn resume(broker: &Broker, name: &str, to: BehindLogStart) -> Result<bool, Broken> {
    match broker.plugins.resume(DEFAULT_TENANT, name, None).await {
        Ok(_) => return Ok(false),
        Err(error) if error.to_string().contains("removed before it consumed them") => {}
        Err(error) => return Err(fault(error)),
    }
    match broker.plugins.resume(DEFAULT_TENANT, name, Some(to)).await {
        // A log start may have passed it again already.
        Ok(_) | Err(DeployError::Task { .. }) => Ok(true),
        Err(error) => Err(fault(error)),
    }
}

/// Moves a log start, or pauses a plugin, or has one go on.
async fn disturb(broker: &Broker, life: &Life, chance: &SimChance, told: &mut Told) -> Result<(), Broken> {
    life.pause(Duration::from_micros(chance.between(0, 3_000))).await;
    let (name, _) = CHOICES[chance.between(0, 3) as usize];
    match chance.between(0, 10) {
        0..6 => trim(broker, chance).await,
        6..8 => broker.plugins.pause(DEFAULT_TENANT, name).await.map(drop).map_err(fault),
        _ => {
            let to = if chance.happens(500) { BehindLogStart::Earliest } else { BehindLogStart::Latest };
            told.asked += u64::from(resume(broker, name, to).await?);
            Ok(())
        }
    }
}

async fn trim(broker: &Broker, chance: &SimChance) -> Result<(), Broken> {
    let (shard, at) = orders(broker, Partition(chance.between(0, u64::from(PARTITIONS)) as u32))?;
    let Some(row) = shard.partition(at)? else { return Ok(()) };
    let before = chance.between(row.log_start.0, row.end.0 + 1);
    let trim = Trim { topic: at.topic, partition: at.partition.0, before };
    shard.trim(&[trim]).await.map(drop).map_err(fault)
}

fn orders(broker: &Broker, partition: Partition) -> Result<(&Arc<Shard>, TopicPartition), Broken> {
    let view = broker.catalog.view();
    let topic = catalog::topic(&view, DEFAULT_TENANT, ORDERS)?.ok_or_else(|| fault("no topic of orders"))?;
    let home = catalog::shards_of(&view, &topic)?[partition.0 as usize];
    Ok((&broker.shards[usize::from(home.0)], TopicPartition { topic: topic.id, partition }))
}

/// Runs until all is consumed, whoever stopped meanwhile.
async fn finish(broker: &Broker, life: &Life, told: &mut Told) -> Result<(), Broken> {
    while !rests(broker)? {
        for (name, _) in CHOICES {
            told.asked += u64::from(resume(broker, name, BehindLogStart::Earliest).await?);
        }
        life.pause(LOOK).await;
    }
    Ok(())
}

/// Each order was copied once by each plugin, or passed over. Returns how many were, and how many without a word.
fn prove(broker: &Broker, kept: &Kept) -> Result<(u64, u64), Broken> {
    let violated = |what: String| Broken::Violated(what);
    let mut copied: BTreeMap<TaskId, BTreeSet<u64>> = BTreeMap::new();
    for one in records(&kept.history).map_err(fault)? {
        if kept.names[&one.at.topic] != picky::PICKED {
            continue;
        }
        let (task, _, line) = one.derived.ok_or_else(|| violated("a copy of nothing".into()))?;
        if !copied.entry(task).or_default().insert(line.parent.offset.0) {
            return Err(violated(format!("task {task} copied order {} twice", line.parent.offset.0)));
        }
    }
    let ids: BTreeMap<String, DeploymentId> =
        broker.deployments()?.into_iter().map(|deployment| (deployment.name, deployment.id)).collect();
    let (mut all, mut by_themselves) = (0, 0);
    for deployment in broker.deployments()? {
        for task in broker.plugins.describe(&deployment)? {
            let partition = Partition(task.partition);
            let (shard, at) = orders(broker, partition)?;
            let end = shard.partition(at)?.map_or(0, |row| row.end.0);
            let id = TaskId { deployment: ids[&deployment.name], partition };
            let copies = copied.get(&id).map_or(0, BTreeSet::len) as u64;
            if copies + task.passed_over_records != end || task.removed_records != 0 {
                return Err(violated(format!(
                    "{} of {} orders of partition {}: {copies} copied, {} passed over",
                    deployment.name, end, partition.0, task.passed_over_records
                )));
            }
            all += task.passed_over_records;
            if deployment.spec.failure.behind_log_start != BehindLogStart::Stop {
                by_themselves += task.passed_over_records;
            }
        }
    }
    Ok((all, by_themselves))
}

/// A history in which nothing says that tasks were passed, or that says it of another choice: the checker finds either.
async fn finds_what_is_spoiled(honest: &History) -> Result<(), Broken> {
    let silent = |command: &mut Control| {
        if let Control::Trim { passes_tasks, .. } = command {
            *passes_tasks = false;
        }
    };
    let otherwise = |command: &mut Control| {
        if let Control::StartTasks { spec, .. } = command {
            let choice = &mut spec.failure.behind_log_start;
            *choice = match *choice {
                BehindLogStart::Earliest => BehindLogStart::Latest,
                BehindLogStart::Latest => BehindLogStart::Earliest,
                BehindLogStart::Stop => BehindLogStart::Stop,
            };
        }
    };
    for (what, spoil) in [("silence", &silent as &dyn Fn(&mut Control)), ("another choice", &otherwise)] {
        let mut history = honest.clone();
        for logged in history.shards.values_mut().flatten() {
            let mut entry = Entry::parse(&logged.bytes)?;
            if entry.kind != EntryKind::Control {
                continue;
            }
            let mut command = control::command(&entry)?;
            spoil(&mut command);
            entry.meta = serde_json::to_vec(&command).map_err(fault)?.into();
            logged.bytes = entry.encode();
        }
        if check(&history, &chain().scratch()).await.holds() {
            return Err(Broken::Violated(format!("the checker does not find {what}")));
        }
    }
    Ok(())
}

async fn tell(seed: u64, segment_bytes: Option<u64>) -> Result<Told, Broken> {
    let chance = SimChance::new(seed);
    let (clock, net) = (SimClock::start(), SimNet::new(chance.fork()));
    let shards = chance.between(1, 4) as u16;
    let orders = &chain().orders[..ORDERS_TOLD];
    let (mut disk, mut producer, mut rest) = (SimDisk::new(), Producer::default(), orders);
    let (mut cuts, mut told) = (0, Told::default());
    loop {
        let mut log = LogOptions::default();
        log.segment_bytes = segment_bytes.unwrap_or(log.segment_bytes);
        let folder = PathBuf::from("/data");
        let retention_interval = Duration::from_secs(1);
        let options = BrokerOptions { folder, shards, reserve_bytes: 0, retention_interval, log };
        let life = Life::on(disk, options, &clock, &net, &chance);
        let is_last = cuts == CUTS;
        if !is_last {
            life.plan(moment(&chance, &producer));
        }
        let living = async |life: &Life| {
            let broker = life.open().await?;
            chain().make_topics(&broker).await?;
            deploy(&broker).await?;
            producer.begin(&broker).await?;
            loop {
                let (part, behind) = rest.split_at((ORDERS_TOLD / PARTS).min(rest.len()));
                producer.hand_over(part, &chance);
                rest = behind;
                let (flushed, disturbed) =
                    tokio::join!(producer.flush(&broker), disturb(&broker, life, &chance, &mut told));
                flushed.and(disturbed)?;
                if chance.happens(300) {
                    // Long enough for segments to be given back.
                    life.pause(Duration::from_secs(chance.between(0, 30))).await;
                }
                if rest.is_empty() {
                    break;
                }
            }
            finish(&broker, life, &mut told).await?;
            if !is_last {
                return Ok(());
            }
            let kept = Kept::of(&broker)?;
            (told.passed_over, told.by_themselves) = prove(&broker, &kept)?;
            told.reclaimed = !broker.shards.iter().all(|shard| shard.group.log().is_whole());
            if segment_bytes.is_none() {
                let report = check(&kept.history, &chain().scratch()).await;
                if !report.holds() || report.passed_over != told.passed_over {
                    let first: Vec<_> = report.violations.iter().take(3).map(ToString::to_string).collect();
                    return Err(Broken::Violated(format!("{report}: {first:#?}; {told:?}")));
                }
                if told.by_themselves > 0 {
                    finds_what_is_spoiled(&kept.history).await?;
                }
            }
            Ok(())
        };
        match life.live(living).await? {
            End::Cut(cut) => {
                cuts += 1;
                disk = cut.left;
            }
            End::Rest((), left) if !is_last => {
                cuts += 1;
                disk = left;
            }
            End::Rest((), _) => return Ok(told),
        }
    }
}

fn tell_all(segment_bytes: Option<u64>) -> Vec<Told> {
    let all = Cell::new(Vec::new());
    for_seeds(SEEDS, |seed| {
        let told = tidemill_sim::run(tell(seed, segment_bytes)).unwrap_or_else(|broken| panic!("{broken}"));
        let mut so_far = all.take();
        so_far.push(told);
        all.set(so_far);
    });
    all.into_inner()
}

#[test]
fn what_a_log_start_passes_is_consumed_once_or_counted() {
    let told = tell_all(None);
    println!("{told:?}");
    let is_one = std::env::var_os("TIDEMILL_SEED").is_some();
    assert!(is_one || told.iter().any(|one| one.passed_over > 0), "nobody was passed");
    assert!(is_one || told.iter().any(|one| one.asked > 0), "nobody had to say where to go on");
}

#[test]
fn the_same_where_the_disk_is_given_back() {
    let told = tell_all(Some(SMALL_SEGMENT_BYTES));
    println!("{told:?}");
    let is_one = std::env::var_os("TIDEMILL_SEED").is_some();
    assert!(is_one || told.iter().any(|one| one.reclaimed && one.passed_over > 0), "nothing was given back");
}
