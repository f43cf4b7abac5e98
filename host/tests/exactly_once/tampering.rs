//! The checker fails where it should: an honest history passes, and every way of spoiling it is found, for what it is.
//!
//! The forger is a good one. Where a batch is changed, its CRC, its offsets, its lineage and the seal of its envelope are
//! made to fit; only the last test leaves them as they were.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use tidemill_checker::{History, Logged, Report, Violation, check};
use tidemill_core::entry::{Entry, EntryKind, PlacedBatch};
use tidemill_core::envelope::{Envelope, Lineage, Origin};
use tidemill_core::ids::{LogIndex, ShardId, StepNumber, TaskId};
use tidemill_core::limits;
use tidemill_core::rows::LinkRow;
use tidemill_core::shard::control::{self, Control};
use tidemill_core::shard::{ship, step};
use tidemill_protocol::batch::{self, BatchBuilder, BatchHeader, BatchLimits, Record};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::ids::{Offset, ProducerId, TopicPartition};
use tidemill_protocol::primitive::Writer;

use crate::chain::chain;
use crate::story::{self, Plot};

/// Enough for some of everything.
const PLOT: Plot = Plot { orders: 60, cuts: 0, planted: None };

const READABLE: BatchLimits = BatchLimits {
    batch_bytes: limits::BATCH_BYTES_MAX,
    records: limits::BATCH_RECORDS_MAX,
    headers: limits::RECORD_HEADERS_MAX,
    inflated_bytes: limits::BATCH_INFLATED_BYTES_MAX,
    inflate_ratio: limits::BATCH_INFLATE_RATIO_MAX,
};

/// What a broker that nothing happened to kept.
fn honest() -> History {
    static HONEST: OnceLock<History> = OnceLock::new();
    HONEST.get_or_init(|| told(0)).clone()
}

fn told(seed: u64) -> History {
    tidemill_sim::run(story::tell(seed, PLOT, &mut Vec::new())).unwrap().kept.history
}

fn checked(history: &History) -> Report {
    tidemill_sim::run(check(history, &chain().scratch()))
}

/// The kinds of violations, as tests name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Log,
    Step,
    Output,
    State,
}

#[track_caller]
fn finds(history: &History, kind: Kind, what: &str) {
    let report = checked(history);
    let kind_of = |violation: &Violation| match violation {
        Violation::Log { .. } => Kind::Log,
        Violation::Step { .. } => Kind::Step,
        Violation::Output { .. } => Kind::Output,
        Violation::State { .. } => Kind::State,
    };
    let found = report.violations.iter().any(|violation| kind_of(violation) == kind);
    let shown: Vec<String> = report.violations.iter().take(5).map(ToString::to_string).collect();
    assert!(
        found,
        "{what}: no violation of kind {kind:?}, but {} others: {shown:#?}",
        report.violations.len()
    );
}

/// Which batches are spoiled: those that a producer sent, a step left in its shard, a step sent away, or that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Produced,
    Stayed,
    Sent,
    Arrived,
}

/// A batch of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Site {
    shard: ShardId,
    /// The place of its entry in the shard's log.
    entry: usize,
    /// Its place in the entry.
    batch: usize,
}

fn entry_at(history: &History, site: Site) -> Entry {
    Entry::parse(&history.shards[&site.shard][site.entry].bytes).unwrap()
}

fn put_entry(history: &mut History, site: Site, entry: &Entry) {
    history.shards.get_mut(&site.shard).unwrap()[site.entry].bytes = entry.encode();
}

/// All batches, in the order of the logs.
fn sites(history: &History) -> Vec<(Site, Class, PlacedBatch)> {
    let mut sites = Vec::new();
    for (shard, log) in &history.shards {
        for (number, logged) in log.iter().enumerate() {
            let entry = Entry::parse(&logged.bytes).unwrap();
            for (batch, placed) in entry.batches.into_iter().enumerate() {
                let class = match (entry.kind, placed.away) {
                    (EntryKind::Produce, _) => Class::Produced,
                    (EntryKind::Step, None) => Class::Stayed,
                    (EntryKind::Step, Some(_)) => Class::Sent,
                    (EntryKind::Arrival, _) => Class::Arrived,
                    other => panic!("{other:?} has no batches"),
                };
                sites.push((Site { shard: *shard, entry: number, batch }, class, placed));
            }
        }
    }
    sites
}

