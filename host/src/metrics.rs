//! What is counted, for Prometheus: every metric of the broker stands in this file.
//!
//! Labels come from a closed list: `plugin`, `shard`, `api`, `transport`, `outcome`, `certificate`. Never a partition, a
//! key or text of a user: their number has no bound.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tidemill_core::seams::Timestamp;
use tidemill_runtime::{GuestFailure, StepOutcome};

/// A plugin, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPlugin {
    plugin: String,
}

/// How a plugin's try failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFailure {
    plugin: String,
    outcome: &'static str,
}

/// A shard, by its number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfShard {
    shard: u16,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    api: &'static str,
    transport: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<OfRequest, Counter>,
    connections: Family<OfTransport, Gauge>,
    produced_records: Counter,
    produced_bytes: Counter,
    fetched_bytes: Counter,
    produce_seconds: Histogram,
    shipped_batches: Counter,
    plugin_events: Family<OfPlugin, Counter>,
    plugin_records: Family<OfPlugin, Counter>,
    plugin_dead_letters: Family<OfPlugin, Counter>,
    plugin_failures: Family<OfFailure, Counter>,
    plugin_cpu_seconds: Family<OfPlugin, Counter<f64, AtomicU64>>,
    plugin_log_lines: Family<OfPlugin, Counter>,
    plugin_log_lines_dropped: Family<OfPlugin, Counter>,
    steps_in_flight: Gauge,
    plugin_lag_records: Family<OfPlugin, Gauge>,
    plugin_lag_seconds: Family<OfPlugin, Seconds>,
    plugin_stalled_tasks: Family<OfPlugin, Gauge>,
    plugin_passed_over_records: Family<OfPlugin, Gauge>,
    plugin_expiring_tasks: Family<OfPlugin, Gauge>,
    commit_seconds: Histogram,
    commit_bytes: Histogram,
    leaders: Family<OfShard, Gauge>,
    disk_free_bytes: Gauge,
    disk_full: Gauge,
    reclaimed_bytes: Counter,
    rewritten_bytes: Counter,
    certificate_ends: Family<OfCertificate, Seconds>,
}

/// A certificate of the broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCertificate {
    certificate: &'static str,
}

/// A transport.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTransport {
    transport: &'static str,
}

/// A step that was begun.
#[derive(Debug)]
pub struct StepInFlight(Gauge);

