//! The story: a broker loses its power again and again while the chain runs on it, and in the end everything was done
//! exactly once.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::{Either, select};
use tidemill_checker::Report;
use tidemill_core::catalog::{self, DEFAULT_TENANT};
use tidemill_core::fault::Fault;
use tidemill_core::ids::ShardId;
use tidemill_core::tables::{Key, View, end_of_prefix};
use tidemill_host::broker::{Broker, BrokerOptions};
use tidemill_protocol::ids::{Partition, TopicPartition};
use tidemill_sim::chance::SimChance;
use tidemill_sim::clock::SimClock;
use tidemill_sim::disk::SimDisk;
use tidemill_sim::net::SimNet;
use tidemill_storage::log::{LogOptions, Planted};

use crate::chain::{ORDERS, PARTITIONS, chain};
use crate::life::{End, Life, Moment};
use crate::picky;
use crate::producer::Producer;
use crate::proof::Kept;
use crate::reader::Reader;
use crate::traces;

/// Shards, at most; at least there are two, so that batches must cross.
const SHARDS_MAX: u64 = 8;
/// Short, so that segments roll and are sealed.
pub const SEGMENT_BYTES: u64 = 256 * 1024;
/// Operations of the disk while a broker opens, about.
const OPENING_MAX: u64 = 400;
/// Operations of the disk with steps in flight until the power is cut, at most: soon after the start, or later.
const STEPPING_MAX: [u64; 2] = [20, 400];
/// Answers to the producer until the power is cut, at most.
const ANSWERS_MAX: u64 = 12;
/// Parts in which a life is given its orders, at most.
const PARTS_MAX: u64 = 12;
/// Between parts there is sometimes a pause of so many milliseconds, at most: longer than tables wait to be
/// checkpointed.
const PAUSE_MS_MAX: u64 = 8_000;
/// How often, of a thousand parts, a plugin is changed or paused while it has orders to handle.
const DISTURBED_PER_MILLE: u64 = 400;
/// How often it is looked whether everything came to rest.
const LOOK: Duration = Duration::from_millis(20);

/// What is to happen.
#[derive(Debug, Clone, Copy)]
pub struct Plot {
    /// Orders that are produced.
    pub orders: usize,
    /// Power cuts while steps are in flight.
    pub cuts: u64,
    /// A mistake made on purpose.
    pub planted: Option<Planted>,
}

/// What happened.
pub struct Ending {
    /// Power cuts while steps were in flight.
    pub cuts: u64,
    /// Power cuts in all.
    pub all_cuts: u64,
    /// What the checker found: nothing.
    pub report: Report,
    /// Dead letters that were given to their plugin again, and those of them that it gave up again.
    pub redriven: (usize, usize),
    /// Batches that the consumer was shown.
    pub shown: usize,
    /// What the broker kept.
    pub kept: Kept,
}

/// What must not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// What was acknowledged is not there.
    #[error("acknowledged and lost: {0}")]
    Lost(String),
    /// What a consumer was shown is not there, or is something else.
    #[error("shown and gone: {0}")]
    Vanished(String),
    /// A request was answered as it never should be: its data, or what came before, is not where it was.
    #[error("answered wrongly: {0}")]
    Refused(String),
    /// The broker itself says that it lost what it had acknowledged.
    #[error("the broker finds a loss: {0}")]
    Confessed(String),
    /// Something did not happen exactly once.
    #[error("not exactly once: {0}")]
    Violated(String),
    /// The broker does not start, or stopped, with the power on.
    #[error("the broker has a fault: {0}")]
    Fault(String),
    /// Nothing goes on.
    #[error("nothing has gone on for {0:?}")]
    Stuck(Duration),
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Broken {
        Broken::Fault(fault.to_string())
    }
}