/// A batch of a class with several records: one that others lie behind in its partition, or the partition's last.
fn site_of(history: &History, class: Class, is_last: bool) -> Site {
    let sites = sites(history);
    let end = |at: TopicPartition| {
        let of = sites.iter().filter(|(_, class, placed)| *class != Class::Sent && placed.at == at);
        of.map(|(_, _, placed)| header(placed).next_offset()).max()
    };
    let fits = |(_, of, placed): &&(Site, Class, PlacedBatch)| {
        let header = header(placed);
        let is_end = end(placed.at) == Some(header.next_offset());
        // A plugin's log is written by a producer without an id, and nobody reads it here.
        let is_read = class != Class::Produced || header.producer_id != ProducerId::NONE;
        *of == class && is_read && header.record_count > 1 && (class == Class::Sent || is_end == is_last)
    };
    sites.iter().find(fits).unwrap_or_else(|| panic!("no {class:?} batch, last: {is_last}")).0
}

fn header(placed: &PlacedBatch) -> BatchHeader {
    BatchHeader::parse(&placed.batch).unwrap()
}

/// A record, and where it comes from.
type Line = (Record, Option<Lineage>);

/// Rewrites the records of a batch; all that guards them is made to fit.
fn rewritten(placed: &PlacedBatch, base: Offset, edit: impl FnOnce(&mut Vec<Line>)) -> PlacedBatch {
    let (old, mut envelope) = (header(placed), Envelope::parse(&placed.envelope).unwrap());
    let records = batch::decode(&placed.batch, &READABLE).unwrap().into_iter().enumerate();
    let mut lines: Vec<Line> = records.map(|(at, one)| (one, envelope.lineage(at).copied())).collect();
    edit(&mut lines);
    let mut builder = BatchBuilder::new(Codec::None);
    for (record, _) in &lines {
        let headers = record.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref()));
        let headers: Vec<_> = headers.collect();
        builder.push(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers).unwrap();
    }
    builder.producer(old.producer_id, old.producer_epoch, old.base_sequence);
    let mut batch = BytesMut::from(&builder.build().unwrap()[..]);
    batch::stamp(&mut batch, base, old.leader_epoch);
    if let Origin::Task(derivation) = &mut envelope.origin {
        derivation.lineage = lines.iter().filter_map(|(_, line)| *line).collect();
    }
    let crc = BatchHeader::parse(&batch).unwrap().crc;
    let envelope = envelope.seal(placed.at, base, crc);
    PlacedBatch { envelope, batch: batch.freeze(), ..placed.clone() }
}

/// A history in which the records of a batch are others.
fn spoiled(class: Class, is_last: bool, edit: impl FnOnce(&mut Vec<Line>)) -> History {
    let mut history = honest();
    let site = site_of(&history, class, is_last);
    let mut entry = entry_at(&history, site);
    let placed = &mut entry.batches[site.batch];
    *placed = rewritten(placed, header(placed).base_offset, edit);
    put_entry(&mut history, site, &entry);
    history
}

fn remove(lines: &mut Vec<Line>) {
    lines.pop();
}

fn double(lines: &mut Vec<Line>) {
    let last = lines.last().unwrap().clone();
    lines.push(last);
}

#[allow(clippy::ptr_arg, reason = "it is one of several edits")]
fn swap(lines: &mut Vec<Line>) {
    lines.swap(0, 1);
}

#[allow(clippy::ptr_arg, reason = "it is one of several edits")]
fn alter(lines: &mut Vec<Line>) {
    let mut value = lines[0].0.value.clone().unwrap().to_vec();
    // A digit: it stays readable, and means something else.
    let digit = value.iter_mut().rfind(|byte| byte.is_ascii_digit()).unwrap();
    *digit = if *digit == b'9' { b'8' } else { *digit + 1 };
    lines[0].0.value = Some(value.into());
}

#[test]
fn an_honest_history_passes() {
    let report = checked(&honest());
    assert_eq!(report.violations, []);
    assert!(
        report.crossed > 0 && report.replayed + report.taken == report.steps && report.pending == 0,
        "{report}"
    );
}

#[test]
fn rewriting_a_batch_as_it_is_changes_nothing_that_counts() {
    for class in [Class::Stayed, Class::Sent, Class::Arrived] {
        assert_eq!(checked(&spoiled(class, false, |_| ())).violations, [], "{class:?}");
    }
}

