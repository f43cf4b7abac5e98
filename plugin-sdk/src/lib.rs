//! Write a Tidemill plugin in Rust.
//!
//! A plugin reads records of some topics, keeps state, and derives records to other topics. The broker calls it
//! with a [`Step`]: some [`Event`]s in the order of their log, and the means to act on them. Nothing of what it
//! does is real before the step commits, and then all of it is, exactly once: a plugin needs no transactions,
//! no retries and no bookkeeping of offsets.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};
//!
//! #[derive(Deserialize)]
//! struct Order {
//!     customer: String,
//!     cents: i64,
//! }
//!
//! #[derive(Serialize)]
//! struct Spent {
//!     customer: String,
//!     cents: i64,
//! }
//!
//! /// What each customer has spent so far.
//! struct Spending;
//!
//! impl Plugin for Spending {
//!     fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
//!         let order: Order = event.json()?;
//!         let so_far: i64 = step.state().get_json(&order.customer)?.unwrap_or(0);
//!         let cents = so_far + order.cents;
//!         step.state().put_json(&order.customer, &cents)?;
//!         let spent = Spent { customer: order.customer.clone(), cents };
//!         step.emit(event, "spending", Record::json(&spent)?.key(&order.customer))?;
//!         Ok(())
//!     }
//! }
//!
//! plugin!(Spending);
//! ```
//!
//! The same code runs in an ordinary unit test, without a broker:
//!
//! ```
//! # use serde_json::json;
//! # use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step};
//! # struct Spending;
//! # impl Plugin for Spending {
//! #     fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
//! #         let order: serde_json::Value = event.json()?;
//! #         let so_far: i64 = step.state().get_json("ann")?.unwrap_or(0);
//! #         let cents = so_far + order["cents"].as_i64().unwrap();
//! #         step.state().put_json("ann", &cents)?;
//! #         step.emit(event, "spending", Record::json(&json!({ "customer": "ann", "cents": cents }))?.key("ann"))?;
//! #         Ok(())
//! #     }
//! # }
//! use tidemill_plugin_sdk::testing::MockStep;
//!
//! let mut step = MockStep::new();
//! step.event("orders", Record::json(&json!({ "customer": "ann", "cents": 250 }))?);
//! step.event("orders", Record::json(&json!({ "customer": "ann", "cents": 100 }))?);
//! let outcome = step.run::<Spending>();
//!
//! assert_eq!(outcome.result, Ok(()));
//! assert_eq!(outcome.emitted[1].json(), json!({ "customer": "ann", "cents": 350 }));
//! assert_eq!(step.state_json::<i64>("ann"), Some(350));
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! What surprises:
//! - An instance serves one step and is discarded. A `static` does not outlive it; [`State`] does.
//! - A failure undoes the whole step, and the broker then runs its events one at a time, so that only the one
//!   that fails is kept back. Handle each event as if it were alone.
//! - The only clock is the record in hand ([`Event::append_time_ms`], [`Step::time_ms`]): a step that runs again on
//!   another broker must come to the same result. To act when no record comes, set a [`Timer`].
//!
//! When the form of what a plugin keeps changes, its manifest raises `state-version` and declares which others it
//! reads (`reads-state-versions = [1]`); else the deployment is refused. There is no moment at which all of a state is
//! rewritten: a plugin migrates a value when it meets it. So each value says its version, and old ones are read for as
//! long as they may lie there:
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! #[derive(Deserialize, Serialize)]
//! #[serde(tag = "version")]
//! enum Balance {
//!     #[serde(rename = "1")]
//!     Dollars { dollars: i64 },
//!     #[serde(rename = "2")]
//!     Cents { cents: i64 },
//! }
//!
//! impl Balance {
//!     /// As this version writes it back.
//!     fn cents(self) -> i64 {
//!         match self {
//!             Balance::Dollars { dollars } => dollars * 100,
//!             Balance::Cents { cents } => cents,
//!         }
//!     }
//! }
//! # assert_eq!(serde_json::from_str::<Balance>(r#"{"version":"1","dollars":2}"#)?.cents(), 200);
//! # assert_eq!(Balance::Cents { cents: 5 }.cents(), 5);
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! A guest's memory is an arena that the step begins with, which is faster than to grow it; a plugin with an allocator
//! of its own turns the feature `arena` off.
//!
//! The crate is built for `wasm32-unknown-unknown` and natively; only the modules `guest` and `allocator` differ. The
//! rest sees a broker through the private trait `Host`, which the tests implement with [`testing::MockStep`].
#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]

#[cfg(all(target_arch = "wasm32", feature = "arena"))]
mod allocator;
#[cfg(any(test, all(target_arch = "wasm32", feature = "arena")))]
mod arena;
mod config;
mod event;
mod failure;
mod files;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;
mod host;
pub mod log;
mod plugin;
mod record;
mod state;
mod step;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod timer;

pub use config::{Config, ConfigError};
pub use event::Event;
pub use failure::{Failure, Refusal};
pub use files::{FileError, Files};
pub use plugin::Plugin;
pub use record::{Header, Record};
pub use state::{Scan, State};
pub use step::Step;
pub use timer::{Parent, Timer, TimerKind};
