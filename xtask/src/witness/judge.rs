//! What witnesses say, compared with what is so.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidemill_protocol::partitioner::partition_for_key;
use xtask::process::Broker;

use super::log::{self, Place, Seen};

/// The time of the first record of each case, in milliseconds.
pub const TIME: i64 = 1_483_228_800_000;
/// Records of a case.
pub const RECORDS: usize = 20;
/// Partitions of the topics that are written and read.
const PARTITIONS: u32 = 4;
/// Partition, offset and note that each witness commits for `ours`.
const COMMITTED: [(u64, u64, &str); 2] = [(0, 3, "three"), (1, 5, "")];

/// What each value ends in: some clients send what does not shrink as it is.
pub fn filling() -> String {
    " tide".repeat(40)
}

/// Compares.
pub struct Judge {
    tcp: String,
    ours: BTreeMap<Place, Seen>,
}

impl Judge {
    /// A judge who knows what our own client wrote.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn over(broker: &Broker, tcp: &str) -> anyhow::Result<Judge> {
        Ok(Judge { tcp: tcp.to_owned(), ours: log::records(broker, "ours", 1)? })
    }

    /// What a witness says at first.
    ///
    /// # Errors
    /// When something is not so.
    pub fn first(&self, broker: &Broker, name: &str, said: &[Value], middle: i64) -> anyhow::Result<()> {
        let is_kcat = name == "kcat";
        if !is_kcat {
            made(broker, name, one(said, "made")?)?;
        }
        let sent: Vec<_> = of(said, "sent").collect();
        let topic = format!("{name}-wrote");
        let wrote = log::records(broker, &topic, sent.len() * RECORDS)?;
        cases(&sent)?;
        contents(name, &sent, &wrote)?;
        places(&sent, &wrote)?;
        partitioned(&wrote)?;
        compressed(&sent, &wrote, &log::batches(&self.tcp, &topic, PARTITIONS.into())?)?;
        same(said, "ours", &self.ours)?;
        same(said, &topic, &wrote)?;
        self.looked(one(said, "looked")?, middle)?;
        if is_kcat { Ok(()) } else { committed(one(said, "committed")?) }
    }

    /// What a witness says after the broker was killed and came back.
    ///
    /// # Errors
    /// When something is not so.
    pub fn second(&self, said: &[Value]) -> anyhow::Result<()> {
        committed(one(said, "committed")?)?;
        let offsets: Vec<_> = COMMITTED.iter().map(|(at, offset, note)| json!([at, offset, note])).collect();
        let listed = &one(said, "listed")?["offsets"];
        ensure!(*listed == json!(offsets), "of all that the group committed, it was told {listed}");
        let read = of(said, "read").map(Seen::read).collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        let expected = COMMITTED.iter().map(|(partition, offset, _)| (*partition, *offset));
        let expected: BTreeMap<_, _> = expected.map(|place| (place, self.ours[&place].clone())).collect();
        ensure!(read == expected, "a consumer that goes on where its group was is given {read:?}");
        Ok(())
    }

    fn looked(&self, said: &Value, middle: i64) -> anyhow::Result<()> {
        let of = |partition: u64| self.ours.range((partition, 0)..(partition + 1, 0));
        let all = || (0..u64::from(PARTITIONS)).map(|partition| (partition, of(partition)));
        let ends: Vec<_> = all().map(|(partition, records)| json!([partition, records.count()])).collect();
        let starts: Vec<_> = all().map(|(partition, _)| json!([partition, 0])).collect();
        let at = all().map(|(partition, mut records)| {
            let found = records.find(|(_, record)| record.timestamp >= middle);
            json!([partition, found.map_or(-1, |(place, _)| place.1 as i64)])
        });
        let at: Vec<_> = at.collect();
        for (what, expected) in [("earliest", starts), ("latest", ends), ("at", at)] {
            let mut found =
                said[what].as_array().cloned().with_context(|| format!("it did not look for {what}"))?;
            found.sort_by_key(|place| place[0].as_u64());
            ensure!(found == expected, "the offsets {what} are {expected:?}, and it found {found:?}");
        }
        Ok(())
    }
}

/// In a few words.
pub fn summary(said: &[Value]) -> String {
    format!("wrote {} cases, read {} records", of(said, "sent").count(), of(said, "read").count())
}

fn of<'a>(said: &'a [Value], did: &'a str) -> impl Iterator<Item = &'a Value> {
    said.iter().filter(move |line| line["did"] == did)
}

fn one<'a>(said: &'a [Value], did: &'a str) -> anyhow::Result<&'a Value> {
    of(said, did).next().with_context(|| format!("it did not say that it {did}"))
}

fn made(broker: &Broker, name: &str, said: &Value) -> anyhow::Result<()> {
    let made = format!("{name}-made");
    let names = said["names"].as_array().context("names")?;
    let listed = |name: &str| names.iter().any(|one| *one == name);
    ensure!(listed(&made) && listed("ours"), "it does not list what there is: {names:?}");
    ensure!(said["partitions"] == 3, "its topic has {} partitions", said["partitions"]);
    let described = broker.json(&["topic", "describe", &made])?;
    ensure!(described["state"].as_array().is_some_and(|state| state.len() == 3), "{described}");
    Ok(())
}

