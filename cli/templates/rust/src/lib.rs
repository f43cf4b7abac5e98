//! Greets everybody, and counts how often.
//!
//! Reads `{{name}}-in`, derives `{{name}}-out`: one greeting for each visit. Keeps the visits of each name.

use serde::{Deserialize, Serialize};
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, log, plugin};

/// What is read.
#[derive(Deserialize)]
struct Visit {
    name: String,
}

/// What is derived.
#[derive(Serialize)]
struct Greeting {
    text: String,
    visits: u64,
}

/// The plugin.
pub struct Greeter;

impl Plugin for Greeter {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        // What is no visit is rejected here: it goes to the dead-letter topic, and the task goes on.
        let Visit { name } = event.json()?;
        let visits = step.state().get_json::<u64>(&name)?.unwrap_or(0) + 1;
        step.state().put_json(&name, &visits)?;
        if visits == 1 {
            log::info!("{name} is new here");
        }
        let greeting: String = step.config().get("greeting")?;
        let greeting = Greeting { text: format!("{greeting}, {name}"), visits };
        Ok(step.emit(event, "{{name}}-out", Record::json(&greeting)?.key(&name))?)
    }
}

plugin!(Greeter);

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_plugin_sdk::testing::MockStep;

    #[test]
    fn visits_are_counted_from_step_to_step() {
        let mut step = MockStep::from_manifest(include_str!("../plugin.toml"));
        let visit = || Record::new(r#"{"name": "ann"}"#);
        let first = step.event("{{name}}-in", visit()).run::<Greeter>();
        assert_eq!(first.emitted[0].json()["text"], "hello, ann");
        let second = step.event("{{name}}-in", visit()).run::<Greeter>();
        assert_eq!(second.emitted[0].json()["visits"], 2);
        assert_eq!(step.state_json("ann"), Some(2));
    }

    #[test]
    fn what_is_no_visit_is_rejected() {
        let mut step = MockStep::from_manifest(include_str!("../plugin.toml"));
        let outcome = step.event("{{name}}-in", Record::new("?")).run::<Greeter>();
        assert!(matches!(outcome.result, Err(Failure::Reject(_))));
        assert!(outcome.emitted.is_empty());
    }
}
