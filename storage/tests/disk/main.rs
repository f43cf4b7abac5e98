//! The lower half of the storage on a simulated disk: what is written is read, whatever happens in between.
//!
//! Every story runs from a seed. To run one again: `TIDEMILL_SEED=17 cargo test -p tidemill-storage --test disk NAME`; to
//! run many: `TIDEMILL_SEEDS=500`.

mod damage;
mod descent;
mod faults;
mod history;
mod install;
mod lab;
mod model;
mod promised;
mod punch;
mod reclaim;
mod state;
mod threads;
mod world;