#[test]
fn a_record_removed_is_found() {
    finds(&spoiled(Class::Produced, false, remove), Kind::Log, "produced, with others behind it");
    finds(&spoiled(Class::Produced, true, remove), Kind::Step, "the last that was produced");
    finds(&spoiled(Class::Stayed, false, remove), Kind::Step, "derived for the own shard");
    finds(&spoiled(Class::Stayed, true, remove), Kind::Step, "the last of its partition");
    finds(&spoiled(Class::Sent, false, remove), Kind::Step, "derived for another shard");
    finds(&spoiled(Class::Arrived, false, remove), Kind::Log, "arrived, with others behind it");
    finds(&spoiled(Class::Arrived, true, remove), Kind::Output, "the last that arrived");
}

/// The first entry of a shard that fits.
fn entry_that(history: &History, fits: impl Fn(&Entry) -> bool) -> (Site, Entry) {
    let places = history
        .shards
        .iter()
        .flat_map(|(shard, log)| (0..log.len()).map(|entry| Site { shard: *shard, entry, batch: 0 }));
    let mut entries = places.map(|site| (site, entry_at(history, site)));
    entries.find(|(_, entry)| fits(entry)).expect("the history has one")
}

#[test]
fn a_letter_that_nobody_redrove_and_one_given_twice_are_found() {
    let letter_of = |entry: &Entry| {
        (entry.kind == EntryKind::Step).then(|| step::meta(entry).unwrap()).and_then(|meta| meta.letter)
    };
    // What was asked for is less than what was done.
    let mut history = honest();
    let is_redrive = |entry: &Entry| {
        let is_control = entry.kind == EntryKind::Control;
        is_control && matches!(control::command(entry), Ok(Control::RedriveLetters(_)))
    };
    let (site, mut entry) = entry_that(&history, is_redrive);
    let Ok(Control::RedriveLetters(mut redrive)) = control::command(&entry) else { unreachable!() };
    redrive.letters.remove(0);
    entry.meta = serde_json::to_vec(&Control::RedriveLetters(redrive)).unwrap().into();
    put_entry(&mut history, site, &entry);
    finds(&history, Kind::Step, "nobody redrove it");

    // A step says that it was given another letter than it was, which another is given, too.
    let mut history = honest();
    let (site, _) = entry_that(&history, |entry| letter_of(entry).is_some());
    let log = history.shards[&site.shard].iter();
    let letters: Vec<_> = log.filter_map(|logged| letter_of(&Entry::parse(&logged.bytes).unwrap())).collect();
    let mut entry = entry_at(&history, site);
    let mut meta = step::meta(&entry).unwrap();
    let other = letters.iter().find(|other| other.at == letters[0].at && **other != letters[0]);
    meta.letter = Some(*other.expect("two letters of one task"));
    entry.meta = meta.encode();
    put_entry(&mut history, site, &entry);
    finds(&history, Kind::Step, "it was given another letter");
}

#[test]
fn a_record_doubled_is_found() {
    finds(&spoiled(Class::Produced, false, double), Kind::Log, "produced, with others behind it");
    finds(&spoiled(Class::Produced, true, double), Kind::Step, "the last that was produced");
    finds(&spoiled(Class::Stayed, true, double), Kind::Step, "derived for the own shard");
    finds(&spoiled(Class::Sent, false, double), Kind::Step, "derived for another shard");
    finds(&spoiled(Class::Arrived, true, double), Kind::Output, "the last that arrived");
}

#[test]
fn records_that_changed_places_are_found() {
    finds(&spoiled(Class::Produced, false, swap), Kind::Step, "produced");
    finds(&spoiled(Class::Stayed, true, swap), Kind::Step, "derived for the own shard");
    finds(&spoiled(Class::Sent, false, swap), Kind::Output, "derived for another shard");
    finds(&spoiled(Class::Arrived, false, swap), Kind::Output, "arrived");
}

#[test]
fn a_value_altered_is_found() {
    finds(&spoiled(Class::Produced, false, alter), Kind::Step, "produced");
    finds(&spoiled(Class::Stayed, true, alter), Kind::Step, "derived for the own shard");
    finds(&spoiled(Class::Sent, false, alter), Kind::Step, "derived for another shard");
    finds(&spoiled(Class::Sent, false, alter), Kind::Output, "derived for another shard");
    finds(&spoiled(Class::Arrived, false, alter), Kind::Output, "arrived");
}

