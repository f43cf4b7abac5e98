//! What happens to a customer's order: payment, shipment, points, notifications.

use serde::{Deserialize, Serialize};

/// What became of an order's payment: a record of `payment-processing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    /// The order.
    pub order_id: String,
    /// Who pays.
    pub customer_id: String,
    /// What is to be paid: the order's total.
    pub amount_cents: i64,
    /// What became of it.
    pub status: PaymentStatus,
    /// Why it was declined.
    pub reason: Option<String>,
}

/// What became of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PaymentStatus {
    /// The order may leave the house.
    Authorised,
    /// It may not.
    Declined,
}

/// An order that left the house: a record of `shipments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shipment {
    /// The order.
    pub order_id: String,
    /// Who gets it.
    pub customer_id: String,
    /// The store that it leaves from.
    pub store_id: String,
    /// How many lines it has.
    pub lines: u32,
    /// The units of all its lines together.
    pub units: i64,
    /// What was paid for it.
    pub amount_cents: i64,
}

/// The points of one order: a record of `loyalty-points`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoyaltyPoints {
    /// The order.
    pub order_id: String,
    /// Who earned them.
    pub customer_id: String,
    /// Points of this order.
    pub points: i64,
    /// Points of all the customer's orders so far, this one included.
    pub balance: i64,
    /// The customer's tier before this order.
    pub previous_tier: String,
    /// The customer's tier with it.
    pub tier: String,
}

/// What a customer is told: a record of `customer-notifications`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// What about.
    pub kind: NotificationKind,
    /// Who is told.
    pub customer_id: String,
    /// The order that it is about.
    pub order_id: String,
    /// The line that they read first.
    pub subject: String,
}

/// What a customer is told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NotificationKind {
    /// The order was received.
    Confirmation,
    /// The order left the house.
    Shipped,
    /// The customer's tier changed.
    Tier,
}

/// Something that a customer does not usually do: a record of `fraud-alerts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FraudAlert {
    /// What is unusual.
    pub kind: FraudKind,
    /// The order.
    pub order_id: String,
    /// The customer.
    pub customer_id: String,
    /// The order's total.
    pub amount_cents: i64,
    /// Orders of the customer within the time that is looked at, this one included.
    pub recent_orders: u64,
    /// Orders that the customer's habit is known from.
    pub known_orders: u64,
}

/// What is unusual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FraudKind {
    /// Too many orders in a short time.
    Velocity,
    /// An amount far above the customer's mean.
    Amount,
}