/// Every codec with every acknowledgement, and with idempotence.
fn cases(sent: &[&Value]) -> anyhow::Result<()> {
    let name = |codec: &str| ["0", "1", "all", "idempotent"].map(|kind| format!("{codec}/{kind}"));
    let all: BTreeSet<_> =
        ["none", "gzip", "snappy", "lz4", "zstd"].iter().flat_map(|codec| name(codec)).collect();
    let found: BTreeSet<_> =
        sent.iter().filter_map(|case| case["case"].as_str()).map(str::to_owned).collect();
    ensure!(found == all, "it did not write {:?}", all.difference(&found));
    Ok(())
}

/// The record of a case, as `witnesses/README.md` has it; one in a shell knows only its first three kinds.
fn expected(name: &str, case: &Value, n: usize) -> Seen {
    let of = case["case"].as_str().unwrap_or_default();
    let is_plain = case["plain"] == true;
    let kind = if is_plain && n % 5 > 2 { 0 } else { n % 5 };
    let key = if kind == 1 { Value::Null } else { format!("k{n}").into() };
    let value = if kind == 2 { Value::Null } else { format!("{of} {n}{}", filling()).into() };
    let (key, value) = if kind == 3 { ("".into(), "".into()) } else { (key, value) };
    let own = [("by", json!(name)), ("by", "again".into()), ("case", of.into()), ("nothing", Value::Null)];
    let known = if case["null-headers"] == false { 3 } else { own.len() };
    let headers = own.into_iter().take(if kind == 4 { 0 } else { known });
    let headers = headers.map(|(name, value)| (name.to_owned(), value)).collect();
    Seen { timestamp: if is_plain { 0 } else { TIME + 1_000 * n as i64 }, key, value, headers }
}

/// All that was sent is there, each once, and nothing else.
fn contents(name: &str, sent: &[&Value], wrote: &BTreeMap<Place, Seen>) -> anyhow::Result<()> {
    let is_plain = sent.iter().any(|case| case["plain"] == true);
    let mut left: Vec<Seen> =
        sent.iter().flat_map(|case| (0..RECORDS).map(|n| expected(name, case, n))).collect();
    for (place, record) in wrote {
        let mut record = record.clone();
        if is_plain {
            // What a shell writes has the time of its writing.
            record.timestamp = 0;
        }
        let at = left.iter().position(|one| *one == record);
        left.swap_remove(at.with_context(|| format!("nobody sent, or not twice, {record:?} at {place:?}"))?);
    }
    ensure!(left.is_empty(), "{} records are not there, such as {:?}", left.len(), left[0]);
    Ok(())
}

/// The case that a record is of.
fn case_of(record: &Seen) -> Option<&str> {
    let header = record.headers.iter().find(|(name, _)| name == "case").and_then(|(_, value)| value.as_str());
    header.or_else(|| record.value.as_str()?.split(' ').next())
}

/// Where it was told that records lie, there they lie.
fn places(sent: &[&Value], wrote: &BTreeMap<Place, Seen>) -> anyhow::Result<()> {
    for case in sent {
        for place in case["places"].as_array().into_iter().flatten() {
            let at = (place[0].as_u64().context("a partition")?, place[1].as_u64().context("an offset")?);
            let found = wrote.get(&at).and_then(case_of);
            ensure!(
                found == case["case"].as_str(),
                "at {at:?} it was told to have written {case}: {found:?}"
            );
        }
    }
    Ok(())
}

/// A key is where every client of Kafka would look for it.
fn partitioned(wrote: &BTreeMap<Place, Seen>) -> anyhow::Result<()> {
    for ((partition, offset), record) in wrote {
        let Some(key) = record.key.as_str().filter(|key| !key.is_empty()) else { continue };
        let due = u64::from(partition_for_key(key.as_bytes(), PARTITIONS));
        ensure!(due == *partition, "key {key} at {partition}/{offset} is of partition {due}");
    }
    Ok(())
}

/// Each record lies in a batch of its case's codec, by a producer that is idempotent if the case is.
fn compressed(
    sent: &[&Value],
    wrote: &BTreeMap<Place, Seen>,
    batches: &BTreeMap<Place, tidemill_protocol::batch::BatchHeader>,
) -> anyhow::Result<()> {
    for (place, record) in wrote {
        let name = case_of(record).with_context(|| format!("a case of {record:?}"))?;
        let case = sent.iter().find(|case| case["case"] == name).context("its case")?;
        let (_, batch) = batches.range(..=*place).next_back().context("its batch")?;
        let codec = batch.codec()?.to_string();
        let shrinks = record.value.as_str().is_some_and(|value| value.ends_with(&filling()));
        let is_as_is = codec == "none" && !shrinks;
        ensure!(is_as_is || case["codec"] == *codec, "{name} is compressed with {codec}");
        let is_idempotent = batch.producer_id.is_some();
        ensure!(case["idempotent"] == is_idempotent, "{name} is idempotent: {is_idempotent}");
    }
    Ok(())
}