/// Both sides of a crossing are altered in the same way: only running the step again tells.
#[test]
fn a_conspiracy_is_found() {
    let mut history = honest();
    let site = site_of(&history, Class::Sent, false);
    let (sent, step) = {
        let entry = entry_at(&history, site);
        (entry.batches[site.batch].clone(), step::meta(&entry).unwrap())
    };
    let arrived = sites(&history).into_iter().find(|(_, class, placed)| {
        let by = Envelope::parse(&placed.envelope).unwrap().origin;
        *class == Class::Arrived
            && placed.at == sent.at
            && matches!(by, Origin::Task(by) if by.task == step.task && by.step == step.step)
    });
    for site in [site, arrived.expect("it arrived").0] {
        let mut entry = entry_at(&history, site);
        let placed = &mut entry.batches[site.batch];
        *placed = rewritten(placed, header(placed).base_offset, alter);
        put_entry(&mut history, site, &entry);
    }
    let report = checked(&history);
    assert!(report.violations.iter().all(|violation| !matches!(violation, Violation::Output { .. })));
    finds(&history, Kind::Step, "what was sent and what arrived agree");
}

/// The first step of such a kind.
fn a_step(history: &History, fits: fn(&Entry) -> bool) -> Site {
    let is_step = |logged: &Logged| {
        let entry = Entry::parse(&logged.bytes).unwrap();
        entry.kind == EntryKind::Step && fits(&entry)
    };
    let of = |(shard, log): (&ShardId, &Vec<Logged>)| {
        Some(Site { shard: *shard, entry: log.iter().position(is_step)?, batch: 0 })
    };
    history.shards.iter().find_map(of).expect("steps were taken")
}

fn sends_away(step: &Entry) -> bool {
    step.batches.iter().any(|placed| placed.away.is_some())
}

fn leaves_nothing(step: &Entry) -> bool {
    step.resident().next().is_none()
}

fn with_meta(edit: impl FnOnce(&mut step::StepMeta)) -> History {
    let mut history = honest();
    let site = a_step(&history, sends_away);
    let mut entry = entry_at(&history, site);
    let mut meta = step::meta(&entry).unwrap();
    edit(&mut meta);
    entry.meta = meta.encode();
    put_entry(&mut history, site, &entry);
    history
}

#[test]
fn a_step_that_claims_something_else_is_found() {
    finds(&with_meta(|meta| meta.from.skip += 1), Kind::Step, "its range begins later");
    finds(&with_meta(|meta| meta.to.skip += 1), Kind::Step, "its range ends later");
    finds(&with_meta(|meta| meta.to = meta.from), Kind::Step, "its range is empty");
    finds(&with_meta(|meta| meta.positions[0].0 += 1), Kind::Step, "it consumed one more");
    finds(&with_meta(|meta| meta.step = meta.step.next()), Kind::Step, "it has another number");
    finds(&with_meta(|meta| meta.previous[0].step = StepNumber(999)), Kind::Step, "it follows another one");
    let failed = step::Outcome::Failed { attempts: 1, reason: "so it says".into() };
    finds(&with_meta(|meta| meta.outcome = failed), Kind::Step, "it failed, it says");
}

#[test]
fn an_entry_removed_or_doubled_is_found() {
    let mut history = honest();
    let site = a_step(&history, leaves_nothing);
    let removed = history.shards.get_mut(&site.shard).unwrap().remove(site.entry);
    finds(&history, Kind::Step, "a step removed");
    let log = history.shards.get_mut(&site.shard).unwrap();
    log.insert(site.entry, removed.clone());
    log.insert(site.entry + 1, removed);
    finds(&history, Kind::Step, "a step doubled");

    for class in [Class::Produced, Class::Stayed, Class::Arrived] {
        let mut history = honest();
        let site = site_of(&history, class, false);
        history.shards.get_mut(&site.shard).unwrap().remove(site.entry);
        finds(&history, Kind::Log, "batches removed, with others behind them");
    }
    let mut history = honest();
    let site = site_of(&history, Class::Arrived, true);
    history.shards.get_mut(&site.shard).unwrap().remove(site.entry);
    finds(&history, Kind::Output, "what arrived last is gone");
}

