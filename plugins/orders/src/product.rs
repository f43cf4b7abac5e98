//! What is known of products: their stock, and how it is refilled.

use serde::{Deserialize, Serialize};

/// A change of a product's stock: a record of `inventory-updates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryUpdate {
    /// The product.
    pub product_id: String,
    /// Units before the change; the opening stock before the first.
    pub previous_stock: i64,
    /// Units after it. Negative: sold and not there.
    pub current_stock: i64,
    /// Below this many units the product must be ordered.
    pub threshold: i64,
    /// Whether `current_stock` is below `threshold`.
    pub low_stock_alert: bool,
    /// What changed it.
    pub cause: Cause,
}

/// What changed a product's stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Cause {
    /// A line of an order.
    Sale {
        /// The order.
        order_id: String,
        /// The line, from 1.
        line: u32,
    },
    /// A delivery.
    Receipt {
        /// The purchase order that it fulfils.
        purchase_order_id: String,
    },
}

/// Units ordered from a supplier: a record of `purchase-orders`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PurchaseOrder {
    /// Its id: the product's, and a number that counts the product's purchase orders from 1.
    pub purchase_order_id: String,
    /// The product.
    pub product_id: String,
    /// How many units are ordered: at least what is missing.
    pub quantity: i64,
    /// How many units were missing: the threshold less what is in stock and what is on order.
    pub missing: i64,
    /// Units in stock when it was placed.
    pub current_stock: i64,
    /// Units on order when it was placed, without its own.
    pub on_order: i64,
    /// The threshold.
    pub threshold: i64,
}

/// Units delivered by a supplier: a record of `stock-receipts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StockReceipt {
    /// The purchase order that it fulfils.
    pub purchase_order_id: String,
    /// The product.
    pub product_id: String,
    /// How many units came.
    pub quantity: i64,
}

/// Whether a product can be bought: a record of `product-availability`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProductAvailability {
    /// The product.
    pub product_id: String,
    /// Whether any of it is in stock.
    #[serde(rename = "available")]
    pub is_available: bool,
}

/// An offer that begins or ends: a record of `promotions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Promotion {
    /// The product.
    pub product_id: String,
    /// Whether it begins.
    #[serde(rename = "active")]
    pub is_active: bool,
    /// What the customer saves.
    pub discount_percent: u32,
    /// Units in stock.
    pub current_stock: i64,
    /// Above this many the product is offered.
    pub overstock: i64,
}