/// It read what we read.
fn same(said: &[Value], topic: &str, ours: &BTreeMap<Place, Seen>) -> anyhow::Result<()> {
    let read: Vec<_> = of(said, "read").filter(|line| line["topic"] == topic).collect();
    let theirs = read.iter().map(|line| Seen::read(line)).collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    for (place, record) in ours {
        let found = theirs.get(place);
        ensure!(found == Some(record), "{place:?} of {topic} is {record:?}, and it read {found:?}");
    }
    ensure!(read.len() == ours.len(), "of {} records in {topic} it read {}", ours.len(), read.len());
    Ok(())
}

fn committed(said: &Value) -> anyhow::Result<()> {
    let found = said["offsets"].as_array().context("offsets")?;
    for (partition, offset, note) in COMMITTED {
        ensure!(
            found.contains(&json!([partition, offset, note])),
            "it committed {offset} of {partition}: {found:?}"
        );
    }
    let others = found.iter().filter(|one| one[0].as_u64() > Some(1));
    ensure!(others.clone().all(|one| one[1] == -1 && one[2] == ""), "nothing else was committed: {found:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(codec: &str, kind: &str) -> (Value, BTreeMap<Place, Seen>) {
        let case =
            json!({ "did": "sent", "case": format!("{codec}/{kind}"), "codec": codec, "places": [[0, 7]] });
        let records = (0..RECORDS).map(|n| ((0, n as u64), expected("w", &case, n)));
        (case.clone(), records.collect())
    }

    #[test]
    fn what_is_missing_doubled_or_altered_is_found() {
        let (case, wrote) = written("lz4", "all");
        let sent = [&case];
        contents("w", &sent, &wrote).unwrap();
        places(&sent, &wrote).unwrap();
        let tampered = |tamper: &dyn Fn(&mut BTreeMap<Place, Seen>)| {
            let mut wrote = wrote.clone();
            tamper(&mut wrote);
            contents("w", &sent, &wrote).is_err()
        };
        assert!(tampered(&|wrote| drop(wrote.remove(&(0, 3)))));
        assert!(tampered(&|wrote| drop(wrote.insert((1, 0), wrote[&(0, 3)].clone()))));
        assert!(tampered(&|wrote| wrote.get_mut(&(0, 1)).unwrap().key = "".into()));
        assert!(tampered(&|wrote| wrote.get_mut(&(0, 2)).unwrap().value = "".into()));
        assert!(tampered(&|wrote| drop(wrote.get_mut(&(0, 0)).unwrap().headers.pop())));
        assert!(tampered(&|wrote| wrote.get_mut(&(0, 0)).unwrap().headers.swap(0, 1)));
        assert!(tampered(&|wrote| wrote.get_mut(&(0, 0)).unwrap().timestamp += 1));
        let mut elsewhere = wrote.clone();
        elsewhere.remove(&(0, 7));
        assert!(places(&sent, &elsewhere).is_err());
        assert!(cases(&sent).is_err(), "the other nineteen");
    }

    #[test]
    fn a_record_that_is_in_another_codec_is_found() {
        let (case, wrote) = written("lz4", "all");
        let case = json!({ "case": case["case"], "codec": "lz4", "idempotent": false });
        let batch = |codec: i16, producer| tidemill_protocol::batch::BatchHeader {
            attributes: codec,
            producer_id: tidemill_protocol::ids::ProducerId(producer),
            ..Default::default()
        };
        let judged = |batch| compressed(&[&case], &wrote, &BTreeMap::from([((0, 0), batch)]));
        judged(batch(3, -1)).unwrap();
        assert!(judged(batch(0, -1)).is_err());
        assert!(judged(batch(4, -1)).is_err());
        assert!(judged(batch(3, 9)).is_err(), "an idempotent producer wrote it");
    }

    #[test]
    fn what_a_witness_passes_over_is_found() {
        let (_, wrote) = written("none", "1");
        let line = |(place, seen): (&Place, &Seen)| {
            let headers: Vec<_> = seen.headers.iter().map(|(name, value)| json!([name, value])).collect();
            json!({ "did": "read", "topic": "ours", "partition": place.0, "offset": place.1,
                    "timestamp": seen.timestamp, "key": seen.key, "value": seen.value, "headers": headers })
        };
        let said: Vec<_> = wrote.iter().map(line).collect();
        same(&said, "ours", &wrote).unwrap();
        assert!(same(&said[1..], "ours", &wrote).is_err());
        assert!(same(&[&said[..], &said[..1]].concat(), "ours", &wrote).is_err(), "twice");
        let committed_is = |offsets: Value| committed(&json!({ "offsets": offsets }));
        committed_is(json!([[0, 3, "three"], [1, 5, ""], [2, -1, ""]])).unwrap();
        assert!(committed_is(json!([[0, 3, ""], [1, 5, ""]])).is_err());
        assert!(committed_is(json!([[0, 3, "three"], [1, 5, ""], [2, 0, ""]])).is_err());
    }
}
