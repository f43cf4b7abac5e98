//! The plugins of the chain, and what a task of one is.

use orders::topics;
use tidemill_plugin_sdk::testing::{MockStep, Outcome};

/// How many partitions every topic has.
pub(crate) const PARTITIONS: u32 = 4;

/// A plugin at work on one partition.
pub(crate) struct Task {
    pub(crate) step: MockStep,
    pub(crate) run: Run,
    /// The topics that it reads, and how far it is in each.
    pub(crate) inputs: Vec<(&'static str, usize)>,
    pub(crate) partition: u32,
}

/// A plugin: its name, its manifest, how to run it, and what it reads.
type Plugin = (&'static str, &'static str, Run, &'static [&'static str]);

/// How a plugin is run: on the events that were added, and on the timers that are due.
type Run = (fn(&mut MockStep) -> Outcome, fn(&mut MockStep) -> Option<Outcome>);

pub(crate) const PLUGINS: [Plugin; 13] = [
    (
        "order-lines",
        include_str!("../../order-lines/plugin.toml"),
        (MockStep::run::<order_lines::OrderLines>, MockStep::run_timers::<order_lines::OrderLines>),
        &[topics::CUSTOMER_ORDERS],
    ),
    (
        "inventory",
        include_str!("../../inventory/plugin.toml"),
        (MockStep::run::<inventory::Inventory>, MockStep::run_timers::<inventory::Inventory>),
        &[topics::ORDER_LINES, topics::STOCK_RECEIPTS],
    ),
    (
        "procurement",
        include_str!("../../procurement/plugin.toml"),
        (MockStep::run::<procurement::Procurement>, MockStep::run_timers::<procurement::Procurement>),
        &[topics::INVENTORY_UPDATES],
    ),
    (
        "payment",
        include_str!("../../payment/plugin.toml"),
        (MockStep::run::<payment::Payments>, MockStep::run_timers::<payment::Payments>),
        &[topics::CUSTOMER_ORDERS],
    ),
    (
        "fulfillment",
        include_str!("../../fulfillment/plugin.toml"),
        (MockStep::run::<fulfillment::Fulfillment>, MockStep::run_timers::<fulfillment::Fulfillment>),
        &[topics::CUSTOMER_ORDERS, topics::PAYMENT_PROCESSING],
    ),
    (
        "loyalty",
        include_str!("../../loyalty/plugin.toml"),
        (MockStep::run::<loyalty::Loyalty>, MockStep::run_timers::<loyalty::Loyalty>),
        &[topics::CUSTOMER_ORDERS],
    ),
    (
        "email",
        include_str!("../../email/plugin.toml"),
        (MockStep::run::<email::Email>, MockStep::run_timers::<email::Email>),
        &[topics::CUSTOMER_ORDERS, topics::SHIPMENTS, topics::LOYALTY_POINTS],
    ),
    (
        "store-orders",
        include_str!("../../store-orders/plugin.toml"),
        (MockStep::run::<store_orders::StoreOrders>, MockStep::run_timers::<store_orders::StoreOrders>),
        &[topics::CUSTOMER_ORDERS],
    ),
    (
        "analytics",
        include_str!("../../analytics/plugin.toml"),
        (MockStep::run::<analytics::Analytics>, MockStep::run_timers::<analytics::Analytics>),
        &[topics::STORE_ORDERS],
    ),
    (
        "supplier",
        include_str!("../../supplier/plugin.toml"),
        (MockStep::run::<supplier::Supplier>, MockStep::run_timers::<supplier::Supplier>),
        &[topics::PURCHASE_ORDERS],
    ),
    (
        "storefront",
        include_str!("../../storefront/plugin.toml"),
        (MockStep::run::<storefront::Storefront>, MockStep::run_timers::<storefront::Storefront>),
        &[topics::INVENTORY_UPDATES],
    ),
    (
        "promotion",
        include_str!("../../promotion/plugin.toml"),
        (MockStep::run::<promotion::Promotions>, MockStep::run_timers::<promotion::Promotions>),
        &[topics::INVENTORY_UPDATES],
    ),
    (
        "fraud",
        include_str!("../../fraud/plugin.toml"),
        (MockStep::run::<fraud::Fraud>, MockStep::run_timers::<fraud::Fraud>),
        &[topics::CUSTOMER_ORDERS],
    ),
];

/// All tasks of the chain.
pub(crate) fn all() -> Vec<Task> {
    let tasks = PLUGINS.iter().flat_map(|(_, manifest, run, reads)| {
        (0..PARTITIONS).map(|partition| Task {
            step: MockStep::from_manifest(manifest).with_partition(partition),
            run: *run,
            inputs: reads.iter().map(|topic| (*topic, 0)).collect(),
            partition,
        })
    });
    tasks.collect()
}
