//! Plugins in unit tests: a step without a broker.
//!
//! [`MockStep`] stands in for one task. It takes events, runs the plugin on them, and keeps the state for the
//! next run, as a broker would:
//!
//! ```
//! use tidemill_plugin_sdk::testing::MockStep;
//! use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step};
//!
//! struct Doubler;
//!
//! impl Plugin for Doubler {
//!     fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
//!         let number: u64 = event.json()?;
//!         let factor: u64 = step.config().get("factor")?;
//!         Ok(step.emit(event, "out", Record::json(&(number * factor))?)?)
//!     }
//! }
//!
//! let mut step = MockStep::from_manifest(
//!     r#"
//!     name = "doubler"
//!     component = "doubler.wasm"
//!     publish = ["out"]
//!     subscribe = [{ topic = "in", from = "earliest" }]
//!     config = { factor = 2 }
//!     "#,
//! );
//! let outcome = step.event("in", Record::new("21")).run::<Doubler>();
//! assert_eq!(outcome.emitted[0].json(), 42);
//!
//! let outcome = step.event("in", Record::new("no number")).run::<Doubler>();
//! assert!(matches!(outcome.result, Err(Failure::Reject(_))));
//! assert!(outcome.emitted.is_empty());
//! ```
//!
//! What it does not do: it sets no limits of memory, time or size, and it runs no event a second time.

mod manifest;
mod mock_host;
mod mock_step;

pub use mock_host::Emitted;
pub(crate) use mock_host::write_log;
pub use mock_step::{MockStep, Outcome};
