//! The plugins of the chain, and what a task of one is.

use orders::topics;
use tidemill_plugin_sdk::testing::{MockStep, Outcome};

/// How many partitions every topic has.
pub(crate) const PARTITIONS: u32 = 4;

/// A plugin at work on one partition.
pub(crate) struct Task {
    pub(crate) step: MockStep,
    pub(crate) run: fn(&mut MockStep) -> Outcome,
    /// The topics that it reads, and how far it is in each.
    pub(crate) inputs: Vec<(&'static str, usize)>,
    pub(crate) partition: u32,
}

/// A plugin: its name, its manifest, how to run it, and what it reads.
type Plugin = (&'static str, &'static str, fn(&mut MockStep) -> Outcome, &'static [&'static str]);

pub(crate) const PLUGINS: [Plugin; 7] = [
    (
        "order-lines",
        include_str!("../../order-lines/plugin.toml"),
        MockStep::run::<order_lines::OrderLines>,
        &[topics::CUSTOMER_ORDERS],
    ),
    (
        "inventory",
        include_str!("../../inventory/plugin.toml"),
        MockStep::run::<inventory::Inventory>,
        &[topics::ORDER_LINES, topics::STOCK_RECEIPTS],
    ),
    (
        "procurement",
        include_str!("../../procurement/plugin.toml"),
        MockStep::run::<procurement::Procurement>,
        &[topics::INVENTORY_UPDATES],
    ),
    (
        "payment",
        include_str!("../../payment/plugin.toml"),
        MockStep::run::<payment::Payments>,
        &[topics::CUSTOMER_ORDERS],
    ),
    (
        "fulfillment",
        include_str!("../../fulfillment/plugin.toml"),
        MockStep::run::<fulfillment::Fulfillment>,
        &[topics::CUSTOMER_ORDERS, topics::PAYMENT_PROCESSING],
    ),
    (
        "loyalty",
        include_str!("../../loyalty/plugin.toml"),
        MockStep::run::<loyalty::Loyalty>,
        &[topics::CUSTOMER_ORDERS],
    ),
    (
        "email",
        include_str!("../../email/plugin.toml"),
        MockStep::run::<email::Email>,
        &[topics::CUSTOMER_ORDERS, topics::SHIPMENTS, topics::LOYALTY_POINTS],
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
