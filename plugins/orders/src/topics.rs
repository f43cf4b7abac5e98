//! The names of the chain's topics. `examples/order-chain/topics.toml` creates them.

/// Orders as they come in, by customer.
pub const CUSTOMER_ORDERS: &str = "customer-orders";
/// One record an item of an order, by product.
pub const ORDER_LINES: &str = "order-lines";
/// Every change of a product's stock, by product.
pub const INVENTORY_UPDATES: &str = "inventory-updates";
/// What was ordered from suppliers, by product.
pub const PURCHASE_ORDERS: &str = "purchase-orders";
/// What suppliers delivered, by product.
pub const STOCK_RECEIPTS: &str = "stock-receipts";
/// What became of each order's payment, by customer.
pub const PAYMENT_PROCESSING: &str = "payment-processing";
/// Orders that left the house, by customer.
pub const SHIPMENTS: &str = "shipments";
/// Points of each order, by customer.
pub const LOYALTY_POINTS: &str = "loyalty-points";
/// What each customer was told, by customer.
pub const CUSTOMER_NOTIFICATIONS: &str = "customer-notifications";
/// Orders, by store.
pub const STORE_ORDERS: &str = "store-orders";
/// Orders and revenue of every store and hour, by store.
pub const SALES_BY_STORE: &str = "sales-by-store";
/// Whether each product can be bought, by product.
pub const PRODUCT_AVAILABILITY: &str = "product-availability";
/// What is offered, by product.
pub const PROMOTIONS: &str = "promotions";
/// What customers do not usually do, by customer.
pub const FRAUD_ALERTS: &str = "fraud-alerts";
