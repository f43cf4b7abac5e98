//! What the order chain must come to, computed a second time.
//!
//! [`check`] takes the orders that were produced, the numbers that the plugins were configured with, and every
//! record of the chain's topics with the record that it derives from. It knows what each plugin promises, but
//! shares no code with plugins or broker: that two programs agree, written apart, is what makes it a proof.
//!
//! ```text
//!  orders file ──► customer-orders ──► order-lines ──► inventory-updates ──► purchase-orders ──► stock-receipts
//!                        │                                ▲   ├──► product-availability                │
//!                        │                                │   └──► promotions                          │
//!                        │                                └────────────────────────────────────────────┘
//!                        ├──► store-orders ──► sales-by-store
//!                        ├──► fraud-alerts
//!                        ├──► payment-processing ──► shipments ─────┐
//!                        ├──► loyalty-points ───────────────────────┼──► customer-notifications
//!                        └──────────────────────────────────────────┘
//! ```
//!
//! It checks only what no interleaving changes. Which of two products' lines comes first in a partition, whether a
//! delivery arrives before the next sale: the history decides, and the oracle follows it. What follows from that,
//! record by record, it does not forgive:
//!
//! - `orders`: the topic holds the file's orders, each once, a customer's in their order;
//! - `lineage`: every derived record has a parent that exists, in a partition that holds all of its
//!   key, and no two records of one source ever change places;
//! - `customers`: payments, shipments, points, balances, tiers and notifications of every order;
//! - `fraud`: alerts, by a second count of what each customer usually does;
//! - `products`: lines, stocks, purchase orders, availability and promotions of every product, and that no shortage is
//!   open at the end;
//! - `stores`: orders and revenue of every store and hour, how they run, close and are corrected, and that the last value
//!   is that of the orders themselves.
//!
//! An altered record is one violation, and perhaps some more where others followed from it.
#![forbid(unsafe_code)]

mod config;
mod customers;
mod fraud;
mod history;
mod lineage;
mod money;
mod orders;
mod products;
mod stores;
mod time;
mod violation;

use std::collections::BTreeMap;
use std::io::BufRead;

pub use config::{Config, FraudRules, PerProduct};
pub use history::Rec;
pub use violation::Violation;

use history::History;
use violation::Violations;

/// Everything that is wrong with a history of the chain: nothing, if each step happened exactly once.
///
/// `orders` is the file that was produced, one JSON order a line. `topics` holds all records of the chain's topics,
/// by their names; the records of a topic may come in any order. At most 1,000 violations are told in full.
pub fn check(orders: impl BufRead, config: &Config, topics: BTreeMap<String, Vec<Rec>>) -> Vec<Violation> {
    let mut violations = Violations::default();
    let history = History::new(&topics, &mut violations);
    let orders = orders::check(orders, &history, &mut violations);
    lineage::check(&history, &mut violations);
    customers::check(&orders, config, &history, &mut violations);
    fraud::check(&orders, config, &history, &mut violations);
    products::check(&orders, config, &history, &mut violations);
    stores::check(&orders, &history, &mut violations);
    violations.into_list()
}
