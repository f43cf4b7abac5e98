//! Dead letters that are given to their plugin again: by a version that takes them, while it is paused, after the power
//! went, and when there is nothing to be given any more.

use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::process::Broker;

use crate::lifecycle::{PATIENCE, deploy, described, eventually, version_of, with_topics};
use crate::logs::manifest;
use crate::{consume, produce, values};

const NAME: &str = "picky";

/// A plugin that rejects what begins with `reject`, and what it was given.
fn with_letters(lines: &str) -> (TempDir, Broker) {
    let (folder, broker) = with_topics("2", &["cluster.shards=3"]);
    deploy(&broker, &version_of(folder.path(), NAME, "reject-some", 0, "")).unwrap();
    produce(&broker, &["in", "--header", "source=shell"], lines);
    broker.settle(PATIENCE).unwrap();
    (folder, broker)
}

/// A version that takes everything but what holds the word `trap`.
fn take_them(folder: &TempDir, broker: &Broker) {
    deploy(broker, &version_of(folder.path(), NAME, "trap", 1, "")).unwrap();
}

/// The places of the letters with this value.
fn letters(broker: &Broker, value: &str) -> Vec<String> {
    let letters = consume(broker, "picky.dead-letter");
    let of_value = letters.iter().filter(|letter| letter["value"] == value);
    of_value.map(|letter| format!("{}/{}", letter["partition"], letter["offset"])).collect()
}

fn listed(broker: &Broker) -> Value {
    broker.json(&["dlq", "list", NAME]).unwrap()[0].clone()
}

fn fate(broker: &Broker, place: &str) -> String {
    broker.json(&["dlq", "show", NAME, place]).unwrap()["fate"].as_str().unwrap().to_owned()
}

fn verify(broker: &Broker) {
    let verified = broker.json(&["plugin", "verify"]).unwrap();
    assert_eq!(verified["holds"], true, "{verified}");
}

#[test]
fn what_one_version_gave_up_the_next_derives_from_once() {
    let (folder, mut broker) = with_letters("reject a\nreject b\nreject the trap\nfine\n");
    let [a, b, trap] =
        ["reject a", "reject b", "reject the trap"].map(|value| letters(&broker, value).remove(0));
    take_them(&folder, &broker);
    let before = broker.json(&["dlq", "redrive", NAME, "--all", "--dry-run"]).unwrap();
    assert_eq!((before["letters"].as_array().unwrap().len(), &before["refused"]), (3, &json!([])));
    assert!(
        broker.run(&["dlq", "redrive", NAME, "--all", "--dry-run"]).unwrap().contains("would redrive 3: ")
    );
    assert_eq!((&listed(&broker)["open"], values(&consume(&broker, "out"))), (&json!(3), vec!["fine"]));

    let waited = broker.json(&["dlq", "redrive", NAME, &a, &b, "--wait"]).unwrap();
    assert_eq!(waited["fates"], json!({ "redriven": 2 }), "{waited}");
    let out = consume(&broker, "out");
    assert_eq!(values(&out), ["fine", "reject a", "reject b"]);
    let copy = out.iter().find(|record| record["value"] == "reject a").unwrap();
    assert_eq!(copy["headers"], json!([{ "source": "shell" }]), "the record as it was, without the facts");
    let shown = broker.run(&["dlq", "show", NAME, &a]).unwrap();
    assert!(shown.contains(", redriven"), "{shown}");

    // A second time it is refused, also after the power went; and nothing is derived twice.
    broker.kill().unwrap();
    broker.restart().unwrap();
    let refused = broker.run(&["dlq", "redrive", NAME, &a]).unwrap_err().to_string();
    assert!(refused.contains("it was redriven already"), "{refused}");
    let failed = broker.run(&["dlq", "redrive", NAME, "--all", "--wait"]).unwrap_err().to_string();
    assert!(failed.contains("1 failed again"), "{failed}");
    let again = letters(&broker, "reject the trap");
    let fates = again.iter().map(|place| fate(&broker, place)).collect::<Vec<_>>();
    assert_eq!(fates, ["failed-again", "open"], "{again:?}, the first was {trap}");
    let refused = broker.run(&["dlq", "redrive", NAME, &trap]).unwrap_err().to_string();
    assert!(refused.contains("redrive the new letter"), "{refused}");
    let new = broker.json(&["dlq", "show", NAME, &again[1]]).unwrap();
    assert!(new["facts"]["reason"].as_str().unwrap().contains("unreachable"), "{new}");
    let old = broker.json(&["dlq", "show", NAME, &trap]).unwrap();
    assert_eq!((&new["root"], &new["headers"]), (&old["root"], &old["headers"]));

    deploy(&broker, &version_of(folder.path(), NAME, "panic-on", 2, "")).unwrap();
    broker.run(&["dlq", "redrive", NAME, "--all", "--wait"]).unwrap();
    assert_eq!(values(&consume(&broker, "out")), ["fine", "reject a", "reject b", "reject the trap"]);
    let listed = listed(&broker);
    let counts = ["open", "waiting", "redriven", "failed-again"].map(|name| listed[name].as_u64().unwrap());
    assert_eq!(counts, [0, 0, 3, 1]);
    assert!(broker.run(&["dlq", "redrive", NAME, "--all"]).unwrap_err().to_string().contains("none of them"));
    verify(&broker);
}

