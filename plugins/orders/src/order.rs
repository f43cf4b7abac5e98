//! The order as it comes in, and its lines.

use serde::{Deserialize, Serialize};

use crate::{Cents, Price};

/// What a customer bought: a record of `customer-orders`. Fields that are not here are passed over.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The order; unique.
    pub order_id: String,
    /// Who bought.
    pub customer_id: String,
    /// Where.
    pub store_id: String,
    /// What, in the order of the receipt.
    pub items: Vec<Item>,
    /// What the customer pays: discounts are taken off already. It need not be the sum of the items, of which
    /// some come without a quantity or a price.
    pub total: Cents,
    /// What the customer saved.
    pub discount: Cents,
    /// When, as RFC 3339.
    pub timestamp: String,
}

/// One product of an order.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// The product.
    pub product_id: String,
    /// What it is called, if anybody knows.
    #[serde(default)]
    pub name: Option<String>,
    /// Where in the store it is found, if anybody knows.
    #[serde(default)]
    pub department: Option<String>,
    /// How many units. Fuel is counted in thousandths of its unit; some items have none at all.
    pub quantity: i64,
    /// The price of one unit.
    pub price: Price,
}

/// One item of an order: a record of `order-lines`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderLine {
    /// The order.
    pub order_id: String,
    /// Who bought.
    pub customer_id: String,
    /// Where.
    pub store_id: String,
    /// The number of the line, from 1.
    pub line: u32,
    /// The product.
    pub product_id: String,
    /// What it is called, if anybody knows.
    pub name: Option<String>,
    /// Where in the store it is found, if anybody knows.
    pub department: Option<String>,
    /// How many units.
    pub quantity: i64,
    /// The price of one unit, as the order has it.
    pub price: Price,
    /// Quantity times price, rounded to the cent, half a cent away from zero.
    pub amount_cents: i64,
    /// When the order was made, as the order has it.
    pub timestamp: String,
}
