//! What a witness says of a topic that it administers: its settings, what was refused, where it begins, which is gone.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidemill_protocol::error::ErrorCode;
use xtask::process::Broker;

use super::log;

/// What witnesses set, and leave so.
const RETENTION_MS: (&str, &str) = ("retention.ms", "3600000");
/// The first offset that stays in the first partition, and how many records there were.
const STAYS: u64 = 3;
const RECORDS: usize = 5;
/// What witnesses ask for that is to be refused: with which code, and a word of the reason.
const REFUSED: [(&str, ErrorCode, &str); 2] = [
    ("setting", ErrorCode::INVALID_CONFIG, "compaction"),
    ("partitions", ErrorCode::INVALID_PARTITIONS, "plugin that copies"),
];

/// Compares it with what our own client finds.
///
/// # Errors
/// When something is not so.
pub fn judge(broker: &Broker, name: &str, said: &[Value]) -> anyhow::Result<()> {
    let made = format!("{name}-made");
    let found = broker.json(&["topic", "describe", &made])?;
    let configs = found["configs"].as_array().context("configs")?;
    let alters = name != "kafkajs";
    settings(said, configs, alters)?;
    for (what, code, why) in REFUSED.iter().filter(|(what, ..)| alters || *what != "setting") {
        refused(said, what, *code, why, name)?;
    }
    let trimmed = one(said, "trimmed", |_| true)?;
    ensure!(trimmed["low"] == STAYS && trimmed["earliest"] == STAYS, "it says {trimmed}");
    let left = log::records(broker, &made, RECORDS - STAYS as usize)?;
    let places: Vec<_> = left.keys().copied().collect();
    ensure!(places == [(0, STAYS), (0, STAYS + 1)], "what is left of {made} lies at {places:?}");
    let names = one(said, "deleted", |_| true)?["names"].as_array().context("names")?;
    ensure!(names.contains(&json!(made)), "{made} is gone: {names:?}");
    ensure!(!names.contains(&json!(format!("{name}-gone"))), "{name}-gone is still listed");
    Ok(())
}

/// At first everything is as its default; then what was set is, and what was set back is not.
fn settings(said: &[Value], configs: &[Value], alters: bool) -> anyhow::Result<()> {
    let shown = |value: &Value| json!([value["name"], value["value"], value["explicit"] != true]);
    let mut expected: Vec<Value> = configs.iter().map(shown).collect();
    if alters {
        let altered = one(said, "described", |line| line["when"] == "altered")?;
        same(altered, &expected)?;
        let (name, value) = RETENTION_MS;
        let set = expected.iter().position(|row| *row == json!([name, value, false]));
        let set = set.with_context(|| format!("{name} is not {value} here: {expected:?}"))?;
        let first = configs[set]["default"].clone();
        expected[set] = json!([name, first, true]);
    }
    ensure!(expected.iter().all(|row| row[2] == true), "more was set than was asked for: {expected:?}");
    same(one(said, "described", |line| line["when"] == "made")?, &expected)
}

fn same(said: &Value, expected: &[Value]) -> anyhow::Result<()> {
    let mut settings = said["settings"].as_array().context("settings")?.clone();
    settings.sort_by_key(|row| row[0].as_str().map(str::to_owned));
    ensure!(settings == expected, "the settings are {expected:?}, and it was told {settings:?}");
    Ok(())
}

fn refused(said: &[Value], what: &str, code: ErrorCode, why: &str, name: &str) -> anyhow::Result<()> {
    let refused = one(said, "refused", |line| line["what"] == what)?;
    ensure!(refused["code"] == code.0, "{what} was refused with {refused}");
    // kafkajs gives the code, and words of its own.
    let told = refused["why"].as_str().is_some_and(|words| words.contains(why));
    ensure!(told || name == "kafkajs", "{what} was refused without the reason: {refused}");
    Ok(())
}

fn one<'a>(said: &'a [Value], did: &str, is: impl Fn(&Value) -> bool) -> anyhow::Result<&'a Value> {
    let mut lines = said.iter().filter(|line| line["did"] == did && is(line));
    lines.next().with_context(|| format!("it did not say what it {did}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs() -> Vec<Value> {
        vec![
            json!({ "name": "max.message.bytes", "value": "9", "default": "9", "explicit": false }),
            json!({ "name": "retention.ms", "value": "3600000", "default": "7", "explicit": true }),
        ]
    }

    fn described(when: &str, settings: Value) -> Value {
        json!({ "did": "described", "when": when, "settings": settings })
    }

    #[test]
    fn settings_that_are_told_otherwise_than_they_are_are_found() {
        let plain = json!([["retention.ms", "7", true], ["max.message.bytes", "9", true]]);
        let set = json!([["retention.ms", "3600000", false], ["max.message.bytes", "9", true]]);
        let judged = |made: &Value, altered: &Value| {
            let said = [described("made", made.clone()), described("altered", altered.clone())];
            settings(&said, &configs(), true)
        };
        judged(&plain, &set).unwrap();
        assert!(judged(&set, &set).is_err());
        assert!(judged(&plain, &plain).is_err());
        assert!(judged(&plain, &json!([["retention.ms", "3600000", false]])).is_err());
    }

    #[test]
    fn a_refusal_that_was_none_or_gave_another_reason_is_found() {
        let (what, code, why) = REFUSED[0];
        let judged = |line: Value| refused(&[line], what, code, why, "java");
        let line = |code: i16, why: &str| json!({ "did": "refused", "what": what, "code": code, "why": why });
        judged(line(code.0, "compaction is not offered")).unwrap();
        assert!(judged(line(code.0, "no")).is_err());
        assert!(judged(line(0, "compaction")).is_err());
        assert!(judged(json!({ "did": "refused", "what": "partitions" })).is_err());
    }
}