#[test]
fn letters_wait_for_a_plugin_that_rests_and_survive_the_power() {
    let (folder, mut broker) = with_letters("reject a\nreject b\nreject c\n");
    take_them(&folder, &broker);
    broker.run(&["plugin", "pause", NAME]).unwrap();
    let waits = broker.run(&["dlq", "redrive", NAME, "--all", "--wait"]).unwrap_err().to_string();
    assert!(waits.contains("of picky is paused"), "{waits}");
    let b = letters(&broker, "reject b").remove(0);
    assert_eq!(fate(&broker, &b), "waiting");
    let refused = broker.run(&["dlq", "redrive", NAME, &b]).unwrap_err().to_string();
    assert!(refused.contains("waits already"), "{refused}");
    broker.run(&["dlq", "discard", NAME, &b, "--yes"]).unwrap();
    let refused = broker.run(&["dlq", "redrive", NAME, &b]).unwrap_err().to_string();
    assert!(refused.contains("it was discarded"), "{refused}");
    assert_eq!(values(&consume(&broker, "out")), [""; 0]);

    broker.kill().unwrap();
    broker.restart().unwrap();
    assert_eq!(listed(&broker)["waiting"], 2);
    broker.run(&["plugin", "resume", NAME]).unwrap();
    // The power goes while they are given: some are handled, and the others wait.
    broker.kill().unwrap();
    broker.restart().unwrap();
    eventually("they are handled", || (listed(&broker)["redriven"] == 2).then_some(()));
    assert_eq!(values(&consume(&broker, "out")), ["reject a", "reject c"]);
    verify(&broker);
}

#[test]
fn a_letter_has_its_record_whole_when_the_topic_has_it_no_more() {
    let (folder, broker) = with_letters("reject a\nreject b\n");
    take_them(&folder, &broker);
    for partition in ["0", "1"] {
        let all = ["--before-time", "2999-01-01T00:00:00Z"];
        broker.run(&[&["topic", "trim", "in", "--partition", partition], &all[..]].concat()).unwrap();
    }
    assert_eq!(consume(&broker, "in").len(), 0);
    broker.run(&["dlq", "redrive", NAME, "--all", "--wait"]).unwrap();
    assert_eq!(values(&consume(&broker, "out")), ["reject a", "reject b"]);
    verify(&broker);
}

