//! The mock behaves as the contract says a broker does.

use tidemill_plugin_sdk::log::Level;
use tidemill_plugin_sdk::testing::MockStep;
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Refusal, Step, log, plugin};

/// Does what each event's value says.
struct Scripted;

impl Plugin for Scripted {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let text = event.text()?;
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "emit" => step.emit(event, rest, Record::from(event))?,
            "put" => step.state().put(rest, event.offset.to_string())?,
            "delete" => step.state().delete(rest)?,
            "scan" => {
                let keys: Vec<_> = step.state().scan_prefix(rest).map(|(key, _)| key).collect();
                let records = keys.into_iter().map(Record::new);
                step.emit_all(event, "out", records)?;
            }
            "config" => {
                let number: u64 = step.config().get(rest)?;
                step.emit(event, "out", Record::json(&number)?)?;
            }
            "log" => log::info!("{rest} of {}", event.topic),
            "reject" => return Err(Failure::reject(rest)),
            "retry" => return Err(Failure::retry(format_args!("{} {rest}", step.attempt()))),
            "ungranted" => {
                let refused = step.emit(event, rest, Record::new("x"));
                assert_eq!(refused, Err(Refusal::NotGranted(rest.to_owned())));
            }
            other => return Err(Failure::reject(other)),
        }
        Ok(())
    }
}

plugin!(Scripted);

fn manifest() -> MockStep {
    MockStep::from_manifest(
        r#"
        name = "scripted"
        component = "scripted.wasm"
        publish = ["out"]
        subscribe = [{ topic = "in", from = { offset = 3 } }]
        [config.threshold]
        default = 10
        exceptions = { 7 = 50 }
        word = "ten"
        [limits]
        cpu-ms = 5
        "#,
    )
}

#[test]
fn effects_of_a_step_are_all_kept_or_all_dropped() {
    let mut step = manifest();
    for line in ["put a", "put b", "emit out"] {
        step.event("in", Record::new(line));
    }
    let outcome = step.run::<Scripted>();
    assert_eq!(outcome.result, Ok(()));
    assert_eq!((outcome.emitted.len(), outcome.emitted[0].parent), (1, 2));
    assert_eq!(step.state().len(), 2);

    for line in ["put c", "delete a", "emit out", "log trouble", "reject enough"] {
        step.event("in", Record::new(line));
    }
    let outcome = step.run::<Scripted>();
    assert_eq!(outcome.result, Err(Failure::Reject("enough".into())));
    assert_eq!(outcome.emitted, []);
    assert_eq!(outcome.log, [(Level::Info, "trouble of in".to_owned())]);
    assert!(step.state().keys().eq([b"a", b"b"]));
}

#[test]
fn a_step_reads_what_it_wrote_across_pages() {
    let mut step = manifest();
    for i in 0..600 {
        step.event("in", Record::new(format!("put k{i:03}")));
    }
    step.event("in", Record::new("put l")).event("in", Record::new("delete k007"));
    let outcome = step.event("in", Record::new("scan k")).run::<Scripted>();
    assert_eq!(outcome.emitted.len(), 599);
    assert!(outcome.emitted.is_sorted_by_key(|emitted| &emitted.record.value));
}

#[test]
fn topics_that_the_manifest_does_not_grant_are_refused() {
    let mut step = manifest();
    assert_eq!(step.event("in", Record::new("ungranted elsewhere")).run::<Scripted>().result, Ok(()));
    let outcome = step.event("in", Record::new("emit elsewhere")).run::<Scripted>();
    assert_eq!(outcome.result, Err(Failure::Reject("not granted by the manifest: elsewhere".into())));
}

#[test]
fn an_error_of_the_configuration_names_its_key() {
    let mut step = manifest();
    let outcome = step.event("in", Record::new("config threshold.exceptions.7")).run::<Scripted>();
    assert_eq!(outcome.emitted[0].json(), 50);
    for (key, why) in [("threshold.word", "invalid digit"), ("threshold.none", "missing")] {
        let outcome = step.event("in", Record::new(format!("config {key}"))).run::<Scripted>();
        let Err(Failure::Reject(reason)) = outcome.result else { panic!("{:?}", outcome.result) };
        assert!(reason.contains(&format!("config.{key}")) && reason.contains(why), "{reason}");
    }
}

#[test]
fn the_attempt_is_told() {
    let mut step = manifest().with_attempt(2);
    let outcome = step.event("in", Record::new("retry later")).run::<Scripted>();
    assert_eq!(outcome.result, Err(Failure::Retry("2 later".into())));
}

#[test]
fn a_tombstone_is_no_json() {
    let mut step = manifest();
    let outcome = step.event("in", Record::tombstone("k")).run::<Scripted>();
    assert_eq!(outcome.result, Err(Failure::Reject("a record of in: it has no value".into())));
}

#[test]
#[should_panic(expected = "does not subscribe to elsewhere")]
fn an_event_of_a_topic_that_it_does_not_read_fails_the_test() {
    manifest().event("elsewhere", Record::new("x"));
}
