//! What is known of stores.

use serde::{Deserialize, Serialize};

/// What a store sold within an hour of the orders' own time: a record of `sales-by-store`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SalesByStore {
    /// The store.
    pub store_id: String,
    /// When the hour begins, in milliseconds since 1970.
    pub hour_begins_ms: i64,
    /// Orders so far.
    pub orders: u64,
    /// Their totals together.
    pub revenue_cents: i64,
    /// Whether the hour is over. What comes behind a final value corrects it.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Whether it takes the place of a final value, for an order that came late.
    #[serde(rename = "correction")]
    pub is_correction: bool,
}