#[test]
fn a_letter_that_is_deleted_is_neither_shown_nor_discarded() {
    let (_folder, broker) = with_letters("reject a\n");
    let place = letters(&broker, "reject a").remove(0);
    assert_eq!(fate(&broker, &place), "open");
    let (partition, _) = place.split_once('/').unwrap();
    let all = ["--before-time", "2999-01-01T00:00:00Z"];
    broker
        .run(&[&["topic", "trim", "picky.dead-letter", "--partition", partition], &all[..]].concat())
        .unwrap();
    let place = place.as_str();
    for asked in [&["dlq", "show", NAME, place][..], &["dlq", "discard", NAME, place, "--yes"][..]] {
        let refused = broker.run(asked).unwrap_err().to_string();
        assert!(refused.contains("has no dead letter at"), "{asked:?}: {refused}");
    }
    let listed = listed(&broker);
    assert_eq!((&listed["open"], &listed["discarded"]), (&json!(0), &json!(0)));
    verify(&broker);
}

#[test]
fn a_policy_that_stops_keeps_the_letter_and_a_deleted_plugin_leaves_it_open() {
    let (folder, broker) = with_letters("reject the trap\n");
    let stops = "failure = { attempts = 2, then = \"stop\" }";
    deploy(&broker, &version_of(folder.path(), NAME, "trap", 1, stops)).unwrap();
    let failed = broker.run(&["dlq", "redrive", NAME, "--all", "--wait"]).unwrap_err().to_string();
    assert!(failed.contains("of picky is stopped"), "{failed}");
    assert!(described(&broker, NAME)["state"].to_string().contains("unreachable"));
    assert_eq!(listed(&broker)["waiting"], 1);

    broker.run(&["plugin", "delete", NAME, "--yes"]).unwrap();
    assert!(broker.run(&["dlq", "list", NAME]).is_err(), "its letters are its topic's records now");
    deploy(&broker, &version_of(folder.path(), NAME, "panic-on", 2, "")).unwrap();
    broker.settle(PATIENCE).unwrap();
    let listed = listed(&broker);
    assert_eq!((&listed["waiting"], &listed["open"]), (&json!(0), &json!(1)));
    // It reads from the earliest record on, and so copies this one twice when it is given it again.
    broker.run(&["dlq", "redrive", NAME, "--all", "--wait"]).unwrap();
    assert_eq!(values(&consume(&broker, "out")), ["reject the trap"; 2]);
    verify(&broker);
}

#[test]
fn what_another_plugin_wrote_among_the_letters_is_none() {
    let (folder, broker) = with_topics("2", &["cluster.shards=3"]);
    // Before there is a plugin of that name, the topic is like any other.
    broker.run(&["topic", "create", "picky.dead-letter", "--partitions", "2"]).unwrap();
    let forger = manifest(folder.path(), "forger", "in", "picky.dead-letter");
    deploy(&broker, &forger).unwrap();
    deploy(&broker, &version_of(folder.path(), NAME, "reject-some", 0, "")).unwrap();
    let facts = ["--header", "dead-letter-plugin=picky", "--header", "dead-letter-append-time-ms=1"];
    produce(&broker, &[&["in"], &facts[..]].concat(), "forged\n");
    produce(&broker, &["in"], "reject a\n");
    broker.settle(PATIENCE).unwrap();
    let forged = letters(&broker, "forged");
    let redrives = broker.json(&["dlq", "redrive", NAME, "--all", "--dry-run"]).unwrap();
    assert_eq!(redrives["letters"].as_array().unwrap().len(), 1, "{redrives}");
    let refused = redrives["refused"].as_array().unwrap();
    assert_eq!((forged.len(), refused.len()), (1, 1), "{redrives}");
    assert!(refused[0]["why"].as_str().unwrap().contains("not written by this plugin's task"), "{redrives}");

    let second = manifest(folder.path(), "second", "in", "picky.log");
    let said = deploy(&broker, &second).unwrap_err().to_string();
    assert!(said.contains("publish: topic picky.log is plugin picky's own"), "{said}");
    assert_eq!(deploy(&broker, &forger).unwrap()["changed"], false, "what was deployed before stays");
    take_them(&folder, &broker);
    broker.run(&["dlq", "redrive", NAME, "--all", "--wait"]).unwrap();
    assert_eq!(values(&consume(&broker, "out")), ["forged", "reject a"], "each once");
    verify(&broker);
}