/// Tells it, and writes down what happens: the same whenever the same seed is told.
pub async fn tell(seed: u64, plot: Plot, transcript: &mut Vec<String>) -> Result<Ending, Broken> {
    let chance = SimChance::new(seed);
    let (clock, net) = (SimClock::start(), SimNet::new(chance.fork()));
    let first = chance.between(0, (chain().orders.len() - plot.orders + 1) as u64) as usize;
    let orders = &chain().orders[first..first + plot.orders];
    let shards = chance.between(2, SHARDS_MAX + 1) as u16;
    transcript.push(format!("seed {seed}: {} orders from order {first} on, {shards} shards", plot.orders));
    let (mut disk, mut producer, mut rest) = (SimDisk::new(), Producer::default(), orders);
    let (mut reader, lots) = (Reader::default(), chance.fork());
    let (mut cuts, mut all_cuts) = (0, 0);
    loop {
        let options =
            LogOptions { segment_bytes: SEGMENT_BYTES, planted: plot.planted, ..LogOptions::default() };
        let options = BrokerOptions {
            folder: PathBuf::from("/data"),
            shards,
            reserve_bytes: 0,
            retention_interval: Duration::from_secs(300),
            log: options,
        };
        let life = Life::on(disk, options, &clock, &net, &chance);
        let is_last = cuts == plot.cuts || rest.is_empty();
        if !is_last {
            life.plan(moment(&chance, &producer));
        }
        let burst = if is_last { rest.len() } else { rest.len().div_ceil((plot.cuts - cuts) as usize + 1) };
        let living = async |life: &Life| {
            let broker = life.open().await?;
            confesses_nothing(&broker)?;
            chain().deploy(&broker).await?;
            // Whichever looks first finds what was committed too early.
            if seed.is_multiple_of(2) {
                remembers(&broker, &producer)?;
            }
            reader.finds_all(&broker, life).await?;
            remembers(&broker, &producer)?;
            producer.begin(&broker).await?;
            flush(&mut producer, &mut reader, &broker, life, &lots).await?;
            let until = rest.len() - burst;
            let parts = chance.between(1, PARTS_MAX + 1) as usize;
            while rest.len() > until {
                let (part, behind) = rest.split_at(burst.div_ceil(parts).min(rest.len() - until));
                producer.hand_over(part, &chance);
                rest = behind;
                // Whoever looks for a planted mistake wants cuts soon after answers, and nothing in between.
                if plot.planted.is_none() && chance.happens(DISTURBED_PER_MILLE) {
                    transcript.push(chain().disturb(&broker, life, &chance).await?);
                }
                flush(&mut producer, &mut reader, &broker, life, &lots).await?;
                if chance.happens(200) {
                    life.pause(Duration::from_millis(chance.between(0, PAUSE_MS_MAX))).await;
                }
            }
            rest_of(&broker, life, &mut reader).await?;
            if !is_last {
                return Ok(None);
            }
            picky::finish(&broker).await?;
            rest_of(&broker, life, &mut reader).await?;
            reader.finds_all(&broker, life).await?;
            let kept = Kept::of(&broker)?;
            traces::hold(&broker, &kept).await?;
            Ok(Some(kept))
        };
        match life.live(living).await? {
            End::Cut(cut) => {
                all_cuts += 1;
                cuts += u64::from(cut.steps_in_flight > 0);
                transcript.push(format!(
                    "cut before {}, {} steps in flight, {} orders acknowledged",
                    cut.during,
                    cut.steps_in_flight,
                    producer.acknowledged()
                ));
                disk = cut.left;
            }
            End::Rest(None, left) => {
                transcript.push(format!("at rest, {} orders acknowledged", producer.acknowledged()));
                disk = left;
            }
            End::Rest(Some(kept), _) => {
                let report = kept.prove(orders, &producer).await?;
                let redriven = kept.redriven();
                transcript.push(format!("{:016x}: {report}, redriven {redriven:?}", kept.digest()));
                let shown = reader.batches();
                return Ok(Ending { cuts, all_cuts, report, redriven, shown, kept });
            }
        }
    }
}

/// Has the producer send what it holds, while the consumer reads.
async fn flush(
    producer: &mut Producer,
    reader: &mut Reader,
    broker: &Broker,
    life: &Life,
    chance: &SimChance,
) -> Result<(), Broken> {
    match select(pin!(producer.flush(broker)), pin!(reader.watch(broker, life, chance))).await {
        Either::Left((flushed, _)) => flushed,
        Either::Right((broken, _)) => Err(broken),
    }
}

/// Waits until all is done, while the consumer reads.
async fn rest_of(broker: &Broker, life: &Life, reader: &mut Reader) -> Result<(), Broken> {
    while !rests(broker)? {
        reader.read(broker).await?;
        life.pause(LOOK).await;
    }
    Ok(())
}

/// When the power is cut in a life. A cut while the broker opens does not count: no steps are in flight then.
pub fn moment(chance: &SimChance, producer: &Producer) -> Moment {
    match chance.between(0, 5) {
        0 => Moment::Opening(chance.between(0, OPENING_MAX)),
        1 => Moment::Stepping(chance.between(0, STEPPING_MAX[0])),
        2 | 3 => Moment::Stepping(chance.between(0, STEPPING_MAX[1])),
        _ => {
            let until = producer.heard.load(Relaxed) + chance.between(1, ANSWERS_MAX + 1);
            Moment::Answered(producer.heard.clone(), until)
        }
    }
}

/// The broker found nothing lost when it was opened.
fn confesses_nothing(broker: &Broker) -> Result<(), Broken> {
    match broker.losses.first() {
        None => Ok(()),
        Some(loss) => Err(Broken::Confessed(format!("{}: {:?}", loss.group, loss.recovery.amnesia))),
    }
}

/// The partitions reach as far as was acknowledged.
fn remembers(broker: &Broker, producer: &Producer) -> Result<(), Broken> {
    let topic = catalog::topic(&broker.catalog.view(), DEFAULT_TENANT, ORDERS)?;
    let topic = topic.ok_or_else(|| Broken::Lost("the topic".to_owned()))?;
    let homes = catalog::shards_of(&broker.catalog.view(), &topic)?;
    for (partition, home) in (0..PARTITIONS).map(Partition).zip(homes) {
        let at = TopicPartition { topic: topic.id, partition };
        let row = broker.shards[usize::from(home.0)].partition(at)?;
        let end = row.map_or(0, |row| row.end.0);
        let acknowledged = producer.acknowledged_of(partition).len() as u64;
        if end < acknowledged {
            let number = partition.0;
            return Err(Broken::Lost(format!(
                "partition {number} ends at {end}, {acknowledged} orders were acknowledged"
            )));
        }
    }
    Ok(())
}

/// Whether all is done: nothing waits to be consumed or shipped, no timer is set, and no step is in flight.
pub fn rests(broker: &Broker) -> Result<bool, Broken> {
    if broker.metrics.steps_in_flight() > 0 {
        return Ok(false);
    }
    for deployment in broker.deployments()? {
        if picky::waits(broker, &deployment)? {
            return Ok(false);
        }
        if broker.plugins.describe(&deployment)?.iter().any(|task| task.lag_records > 0 || task.timers > 0) {
            return Ok(false);
        }
    }
    for shard in &broker.shards {
        for to in (0..broker.shards.len() as u16).map(ShardId) {
            let start = Key::pending_prefix(to);
            if !shard.group.tables().scan(&start, end_of_prefix(&start).as_deref(), 1)?.is_empty() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