impl Drop for StepInFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        // From 50 microseconds to some seconds, and from 256 bytes to 16 MiB.
        let seconds = || Histogram::new(exponential_buckets(50e-6, 2.0, 18));
        let mut metrics = Metrics {
            registry: Registry::with_prefix("tidemill"),
            requests: Family::default(),
            connections: Family::default(),
            produced_records: Counter::default(),
            produced_bytes: Counter::default(),
            fetched_bytes: Counter::default(),
            produce_seconds: seconds(),
            shipped_batches: Counter::default(),
            plugin_events: Family::default(),
            plugin_records: Family::default(),
            plugin_dead_letters: Family::default(),
            plugin_failures: Family::default(),
            plugin_cpu_seconds: Family::default(),
            plugin_log_lines: Family::default(),
            plugin_log_lines_dropped: Family::default(),
            steps_in_flight: Gauge::default(),
            plugin_lag_records: Family::default(),
            plugin_lag_seconds: Family::default(),
            plugin_stalled_tasks: Family::default(),
            plugin_passed_over_records: Family::default(),
            plugin_expiring_tasks: Family::default(),
            commit_seconds: seconds(),
            commit_bytes: Histogram::new(exponential_buckets(256.0, 4.0, 9)),
            leaders: Family::default(),
            disk_free_bytes: Gauge::default(),
            disk_full: Gauge::default(),
            reclaimed_bytes: Counter::default(),
            rewritten_bytes: Counter::default(),
            certificate_ends: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Requests of clients", self.requests.clone());
        r.register("connections", "Open connections of clients", self.connections.clone());
        r.register("produced_records", "Records appended for producers", self.produced_records.clone());
        r.register_with_unit(
            "produced",
            "Bytes of batches of producers",
            Unit::Bytes,
            self.produced_bytes.clone(),
        );
        r.register_with_unit(
            "fetched",
            "Bytes of batches sent to consumers",
            Unit::Bytes,
            self.fetched_bytes.clone(),
        );
        let help = "From a produce request's arrival to its commit";
        r.register_with_unit("produce_latency", help, Unit::Seconds, self.produce_seconds.clone());
        r.register(
            "shipped_batches",
            "Derived batches that went to another shard",
            self.shipped_batches.clone(),
        );
        r.register(
            "plugin_events",
            "Events that a plugin's committed steps consumed",
            self.plugin_events.clone(),
        );
        r.register(
            "plugin_records",
            "Records that a plugin's committed steps derived",
            self.plugin_records.clone(),
        );
        r.register("plugin_dead_letters", "Records that a plugin gave up", self.plugin_dead_letters.clone());
        r.register("plugin_failures", "Tries of a plugin that failed", self.plugin_failures.clone());
        let help = "Processor time of a plugin";
        r.register_with_unit("plugin_cpu", help, Unit::Seconds, self.plugin_cpu_seconds.clone());
        let help = "Lines that were written to a plugin's log";
        r.register("plugin_log_lines", help, self.plugin_log_lines.clone());
        let help = "Lines of a plugin that its log has not, because there were too many or they could not be written";
        r.register("plugin_log_lines_dropped", help, self.plugin_log_lines_dropped.clone());
        let help = "Steps of plugins that were begun and are not committed";
        r.register("steps_in_flight", help, self.steps_in_flight.clone());
        r.register(
            "plugin_lag_records",
            "Records that a plugin has not consumed",
            self.plugin_lag_records.clone(),
        );
        let help = "Age of the oldest record that a plugin has not consumed";
        r.register_with_unit("plugin_lag", help, Unit::Seconds, self.plugin_lag_seconds.clone());
        let help = "Tasks of a plugin that have records to consume and consume none";
        r.register("plugin_stalled_tasks", help, self.plugin_stalled_tasks.clone());
        let help = "Records that were removed before a plugin consumed them, and that it passed over";
        r.register("plugin_passed_over_records", help, self.plugin_passed_over_records.clone());
        let help = "Tasks of a plugin that have not consumed records which will be removed soon";
        r.register("plugin_expiring_tasks", help, self.plugin_expiring_tasks.clone());
        let help = "One commit of a shard's writer";
        r.register_with_unit("commit_latency", help, Unit::Seconds, self.commit_seconds.clone());
        r.register_with_unit("commit_size", help, Unit::Bytes, self.commit_bytes.clone());
        let help = "Bytes that can still be written to the disk of the data folder";
        r.register_with_unit("disk_free", help, Unit::Bytes, self.disk_free_bytes.clone());
        let help = "1 while less of the disk is free than the reserve: producers are refused, tasks rest";
        r.register("disk_full", help, self.disk_full.clone());
        let help = "Bytes of segments, and of parts of them, that were given back to the disk";
        r.register_with_unit("reclaimed", help, Unit::Bytes, self.reclaimed_bytes.clone());
        let help = "Bytes that were written for that: segments anew, and what is gone of others";
        r.register_with_unit("rewritten", help, Unit::Bytes, self.rewritten_bytes.clone());
        r.register("shard_leader", "1 where this broker leads the shard", self.leaders.clone());
        let help = "When a certificate of the broker ends, in seconds since 1970";
        let ends = self.certificate_ends.clone();
        r.register_with_unit("certificate_expiry_timestamp", help, Unit::Seconds, ends);
    }

    /// A request came.
    pub fn request(&self, api: &'static str, transport: &'static str) {
        self.requests.get_or_create(&OfRequest { api, transport }).inc();
    }

    /// Segments went back to the disk, and others were written for that.
    pub fn reclaimed(&self, freed: u64, written: u64) {
        self.reclaimed_bytes.inc_by(freed);
        self.rewritten_bytes.inc_by(written);
    }

    /// So many connections more, or fewer.
    pub fn connections(&self, transport: &'static str, more: i64) {
        self.connections.get_or_create(&OfTransport { transport }).inc_by(more);
    }

    /// A producer's batches were appended.
    pub fn produced(&self, records: u64, bytes: u64, took: Duration) {
        self.produced_records.inc_by(records);
        self.produced_bytes.inc_by(bytes);
        self.produce_seconds.observe(took.as_secs_f64());
    }

    /// Batches go to a consumer.
    pub fn fetched(&self, bytes: u64) {
        self.fetched_bytes.inc_by(bytes);
    }

    /// Derived batches arrived at another shard.
    pub fn shipped(&self, batches: usize) {
        self.shipped_batches.inc_by(batches as u64);
    }

    /// A turn of a shard's writer was committed.
    pub fn committed(&self, bytes: u64, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_bytes.observe(bytes as f64);
    }

    /// A step begins; it ends when what is returned is dropped.
    pub fn step_in_flight(&self) -> StepInFlight {
        self.steps_in_flight.inc();
        StepInFlight(self.steps_in_flight.clone())
    }

    /// A plugin was run.
    pub fn step_ran(&self, plugin: &str, outcome: &StepOutcome) {
        let of_plugin = OfPlugin { plugin: plugin.to_owned() };
        self.plugin_cpu_seconds.get_or_create(&of_plugin).inc_by(outcome.usage.cpu.as_secs_f64());
        let outcome = match &outcome.result {
            Ok(_) => return,
            Err(GuestFailure::Retry(_)) => "retry",
            Err(GuestFailure::Reject(_)) => "reject",
            Err(GuestFailure::Trap { .. }) => "trap",
            Err(GuestFailure::Limit { .. }) => "limit",
            Err(GuestFailure::Fault(_)) => "fault",
        };
        self.plugin_failures.get_or_create(&OfFailure { plugin: plugin.to_owned(), outcome }).inc();
    }

    /// Lines were written to a plugin's log.
    pub fn log_lines(&self, plugin: &str, lines: u64) {
        self.plugin_log_lines.get_or_create(&OfPlugin { plugin: plugin.to_owned() }).inc_by(lines);
    }

    /// Lines of a plugin will not be in its log.
    pub fn log_lines_dropped(&self, plugin: &str, lines: u64) {
        if lines > 0 {
            self.plugin_log_lines_dropped
                .get_or_create(&OfPlugin { plugin: plugin.to_owned() })
                .inc_by(lines);
        }
    }

    /// A plugin's step was committed.
    pub fn step_committed(&self, plugin: &str, events: u64, records: u64, dead_letters: u64) {
        let of_plugin = OfPlugin { plugin: plugin.to_owned() };
        self.plugin_events.get_or_create(&of_plugin).inc_by(events);
        self.plugin_records.get_or_create(&of_plugin).inc_by(records);
        self.plugin_dead_letters.get_or_create(&of_plugin).inc_by(dead_letters);
        // Of one that has not logged yet they are there, too: with nothing counted.
        self.plugin_log_lines.get_or_create(&of_plugin).inc_by(0);
        self.plugin_log_lines_dropped.get_or_create(&of_plugin).inc_by(0);
    }

    /// How far a plugin is behind.
    pub fn lag(&self, plugin: &str, records: u64, age: Duration) {
        let of_plugin = OfPlugin { plugin: plugin.to_owned() };
        self.plugin_lag_records.get_or_create(&of_plugin).set(i64::try_from(records).unwrap_or(i64::MAX));
        self.plugin_lag_seconds.get_or_create(&of_plugin).set(age.as_secs_f64());
    }

    /// How many tasks of a plugin do not get on.
    pub fn stalled(&self, plugin: &str, tasks: u64) {
        let of_plugin = OfPlugin { plugin: plugin.to_owned() };
        self.plugin_stalled_tasks.get_or_create(&of_plugin).set(i64::try_from(tasks).unwrap_or(i64::MAX));
    }

    /// How many records a plugin has passed over, and in how many tasks records are about to be removed.
    pub fn passed_over(&self, plugin: &str, records: u64, expiring: u64) {
        let of_plugin = OfPlugin { plugin: plugin.to_owned() };
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.plugin_passed_over_records.get_or_create(&of_plugin).set(gauge(records));
        self.plugin_expiring_tasks.get_or_create(&of_plugin).set(gauge(expiring));
    }

    /// A plugin is no more: what is measured of it now is not shown any more; what was counted is.
    pub fn forget(&self, plugin: &str) {
        let of_plugin = OfPlugin { plugin: plugin.to_owned() };
        self.plugin_lag_records.remove(&of_plugin);
        self.plugin_lag_seconds.remove(&of_plugin);
        self.plugin_stalled_tasks.remove(&of_plugin);
        self.plugin_passed_over_records.remove(&of_plugin);
        self.plugin_expiring_tasks.remove(&of_plugin);
    }

    /// When a certificate ends.
    pub fn certificate_ends(&self, certificate: &'static str, at: Timestamp) {
        self.certificate_ends.get_or_create(&OfCertificate { certificate }).set((at.0 / 1_000) as f64);
    }

    /// Whether this broker leads a shard.
    pub fn leads(&self, shard: u16, leads: bool) {
        self.leaders.get_or_create(&OfShard { shard }).set(i64::from(leads));
    }

    /// So many bytes are free on the disk.
    pub fn disk_free(&self, bytes: u64) {
        self.disk_free_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Whether less is free on the disk than is kept.
    pub fn disk_full(&self, is_full: bool) {
        self.disk_full.set(i64::from(is_full));
    }

    /// Steps that were begun and are neither committed nor void.
    pub fn steps_in_flight(&self) -> u64 {
        u64::try_from(self.steps_in_flight.get()).unwrap_or(0)
    }

    /// Batches that crossed shards since this broker started.
    pub fn shipped_batches(&self) -> u64 {
        self.shipped_batches.get()
    }

    /// All metrics, in the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}
