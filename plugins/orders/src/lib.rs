//! The data contract of the order chain: what its plugins say to one another.
//!
//! Every record is JSON with camelCase names. The type of a topic's records is named in its constant, and every
//! plugin of the chain writes and reads them through these types, so a field has one name and one meaning:
//!
//! | topic | key | record |
//! |---|---|---|
//! | `customer-orders` | customer | [`Order`], the chain's input |
//! | `order-lines` | product | [`OrderLine`] |
//! | `inventory-updates` | product | [`InventoryUpdate`] |
//! | `purchase-orders` | product | [`PurchaseOrder`] |
//! | `stock-receipts` | product | [`StockReceipt`] |
//! | `payment-processing` | customer | [`Payment`] |
//! | `shipments` | customer | [`Shipment`] |
//! | `loyalty-points` | customer | [`LoyaltyPoints`] |
//! | `customer-notifications` | customer | [`Notification`] |
//! | `fraud-alerts` | customer | [`FraudAlert`] |
//! | `product-availability` | product | [`ProductAvailability`] |
//! | `promotions` | product | [`Promotion`] |
//! | `store-orders` | store | [`Order`], as it came in |
//! | `sales-by-store` | store | [`SalesByStore`] |
//!
//! An order's id is unique. Money is [`Cents`], never a float; fields that hold it say so in their name, but for
//! those of the input, which is as it is. Stock is counted in whole units and may be negative: what was sold and
//! is not there.
#![forbid(unsafe_code)]

mod customer;
mod money;
mod order;
mod product;
mod store;
pub mod topics;

pub use customer::{
    FraudAlert, FraudKind, LoyaltyPoints, Notification, NotificationKind, Payment, PaymentStatus, Shipment,
};
pub use money::{Cents, NoMoney, Price};
pub use order::{Item, Order, OrderLine};
pub use product::{Cause, InventoryUpdate, ProductAvailability, Promotion, PurchaseOrder, StockReceipt};
pub use store::SalesByStore;