/// Two batches that one task sent to one partition lie there in the wrong order.
#[test]
fn outputs_in_the_wrong_order_are_found() {
    let mut history = honest();
    let sites = stretch(&history);
    let mut entries: BTreeMap<(ShardId, usize), Entry> =
        sites.iter().map(|site| ((site.shard, site.entry), entry_at(&history, *site))).collect();
    let placed = |site: &Site| entries[&(site.shard, site.entry)].batches[site.batch].clone();
    let mut contents: Vec<PlacedBatch> = sites.iter().map(placed).collect();
    let (first, last) = (sites[0], sites[sites.len() - 1]);
    let links = [(first, link_of(&entries, last)), (last, link_of(&entries, first))];
    let mut base = header(&contents[0]).base_offset;
    contents.swap(0, sites.len() - 1);
    // What lies between the two moves a little.
    for (site, placed) in sites.iter().zip(&contents) {
        let placed = rewritten(placed, base, |_| ());
        base = header(&placed).next_offset();
        entries.get_mut(&(site.shard, site.entry)).unwrap().batches[site.batch] = placed;
    }
    for (site, link) in links {
        let entry = entries.get_mut(&(site.shard, site.entry)).unwrap();
        let mut all = ship::arrivals(entry).unwrap();
        all[site.batch] = link;
        entry.meta = encode_links(&all);
    }
    for site in &sites {
        put_entry(&mut history, *site, &entries[&(site.shard, site.entry)]);
    }
    finds(&history, Kind::Output, "the later step's lies before the earlier one's");
}

/// All batches of a partition from one that arrived to the next one that arrived from the same task.
fn stretch(history: &History) -> Vec<Site> {
    let sites = sites(history);
    let task = |placed: &PlacedBatch| match Envelope::parse(&placed.envelope).unwrap().origin {
        Origin::Task(by) => Some(by.task),
        Origin::Producer => None,
    };
    for (start, (_, class, first)) in sites.iter().enumerate().filter(|(_, site)| site.1 == Class::Arrived) {
        let of_partition: Vec<_> = sites[start..]
            .iter()
            .filter(|(_, of, placed)| *of != Class::Sent && placed.at == first.at)
            .collect();
        let again =
            |(_, of, placed): &&(Site, Class, PlacedBatch)| of == class && task(placed) == task(first);
        if let Some(end) = of_partition.iter().skip(1).position(again) {
            return of_partition[..=end + 1].iter().map(|(site, _, _)| *site).collect();
        }
    }
    panic!("no task sent twice to one partition");
}

fn link_of(entries: &BTreeMap<(ShardId, usize), Entry>, site: Site) -> (TaskId, LinkRow) {
    ship::arrivals(&entries[&(site.shard, site.entry)]).unwrap()[site.batch]
}

fn encode_links(links: &[(TaskId, LinkRow)]) -> Bytes {
    let mut meta = Writer::new();
    for (task, link) in links {
        meta.u64(task.deployment.0).u32(task.partition.0).u32(link.generation.0).u64(link.step.0);
    }
    meta.finish()
}

#[test]
fn another_state_is_found() {
    let with_state = |edit: fn(&mut BTreeMap<Bytes, Bytes>)| {
        let mut history = honest();
        let state = history.states.values_mut().find(|state| !state.is_empty());
        edit(state.expect("some task keeps a state"));
        history
    };
    let changed = with_state(|state| {
        let value = state.values_mut().next().unwrap();
        let mut bytes = value.to_vec();
        bytes[0] ^= 1;
        *value = bytes.into();
    });
    finds(&changed, Kind::State, "a value changed");
    finds(&with_state(|state| drop(state.pop_first())), Kind::State, "a row removed");
    let added = with_state(|state| drop(state.insert("stranger".into(), Bytes::new())));
    finds(&added, Kind::State, "a row added");
}

/// A bit that turned on the disk, with nothing made to fit: found as what it is, whoever reads the batch.
#[test]
fn a_bit_that_turned_is_found_as_damage() {
    for class in [Class::Produced, Class::Stayed, Class::Sent, Class::Arrived] {
        let mut history = honest();
        let site = site_of(&history, class, false);
        let mut entry = entry_at(&history, site);
        let mut batch = entry.batches[site.batch].batch.to_vec();
        *batch.last_mut().unwrap() ^= 1;
        entry.batches[site.batch].batch = batch.into();
        put_entry(&mut history, site, &entry);
        finds(&history, Kind::Log, "a bit of a batch");

        let mut history = honest();
        let mut entry = entry_at(&history, site);
        let mut envelope = entry.batches[site.batch].envelope.to_vec();
        *envelope.last_mut().unwrap() ^= 1;
        entry.batches[site.batch].envelope = envelope.into();
        put_entry(&mut history, site, &entry);
        finds(&history, Kind::Log, "a bit of an envelope");
    }
    let mut history = honest();
    let log = history.shards.values_mut().next().unwrap();
    log.push(Logged { index: LogIndex(u64::MAX), ..log[0].clone() });
    log.last_mut().unwrap().bytes = Bytes::from_static(b"no entry");
    finds(&history, Kind::Log, "an entry that is none");
}
